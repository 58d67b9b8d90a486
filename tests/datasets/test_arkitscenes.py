"""ARKitScenes in its owners' layouts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from depthkd.datasets import ARKitScenes
from depthkd.errors import MissingFileError, UserError
from depthkd.formats.images import decode_image
from depthkd.geometry import back_project, camera_matrix, turn_intrinsics
from depthkd.verbs.shards.pack import pack
from tests.datasets.files import Root, known, picture, png

IMAGE = picture(6, 8)
DEPTH = np.arange(1, 49, dtype=np.uint16).reshape(6, 8) * 100  # mm
DEPTH[5, 7] = 0
HEADER = "video_id,visit_id,fold,sky_direction\n"


def upsampling(images: str = "wide", fold: str = "Training", video: str = "41069021") -> dict[str, bytes]:
    place = f"{fold}/{video}"
    return {
        f"{place}/{images}/{video}_305.244.png": IMAGE,
        f"{place}/{images}/{video}_307.343.png": IMAGE,  # has no laser's depth
        f"{place}/highres_depth/{video}_305.244.png": png(DEPTH),
        f"{place}/lowres_depth/{video}_305.244.png": png(DEPTH[:2, :2]),
    }


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("images", ["wide", "color"])
def test_images_go_with_the_lasers_depth_of_their_time(root: Root, images: str, kind: str) -> None:
    files = upsampling(images) | upsampling(images, "Validation", "42446103")
    path = root({f"upsampling/{name}": data for name, data in files.items()}, kind)
    found = ARKitScenes(path)
    assert len(found) == 1 and found.missing() == []
    assert found.lines[0][0].endswith(f"Training/41069021/{images}/41069021_305.244.png")
    assert ["/42446103/" in line[0] for line in ARKitScenes(path, "val").lines] == [True]
    sample = found.sample(0)
    assert sample.depth is not None and sample.mask is not None and sample.intrinsics is None
    assert sample.depth[0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    assert (~sample.mask).sum() == 1 and not sample.mask[5, 7]


@pytest.mark.parametrize("camera", ["6845.706", "6845.705", "6845.707"])
def test_what_the_ipad_measured_has_a_camera(root: Root, camera: str) -> None:
    place = "3dod/Training/40753679/40753679_frames"
    files = {
        f"{place}/lowres_wide/40753679_6845.706.png": IMAGE,
        f"{place}/lowres_depth/40753679_6845.706.png": png(DEPTH),
        f"{place}/lowres_wide_intrinsics/40753679_{camera}.pincam": b"8 6 211.9 212.1 3.6 2.4\n",
        f"{place}/lowres_wide_intrinsics/40753679_6845.800.pincam": b"8 6 1 1 1 1\n",
    }
    found = ARKitScenes(root(files), truth="lowres")
    assert len(found) == 1
    assert known(found.sample(0))[2].tolist() == [[211.9, 0, 3.6], [0, 212.1, 2.4], [0, 0, 1]]
    with pytest.raises(MissingFileError, match="has no images with highres_depth; it would hold"):
        ARKitScenes(root(files)).lines  # noqa: B018


@pytest.mark.parametrize(
    ("sky", "turned", "camera"),
    [
        ("Up", lambda a: a, (211.0, 212.0, 3.0, 2.0)),
        ("Left", lambda a: a[::-1].swapaxes(0, 1), (212.0, 211.0, 5 - 2.0, 3.0)),  # clockwise
        ("Right", lambda a: a.swapaxes(0, 1)[::-1], (212.0, 211.0, 2.0, 7 - 3.0)),
        ("Down", lambda a: a[::-1, ::-1], (211.0, 212.0, 7 - 3.0, 5 - 2.0)),
        ("NA", lambda a: a, (211.0, 212.0, 3.0, 2.0)),
    ],
)
def test_images_are_turned_until_the_sky_is_up(root: Root, sky: str, turned: object, camera: object) -> None:
    files = upsampling() | {"metadata.csv": f"{HEADER}41069021,,Training,{sky}\n".encode()}
    files["Training/41069021/wide_intrinsics/41069021_305.244.pincam"] = b"8 6 211 212 3 2"
    found = ARKitScenes(root(files))
    sample = found.sample(0)
    depth, mask, matrix = known(sample)
    assert callable(turned) and isinstance(camera, tuple)
    assert np.array_equal(sample.image, turned(decode_image(IMAGE, "i")))
    assert np.array_equal(depth, turned(DEPTH / 1000).astype(np.float32))
    assert np.array_equal(mask, turned(DEPTH > 0)) and np.array_equal(matrix, camera_matrix(*camera))
    assert (found.image_file(0)[1] is None) == (sky in ("Left", "Right", "Down"))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_camera_sees_turned_points(turns: int) -> None:
    """x to the right and y down become each other, as the image's rows and columns do."""
    z = torch.rand(5, 7, dtype=torch.float64) + 1
    camera = torch.from_numpy(camera_matrix(4.0, 5.0, 2.5, 3.5))
    turned = back_project(torch.rot90(z, turns), turn_intrinsics(camera, 5, 7, turns))
    x, y, depth = torch.rot90(back_project(z, camera), turns, (1, 2))
    expected = {1: (y, -x), 2: (-x, -y), 3: (-y, x)}[turns]
    torch.testing.assert_close(turned, torch.stack([*expected, depth]))


def test_another_table_is_a_sentence(root: Root) -> None:
    with pytest.raises(UserError, match=r"metadata.csv is not the owners' table, with video_id and sky_dire"):
        ARKitScenes(root(upsampling() | {"metadata.csv": b"a,b\n1,2\n"})).sample(0)


def test_it_is_packed_by_name_and_turned(root: Root, tmp_path: Path) -> None:
    files = upsampling() | {"metadata.csv": f"{HEADER}41069021,,Training,Left\n".encode()}
    done = pack(dataset="arkitscenes", root=str(root(files)), out=f"{tmp_path}/o.tar")
    assert done.samples == 1
