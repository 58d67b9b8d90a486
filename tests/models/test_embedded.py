"""The teacher that depthkd carries: its file, card, config and code belong together, and it sees depth."""

import json
import shutil
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from depthkd.batch import AFFINE_DISPARITY
from depthkd.benchmarks import Motorcycle
from depthkd.benchmarks.protocol import Protocol
from depthkd.datasets.photographs import bundled
from depthkd.errors import UserError
from depthkd.metrics.depth import depth_metrics
from depthkd.models import DepthModel, Embedded, TimmDepth
from depthkd.models.dpt import packaged_weights
from depthkd.models.dpt.packaged_weights import FOLDER, embedded_card
from depthkd.models.inference import image_tensor
from depthkd.resolution import Resolution
from tests.conftest import CommandLine
from tests.embedded import looks, settings, settings_digest

RAMP = 0.141  # the vertical ramp's AbsRel on the motorcycle


@pytest.fixture(scope="module")
def teacher() -> Embedded:
    return Embedded()


def abs_rel(model: DepthModel) -> tuple[float, float]:
    sample, protocol = Motorcycle().sample(0), Protocol.named("marigold")
    assert sample.depth is not None and sample.mask is not None and sample.space is not None
    truth, mask = torch.from_numpy(sample.depth)[None], torch.from_numpy(sample.mask)[None]
    predicted = model.predict(image_tensor(sample.image, torch.device("cpu")))
    depth = protocol.aligned(predicted, model.space, truth, sample.space, mask)
    found = depth_metrics(depth, truth, protocol.valid(truth, sample.space, mask))
    return float(found["abs_rel"]), float(found["delta1"])


def test_the_file_is_small_and_the_one_that_its_card_describes(teacher: Embedded) -> None:
    card = embedded_card()
    assert (FOLDER / "weights.safetensors").stat().st_size < 10_000_000
    assert teacher.space == AFFINE_DISPARITY and teacher.license == "apache-2.0"
    assert sum(p.numel() for p in teacher.parameters()) == card["parameters"]
    assert card["sha256"][:8] in teacher.source
    assert {"seed", "steps", "commit", "backbone", "metrics", "torch"} <= set(card)


def test_card_config_and_scenes_belong_together() -> None:
    """A change of the config or of the lifelike scenes asks for `make embedded`."""
    card = embedded_card()
    own = settings()["model"]["init_args"]["student"]["init_args"]
    assert card["student"] == {name: own[name] for name in ("backbone", "fusion")}
    assert card["settings"] == settings_digest()
    np.testing.assert_allclose(looks(), card["scenes"], rtol=0.01)


def test_it_sees_the_depth_of_a_real_photograph_as_its_card_says(teacher: Embedded) -> None:
    error, share = abs_rel(teacher)
    assert error < 0.85 * RAMP
    said = embedded_card()["metrics"]["motorcycle"]
    assert (error, share) == pytest.approx((said["abs_rel"], said["delta1"]), abs=0.005)


def test_neither_the_package_nor_a_network_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked for more than its own file")

    monkeypatch.setattr(metadata, "distribution", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    first = Embedded()
    assert first.identity() == Embedded().identity()


def test_it_runs_at_a_side_of_choice(teacher: Embedded) -> None:
    assert teacher.default_resolution == Resolution("shorter", 160)
    assert Embedded(shorter_side=64).default_resolution == Resolution("shorter", 64)
    with pytest.raises(UserError, match="shorter_side would be 1 pixel or more, not 0"):
        Embedded(shorter_side=0)


def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FOLDER, tmp_path / "embedded")
    with (tmp_path / "embedded/weights.safetensors").open("r+b") as file:
        file.seek(5000)
        file.write(b"\x00\x01\x02")
    monkeypatch.setattr(packaged_weights, "FOLDER", tmp_path / "embedded")
    with pytest.raises(UserError, match="its SHA-256 differs; install it again"):
        Embedded()


def test_a_student_begins_from_its_backbone(teacher: Embedded) -> None:
    student = TimmDepth("tf_efficientnet_lite0", pretrained="embedded", fusion=8)
    assert student.frozen_statistics and student.license == teacher.license
    theirs = teacher.backbone.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in student.backbone.state_dict().items())


def test_predict_and_test_take_it_where_no_model_is_named(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, _ = command_line("predict", bundled("coffee.png"))
    assert status == 0
    assert "embedded teacher" in out and "--model takes another" in out
    depth = np.load("runs/predict/coffee.npy")
    assert depth.shape == (400, 600) and depth.std() > 0
    status, out, _ = command_line("test", "--photographs", "false", "--pictures", "0")
    assert status == 0
    assert "no model is named" in out and "no benchmark is named" in out
    results = json.loads(Path("runs/test/results.json").read_text())
    rows = results["benchmarks"]["motorcycle"]["metrics"]
    assert rows["embedded"]["abs_rel"] < 0.85 * rows["vertical ramp"]["abs_rel"]
