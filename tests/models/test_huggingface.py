import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.models import HuggingFaceDepth
from depthkd.models.provenance import MIDAS_10
from tests.models.families import DEPTH_ANYTHING, DPT_BEIT, DPT_VIT, FAMILIES


def build(config: dict[str, Any], **arguments: Any) -> HuggingFaceDepth:
    torch.manual_seed(0)
    return HuggingFaceDepth(config=config, **arguments).eval()


def picture(height: int, width: int, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_the_transformers_network(name: str) -> None:
    """The parts run one by one, with the head in float32, and must come to what the class itself says."""
    model = build(FAMILIES[name])
    size = (56, 56) if name == "depth_anything" else (64, 64)
    image = picture(*size)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        ours, theirs = model(image).depth, model.network(pixels).predicted_depth
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_depth_has_the_size_that_it_ran_at_and_predict_restores_it(name: str) -> None:
    model = build(FAMILIES[name])
    multiple = {"depth_anything": 14, "dpt_vit": 32, "dpt_beit": 32, "dpt_swinv2": 32, "dpt_hybrid": 32}[name]
    assert model.multiple == multiple
    ran_at = (64, 64) if name == "dpt_hybrid" else (70, 98) if name == "depth_anything" else (64, 96)
    image = picture(71, 101)
    with torch.no_grad():
        assert model(image).depth.shape == (2, *ran_at)
    assert model.predict(image).shape == (2, 71, 101)


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_the_last_stage_s_patch_tokens(name: str) -> None:
    model = build(FAMILIES[name])
    with torch.no_grad():
        features = model(picture(56 if name == "depth_anything" else 64, 64)).features
    tokens, channels = {"depth_anything": (4 * 5, 16), "dpt_swinv2": (2 * 2, 64)}.get(name, (4 * 4, 16))
    assert features is not None
    assert features.shape == (2, tokens, channels)


def test_tokens_run_along_the_rows() -> None:
    """Only the token of the changed patch may change much, and its place is row-major."""
    model = build(DEPTH_ANYTHING)
    image = picture(42, 56, 1)
    changed = image.clone()
    changed[:, :, 14:28, 42:56] = 1 - changed[:, :, 14:28, 42:56]
    with torch.no_grad():
        before, after = model(image).features, model(changed).features
    assert (after - before).norm(dim=-1)[0].argmax().item() == 1 * 4 + 3


@pytest.mark.parametrize("name", FAMILIES)
def test_every_trainable_parameter_gets_a_gradient(name: str) -> None:
    """DDP waits for ever for one that does not; and a dead ReLU would give none but zeros."""
    model = build(FAMILIES[name]).train()
    model(picture(64, 64)).depth.var().backward()
    idle = [k for k, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
    assert all(p.grad is None or p.grad.abs().sum() > 0 for p in model.network.head.parameters())


def test_encoder_and_head_share_out_the_parameters() -> None:
    for config in (DPT_VIT, DPT_BEIT):
        model = build(config)
        encoder = {id(p) for p in model.encoder_parameters()}
        head = {id(p) for p in model.head_parameters()}
        names = {k.split(".")[1] for k, p in model.named_parameters() if id(p) in head}
        assert names == {"neck", "head"}
        assert len(encoder) + len(head) == len(list(model.parameters()))


def test_the_head_runs_in_float32_under_autocast() -> None:
    model = build(DEPTH_ANYTHING)
    seen: dict[str, torch.dtype] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            seen[name] = output.dtype

        return hook

    model.network.head.conv2.register_forward_hook(note("head"))
    model.network.neck.convs[0].register_forward_hook(note("neck"))
    image = picture(56, 56)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        depth = model(image).depth
    assert seen == {"head": torch.float32, "neck": torch.bfloat16}
    assert depth.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(depth, model(image).depth, atol=0.05, rtol=0)


def test_a_half_precision_network_keeps_a_float32_head_that_cannot_overflow() -> None:
    model = build(DEPTH_ANYTHING)
    with torch.no_grad():
        model.network.head.conv2.bias.fill_(2.0)
        model.network.head.conv3.weight.fill_(2e4)  # eight times 2 x 2e4 is past float16's 65504
        expected = model(picture(56, 56)).depth
    assert expected.max() > 65504
    half = model.half()
    assert {p.dtype for p in half.network.head.parameters()} == {torch.float32}
    assert {p.dtype for p in half.encoder_parameters()} == {torch.float16}
    with torch.no_grad():
        torch.testing.assert_close(half(picture(56, 56).half()).depth, expected, rtol=0.02, atol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_network_loads_and_answers_the_same(name: str, tmp_path: Path) -> None:
    model = build(FAMILIES[name], mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 0.5))
    model.save_pretrained(tmp_path)
    loaded = HuggingFaceDepth(str(tmp_path)).eval()
    assert (loaded.mean, loaded.std) == ((0.5, 0.5, 0.5), (0.25, 0.5, 0.5))
    assert loaded.source == str(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(picture(64, 64)).depth, model(picture(64, 64)).depth)


def test_the_space_that_was_told_is_kept_with_the_weights(tmp_path: Path) -> None:
    build(DPT_VIT, space="metric depth").save_pretrained(tmp_path)
    assert HuggingFaceDepth(str(tmp_path)).space == METRIC_DEPTH
    assert HuggingFaceDepth(str(tmp_path), space="affine disparity").space == AFFINE_DISPARITY


def test_the_space_follows_from_the_kind_of_head() -> None:
    assert build(DEPTH_ANYTHING).space == AFFINE_DISPARITY
    assert build(DPT_VIT).space == AFFINE_DISPARITY
    metric = build({**DEPTH_ANYTHING, "depth_estimation_type": "metric", "max_depth": 20})
    assert metric.space == METRIC_DEPTH
    with torch.no_grad():
        depth = metric(picture(56, 56)).depth
    assert 0 < depth.min() < depth.max() < 20


def test_the_pipeline_of_transformers_loads_what_was_saved(tmp_path: Path) -> None:
    from transformers import pipeline

    model = build(DEPTH_ANYTHING)
    model.save_pretrained(tmp_path, image_size=56)
    image = Image.fromarray((picture(56, 84, 1)[0] * 255).byte().permute(1, 2, 0).numpy())
    predicted = pipeline("depth-estimation", model=str(tmp_path), device="cpu")(image)["predicted_depth"]
    assert predicted.shape == (56, 84)
    ours = model.predict(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255)[0]
    torch.testing.assert_close(predicted, ours, atol=1e-4, rtol=0)


def test_the_license_is_read_from_the_model_card(tmp_path: Path) -> None:
    build(DEPTH_ANYTHING).save_pretrained(tmp_path)
    assert HuggingFaceDepth(str(tmp_path)).license == "unknown"
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\ntags: [depth]\n---\n# A model\n")
    assert HuggingFaceDepth(str(tmp_path)).license == "cc-by-nc-4.0"
    assert HuggingFaceDepth(str(tmp_path), license="mit").license == "mit"


def test_gradient_checkpointing_changes_nothing_but_memory() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = build(DEPTH_ANYTHING, gradient_checkpointing=checkpointing).train()
        model(picture(56, 56)).depth.var().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert any(getattr(m, "gradient_checkpointing", False) for m in model.network.modules())
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_neither_or_both_of_source_and_config_are_refused() -> None:
    for arguments in ({}, {"source": "a", "config": DPT_VIT}):
        with pytest.raises(ValueError, match=r"either a source .* or a config"):
            HuggingFaceDepth(**arguments)


def test_another_model_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^the config has model_type 'bert'; it would be one of depth_anything"
    ):
        HuggingFaceDepth(config={"model_type": "bert"})
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "glpn"}))
    with pytest.raises(ValueError, match=f"^'{tmp_path}' has model_type 'glpn'; it would be one of"):
        HuggingFaceDepth(str(tmp_path))


@pytest.mark.parametrize(("kind", "name"), [("zoedepth", "ZoeDepth"), ("depth_pro", "DepthPro")])
def test_a_model_of_another_class_is_sent_there(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ValueError, match=f"has model_type '{kind}': its class is depthkd.models.{name}$"):
        HuggingFaceDepth(str(tmp_path))


def test_its_training_sets_are_those_stated_or_known(tmp_path: Path) -> None:
    assert build(DEPTH_ANYTHING).training_sets is None
    assert build(DEPTH_ANYTHING, training_sets=["KITTI"]).training_sets == ("KITTI",)
    cached = tmp_path / "models--Intel--dpt-large" / "snapshots" / "0a1b"
    build(DPT_VIT).save_pretrained(cached)
    model = HuggingFaceDepth(str(cached))
    assert (model.training_sets, model.license) == (MIDAS_10, "apache-2.0")
    assert HuggingFaceDepth(str(cached), training_sets=[]).training_sets == ()


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"^the folder '{tmp_path}' has no config.json"):
        HuggingFaceDepth(str(tmp_path))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    model = build(DEPTH_ANYTHING)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.network.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no readable model.safetensors: pickled weights .* are refused"):
        HuggingFaceDepth(str(tmp_path))


def test_broken_and_incomplete_weights_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    build(DEPTH_ANYTHING).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if k != "head.conv1.bias"}, path, {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 tensors, 'head.conv1.bias' among them"):
        HuggingFaceDepth(str(tmp_path))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"no readable model\.safetensors"):
        HuggingFaceDepth(str(tmp_path))
    save_file({**tensors, "head.conv1.bias": torch.zeros(7)}, path, {"format": "pt"})
    with pytest.raises(
        ValueError, match=r"do not fit its config.json: 'head.conv1.bias' is \[7\], and would"
    ):
        HuggingFaceDepth(str(tmp_path))


def test_an_unreachable_hub_repository_gives_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        FileNotFoundError, match=r"^'nobody/nothing' is no folder here, and no hub repository"
    ):
        HuggingFaceDepth("nobody/nothing")
