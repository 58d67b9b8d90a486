"""The commands of docs/recipes.md, typed where the files of each data set lie by their owners' names."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from depthkd.formats.sample import Sample
from depthkd.formats.shard_samples import decode_sample
from depthkd.formats.tar import index_tar
from depthkd.verbs import shards
from depthkd.verbs.configs import Command
from tests.datasets.files import database, picture, png, tarred, write

PAGE = (Path(__file__).parent.parent.parent / "docs/recipes.md").read_text()
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
JPEG, PNG = picture(4, 6, jpeg=True), picture(4, 6)
SEGMENTS = (
    "segment-10017090168044687777_6380_000_6400_000",
    "segment-10023947602400723454_1120_000_1140_000",
)
LOGS = ("7fab2350-7eaf-3b7e-a39d-6937a4c1bede", "01bb304d-7bd8-35f8-bbef-7086b688e35e")
CLASSES = {f"{c}.tar": tarred({f"{c}_10026.JPEG": JPEG}) for c in ("n01440764", "n02085620")}
CATEGORIES = {f"data_large/{c}/00000001.jpg": JPEG for c in ("a/airfield", "s/swimming_pool/indoor")}


@dataclass
class Recipe:
    """What lies in /data, and what must be in the shards: keys, cameras, and the depth of each sample but of
    its first pixel, which was not measured, in meters."""

    make: Callable[[Path], object]
    keys: list[str]
    cameras: list[list[float]] | None = None
    depth: list[float] | None = None


def depth_map(number: int, unknown: int = 0) -> bytes:
    numbers = np.full((4, 6), number, np.uint16)
    numbers[0, 0] = unknown
    return png(numbers)


def files(content: Mapping[str, bytes]) -> Callable[[Path], object]:
    return lambda data: write(data, content)


def waymo(data: Path) -> None:
    for segment, camera, number in zip(SEGMENTS, ("FRONT", "SIDE_LEFT"), (2560, 640), strict=True):
        folder = f"waymo/training/{segment}/{{}}/{camera}/000.{{}}"
        write(data, {folder.format("image", "jpg"): JPEG, folder.format("depth", "png"): depth_map(number)})
    [table] = [text for kind, text in BLOCK.findall(SECTIONS["Waymo Open Dataset"]) if kind == "csv"]
    (data / "waymo/cameras.csv").write_text(table)


def argoverse(data: Path) -> None:
    for log, number in zip(LOGS, (512, 768), strict=True):
        frame, folder = "ring_front_center/315968867659956000", data / f"av2/train/{log}"
        write(folder, {f"sensors/cameras/{frame}.jpg": JPEG, f"depth/{frame}.png": depth_map(number)})
        write(folder, {"calibration/intrinsics.feather": log.encode()})


def taskonomy(data: Path) -> None:
    views = (
        {"resolution": 512, "field_of_view_rads": np.pi / 2},
        {"resolution": 512, "field_of_view_rads": 1.0},
    )
    for building, number, view in zip(("ackermanville", "adairsville"), (1024, 256), views, strict=True):
        for domain, end, content in (
            ("rgb", "png", PNG),
            ("depth_zbuffer", "png", depth_map(number, 65535)),
            ("point_info", "json", json.dumps(view).encode()),
        ):
            path = f"taskonomy/{domain}/taskonomy/{building}/point_0_view_3_domain_{domain}.{end}"
            write(data, {path: content})


def pandaset(data: Path) -> None:
    for sequence, camera, fx in (
        ("001", "front_camera", 1970.0), ("001", "back_camera", 933.5), ("158", "front_camera", 1971.0),
    ):  # fmt: skip
        intrinsics = json.dumps({"fx": fx, "fy": fx + 1, "cx": 970.0, "cy": 483.25}).encode()
        files = {"00.jpg": JPEG, "intrinsics.json": intrinsics, "poses.json": b"[]"}
        write(data / f"pandaset/{sequence}/camera/{camera}", files)
        write(data / f"pandaset/{sequence}/lidar", {"00.pkl.gz": b"never read"})


def landmarks(data: Path) -> None:
    for number, name in enumerate(("0000059611c7d079", "1001f6e0d1a3f9a1")):
        tar = tarred({"/".join([*name[:3], f"{name}.jpg"]): JPEG})
        write(data, {f"google-landmark/train/images_{number:03}.tar": tar})
    train = data / "google-landmark/train"
    assert [*index_tar(train / "images_000.tar").keys] == ["0000059611c7d079"]  # a shard as it is


def lsun(data: Path) -> None:
    for number, name in enumerate(("bedroom_train", "bedroom_val", "tower_train")):
        database(data / f"lsun/{name}_lmdb", {f"{number}{number}f0{number}".encode(): JPEG})


RECIPES = {
    "Waymo Open Dataset": Recipe(
        waymo, [f"{SEGMENTS[0]}-image-FRONT-000", f"{SEGMENTS[1]}-image-SIDE_LEFT-000"],
        [[2055.5, 2055.5, 939.5, 641.0], [2056.25, 2056.25, 933.0, 233.5]], [10.0, 2.5],
    ),
    "Argoverse 2": Recipe(
        argoverse, [f"{log}-sensors-cameras-ring_front_center-315968867659956000" for log in sorted(LOGS)],
        [[1684.0, 1685.0, 775.5, 1023.5], [1773.5, 1774.5, 775.75, 1024.0]], [3.0, 2.0],
    ),
    "Taskonomy": Recipe(
        taskonomy, [f"{b}-point_0_view_3_domain_rgb" for b in ("ackermanville", "adairsville")],
        [[256.0, 256.0, 255.5, 255.5], [468.6051, 468.6051, 255.5, 255.5]], [2.0, 0.5],  # 256 / tan(1 / 2)
    ),
    "PandaSet": Recipe(
        pandaset, ["001-camera-back_camera-00", "001-camera-front_camera-00", "158-camera-front_camera-00"],
        [[933.5, 934.5, 970.0, 483.25], [1970.0, 1971.0, 970.0, 483.25], [1971.0, 1972.0, 970.0, 483.25]],
    ),
    "BDD100K": Recipe(
        files({f"bdd100k/images/100k/{split}/0000f77c-{split}.jpg": JPEG for split in ("train", "val")}),
        ["0000f77c-train"],
    ),
    "Google Landmarks v2": Recipe(landmarks, ["0000059611c7d079", "1001f6e0d1a3f9a1"]),
    "ImageNet-21K": Recipe(
        files({"imagenet21k/winter21_whole.tar": tarred(CLASSES)}), ["n01440764_10026", "n02085620_10026"]
    ),
    "LSUN": Recipe(lsun, ["00f00", "22f02"]),
    "Objects365": Recipe(
        files({f"objects365/images/train/patch{name}.jpg": JPEG for name in (
            "0/objects365_v1_00000000", "16/objects365_v2_00908725"
        )}),
        ["objects365_v1_00000000", "objects365_v2_00908725"],
    ),
    "Open Images": Recipe(files({"open-images/train/000002b66c9c498e.jpg": JPEG}), ["000002b66c9c498e"]),
    "Places365": Recipe(
        files({"places365/train_large_places365standard.tar": tarred(CATEGORIES)}),
        ["a-airfield-00000001", "s-swimming_pool-indoor-00000001"],
    ),
}  # fmt: skip


def feather() -> ModuleType:
    """What the recipe asks of pyarrow, which depthkd does not need: the rows of Argoverse 2's table."""

    class Rows:
        def __init__(self, path: Path) -> None:
            self.first = path.read_bytes() == LOGS[0].encode()

        def to_pylist(self) -> list[dict[str, object]]:
            numbers = [1773.5, 1774.5, 775.75, 1024.0] if self.first else [1684.0, 1685.0, 775.5, 1023.5]
            names = ("fx_px", "fy_px", "cx_px", "cy_px")
            return [{"sensor_name": "ring_front_center", **dict(zip(names, numbers, strict=True)), "k1": 0.1}]

    module = ModuleType("pyarrow")
    module.feather = type("feather", (), {"read_table": Rows})  # type: ignore[attr-defined]
    return module


def samples(folder: Path, labelled: bool) -> list[Sample]:
    found = []
    for path in sorted(folder.rglob("*.tar")):
        index = index_tar(path)
        found += [
            decode_sample(k, index.read(i), "", labelled, cameras=True) for i, k in enumerate(index.keys)
        ]
    return found


def test_every_recipe_is_tried() -> None:
    assert list(SECTIONS) == list(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_packs_what_its_owners_ship(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, data = RECIPES[name], tmp_path / "data"
    recipe.make(data)
    monkeypatch.setitem(sys.modules, "pyarrow", feather())
    blocks = [(kind, text.replace("/data", str(data))) for kind, text in BLOCK.findall(SECTIONS[name])]
    for kind, text in blocks:
        if kind == "python":
            exec(text, {})
        elif kind == "bash":
            words = shlex.split(text.replace("\\\n", " "))
            assert words[:2] == ["depthkd", "shards"] and shards.main(Command(words[2:])) == 0
    found = samples(data / "shards", recipe.depth is not None)
    assert [sample.key for sample in found] == recipe.keys
    for sample, camera in zip(found, recipe.cameras or [None] * len(found), strict=True):
        assert (sample.intrinsics is None) == (camera is None)
        if camera is not None and sample.intrinsics is not None:
            [[fx, _, cx], [_, fy, cy], _] = sample.intrinsics
            assert [fx, fy, cx, cy] == pytest.approx(camera, abs=1e-3)
    for sample, meters in zip(found, recipe.depth or [], strict=False):
        assert sample.depth is not None and sample.mask is not None
        assert not sample.mask[0, 0] and sample.mask.sum() == 23
        np.testing.assert_allclose(sample.depth[sample.mask], meters, rtol=1e-4)
