"""Networks that ask another one leave as a folder that names it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from depthkd import load_model, models
from depthkd.errors import UserError
from depthkd.models.described import builder, described
from depthkd.models.model import DepthModel
from depthkd.runs import TrainedDepth
from depthkd.verbs.export import export
from depthkd.verbs.export.forms import made_up_points
from tests.conftest import CommandLine
from tests.test_export import picture, small_pictures

__all__ = ["small_pictures"]  # a fixture


def seeded(model: DepthModel, image: torch.Tensor, **more: Any) -> torch.Tensor:
    torch.manual_seed(3)
    return model.predict(image, **more)


@pytest.fixture
def metric(tmp_path: Path) -> Path:
    """A metric network's folder."""
    torch.manual_seed(1)
    network = models.DepthAnything("tiny", metric_max_depth=20)
    network.save_pretrained(tmp_path / "metric")
    return tmp_path / "metric"


def test_a_sharpener_names_its_metric_model(metric: Path, tmp_path: Path, command_line: CommandLine) -> None:
    torch.manual_seed(0)
    model = models.SharpDepth(
        size="tiny",
        metric=lambda: models.HuggingFaceDepth("metric"),
        prediction="v_prediction",
        variant="released",
        reliable=0.25,
        longest=64,
    ).eval()
    assert export(model, tmp_path / "out").agrees
    facts = json.loads((tmp_path / "out/depthkd.json").read_text())
    named = facts["companions"]["metric"]
    assert named["class_path"] == "depthkd.models.HuggingFaceDepth"
    assert named["init_args"]["source"] == str(metric)  # from whatever folder it is loaded
    loaded, image = load_model(str(tmp_path / "out")), picture(50, 90, 2)
    assert isinstance(loaded, models.SharpDepth) and loaded.prediction == "v_prediction"
    kept = ("variant", "fit", "blend", "takes_camera", "fit_size", "gate", "reliable", "longest")
    assert [getattr(loaded, name) for name in kept] == [getattr(model, name) for name in kept]
    torch.testing.assert_close(seeded(loaded, image), seeded(model, image), atol=1e-5, rtol=0)
    assert not list((tmp_path / "out").rglob("metric*"))
    for companions, sentence in (
        ({"metric": {"class_path": "os.system", "init_args": {}}}, "metric describes no network"),
        ({"metric": {"class_path": "depthkd.models.TorchProgram", "init_args": {}}}, "describes no network"),
        ({"metric": "metric"}, "metric describes no network"),
        ({"vae": named}, "names companions that SharpDepth does not have"),
        (
            {"metric": named | {"init_args": {"speed": 1}}},
            "does not fit HuggingFaceDepth: .* 'speed'",
        ),
    ):
        (tmp_path / "out/depthkd.json").write_text(json.dumps(facts | {"companions": companions}))
        with pytest.raises(UserError, match=sentence):
            load_model(str(tmp_path / "out")).predict(image)
    metric.rename(tmp_path / "gone")
    (tmp_path / "out/depthkd.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"out/depthkd\.json: companions\.metric: .*metric"):
        load_model(str(tmp_path / "out")).predict(image)


def test_a_completion_network_names_its_relative_model(tmp_path: Path, command_line: CommandLine) -> None:
    torch.manual_seed(0)
    model = models.DepthCompletion(
        models.Embedded, relative_resolution="longer 96", fit="robust", widths=[8, 16], beyond=1.5
    ).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    assert export(model, tmp_path / "out").agrees
    loaded, image = load_model(str(tmp_path / "out")), picture(40, 72, 2)
    assert isinstance(loaded, models.DepthCompletion) and loaded.fit == "robust" and loaded.beyond == 1.5
    points = made_up_points(image)
    expected = seeded(model, image, sparse=points)
    torch.testing.assert_close(seeded(loaded, image, sparse=points), expected, atol=1e-5, rtol=0)
    without = models.DepthCompletion(models.Embedded, "longer 96", "robust", beyond=1.5, widths=[8, 16])
    assert (expected - without.predict(image, sparse=points)).abs().max() > 1e-3  # the weights are in it
    card = (tmp_path / "out/README.md").read_text()
    assert "--model FOLDER --sparse points.png" in card
    assert "- Asks of every image, and does not hold: depthkd's embedded teacher" in card
    status, _, errors = command_line("export", "out", "--out", "graph", "--format", "onnx")
    assert status == 2 and errors.count("\n") == 1


def test_what_a_file_cannot_name(tmp_path: Path) -> None:
    class Mine(models.DepthAnything):
        pass

    for network in (Mine("tiny"), models.AlignedToPoints(models.DepthAnything("tiny"))):
        with pytest.raises(UserError, match="cannot be named in a file"):
            described(network)
    again = builder(described(models.DepthAnything("tiny", metric_max_depth=5)), "x")()
    assert isinstance(again, models.DepthAnything) and str(again.space) == "metric depth"
    with pytest.raises(UserError, match="x describes no network"):
        builder({"class_path": "depthkd.runs.TrainedDepth"}, "x")
    assert issubclass(TrainedDepth, DepthModel)
