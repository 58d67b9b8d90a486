import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Dinov2Backbone, Dinov2Config

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.models import DepthAnything, DepthModel, HuggingFaceDepth
from depthkd.models.dpt.depth_anything import SHAPES, Size, depth_anything_config
from depthkd.models.dpt.dpt import FAMILIES
from depthkd.models.provenance import DEPTH_ANYTHING_V2
from tests.models.checks import assert_fits_a_ramp


def seeded(size: Size = "tiny", **arguments: object) -> DepthAnything:
    torch.manual_seed(0)
    return DepthAnything(size, **arguments)


def count(size: Size) -> int:
    """The parameters of a size, without their memory."""
    config_class, network_class = FAMILIES["depth_anything"]
    with torch.device("meta"):
        network = network_class(config_class.from_dict(depth_anything_config(size)))
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("size", "millions"), [("small", 24.8), ("base", 97.5), ("large", 335.3)])
def test_sizes_have_the_papers_parameters(size: Size, millions: float) -> None:
    assert count(size) / 1e6 == pytest.approx(millions, abs=0.05)


def test_the_giant_is_the_largest() -> None:
    assert 1.2e9 < count("giant") < 1.4e9


def test_the_small_ones_fit_two_cores() -> None:
    assert 0.15e6 < count("tiny") < 0.3e6 < count("mini") < 1.2e6


@pytest.mark.parametrize(
    ("size", "first", "second"),
    [
        ("small", [9, 10, 11, 12], [3, 6, 9, 12]),
        ("base", [9, 10, 11, 12], [3, 6, 9, 12]),
        ("large", [21, 22, 23, 24], [5, 12, 18, 24]),
        ("giant", [37, 38, 39, 40], [10, 20, 30, 40]),
    ],
)
def test_version_1_reads_the_last_layers_and_version_2_spread_ones(
    size: Size, first: list[int], second: list[int]
) -> None:
    stages = [depth_anything_config(size, version)["backbone_config"]["out_indices"] for version in (1, 2)]
    assert stages == [first, second]


def test_the_metric_head_ends_at_its_range() -> None:
    model = seeded(metric_max_depth=20)
    assert model.space == METRIC_DEPTH
    with torch.no_grad():
        model.network.head.conv3.bias.fill_(30.0)
        depth = model(torch.rand(1, 3, 32, 32)).depth
    torch.testing.assert_close(depth, torch.full_like(depth, 20.0))


def test_an_untrained_relative_head_is_alive() -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        model = DepthAnything("tiny")
        depth = model(torch.rand(2, 3, 48, 64)).depth
        assert (depth > 0).all()
        assert depth.std() > 1e-3


@pytest.mark.parametrize("size", ["tiny", "mini"])
def test_the_small_ones_answer_at_any_multiple_of_eight(size: Size) -> None:
    model = seeded(size)
    assert (model.multiple, model.space) == (8, AFFINE_DISPARITY)
    with torch.no_grad():
        output = model(torch.rand(1, 3, 97, 131))
    assert output.depth.shape == (1, 96, 128)
    assert output.features is not None
    assert output.features.shape == (1, 12 * 16, SHAPES[size].hidden)


def test_it_fits_a_ramp_in_a_few_steps() -> None:
    assert_fits_a_ramp(seeded(), side=32, steps=40, left=0.25)


def test_weights_of_the_same_kind_fill_everything(tmp_path: Path) -> None:
    teacher = seeded()
    teacher.save_pretrained(tmp_path)
    student = DepthAnything("tiny", weights=str(tmp_path))
    for name, value in student.state_dict().items():
        assert torch.equal(value, teacher.state_dict()[name]), name
    assert str(tmp_path) in student.source
    assert student.training_sets is None


def test_the_size_may_stand_in_the_name_of_weights(tmp_path: Path) -> None:
    small = seeded()
    small.save_pretrained(tmp_path / "Depth-Tiny-hf")
    loaded = DepthAnything("tiny", weights=str(tmp_path / "Depth-{Size}-hf"))
    assert loaded.source.endswith("Depth-Tiny-hf")
    for name, tensor in small.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_the_training_sets_of_its_weights_are_its_own(tmp_path: Path) -> None:
    cached = tmp_path / "models--depth-anything--Depth-Anything-V2-Small-hf" / "snapshots" / "0a1b"
    seeded().save_pretrained(cached)
    assert DepthAnything("tiny", weights=str(cached)).training_sets == DEPTH_ANYTHING_V2


def test_weights_of_the_other_head_fill_the_encoder_alone(tmp_path: Path) -> None:
    relative = seeded()
    relative.save_pretrained(tmp_path)
    torch.manual_seed(1)
    metric = DepthAnything("tiny", metric_max_depth=80, weights=str(tmp_path))
    ours, theirs = metric.state_dict(), relative.state_dict()
    same = {name.split(".")[1] for name in ours if torch.equal(ours[name], theirs[name])}
    assert {n.split(".")[1] for n in ours if not torch.equal(ours[n], theirs[n])} == {"neck", "head"}
    assert "backbone" in same


def test_a_dinov2_fills_the_encoder(tmp_path: Path) -> None:
    config = Dinov2Config(**depth_anything_config("tiny")["backbone_config"])
    encoder = Dinov2Backbone(config)
    encoder.save_pretrained(tmp_path)
    model = DepthAnything("tiny", weights=str(tmp_path))
    for name, value in model.network.backbone.state_dict().items():
        assert torch.equal(value, encoder.state_dict()[name]), name


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    seeded().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"^the weights '{tmp_path}' are of another size: .*"):
        DepthAnything("mini", weights=str(tmp_path))


def test_sizes_and_versions_that_do_not_exist_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^Depth Anything has no size 'huge'; it would be one of tiny, mini"
    ):
        depth_anything_config("huge")
    with pytest.raises(ValueError, match=r"^Depth Anything has no version 3; it would be 1 or 2"):
        DepthAnything("tiny", version=3)


def test_the_command_line_finds_it_as_a_depth_model() -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=DepthModel)
    chosen = parser.parse_args(["--model=depthkd.models.DepthAnything", "--model.size=tiny"])
    model = parser.instantiate(chosen).model
    assert isinstance(model, DepthAnything)
    assert isinstance(model, HuggingFaceDepth)
    assert model.config.backbone_config.hidden_size == SHAPES["tiny"].hidden


def test_the_package_imports_nothing_heavy_until_it_is_used() -> None:
    code = (
        "import sys, depthkd.models\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'transformers', 'onnxruntime'}))\n"
        "try: depthkd.models.Nothing\n"
        "except AttributeError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = [sys.executable, "-c", code]
    printed = subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout
    loaded, sentence = printed.splitlines()
    assert loaded == "[]"
    assert sentence.startswith("depthkd.models has no 'Nothing'; it has AlignedDepth, AlignedToPoints, ")


def test_layer_scale_and_positions_start_as_dinov2_does() -> None:
    state = seeded().network.state_dict()
    assert (state["backbone.encoder.layer.0.layer_scale1.lambda1"] == 1).all()
    assert 0 < state["backbone.embeddings.position_embeddings"].std() < 2 * 0.02
    bound = 1 / math.sqrt(9 * SHAPES["tiny"].fusion)
    weight = state["neck.fusion_stage.layers.3.residual_layer2.convolution1.weight"]
    assert 0.9 * bound < weight.abs().max() <= bound
