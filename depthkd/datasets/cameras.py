"""Readers for the files in which depth data sets ship their cameras.

Each gives a 3x3 matrix in pixels with the center of the top-left pixel at (0, 0), whatever the file's own
convention.
"""

import struct
from itertools import zip_longest
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.encodings import DPT_MAGIC
from depthkd.formats.sample import BadSample
from depthkd.geometry import camera_matrix

Matrix = Float64[np.ndarray, "3 3"]

CAM_BYTES = 4 + 8 * (9 + 12)  # a magic number, the intrinsic and the extrinsic matrix
COLMAP_FOCALS = {  # models of COLMAP -> how many focal lengths their parameters begin with
    "SIMPLE_PINHOLE": 1, "PINHOLE": 2, "SIMPLE_RADIAL": 1, "RADIAL": 1, "OPENCV": 2, "OPENCV_FISHEYE": 2,
    "FULL_OPENCV": 2, "FOV": 2, "SIMPLE_RADIAL_FISHEYE": 1, "RADIAL_FISHEYE": 1, "THIN_PRISM_FISHEYE": 2,
}  # fmt: skip


def read_cam(data: bytes, name: str) -> Matrix:
    """MPI Sintel's .cam, as `cam_read` of its sdk reads it: a magic number, and the matrices in float64.

    Its principal points are half a pixel less than half the image's size (511.5 of 1024), so that the center
    of the top-left pixel is at (0, 0).

    Raises:
        BadSample: it is no such file.
    """
    if len(data) != CAM_BYTES or struct.unpack("<f", data[:4])[0] != DPT_MAGIC:
        raise BadSample(f"{name} is not a .cam file: {CAM_BYTES} bytes that begin with {DPT_MAGIC}")
    return _checked(np.frombuffer(data, "<f8", 9, 4).reshape(3, 3), name)


def read_matrix_line(data: bytes, name: str) -> Matrix:
    """UnrealStereo4K's Extrinsics*/*.txt: nine numbers of the intrinsic matrix in the first line, by rows.

    Its principal point is half of the image's size, so that it counts from the image's corner.

    Raises:
        BadSample: it is no such file.
    """
    try:
        numbers = [float(word) for word in data.decode().splitlines()[0].split()]
        matrix = np.array(numbers).reshape(3, 3)
    except (ValueError, IndexError) as error:
        raise BadSample(f"{name} would begin with a line of nine numbers, a 3 x 3 matrix: {error}") from error
    return _checked(_from_corner(matrix), name)


def read_matrix(data: bytes, name: str) -> Matrix:
    """ScanNet's intrinsic_*.txt: a 4 x 4 matrix in text, a row a line; also one of 3 x 3.

    Its principal points are half a pixel less than half the image's size (319.5 of 640), so that the center
    of the top-left pixel is at (0, 0).

    Raises:
        BadSample: it is no such file.
    """
    try:
        rows = [[float(word) for word in line.split()] for line in data.decode().splitlines() if line.strip()]
        matrix = np.array(rows)
    except ValueError as error:
        raise BadSample(f"{name} would hold a 4 x 4 matrix, a row a line: {error}") from error
    if matrix.shape not in ((3, 3), (4, 4)):
        raise BadSample(f"{name} would hold a 4 x 4 matrix, a row a line, not numbers of {matrix.shape}")
    return _checked(matrix[:3, :3], name)


def read_matrix_words(data: bytes, name: str) -> Matrix:
    """The intrinsics/*.txt of KITTI's val_selection_cropped: nine numbers of the intrinsic matrix, by rows.

    Raises:
        BadSample: it is no such file.
    """
    try:
        matrix = np.array([float(word) for word in data.decode().split()]).reshape(3, 3)
    except ValueError as error:
        raise BadSample(f"{name} would hold nine numbers, a 3 x 3 matrix by rows: {error}") from error
    return _checked(matrix, name)


def read_pincam(data: bytes, name: str) -> Matrix:
    """ARKitScenes' .pincam: width, height, fx, fy, cx and cy in one line, in pixels.

    Where its principal point counts from is not documented; it is taken as it stands.

    Raises:
        BadSample: it is no such file.
    """
    try:
        _, _, fx, fy, cx, cy = (float(word) for word in data.decode().split())
    except ValueError as error:
        raise BadSample(f"{name} would be six numbers, width height fx fy cx cy: {error}") from error
    return _checked(camera_matrix(fx, fy, cx, cy), name)


def read_colmap(cameras: bytes, images: bytes | None, image: str, name: str) -> Matrix | None:
    """The camera of one image in COLMAP's cameras.txt, as ETH3D has it; distortion is left out.

    COLMAP counts from the image's corner.

    Args:
        cameras: the bytes of cameras.txt.
        images: those of the images.txt beside it, which says which image has which camera; None: there is
            none, and the camera is known only if there is one alone.
        image: the file's name; folders before it do not matter.
        name: of cameras.txt.

    Returns:
        None where it is not known which camera the image has.

    Raises:
        BadSample: it is no such file.
    """
    try:
        known = {line[0]: line[1:] for line in _records(cameras)}
        lines = _records(images or b"")
        # an image's line has ten words, and is followed by one with its points, three words each
        owners = {PurePosixPath(line[9]).name: line[8] for line in lines if len(line) == 10}
        number = next(iter(known)) if len(known) == 1 else owners.get(PurePosixPath(image).name)
        if number is None:
            return None
        model, _, _, *words = known[number]
        focals, parameters = COLMAP_FOCALS[model], [float(word) for word in words]
        fx, fy, cx, cy = parameters[0], parameters[focals - 1], *parameters[focals : focals + 2]
    except (ValueError, KeyError, IndexError) as error:
        raise BadSample(
            f"{name} is not COLMAP's list of cameras, CAMERA_ID MODEL WIDTH HEIGHT PARAMS a line: {error!r}"
        ) from error
    return _checked(_from_corner(camera_matrix(fx, fy, cx, cy)), name)


def read_colmap_points(images: bytes, points: bytes, name: str) -> dict[str, Float64[np.ndarray, "points 3"]]:
    """What COLMAP's model knows of each image: (x, y, z) of the points that it found there.

    x and y are in pixels from the image's top-left corner, z is the depth in the image's camera, in the
    model's unit, which ETH3D has in meters.

    Args:
        images, points: the bytes of images.txt and points3D.txt.
        name: of images.txt.

    Returns:
        An image's file name, without folders -> its points.

    Raises:
        BadSample: they are no such files.
    """
    try:
        places = {int(number): (float(x), float(y), float(z)) for number, x, y, z, *_ in _records(points)}
        found, nothing = {}, list[str]()
        lines = [line.split() for line in images.decode().splitlines() if not line.startswith("#")]
        for about, features in zip_longest(lines[::2], lines[1::2], fillvalue=nothing):
            qw, qx, qy, qz, *moved = (float(word) for word in about[1:8])
            forward = (2 * (qx * qz - qw * qy), 2 * (qy * qz + qw * qx), 1 - 2 * (qx * qx + qy * qy))
            seen = [
                (float(x), float(y), *places[int(number)])
                for x, y, number in zip(features[::3], features[1::3], features[2::3], strict=True)
                if int(number) >= 0
            ]
            known = np.array(seen, np.float64).reshape(-1, 5)
            depth = known[:, 2:] @ np.array(forward) + moved[2]
            found[PurePosixPath(about[9]).name] = np.column_stack([known[:, :2], depth])
    except (ValueError, KeyError, IndexError) as error:
        raise BadSample(
            f"{name}, or the points3D.txt beside it, is not of a model of COLMAP's in text: {error!r}"
        ) from error
    return found


def _records(text: bytes) -> list[list[str]]:
    return [line.split() for line in text.decode().splitlines() if line.strip() and line[0] != "#"]


def _from_corner(matrix: Matrix) -> Matrix:
    moved: Matrix = matrix - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    return moved


def _checked(matrix: Matrix, name: str) -> Matrix:
    if (
        not np.isfinite(matrix).all()
        or matrix[0, 0] <= 0
        or matrix[1, 1] <= 0
        or matrix[2].tolist() != [0, 0, 1]
    ):
        raise BadSample(
            f"{name} holds {matrix.tolist()}, which is no camera matrix of positive focal lengths"
        )
    return matrix
