import numpy as np

from depthkd.report.side_view import AWAY, PAPER, PITCH, YAW, side_view

CAMERA = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])


def test_a_points_place_is_that_of_the_turned_camera() -> None:
    """One known pixel, by hand: turned around the point at the median depth, then projected."""
    depth = np.full((48, 64), np.nan)
    depth[20:23, 40:43] = 2.0
    depth[21, 41] = 2.2
    image = np.zeros((48, 64, 3), np.uint8)
    image[21, 41] = (255, 0, 0)
    x, y, z = (41 - 31.5) / 60 * 2.2, (21 - 23.5) / 60 * 2.2, 2.2 - 2.0
    x, z = np.cos(YAW) * x + np.sin(YAW) * z, -np.sin(YAW) * x + np.cos(YAW) * z
    y, z = np.cos(PITCH) * y + np.sin(PITCH) * z, -np.sin(PITCH) * y + np.cos(PITCH) * z
    z += 2.0 * AWAY
    column, row = round(60 * x / z + 31.5), round(60 * y / z + 23.5)
    seen = side_view(image, depth, CAMERA)
    red = np.argwhere((seen == (255, 0, 0)).all(axis=2))
    assert len(red) and np.abs(red.mean(axis=0) - (row, column)).max() <= 1


def test_near_points_hide_far_ones_whatever_their_order() -> None:
    depth = np.full((48, 64), 2.0)
    image = np.zeros((48, 64, 3), np.uint8)
    depth[:, 20:30], image[:, 20:30] = 1.0, (0, 255, 0)  # a green board before a black wall
    seen = side_view(image, depth, CAMERA)
    board = (seen == (0, 255, 0)).all(axis=2)
    columns = np.flatnonzero(board.any(axis=0))
    inside = board[14:30, columns.min() + 2 : columns.max() - 1]
    assert inside.all(), "no black point shines through"


def test_where_nothing_is_known_it_is_paper() -> None:
    depth = np.full((6, 8), np.nan)
    image = np.zeros((6, 8, 3), np.uint8)
    assert (side_view(image, depth, CAMERA) == PAPER).all()
