"""The cameras that public benchmarks give to metric models, with the top-left pixel's center at (0, 0)."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from depthkd import datasets
from depthkd.batch import METRIC_DEPTH
from depthkd.benchmarks.public import ETH3D, KITTI
from depthkd.datasets.cameras import (
    COLMAP_FOCALS,
    read_cam,
    read_colmap,
    read_matrix,
    read_matrix_line,
    read_pincam,
)
from depthkd.evaluation.evaluate import evaluate
from depthkd.formats.sample import BadSample
from depthkd.models.model import DepthModel, DepthOutput
from tests.benchmarks.test_public import ETH_DEPTH, SETS, opened
from tests.datasets.files import Root, picture, png


def matrix(fx: float, fy: float, cx: float, cy: float) -> list[list[float]]:
    return [[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]


def cam(values: list[list[float]]) -> bytes:
    """A .cam file as Sintel's sdk writes it."""
    extrinsic = np.arange(12.0)
    return (
        struct.pack("<f", 202021.25) + np.array(values, "<f8").tobytes() + extrinsic.astype("<f8").tobytes()
    )


COLMAP = """# Camera list with one line of data per camera:
#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]
0 THIN_PRISM_FISHEYE 6048 4032 3411.42 3410.02 3041.29 2014.07 0.21 0.16 -5e-05 -2e-05 0.06 0.02 6e-04 2e-04
"""
SECOND = "7 SIMPLE_RADIAL 6048 4032 3000 3024 2016 0.1\n"
IMAGES = """# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME
1 0.8 0.1 0.2 0.3 1 2 3 0 dslr_images/DSC_0001.JPG
1.5 2.5 -1 3.5 4.5 12
2 0.8 0.1 0.2 0.3 1 2 3 7 dslr_images/DSC_0002.JPG

"""
SCENE = "rgb/office"
FACADE = f"{SCENE}/dslr_calibration_jpg"
ETH_FILES = {
    f"{SCENE}/images/dslr_images/DSC_0002.JPG": picture(30, 40, jpeg=True),
    "depth/a.JPG": ETH_DEPTH.tobytes(),
}
DAYS = [  # fx = fy, cx, cy of P_rect_02, and the size of the day's images
    ("2011_09_26", 721.5377, 609.5593, 172.8540, (375, 1242)),
    ("2011_09_28", 707.0493, 604.0814, 180.5066, (370, 1224)),
    ("2011_09_29", 718.3351, 600.3891, 181.5122, (374, 1238)),
    ("2011_09_30", 707.0912, 601.8873, 183.1104, (370, 1226)),
    ("2011_10_03", 718.8560, 607.1928, 185.2157, (376, 1241)),
]


@pytest.mark.parametrize(("day", "focal", "cx", "cy", "size"), DAYS)
def test_kittis_cameras_are_those_of_the_day_after_the_crop(
    day: str, focal: float, cx: float, cy: float, size: tuple[int, int], root: Root
) -> None:
    name = f"{day}/{day}_drive_0002_sync/image_02/data/0000000069.png"
    files = {name: picture(*size), "d.png": png(np.ones(size, np.uint16))}
    path = root(files)
    (path.parent / "split.txt").write_text(f"{name} d.png {focal}\n")
    whole = KITTI(path, split=path.parent / "split.txt", kb_crop=False).sample(0)
    cut = KITTI(path, split=path.parent / "split.txt").sample(0)
    assert whole.intrinsics is not None and cut.intrinsics is not None
    assert whole.intrinsics.tolist() == matrix(focal, focal, cx, cy)
    top, left = size[0] - 352, (size[1] - 1216) // 2
    assert np.array_equal(cut.image, whole.image[top:, left : left + 1216])
    assert cut.intrinsics.tolist() == matrix(focal, focal, cx - left, cy - top)


def test_the_shipped_list_has_kittis_focal_lengths() -> None:
    kitti = datasets.KITTI("nowhere")
    for line in kitti.lines:
        camera = kitti.intrinsics(line)
        assert camera is not None and camera[0, 0] == float(line[2])
    assert kitti.intrinsics(["elsewhere/a.png"]) is kitti.intrinsics(["2013_01_01/a.png"]) is None


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("nyuv2", {}, matrix(518.8579, 519.4696, 325.5824, 253.7362)),
        ("diode", {}, matrix(886.81, 927.06, 511.5, 383.5)),
        ("sintel", {}, None),
        (
            "sintel",
            {"camdata_left/alley_1/frame_0001.cam": cam(matrix(1120.0, 1120.0, 511.5, 217.5))},
            matrix(1120.0, 1120.0, 511.5, 217.5),
        ),
        ("unrealstereo4k", {}, None),
        (
            "unrealstereo4k",
            {"Extrinsics0/00099.txt": b"1920 0 1920 0 1920 1080 0 0 1\n1 0 0 0.5 0 1 0 2 0 0 1 3\n"},
            matrix(1920.0, 1920.0, 1919.5, 1079.5),
        ),
        ("scannet", {}, None),
        (
            "scannet",
            {"s/intrinsic/intrinsic_depth.txt": b"570 0 319.5 0\n0 571 239.5 0\n0 0 1 0\n0 0 0 1\n"},
            matrix(570.0, 571.0, 319.5, 239.5),
        ),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_constants_and_files_where_they_are(
    name: str, more: dict[str, bytes], expected: Any, kind: str, root: Root
) -> None:
    found = opened(name, root(SETS[name][2] | more, kind)).sample(0).intrinsics
    assert (None if found is None else found.tolist()) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, None),
        ({"cameras": COLMAP}, matrix(3411.42, 3410.02, 3040.79, 2013.57)),
        ({"cameras": COLMAP + SECOND, "images": IMAGES}, matrix(3000.0, 3000.0, 3023.5, 2015.5)),
        ({"cameras": COLMAP + SECOND}, None),
        ({"cameras": COLMAP + SECOND, "images": IMAGES.replace("DSC_0002", "DSC_0003")}, None),
    ],
)
def test_eth3ds_cameras_are_read_where_the_owners_calibration_is(
    more: dict[str, str], expected: Any, root: Root
) -> None:
    files = ETH_FILES | {f"{FACADE}/{name}.txt": text.encode() for name, text in more.items()}
    path = root(files)
    split = path.parent / "split.txt"
    split.write_text(" ".join(ETH_FILES))
    found = ETH3D(path, split=split, height=30, width=40).sample(0).intrinsics
    assert (found is None) == (expected is None)
    np.testing.assert_allclose(found if found is not None else 0.0, expected or 0.0, rtol=1e-12)


@pytest.mark.parametrize("model", COLMAP_FOCALS)
def test_every_model_of_colmap(model: str) -> None:
    focals = [500.0, 510.0][: COLMAP_FOCALS[model]]
    words = " ".join(map(str, [*focals, 320.5, 240.5, 0.1, 0.2, 0.3]))
    found = read_colmap(f"3 {model} 640 480 {words}\n".encode(), None, "a.jpg", "cameras.txt")
    assert found is not None and found.tolist() == matrix(500.0, focals[-1], 320.0, 240.0)


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (read_cam, b"PIEH"),
        (read_cam, cam(matrix(1, 1, 1, 1))[:-1]),
        (read_cam, cam(matrix(0, 1, 1, 1))),
        (read_cam, cam([[1, 0, 0], [0, 1, 0], [0, 0, 2]])),
        (read_matrix_line, b""),
        (read_matrix_line, b"1 2 3\n4 5 6\n7 8 9\n"),
        (read_matrix_line, b"a b c d e f g h i"),
        (read_matrix_line, b"nan 0 0 0 1 0 0 0 1"),
        (read_matrix_line, b"\xff\xfe"),
        (read_matrix, b""),
        (read_matrix, b"570 0 319.5\n0 570\n0 0 1\n"),
        (read_matrix, b"570 0 319.5\n0 570 239.5\n"),
        (read_matrix, b"570 0 319.5\n0 x 239.5\n0 0 1\n"),
        (read_matrix, b"0 0 0\n0 0 0\n0 0 0\n"),
        (read_pincam, b"256 192 212 212 128"),
        (read_pincam, b"256 192 -1 212 128 96"),
        (read_pincam, b"a b c d e f"),
        (lambda data, name: read_colmap(data, None, "a", name), b"0 PINHOLE 4 4 1\n"),
        (lambda data, name: read_colmap(data, None, "a", name), b"0 MAGIC 4 4 1 1 1 1\n"),
        (lambda data, name: read_colmap(data, None, "a", name), b"0\n"),
        (lambda data, name: read_colmap(data, None, "a", name), b"0 PINHOLE 4 4 -1 1 1 1\n"),
    ],
)
def test_broken_files_of_cameras_are_sentences(read: Any, data: bytes) -> None:
    with pytest.raises(BadSample, match="some/camera"):
        read(data, "some/camera")


class Asker(DepthModel):
    """A metric model that keeps the cameras that it is given."""

    space, license, source, takes_camera = METRIC_DEPTH, "MIT", "asker", True
    given: list[Any]

    def forward(self, image: Tensor) -> DepthOutput:
        Asker.given.append(None)
        return DepthOutput(image.mean(1) + 1.0)

    def predict_raw_with_camera(self, image: Tensor, intrinsics: Tensor) -> Tensor:
        Asker.given.append(intrinsics[0].tolist())
        return image.mean(1) + 1.0

    def encoder_parameters(self) -> Any:
        return iter(())


def test_cameras_reach_the_models_that_take_them_and_it_is_said(root: Root, tmp_path: Path) -> None:
    frames = [f"final/alley_1/frame_000{i}.png" for i in (1, 2)]
    image, depth = SETS["sintel"][2].values()
    files = dict.fromkeys(frames, image) | {f"depth/alley_1/frame_000{i}.dpt": depth for i in (1, 2)}
    known = {"camdata_left/alley_1/frame_0001.cam": cam(matrix(20.0, 20.0, 7.5, 5.5))}
    split = tmp_path / "two.txt"
    split.write_text("\n".join(frames))

    def remarks(more: dict[str, bytes], out: str = "o") -> str:
        Asker.given = []
        benchmark = SETS["sintel"][0](root(files | more), split=split, protocol="metric")
        models: Any = {"asker": Asker()}
        evaluate(models, {"sintel": benchmark}, out=tmp_path / out, photographs=False, pictures=0, workers=0)
        return (tmp_path / out / "table.md").read_text()

    assert "asker takes cameras, but none is known of these images: it was given none." in remarks({})
    assert Asker.given == [None, None]
    some = remarks(known)  # the same folder: with a camera the answers are others
    assert "asker was given the cameras of 1 of 2 images, and no camera for the others." in some
    assert Asker.given == [torch.tensor(matrix(20.0, 20.0, 7.5, 5.5)).tolist(), None]
    assert remarks(known) == some and Asker.given == []
    both = known | {"camdata_left/alley_1/frame_0002.cam": cam(matrix(30.0, 30.0, 7.5, 5.5))}
    assert "asker was given the camera of every image." in remarks(both, "p")
