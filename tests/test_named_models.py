"""Models by one word, wherever a model can be named: predict and test take the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from depthkd.formats.images import decode_image
from depthkd.models import DepthAnything, OnnxDepth
from depthkd.models.inference import image_tensor
from depthkd.models.model import DepthModel
from tests.conftest import CommandLine
from tests.models.graphs import mixer
from tests.test_predict import photograph


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file and a folder of transformers."""
    folder = tmp_path_factory.mktemp("models")
    mixer(folder / "mixer.onnx")
    DepthAnything(size="tiny").save_pretrained(str(folder / "exported"))
    return folder


def loaded(path: Path) -> DepthModel:
    if path.suffix == ".onnx":
        return OnnxDepth(str(path))
    return DepthAnything(size="tiny", weights=str(path)).eval()


@pytest.mark.parametrize("name", ["mixer.onnx", "exported"])
def test_what_test_takes_predict_takes(
    name: str, models: Path, tmp_path: Path, command_line: CommandLine, scene_shards: Path
) -> None:
    photograph(tmp_path / "a.png", 28, 42)
    status, out, err = command_line("predict", "a.png", "--model", models / name, "--out", "o")
    assert status == 0 and "Loading weights" not in err, err
    model = loaded(models / name)
    image = image_tensor(decode_image((tmp_path / "a.png").read_bytes(), "a"), torch.device("cpu"))
    expected = model.predict(image).detach().numpy()[0]
    np.testing.assert_allclose(np.load("o/a.npy"), expected, rtol=1e-5, atol=1e-6)
    if name.endswith(".onnx"):
        assert "read as affine disparity of RGB in [0, 1]; if it is another, say so with" in out
    words = ["--benchmarks.b", "depthkd.benchmarks.ShardBenchmark", "--benchmarks.b.limit", "2"]
    words += ["--benchmarks.b.urls", scene_shards / "studio_test", "--photographs", "false"]
    status, _, err = command_line("test", models / name, *words, "--pictures", "0", "--out", "t")
    assert status == 0, err
    rows = json.loads(Path("t/results.json").read_text())["benchmarks"]["b"]["metrics"]
    assert Path(name).stem in rows


def test_predictions_among_the_photographs_are_not_photographs(
    models: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    for name in ("a.webp", "b.webp"):
        photograph(tmp_path / "photos" / name)
    words = ["predict", "photos", "--model", models / "exported", "--out", "photos"]
    for said in ("2 of 2 images", "left alone: 2 pictures of an earlier prediction\n"):
        status, out, err = command_line(*words)
        assert status == 0, err
        assert said in out and "2 of 2 images" in out
    assert len(list((tmp_path / "photos").iterdir())) == 7  # with predict.json


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere.onnx", "there is no nowhere.onnx; a model would be 'embedded', a run folder, a checkpoint"),
        ("empty", "empty is not a run folder, for it has no config.yaml, and no folder of transformers, for"),
        (
            "weights.pth",
            "weights.pth names no network: a file would be an .onnx, a .pt2, or a run's .ckpt; for ",
        ),
        (
            "bert",
            "'bert' has model_type 'bert'; one of depth_anything, dpt, zoedepth, depth_pro, ",
        ),
        ("pipe", "pipe is a FluxPipeline of diffusers, which is no depth network by itself: name its class"),
    ],
)
def test_what_is_no_model_is_said(
    name: str, sentence: str, tmp_path: Path, command_line: CommandLine
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights.pth").write_bytes(b"0123")
    for folder, file, content in (
        ("bert", "config.json", {"model_type": "bert"}),
        ("pipe", "model_index.json", {"_class_name": "FluxPipeline"}),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text(json.dumps(content))
    photograph(tmp_path / "a.png")
    status, _, err = command_line("predict", "a.png", "--model", name)
    assert (status, err.count("\n")) == (2, 1) and sentence in err, err
    words = ["--benchmarks.m", "depthkd.benchmarks.Motorcycle", "--out", "t"]
    status, _, err = command_line("test", name, *words)
    assert status == 2 and sentence in err, err
