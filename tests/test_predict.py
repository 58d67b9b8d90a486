"""`depthkd predict`: what it writes, where the points lie, and what it says of mistakes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from depthkd.batch import METRIC_DEPTH
from depthkd.errors import UserError
from depthkd.formats.images import encode_png
from depthkd.formats.ply import POINT, encode_ply
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.shapes import Image
from tests.conftest import CommandLine

METRIC = ["--model.class_path", "tests.models.test_sharpdepth.Ramp"]
RELATIVE = ["--model.class_path", "depthkd.models.DepthAnything", "--model.size", "tiny"]


def photograph(path: Path, height: int = 24, width: int = 36) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.write_bytes(encode_png(image))
    return path


def points(path: Path) -> np.ndarray:
    header, _, body = path.read_bytes().partition(b"end_header\n")
    vertices = np.frombuffer(body, POINT)
    assert f"element vertex {len(vertices)}\n".encode() in header
    return vertices


def test_the_points_lie_where_the_camera_sees_them(tmp_path: Path, command_line: CommandLine) -> None:
    photograph(tmp_path / "a.png")
    camera = ["--intrinsics", "[30, 40, 17.5, 11.5]"]
    status, out, err = command_line("predict", "a.png", *METRIC, *camera, "--out", "o")
    assert status == 0, err
    depth = np.load(tmp_path / "o/a.npy")
    np.testing.assert_allclose(depth[0], np.linspace(2, 6, 36), rtol=1e-5)
    found = points(tmp_path / "o/a.ply")
    assert len(found) == 24 * 36
    row, column = 5, 30
    one = found[row * 36 + column]
    z = depth[row, column]
    assert [one["x"], one["y"], one["z"]] == pytest.approx(
        [(column - 17.5) / 30 * z, (row - 11.5) / 40 * z, z], rel=1e-5
    )
    image = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    assert [one["red"], one["green"], one["blue"]] == image[row, column].tolist()
    assert (tmp_path / "o/a.png").stat().st_size > 500
    command_line("predict", "a.png", *METRIC, *camera, "--out", "near", "--farthest", "4")
    assert 0 < len(points(tmp_path / "near/a.ply")) < 24 * 36
    status, out, _ = command_line("predict", "a.png", *METRIC, "--out", "assumed")
    assert status == 0 and "point clouds assume a field of view of 60 degrees" in out
    first = points(tmp_path / "assumed/a.ply")[0]
    assert first["x"] / first["z"] == pytest.approx(-np.tan(np.radians(30)) * 35 / 36, rel=1e-4)


def test_relative_depth_gets_no_points(tmp_path: Path, command_line: CommandLine) -> None:
    photograph(tmp_path / "a.png")
    status, out, err = command_line("predict", "a.png", *RELATIVE, "--out", "o")
    assert status == 0, err
    assert "1 of 1 images, affine disparity: o" in out
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["a.npy", "a.png", "predict.json"]
    status, _, err = command_line("predict", "a.png", *RELATIVE, "--points", "true")
    assert status == 2
    sentence = "only metric depth makes a point cloud, and this model gives affine disparity; with --align_to"
    assert err.startswith(f"depthkd predict: {sentence}") and err.count("\n") == 1


def test_folders_broken_files_and_equal_names(tmp_path: Path, command_line: CommandLine) -> None:
    for name in ("x/a.png", "y/a.png", "y/b.png"):
        photograph(tmp_path / "photos" / name)
    (tmp_path / "photos/y/c.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    words = [*METRIC, "--points", "false", "--out", "o"]
    status, out, err = command_line("predict", "photos/x", "photos/y", *words)
    assert status == 1, err
    assert "left out: photos/y/c.png" in out and "3 of 4 images" in out
    written = sorted(p.name for p in (tmp_path / "o").iterdir() if p.suffix == ".npy")
    assert written == ["photos-x-a.npy", "photos-y-a.npy", "photos-y-b.npy"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--intrinsics", "[1, 2]"], "intrinsics [1.0, 2.0] would be [fx, fy, cx, cy] in pixels"),
        (["--fov", "180"], "fov would be degrees between 0 and 180"),
        (["--fov", "60", "--intrinsics", "[1, 1, 1, 1]"], "not beside intrinsics"),
    ],
)
def test_mistakes_are_sentences(
    words: list[str], sentence: str, tmp_path: Path, command_line: CommandLine
) -> None:
    photograph(tmp_path / "a.png")
    status, _, err = command_line("predict", "a.png", *METRIC, *words)
    assert status == 2 and sentence in err and err.count("\n") == 1
    status, _, err = command_line("predict", "nothing.png", *METRIC)
    assert status == 2 and "nothing.png" in err
    status, _, err = command_line("predict", "a.png", "--model", "runs/none")
    assert status == 2 and "runs/none" in err


def test_a_point_cloud_without_points_is_a_file_all_the_same() -> None:
    nothing = encode_ply(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8))
    assert nothing.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 0\n")


def test_photographs_are_not_overwritten_and_may_have_any_name(
    tmp_path: Path, command_line: CommandLine
) -> None:
    photo = photograph(tmp_path / "it's, one.png")
    before = photo.read_bytes()
    status, _, err = command_line("predict", photo.name, *METRIC, "--out", ".")
    assert status == 2 and "is one of the files to read, and would be overwritten: choose" in err
    assert photo.read_bytes() == before and list(tmp_path.iterdir()) == [photo]
    status, _, err = command_line("predict", photo.name, *METRIC, "--out", "o")
    assert status == 0, err
    assert (tmp_path / "o/it's, one.npy").is_file()


def test_predict_reads_what_it_can_and_names_the_rest(tmp_path: Path, command_line: CommandLine) -> None:
    photograph(tmp_path / "p/2024/a.png")
    photograph(tmp_path / "p/b.png")
    (tmp_path / "p/c.png").symlink_to("gone.png")
    (tmp_path / "p/d.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "p/e.exr").write_bytes(b"\x76\x2f\x31\x01")
    (tmp_path / "p/f.jpg").write_bytes(b"<html>not found</html>")
    status, out, err = command_line("predict", "p/*", *METRIC, "--points", "false", "--out", "o")
    assert status == 1, err
    assert "2 of 6 images" in out
    for told in (
        "p/c.png cannot be read: No such file or directory",
        "p/d.heic is not a JPEG, PNG or WebP image, but a HEIC image",
        "p/e.exr is not a JPEG, PNG or WebP image, but an OpenEXR image",
        "p/f.jpg is not a JPEG, PNG or WebP image, but a web page or XML",
    ):
        assert f"left out: {told}\n" in out
    written = sorted(file.name for file in (tmp_path / "o").iterdir())
    assert written == ["a.npy", "a.png", "b.npy", "b.png", "predict.json"]


def test_answers_that_say_nothing_are_told(tmp_path: Path, command_line: CommandLine) -> None:
    photograph(tmp_path / "a.png", 8, 12)
    answers = ["--model.class_path", "tests.test_predict.Answers", "--model.init_args.kind"]
    for kind, said in (
        ("nan", "a.png: the model answers with 96 numbers that are not finite, of 96"),
        ("constant", "a.png: the model answers with 3 everywhere"),
        ("negative", "a.png: the model answers with no depth above 0 m"),
    ):
        status, out, err = command_line("predict", "a.png", *answers, kind, "--out", kind)
        assert status == 1 and said in out and err == "", err
        assert (tmp_path / kind / "a.npy").is_file()  # which holds what the model says
    for kind, shape in (("two", "[2, 8, 12]"), ("channel", "[1, 1, 8, 12]"), ("empty", "[1, 0, 12]")):
        status, _, err = command_line("predict", "a.png", *answers, kind, "--out", kind)
        assert (
            status == 2 and f"a.png: Answers answers an image of 8 x 12 pixels with {shape}; it would" in err
        )
        assert not (tmp_path / kind).exists()


def test_an_image_that_the_model_refuses_is_left_out(tmp_path: Path, command_line: CommandLine) -> None:
    for name, width in (("a.png", 12), ("b.png", 700), ("c.png", 12)):
        photograph(tmp_path / name, 8, width)
    words = ["--model.class_path", "tests.test_predict.Answers", "--model.init_args.kind", "narrow"]
    status, out, err = command_line("predict", "a.png", "b.png", "c.png", *words, "--out", "o")
    assert status == 1 and err == ""
    assert "left out: b.png: 700 columns are too many" in out and "2 of 3 images" in out


def test_a_camera_is_written_as_for_packing(tmp_path: Path, command_line: CommandLine) -> None:
    photograph(tmp_path / "a.png")
    for camera in ("30,40,17.5,11.5", "[30, 40, 17.5, 11.5]"):
        assert command_line("predict", "a.png", *METRIC, "--intrinsics", camera, "--out", camera)[0] == 0
    first, second = (points(path) for path in sorted(tmp_path.glob("*/a.ply")))
    assert (first == second).all()
    for camera in ("30 40 17.5 11.5", "abc", "1,2,3"):
        status, _, err = command_line("predict", "a.png", *METRIC, "--intrinsics", camera)
        assert (status == 2 and "would be [fx, fy, cx, cy]" in err) or "is not a list of numbers" in err


class Answers(DepthModel):
    """Metric depth that is wrong in a way of its own."""

    space = METRIC_DEPTH

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.source, self.license = kind, "MIT"

    def forward(self, image: Image) -> DepthOutput:
        depth = 3.0 + image.mean(1)
        if self.kind == "narrow" and image.shape[-1] > 500:
            raise UserError(f"{image.shape[-1]} columns are too many")
        return DepthOutput(
            {
                "nan": depth * torch.nan,
                "constant": torch.full_like(depth, 3.0),
                "negative": -depth,
            }.get(self.kind, depth)
        )

    def infer(self, image: Image, *options: Any) -> Any:
        depth = super().infer(image, *options)
        shapes = {"two": depth.expand(2, -1, -1), "channel": depth[:, None], "empty": depth[:, :0]}
        return shapes.get(self.kind, depth)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return iter(())
