"""Which depth belongs to which image: layouts of real data sets, and what must not pass for one."""

from itertools import product
from pathlib import Path

import pytest

from depthkd.datasets.folder import find_pairs
from depthkd.datasets.packing import shard_keys
from depthkd.datasets.pairing import in_order, partners, without_shared
from depthkd.errors import UserError

# name -> an image's path, its depth's path, and the values of what stands in braces
LAYOUTS = {
    "hypersim": (
        "ai_00{s}_001/images/scene_cam_0{c}_final_preview/frame.000{f}.tonemap.jpg",
        "ai_00{s}_001/images/scene_cam_0{c}_geometry_hdf5/frame.000{f}.depth_meters.npy",
        {"s": "12", "c": "01", "f": "01"},
    ),
    "hypersim, one frame": (
        "ai_001_001/images/scene_cam_00_final_preview/frame.000{f}.tonemap.jpg",
        "ai_001_001/images/scene_cam_00_geometry_hdf5/frame.000{f}.depth_meters.npy",
        {"f": "7"},
    ),
    "hypersim, by Marigold": (
        "ai_00{s}_001/rgb_cam_0{c}_fr000{f}.png",
        "ai_00{s}_001/depth_plane_cam_0{c}_fr000{f}.png",
        {"s": "12", "c": "01", "f": "01"},
    ),
    "virtual kitti 2": (
        "vkitti_2.0.3_rgb/Scene0{s}/{v}/frames/rgb/Camera_{c}/rgb_0000{f}.jpg",
        "vkitti_2.0.3_depth/Scene0{s}/{v}/frames/depth/Camera_{c}/depth_0000{f}.png",
        {"s": "12", "v": ["clone", "15-deg-left", "15-deg-right"], "c": "01", "f": "01"},
    ),
    "kitti": (
        "raw/2011_09_2{d}/2011_09_2{d}_drive_000{n}_sync/image_0{c}/data/000000000{f}.png",
        "annotated/train/2011_09_2{d}_drive_000{n}_sync/proj_depth/groundtruth/image_0{c}/000000000{f}.png",
        {"d": "68", "n": "12", "c": "23", "f": "56"},
    ),
    "a unit, in British spelling": ("rgb/{f}_rgb.png", "depth/{f}_depth_metres.png", {"f": "12"}),
    "kitti, one camera": (
        "image_02/data/000000000{f}.png",
        "proj_depth/groundtruth/image_02/000000000{f}.png",
        {"f": "56"},
    ),
    "nyu": (
        "test/{s}/rgb_000{f}.png",
        "test/{s}/depth_000{f}.png",
        {"s": ["kitchen_0004", "den_1"], "f": "12"},
    ),
    "7-scenes": (
        "chess/seq-0{s}/frame-00000{f}.color.png",
        "chess/seq-0{s}/frame-00000{f}.depth.png",
        {"s": "12", "f": "01"},
    ),
    "diode": (
        "indoors/scene_0001{s}/scan_00183/0001{s}_00183_indoors_0{f}0_010.png",
        "indoors/scene_0001{s}/scan_00183/0001{s}_00183_indoors_0{f}0_010_depth.npy",
        {"s": "89", "f": "01"},
    ),
    "tartanair": (
        "{e}/Easy/P00{p}/image_{v}/00000{f}_{v}.png",
        "{e}/Easy/P00{p}/depth_{v}/00000{f}_{v}_depth.npy",
        {"e": ["office", "ocean"], "p": "01", "v": ["left", "right"], "f": "01"},
    ),
    "scannet": (
        "scene0000_0{s}/color/{f}.jpg",
        "scene0000_0{s}/depth/{f}.png",
        {"s": "01", "f": ["0", "10"]},
    ),
    "cityscapes": (
        "leftImg8bit/val/{s}/{s}_000000_0{f}_leftImg8bit.png",
        "disparity/val/{s}/{s}_000000_0{f}_disparity.png",
        {"s": ["ulm", "aachen"], "f": "12"},
    ),
    "replica": ("results/frame00{f}.jpg", "results/depth00{f}.png", {"f": "01"}),
    "unrealstereo4k": ("00008/Image{c}/0000{f}.png", "00008/Disp{c}/0000{f}.npy", {"c": "01", "f": "01"}),
    "irs": ("l_{f}.png", "d_{f}.npy", {"f": "12"}),
    "middlebury": ("{s}.rgb.png", "{s}.disparity.png", {"s": ["cones", "reindeer"]}),
    "one of each": ("rgb.png", "depth.png", {}),
    "numbers of two widths": ("rgb/{f}.png", "depth/000{f}.png", {"f": ["1", "10"]}),
    "scenes named by letters": ("{s}/rgb/1.png", "{s}/depth/1.png", {"s": "ACDIMZ"}),
    "a scene in one of the paths": ("room1/color/{f}.jpg", "kinect/{f}.png", {"f": "12"}),
    "names without a number": ("rgb/{s}.jpg", "depth/{s}.npy", {"s": ["Übung", "ab12f", "9a8b"]}),
}


def spelled(layout: str) -> tuple[list[Path], list[Path]]:
    image, depth, values = LAYOUTS[layout]
    chosen = [dict(zip(values, each, strict=True)) for each in product(*values.values())]
    return [Path(image.format(**each)) for each in chosen], [Path(depth.format(**each)) for each in chosen]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_data_sets_need_no_options(layout: str) -> None:
    images, depths = spelled(layout)
    assert partners(images, depths[::-1]) == depths
    if len(images) > 1:
        for kept in (slice(1, None), slice(None, -1)):
            with pytest.raises(UserError, match=r"has no partner|candidates"):
                partners(images[kept], depths)
            with pytest.raises(UserError, match=r"has no partner|would both get"):
                partners(images, depths[kept])


def touched(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_depth_of_another_scene_is_refused(tmp_path: Path) -> None:
    names = [f"sceneA/rgb/000{n}.png" for n in (1, 2, 3)] + [f"sceneB/rgb/000{n}.png" for n in (1, 2)]
    names += [f"sceneA/depth/000{n}.png" for n in (1, 2)] + [f"sceneB/depth/000{n}.png" for n in (1, 2, 3)]
    touched(tmp_path, names)
    with pytest.raises(UserError, match=r"sceneA/rgb/0003\.png has no partner among the depth files"):
        find_pairs(f"{tmp_path}/*/rgb/*.png", f"{tmp_path}/*/depth/*.png")
    (tmp_path / "sceneA/rgb/0003.png").unlink()
    with pytest.raises(UserError, match=r"sceneB/depth/0003\.png has no partner among the images"):
        find_pairs(f"{tmp_path}/*/rgb/*.png", f"{tmp_path}/*/depth/*.png")
    (tmp_path / "sceneB/depth/0003.png").unlink()
    images, depths = find_pairs(f"{tmp_path}/*/rgb/*.png", f"{tmp_path}/*/depth/*.png")
    assert [str(path) for path in depths] == [str(p).replace("rgb", "depth") for p in images]
    assert shard_keys([str(path) for path in images]) == [
        "sceneA-rgb-0001",
        "sceneA-rgb-0002",
        "sceneB-rgb-0001",
        "sceneB-rgb-0002",
    ]


@pytest.mark.parametrize(
    ("images", "depths", "sentence"),
    [
        (
            ["A/rgb/1.png"],
            ["B/depth/1.png"],
            "'A' is in the path of every image and 'B' in that of every depth",
        ),
        (["sceneA/1.png"], ["sceneB/1.npy"], "'sceneA' .* 'sceneB' .* two scenes"),
        (["cones.rgb.png"], ["reindeer.disparity.png"], "'cones.rgb' .* 'reindeer.disparity'"),
        (["x/train/rgb_1.png"], ["x/test/depth_1.png"], "'train' .* 'test'"),
        (["image_right/1_right.png"], ["depth_left/1_left_depth.npy"], "'image_right' .* 'depth_left'"),
        (["office_in/rgb/1.png"], ["office_out/depth/1.png"], "'office_in' .* 'office_out'"),
        (["seq01/rgb/1.png"], ["seq02/depth/1.png"], "has no partner"),
        (["x/rgb/2.png"], ["train2/depth/2.png"], "'x' .* 'train2'"),
        (["val_003/9.rgb.png"], ["b3/9.depth.png"], "'val_003' .* 'b3'"),
        (["kitchen/rgb/9.png"], ["raw2/depth/9.png"], "'kitchen' .* 'raw2'"),
        (["image_02/data/5.png"], ["groundtruth/image_03/5.png"], "has no partner"),
        (["cam_00/rgb_1.png"], ["cam_01/depth_1.png"], "has no partner"),
        (["Image0/1.png"], ["Disp1/1.npy"], "has no partner"),
        (["cam_0/frame_5.png"], ["frame_0/cam_5.png"], "has no partner"),
        (["rgb/1.png", "rgb/2.png"], ["depth/3.png", "depth/4.png"], "2 of 2 have none"),
        (["a/rgb/1.png", "b/rgb/1.png"], ["depth/1.png"], "has no partner"),
        (
            ["rgb/1.png"],
            ["depth_1.png", "filled_1.png"],
            "2 candidates for its depth, depth_1.png and filled_1",
        ),
        (["rgb/1.png", "color/1.png"], ["depth/1.png"], "would both get the depth depth/1.png"),
        (["rgb/1.png", "rgb/1.jpg"], ["depth/1.png"], "would both get the depth depth/1.png"),
        (
            ["rgb/1305031102.175304.png", "rgb/1305031102.211214.png"],
            ["depth/1305031102.160407.png", "depth/1305031102.194330.png"],
            "names that are times differ .* associate.py .* --pair order",
        ),
    ],
)
def test_what_may_belong_to_another_image_is_refused(
    images: list[str], depths: list[str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        partners([Path(path) for path in images], [Path(path) for path in depths])


def test_masks_beside_depth_are_not_depth() -> None:
    images = [Path("x_1.png"), Path("x_2.png")]
    depths = [Path(f"x_{n}_depth{mask}.npy") for n in (1, 2) for mask in ("", "_mask")]
    assert partners(images, depths) == [Path("x_1_depth.npy"), Path("x_2_depth.npy")]
    assert partners(images, depths[1::2]) == depths[1::2]


def test_one_folder_of_both_is_told_apart() -> None:
    diode = [Path(f"d/{n}{end}") for n in "12" for end in (".png", "_depth.npy", "_depth_mask.npy")]
    photos = [path for path in diode if path.suffix == ".png"]
    assert partners(*without_shared(photos, diode)) == [Path("d/1_depth.npy"), Path("d/2_depth.npy")]
    frames = [Path(f"d/frame-{n}.{kind}.png") for n in "12" for kind in ("color", "depth")]
    assert partners(*without_shared(frames, frames)) == [frames[1], frames[3]]
    with pytest.raises(UserError, match=r"d/1\.png is given as an image and as a depth file"):
        without_shared(photos, photos)
    with pytest.raises(UserError, match=r"d/2\.png is given as .*: give patterns that tell them apart"):
        without_shared([Path("d/1.jpg"), *photos[1:]], photos[1:])


def test_order_is_for_those_who_ask() -> None:
    images, depths = [Path("r/7.1.png"), Path("r/7.2.png")], [Path("d/9.png"), Path("d/8.png")]
    assert in_order(images, depths) == depths
    with pytest.raises(UserError, match="2 images and 1 depth files cannot be paired in order"):
        in_order(images, depths[:1])
