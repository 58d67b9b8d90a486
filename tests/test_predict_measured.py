"""`depthkd predict --sparse`: depth that was measured at some pixels, completed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from depthkd.errors import UserError
from depthkd.formats.images import encode_png
from depthkd.models import InterpolatedPoints
from depthkd.verbs.predict import Predictions, predict
from tests.conftest import CommandLine
from tests.test_predict_files import Bright, names, photographs


def points(folder: Path, *depths: float, size: tuple[int, int] = (12, 18)) -> list[str]:
    """Two measured pixels in millimeters, left and right: so much, and twice as much."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, depth in zip("abcdef", depths, strict=False):
        codes = np.zeros(size, np.uint16)
        codes[5, 2], codes[5, size[1] - 3] = 1000 * depth, 2000 * depth
        (folder / f"{name}.png").write_bytes(encode_png(codes))
    return sorted(str(path) for path in folder.glob("*.png"))


def completed(paths: list[str], sparse: str | list[str], out: Path, **more: Any) -> Predictions:
    how = {"formats": "npy", "sparse_scale": 0.001} | more
    return predict(paths, InterpolatedPoints("nearest"), out, sparse=sparse, **how)


def test_each_photograph_is_completed_from_its_own_points(tmp_path: Path) -> None:
    paths = photographs(tmp_path / "rgb", "a.png", "b.png", "c.png")
    points(tmp_path / "points", 1.0, 2.0, 3.0)
    for out, batch_size in (("one", 1), ("three", 3)):
        made = completed(paths, str(tmp_path / "points"), tmp_path / out, batch_size=batch_size)
        for path, near in zip(made.arrays, (1, 2, 3), strict=True):
            depth = np.load(path)
            np.testing.assert_allclose((depth[0, 0], depth[0, -1]), (near, 2 * near), rtol=1e-6)
    assert completed(paths, str(tmp_path / "points"), tmp_path / "one").kept == 3
    points(tmp_path / "points", 4.0)
    assert completed(paths, str(tmp_path / "points"), tmp_path / "one").kept == 2
    assert np.load(tmp_path / "one/a.npy")[0, 0] == pytest.approx(4)
    with pytest.raises(UserError, match=r"with --sparse_scale 0\.001, and these would be with --sparse_sc"):
        completed(paths, str(tmp_path / "points"), tmp_path / "one", sparse_scale=0.002)


def test_both_models_of_an_alignment_may_be_given_the_points(tmp_path: Path) -> None:
    paths, sparse = photographs(tmp_path / "rgb", "a.png"), points(tmp_path / "points", 1.0)
    known = completed(paths, sparse, tmp_path / "known", align_to=InterpolatedPoints("nearest"))
    np.testing.assert_allclose(np.load(known.arrays[0])[0, [0, -1]], (1, 2), rtol=1e-6)
    other = completed(paths, sparse, tmp_path / "other", align_to=Bright())
    assert np.load(other.arrays[0])[0, 0] < np.load(other.arrays[0])[0, -1] and not other.left_out


def test_which_points_belong_to_which_photograph(tmp_path: Path) -> None:
    paths = photographs(tmp_path / "rgb", "x1.png", "x2.png")
    files = points(tmp_path / "points", 1.0, 2.0)
    with pytest.raises(UserError, match="has no partner among the depth files"):
        completed(paths, files, tmp_path / "o")
    made = completed(paths, files, tmp_path / "o", pair="order")
    assert [np.load(path)[0, 0] for path in made.arrays] == pytest.approx([1, 2])
    with pytest.raises(UserError, match="2 images and 1 depth files"):
        completed(paths, files[:1], tmp_path / "o", pair="order")
    assert len(completed(paths[:1], files[:1], tmp_path / "alone").arrays) == 1
    made = completed(
        photographs(tmp_path / "some", "b.png"), str(tmp_path / "points"), tmp_path / "one of two"
    )
    assert np.load(made.arrays[0])[0, 0] == pytest.approx(2)
    scenes = photographs(tmp_path / "kitchen/rgb", "a.png", "b.png")
    points(tmp_path / "garage/points", 1.0, 2.0)
    with pytest.raises(UserError, match="as if these were two scenes"):
        completed(scenes, f"{tmp_path}/garage/points/*.png", tmp_path / "scenes")
    (tmp_path / "sparse").mkdir()
    (tmp_path / "points/a.png").rename(tmp_path / "sparse/frame_1.sparse.png")
    (tmp_path / "points/b.png").rename(tmp_path / "sparse/frame_2.sparse.png")
    frames = photographs(tmp_path / "rgb", "frame_1.rgb.png", "frame_2.rgb.png")
    made = completed(frames, f"{tmp_path}/sparse/*.png", tmp_path / "frames")
    assert [np.load(path)[0, 0] for path in made.arrays] == pytest.approx([1, 2])


def test_points_of_a_photograph_on_its_side_are_those_of_the_one_upright(tmp_path: Path) -> None:
    with Image.open(photographs(tmp_path / "rgb", "a.png")[0]) as picture:
        exif = picture.getexif()
        exif[0x112] = 6
        picture.save(tmp_path / "rgb/b.jpg", exif=exif)
    paths, lying, upright = [str(tmp_path / "rgb/b.jpg")], tmp_path / "lying", tmp_path / "upright"
    (sentence,) = completed(paths, points(lying, 1.0), tmp_path / "o").left_out
    assert sentence.endswith("is 12 x 18; photographs are turned as their EXIF block says")
    made = completed(paths, points(upright, 1.0, size=(18, 12)), tmp_path / "o")
    assert np.load(made.arrays[0])[0, [0, -1]] == pytest.approx([1, 2])


def test_points_that_cannot_be_used_are_told(tmp_path: Path, command_line: CommandLine) -> None:
    paths = photographs(tmp_path / "rgb", "a.png", "b.png", "c.png")
    points(tmp_path / "points", 1.0, 2.0, 0.0)
    points(tmp_path / "points", 1.0, size=(6, 9))
    made = completed(paths, str(tmp_path / "points"), tmp_path / "o")
    assert names(tmp_path / "o") == ["b.npy", "predict.json"]
    size, empty = made.left_out
    assert "points/a.png is 9 x 6, but its image " in size and "points/c.png has no valid pixel" in empty
    with pytest.raises(UserError, match="bright takes no measured depth beside images: leave out --sparse"):
        predict(paths, Bright(), tmp_path / "o2", sparse=str(tmp_path / "points"))
    with pytest.raises(UserError, match=r"in tiles of 2 takes no measured depth .*: leave out --tiles"):
        completed(paths, str(tmp_path / "points"), tmp_path / "o2", tiles=2)
    with pytest.raises(UserError, match="sparse names no file of measured depth"):
        completed(paths, [], tmp_path / "o2")
    with pytest.raises(UserError, match=r"sparse depth and was given none.*`depthkd predict` --sparse"):
        predict(paths, InterpolatedPoints("nearest"), tmp_path / "o3")
    with pytest.raises(UserError, match="sparse_scale and pair say how files of --sparse are read"):
        predict(paths, Bright(), tmp_path / "o3", pair="order")
    with pytest.raises(UserError, match="sparse_scale would be meters for a number in the files, above 0"):
        completed(paths, str(tmp_path / "points"), tmp_path / "o4", sparse_scale=0)
    status, _, said = command_line(
        "predict", *paths, "--model", "depthkd.models.InterpolatedPoints", "--sparse", "nowhere/*.png"
    )
    assert status == 2 and said.count("\n") == 1 and "nowhere" in said
