"""`depthkd predict`: its formats, what it keeps, what it makes anew, and odd files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH, DepthSpace
from depthkd.datasets import TUMRGBD
from depthkd.errors import UserError
from depthkd.formats.depth_png import decode_depth_png
from depthkd.formats.images import encode_jpeg, encode_png
from depthkd.formats.sample import Sample
from depthkd.formats.shard_samples import encode_sample
from depthkd.formats.writing import write_tar
from depthkd.models.baselines import AlignedDepth
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.shapes import Image as Images
from depthkd.verbs.predict import Predictions, predict
from depthkd.verbs.predict.forms import triangles
from depthkd.verbs.predict.record import Record
from tests.conftest import CommandLine

ALL = ["npy", "npz", "png16", "png", "side", "ply", "glb", "mesh"]


class Bright(DepthModel):
    """What is bright is far: 2 to 6 meters; each call, and how many images it had, is noted."""

    caches: tuple[str, ...] = ("asked",)

    def __init__(self, space: DepthSpace = METRIC_DEPTH, noise: bool = False, farther: float = 0.0) -> None:
        super().__init__()
        self.space, self.noise, self.farther = space, noise, farther
        self.source, self.license = "bright", "MIT"
        self.asked: list[int] = []

    def forward(self, image: Images) -> DepthOutput:
        self.asked.append(len(image))
        depth = 2 + 4 * image.mean(1) + self.farther
        if self.noise:
            depth = depth + torch.rand_like(depth)
        return DepthOutput(depth)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return iter(())


class Relative(Bright):
    """The same, of unknown scale and shift."""

    def __init__(self) -> None:
        super().__init__(AFFINE_DISPARITY)
        self.source = "relative"


def pixels(height: int = 12, width: int = 18, seed: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    image = (rows * 7 + columns * 5 + seed * 20)[..., None] % 200 + np.array([10, 20, 30])
    return image.astype(np.uint8)


def photographs(folder: Path, *names: str, size: tuple[int, int] = (12, 18)) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        (folder / name).write_bytes(encode_png(pixels(*size, seed=seed)))
    return [str(folder / name) for name in names]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_every_format_of_one_photograph(tmp_path: Path) -> None:
    paths = photographs(tmp_path, "a b é.png")
    made = predict(paths, Bright(), tmp_path / "o", formats=ALL, fov=50)
    suffixes = [".npy", ".npz", ".depth.png", ".color.png", ".png", ".ply", ".glb", ".mesh.glb"]
    assert names(tmp_path / "o") == sorted([*(f"a b é{suffix}" for suffix in suffixes), "predict.json"])
    assert len(made.files) == len(ALL) and made.arrays == [tmp_path / "o/a b é.npy"]
    depth = np.load(made.arrays[0])
    with np.load(tmp_path / "o/a b é.npz") as held:
        np.testing.assert_array_equal(held["depth"], depth)
        assert str(held["space"]) == "metric depth" and str(held["source"]) == paths[0]
        assert held["intrinsics"][0, 0] == pytest.approx(9 / np.tan(np.radians(25)))
    coded, mask, space = decode_depth_png((tmp_path / "o/a b é.depth.png").read_bytes(), "x")
    assert mask.all() and space == METRIC_DEPTH and np.abs(coded / depth - 1).max() < 1e-4
    record = json.loads((tmp_path / "o/predict.json").read_text())
    entry = record["pictures"]["a b é"]
    assert entry["depth"]["codec"] == "log16" and entry["camera"]["from"] == "given"
    with Image.open(tmp_path / "o/a b é.png") as panel:
        assert panel.size == (36, 12)


def test_batches_answer_as_one_at_a_time(tmp_path: Path) -> None:
    paths = photographs(tmp_path / "p", "a.png", "b.png", "c.png")
    paths += photographs(tmp_path / "p", "d.png", "e.png", size=(20, 10))
    model = Bright()
    together = predict(paths, model, tmp_path / "o", formats="npy", batch_size=2)
    assert sorted(model.asked) == [1, 2, 2]
    alone = predict(paths, Bright(), tmp_path / "p1", formats="npy")
    for one, other in zip(sorted(together.arrays), sorted(alone.arrays), strict=True):
        np.testing.assert_allclose(np.load(one), np.load(other), atol=1e-5)
    noisy = Bright(noise=True)
    again = predict(paths[:3], noisy, tmp_path / "n", formats="npy", batch_size=3, seed=3)
    assert noisy.asked == [3, 1, 1, 1]
    first = predict(paths[:1], Bright(noise=True), tmp_path / "n1", formats="npy", seed=3)
    np.testing.assert_array_equal(np.load(again.arrays[0]), np.load(first.arrays[0]))


def test_what_is_there_is_kept_and_what_changed_is_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = photographs(tmp_path / "p", "a.png", "b.png")

    def made(model: DepthModel, **more: Any) -> Predictions:
        return predict(paths, model, tmp_path / "o", **({"formats": "npy"} | more))

    made(Bright())
    model = Bright()
    again = made(model)
    assert again.kept == 2 and not model.asked and len(again.arrays) == 2
    (tmp_path / "o/a.npy").unlink()
    assert made(model).kept == 1 and model.asked == [1]
    (tmp_path / "p/b.png").write_bytes(encode_png(pixels(seed=9)))
    assert made(model).kept == 1 and model.asked == [1, 1]
    assert np.load(tmp_path / "o/b.npy")[0, 0] == pytest.approx(2 + 4 * 200 / 255)
    made(model, formats=["npy", "png"])
    assert made(model, formats=["npy", "png"]).kept == 2 == made(model, formats="npy").kept
    for other, more, sentence in (
        (Bright(farther=1.0), {}, "of bright as it was before it changed"),
        (Bright(), {"flip": True}, "made without --flip, and these would be with --flip true"),
        (Bright(), {"seed": 3}, "made with --seed 0, and these would be with --seed 3"),
        (Bright(), {"fov": 50}, "made without --fov, and these would be with --fov 50"),
        (Bright(AFFINE_DISPARITY), {}, "of metric depth, and this model is read as affine disparity"),
    ):
        with pytest.raises(UserError, match=f"o holds predictions {sentence}: choose another --out"):
            made(other, **more)
    assert made(Bright(farther=1.0), overwrite=True).kept == 0
    assert np.load(tmp_path / "o/b.npy")[0, 0] == pytest.approx(3 + 4 * 200 / 255)
    record = json.loads((tmp_path / "o/predict.json").read_text())
    for broken, sentence in (
        ({}, "is not a record of"),
        (record | {"settings": None}, "lacks settings or pictures"),
        (record | {"pictures": {"a": {"files": "a.npy"}}}, "does not say which files 'a' has"),
    ):
        (tmp_path / "o/predict.json").write_text(json.dumps(broken))
        with pytest.raises(UserError, match=f"predict.json {sentence}.*: choose another --out"):
            made(Bright(), overwrite=True)


def test_what_16_bits_cannot_hold_is_written_otherwise(tmp_path: Path) -> None:
    class Steep(Bright):
        def forward(self, image: Images) -> DepthOutput:
            depth = super().forward(image).depth
            depth[:, 0, 0] = 1e-6
            return DepthOutput(depth)

    paths = photographs(tmp_path / "p", "a.png")
    made = predict(paths, Steep(), tmp_path / "o", formats=["npy", "png16"])
    assert names(tmp_path / "o") == ["a.npy", "predict.json"] and not made.left_out
    (sentence,) = made.unwritten
    assert sentence.endswith("0.0001 is allowed; npy, npz and exr hold every value")
    assert predict(paths, Steep(), tmp_path / "o", formats="npy").kept == 1
    (tmp_path / "o/a.depth.png").write_bytes(b"of an earlier prediction")
    predict(paths, Steep(), tmp_path / "o", formats=["npy", "png16"], overwrite=True)
    assert not (tmp_path / "o/a.depth.png").exists()
    assert len(predict(paths, Steep(), tmp_path / "p16", formats="png16").left_out) == 1


def test_how_far_points_reach_matters_to_point_clouds_alone(tmp_path: Path) -> None:
    paths = photographs(tmp_path / "p", "a.png")
    predict(paths, Bright(), tmp_path / "o", formats="npy", farthest=9)
    assert predict(paths, Bright(), tmp_path / "o", formats=["npy", "ply"], farthest=4).kept == 0
    assert predict(paths, Bright(), tmp_path / "o", formats="npy", farthest=5).kept == 1
    with pytest.raises(UserError, match="made with --farthest 4, and these would be with --farthest 5"):
        predict(paths, Bright(), tmp_path / "o", formats="ply", farthest=5)


def test_what_another_process_says_of_its_point_clouds_is_kept(tmp_path: Path) -> None:
    arrays, clouds = (Record(tmp_path, {"farthest": far}, False) for far in (None, 4.0))
    arrays.add("a", "a", ["a.npy"])
    clouds.add("b", "b", ["b.ply"])
    clouds.save()
    arrays.save()
    found = json.loads((tmp_path / "predict.json").read_text())
    assert found["settings"] == {"farthest": 4.0} and sorted(found["pictures"]) == ["a", "b"]


def test_models_that_do_not_agree_on_what_is_near(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bright's distances, read as disparity, are turned around where they are fitted to the same as depth."""
    paths, out = photographs(tmp_path / "p", "a.png", "b.png"), tmp_path / "o"
    made = predict(paths, Relative(), out, formats="npy", align_to=Bright(), batch_size=2)
    assert len(made.doubted) == 2 and "a.png: near and far are turned around" in made.doubted[0]
    assert "doubtful: 2 of them" in capsys.readouterr().out
    again = predict(paths, Relative(), out, formats="npy", align_to=Bright())
    assert again.kept == 2 and again.doubted == made.doubted
    assert f"doubtful: 2 of them, as {out / 'predict.json'} says" in capsys.readouterr().out
    assert not predict(paths, Bright(), tmp_path / "p2", formats="npy", align_to=Bright()).doubted


def test_after_an_interruption_it_goes_on(tmp_path: Path) -> None:
    class Stopped(Bright):
        def forward(self, image: Images) -> DepthOutput:
            if len(self.asked) == 2:
                raise KeyboardInterrupt
            return super().forward(image)

    paths = photographs(tmp_path / "p", "a.png", "b.png", "c.png")
    model = Stopped()
    with pytest.raises(KeyboardInterrupt):
        predict(paths, model, tmp_path / "o", formats="npy")
    assert names(tmp_path / "o") == ["a.npy", "b.npy", "predict.json"]
    model.asked = [1] * 5
    made = predict(paths, model, tmp_path / "o", formats="npy")
    assert made.kept == 2 and len(model.asked) == 6 and len(made.arrays) == 3


def test_a_killed_overwrite_leaves_nothing_that_passes_for_the_earlier_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photographs(tmp_path / "p", "a.png", "b.png")
    predict(paths, Bright(), tmp_path / "o", formats="npy")
    before = np.load(tmp_path / "o/a.npy")
    with monkeypatch.context() as killed:
        killed.setattr(Record, "save", lambda self: None)  # as if by SIGKILL: nothing is noted at the end
        predict(paths, Bright(farther=1.0), tmp_path / "o", formats="npy", overwrite=True)
    assert np.load(tmp_path / "o/a.npy")[0, 0] == pytest.approx(before[0, 0] + 1)
    with pytest.raises(UserError, match="of bright as it was before it changed"):
        predict(paths, Bright(), tmp_path / "o", formats="npy")
    assert predict(paths, Bright(farther=1.0), tmp_path / "o", formats="npy").kept == 0


def test_names_stay_apart(tmp_path: Path, command_line: CommandLine) -> None:
    photographs(tmp_path / "p", "a.png")
    (tmp_path / "p/a.jpg").write_bytes(encode_jpeg(pixels()))
    photographs(tmp_path / "q/deep/er", "a.png")
    words = ["--model.class_path", "tests.test_predict_files.Bright", "--formats", "npy", "--out", "o"]
    status, out, err = command_line("predict", "p", "q", *words)
    assert status == 0, err
    assert "q has none itself: what its subfolders hold is taken, 1 in all" in out
    written = [name for name in names(tmp_path / "o") if name.endswith("npy")]
    assert written == ["p-a-jpg.npy", "p-a-png.npy", "q-deep-er-a.npy"]


def test_a_picture_of_the_same_name_elsewhere_takes_no_ones_place(tmp_path: Path) -> None:
    for folder, gray in (("a", 50), ("b", 200)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (24, 16), (gray,) * 3).save(tmp_path / folder / "x.png")
    predict(str(tmp_path / "a/x.png"), Bright(), tmp_path / "o")
    before = (tmp_path / "o/x.npy").read_bytes()
    with pytest.raises(UserError, match=r"o/x is made of .*a/x\.png, and .*b/x\.png has the same name"):
        predict(str(tmp_path / "b/x.png"), Bright(), tmp_path / "o")
    assert (tmp_path / "o/x.npy").read_bytes() == before
    predict(str(tmp_path / "b/x.png"), Bright(), tmp_path / "o", overwrite=True)
    assert (tmp_path / "o/x.npy").read_bytes() != before


def test_a_shard_brings_its_cameras(tmp_path: Path) -> None:
    camera = np.array([[20.0, 0, 8], [0, 21, 6], [0, 0, 1]])
    samples = [("x/one", Sample("one", pixels())), ("two", Sample("two", pixels(), intrinsics=camera))]
    members = [(key, encode_sample(sample, image="png")) for key, sample in samples]
    members.append(("bad", {"png": b"\x89PNG\r\n\x1a\n"}))
    write_tar(members, tmp_path / "s.tar")
    made = predict(str(tmp_path / "s.tar"), Bright(), tmp_path / "o", formats=["npy", "ply"])
    assert names(tmp_path / "o") == ["predict.json", "s/one.npy", "s/one.ply", "s/two.npy", "s/two.ply"]
    assert len(made.left_out) == 1 and "sample 'bad'" in made.left_out[0]
    pictures = json.loads((tmp_path / "o/predict.json").read_text())["pictures"]
    assert [pictures[name]["camera"]["from"] for name in ("s/one", "s/two")] == ["assumed", "packed"]
    assert predict(str(tmp_path / "s.tar"), Bright(), tmp_path / "o", formats="npy").kept == 2


def test_exif_tells_the_camera_and_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 26
    Image.fromarray(pixels(30, 40)).save(tmp_path / "a.jpg", exif=exif)
    photographs(tmp_path, "b.png")
    predict([str(tmp_path / "a.jpg"), str(tmp_path / "b.png")], Bright(), tmp_path / "o", formats="ply")
    entry = json.loads((tmp_path / "o/predict.json").read_text())["pictures"]["a"]
    assert entry["size"] == [40, 30] and entry["camera"]["from"] == "EXIF"
    assert entry["camera"]["intrinsics"] == pytest.approx([26 * 50 / 43.2666] * 2 + [14.5, 19.5], rel=1e-4)
    told = "assume a field of view of 60 degrees for 1 of 2 images (cameras of the others: 1 from EXIF)"
    assert told in capsys.readouterr().out


def test_a_model_that_estimates_the_camera_is_asked_for_points_alone(tmp_path: Path) -> None:
    class Estimating(Bright):
        def estimated_cameras(self, image: Images) -> Tensor:
            return torch.tensor([[[30.0, 0, 9], [0, 31, 6], [0, 0, 1]]])

    paths = photographs(tmp_path, "a.png")
    for words, source, first in (("ply", "estimated", 30.0), ("npz", "assumed", 9 / np.tan(np.pi / 6))):
        predict(paths, AlignedDepth(Relative(), Estimating()), tmp_path / words, formats=words)
        camera = json.loads((tmp_path / words / "predict.json").read_text())["pictures"]["a"]["camera"]
        assert camera["from"] == source and camera["intrinsics"][0] == pytest.approx(first)


def test_tum_reads_back_as_the_data_set(tmp_path: Path) -> None:
    names_ = ["1305031102.175304.png", "1305031103.5.png"]
    paths = photographs(tmp_path / "p", *names_)
    made = predict(paths, Bright(), tmp_path / "o/rgbd_dataset_x", formats=["tum", "npy"])
    found = TUMRGBD(tmp_path / "o")
    assert len(found) == 2
    for i, array in enumerate(made.arrays):
        sample = found.sample(i)
        assert sample.depth is not None
        np.testing.assert_array_equal(sample.image, pixels(seed=i))
        np.testing.assert_allclose(sample.depth, np.load(array), atol=0.5 / 5000 + 1e-6)
    lines = (tmp_path / "o/rgbd_dataset_x/depth.txt").read_text().splitlines()
    assert lines[2] == "1305031102.175304 depth/1305031102.175304.png"
    with pytest.raises(UserError, match="only metric depth makes the format tum"):
        predict(paths, Bright(AFFINE_DISPARITY), tmp_path / "r", formats="tum")


def test_a_mesh_is_torn_where_depth_jumps() -> None:
    depth = np.ones((4, 6), np.float32)
    depth[:, 3:] = 2
    near = np.ones_like(depth, bool)
    assert len(triangles(np.ones_like(depth), near)) == 2 * 3 * 5
    found = triangles(depth, near)
    assert len(found) == 2 * 3 * 4
    assert {len({int(i) % 6 > 2 for i in three}) for three in found} == {1}
    near[0, 0] = False
    assert triangles(depth, near).max() == 22 and len(triangles(depth, near)) == 2 * 3 * 4 - 1


@pytest.mark.parametrize("size", [(1, 1), (7, 300)])
def test_tiny_and_narrow_images(size: tuple[int, int], tmp_path: Path) -> None:
    paths = photographs(tmp_path, "a.png", size=size)
    made = predict(paths, Bright(), tmp_path / "o", formats=[*ALL, "tum"])
    assert not made.left_out and np.load(made.arrays[0]).shape == size


def test_a_strip_is_not_enlarged_beyond_all_memory(tmp_path: Path) -> None:
    paths = photographs(tmp_path, "a.png", size=(4, 300))
    with pytest.raises(UserError, match=r"300 x 4 would be enlarged to 1500 x 20, .* 'longer 300' keeps it"):
        predict(paths, Bright(), tmp_path / "o", resolution=20)
    assert predict(paths, Bright(), tmp_path / "o", resolution="longer 300").arrays


def test_images_of_other_kinds(tmp_path: Path) -> None:
    Image.fromarray(pixels()[..., 0]).save(tmp_path / "gray.png")
    Image.fromarray(pixels()[..., 0].astype(np.uint16) * 256).save(tmp_path / "deep.png")
    Image.fromarray(np.dstack([pixels(), pixels()[..., 0]])).save(tmp_path / "clear.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "clear.png").read_bytes()[:60])
    made = predict(str(tmp_path / "*.png"), Bright(), tmp_path / "o", formats=["npy", "side"])
    assert [path.stem for path in made.arrays] == ["clear", "deep", "gray"]
    assert len(made.left_out) == 1 and "torn.png" in made.left_out[0]
    np.testing.assert_array_equal(np.load(made.arrays[1]), np.load(made.arrays[2]))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--modle", "x"], "unrecognized arguments: --modle x; near are --model\n"),
        (["--formats", "jpg"], "'jpg' is no format of predictions; it would be one of npy, npz,"),
        (["--formats", "video"], "the format video is of videos alone"),
        (["--batch_size", "0"], "batch_size counts images and would be 1 or more, not 0"),
        (
            ["--align_to.class_path", "tests.test_predict_files.Relative"],
            "align_to would be a model of metric depth, and relative gives affine disparity",
        ),
        (["--format", "tum", "--model.class_path", "tests.test_predict_files.Relative"], "the format tum"),
        (["--preprocessing", "mine"], "preprocessing would be one of depthkd, authors, transformers"),
        (["--preprocessing", "authors"], "preprocessing 'authors': Bright has none but 'depthkd'"),
        (["--smooth", "1"], "smooth is the share of the past in a mean, from 0 to below 1, not 1"),
        (["--every", "0"], "every counts frames and would be 1 or more, not 0"),
        (["--every", "2", "--fps", "2"], "every and fps both choose frames of a video"),
    ],
)
def test_mistakes_are_sentences(
    words: list[str], sentence: str, tmp_path: Path, command_line: CommandLine
) -> None:
    photographs(tmp_path, "a.png")
    model = ["--model.class_path", "tests.test_predict_files.Bright"]
    status, _, err = command_line("predict", "a.png", *model, *words)
    assert status == 2 and sentence in err and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()
