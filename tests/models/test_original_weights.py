import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from depthkd.models import DepthAnything
from depthkd.models.dpt.depth_anything import SHAPES, Shape, depth_anything_config
from depthkd.models.dpt.dpt import FAMILIES
from depthkd.models.dpt.original_weights import official
from depthkd.models.provenance import DEPTH_ANYTHING_V1, DEPTH_ANYTHING_V2
from tests.models.published import depth_of, publish

SMALL = Shape(16, 6, 2, (1, 3, 5, 6), (8, 12, 16, 16), 8, image_size=56)
GIANT = Shape(24, 6, 2, (1, 3, 5, 6), (16, 16, 16, 16), 8, image_size=56, swiglu=True)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The papers' sizes, with a tenth of their width."""
    monkeypatch.setitem(SHAPES, "small", SMALL)
    monkeypatch.setitem(SHAPES, "giant", GIANT)


def build(seed: int = 0, **arguments: Any) -> DepthAnything:
    """Random weights, in which no tensor is constant: it could not be told from another."""
    torch.manual_seed(seed)
    model = DepthAnything(**arguments).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "network.head.conv3.bias":
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def save(tensors: dict[str, Tensor], path: Path) -> str:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return str(path)


def image(height: int = 56, width: int = 56) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("arguments", [{"size": "small"}, {"size": "small", "version": 1}, {"size": "giant"}])
@pytest.mark.parametrize("file", ["model.safetensors", "model.pth"])
@pytest.mark.parametrize(("prefix", "chunks"), [("pretrained", 1), ("backbone", 1), ("pretrained", 3)])
def test_a_published_file_fills_the_whole_network(
    arguments: dict[str, Any], file: str, prefix: str, chunks: int, tmp_path: Path
) -> None:
    theirs = build(**arguments)
    path = save(publish(theirs.network, prefix, chunks), tmp_path / file)
    ours = DepthAnything(**arguments, weights=path).eval()
    with torch.no_grad():
        assert torch.equal(ours(image(70, 98)).depth, theirs(image(70, 98)).depth)
    for name, value in theirs.network.state_dict().items():
        assert torch.equal(value, ours.network.state_dict()[name]), name
    assert ours.source.endswith(f"from {path}")


@pytest.mark.parametrize("max_depth", [None, 20])
@pytest.mark.parametrize(("size", "version"), [("small", 1), ("small", 2), ("giant", 2)])
def test_it_computes_what_the_authors_network_does(
    size: Any, version: int, max_depth: int | None, tmp_path: Path
) -> None:
    arguments = {"size": size, "version": version, "metric_max_depth": max_depth}
    tensors = publish(build(**arguments).network)
    model = DepthAnything(**arguments, weights=save(tensors, tmp_path / "model.pth")).eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.mean, model.std))
    layers = [0, 2, 4, 5] if version == 2 else [2, 3, 4, 5]
    expected = depth_of(tensors, (image() - mean) / std, layers, 2, max_depth)
    assert expected.std() > 1e-3
    with torch.no_grad():
        torch.testing.assert_close(model(image()).depth, expected, atol=1e-5, rtol=1e-5)


def test_a_file_holds_the_authors_tensors() -> None:
    """14 tensors a block, 7 around the blocks, 64 of the head; positions of 37 x 37 patches and the class."""
    tensors = publish(build().network)
    assert len(tensors) == 14 * SMALL.layers + 7 + 64
    config_class, network_class = FAMILIES["depth_anything"]
    for size, width in (("base", 768), ("large", 1024)):
        with torch.device("meta"):
            network = network_class(config_class.from_dict(depth_anything_config(size)))
        positions = network.state_dict()["backbone.embeddings.position_embeddings"]
        assert positions.shape == (1, 37 * 37 + 1, width)


def parts_that_differ(one: nn.Module, other: nn.Module) -> set[str]:
    theirs = other.state_dict()
    return {n.split(".")[0] for n, t in one.state_dict().items() if not torch.equal(t, theirs[n])}


@pytest.mark.parametrize("file", ["model.pth", "folder"])
def test_the_encoder_alone_can_be_taken(file: str, tmp_path: Path) -> None:
    theirs = build()
    if file == "folder":
        theirs.save_pretrained(tmp_path / file)
    else:
        save(publish(theirs.network), tmp_path / file)
    model = DepthAnything(weights=str(tmp_path / file), initialize="encoder")
    assert parts_that_differ(model.network, theirs.network) == {"neck", "head"}
    assert model.network.head.conv3.bias.item() == 1.0
    assert model(image()).depth.std() > 1e-3
    assert "with the encoder of" in model.source


def test_a_dinov2_file_fills_the_encoder(tmp_path: Path) -> None:
    theirs = build()
    path = save(publish(theirs.network, prefix=""), tmp_path / "dinov2_vits14_pretrain.pth")
    model = DepthAnything(weights=path)
    assert parts_that_differ(model.network, theirs.network) == {"neck", "head"}


def test_a_file_that_transformers_named_loads_too(tmp_path: Path) -> None:
    theirs = build()
    theirs.save_pretrained(tmp_path)
    model = DepthAnything(weights=str(tmp_path / "model.safetensors"))
    assert parts_that_differ(model.network, theirs.network) == set()
    state = {n: t for n, t in theirs.network.state_dict().items() if not n.endswith("cls_token")}
    assert "lack 1 tensors, 'backbone.embeddings.cls_token' among them" in refusal(state, tmp_path)


def test_a_training_checkpoint_s_model_is_taken(tmp_path: Path) -> None:
    """As the authors' metric fine-tuning saves it: wrapped, and prefixed by DDP."""
    theirs = build()
    tensors = {f"module.{name}": tensor for name, tensor in publish(theirs.network).items()}
    torch.save({"model": tensors, "epoch": 3, "optimizer": {"state": {}}}, tmp_path / "latest.pth")
    model = DepthAnything(weights=str(tmp_path / "latest.pth"))
    assert parts_that_differ(model.network, theirs.network) == set()


@pytest.mark.parametrize(
    ("name", "hub_id", "version", "max_depth", "license"),
    [
        ("depth_anything_vitl14.pth", "LiheYoung/depth_anything_vitl14", 1, None, "apache-2.0"),
        ("depth_anything_v2_vits.pth", "depth-anything/Depth-Anything-V2-Small", 2, None, "apache-2.0"),
        ("depth_anything_v2_vitl.pth", "depth-anything/Depth-Anything-V2-Large", 2, None, "cc-by-nc-4.0"),
        (
            "depth_anything_v2_metric_hypersim_vitb.pth",
            "depth-anything/Depth-Anything-V2-Metric-Hypersim-Base",
            *(2, 20, "cc-by-nc-4.0"),
        ),
        (
            "depth_anything_v2_metric_vkitti_vits.pth",
            "depth-anything/Depth-Anything-V2-Metric-VKITTI-Small",
            *(2, 80, "apache-2.0"),
        ),
    ],
)
def test_official_names_say_what_is_in_the_file(
    name: str, hub_id: str, version: int, max_depth: int | None, license: str, tmp_path: Path
) -> None:
    known = official(f"/models/{name}")
    assert known is not None
    assert (known.hub_id, known.version) == (hub_id, version)
    assert (known.metric_max_depth, known.license) == (max_depth, license)
    arguments: dict[str, Any] = {"version": version, "metric_max_depth": max_depth}
    path = save(publish(build(**arguments).network), tmp_path / name)
    model = DepthAnything(**arguments, weights=path)
    assert model.license == license
    assert model.training_sets == (DEPTH_ANYTHING_V1 if version == 1 else DEPTH_ANYTHING_V2)


def test_other_names_say_nothing(tmp_path: Path) -> None:
    assert official("model.safetensors") is None
    path = save(publish(build().network), tmp_path / "model.safetensors")
    model = DepthAnything(weights=path)
    assert (model.license, model.training_sets) == ("unknown", None)
    assert DepthAnything(weights=path, license="mit").license == "mit"


def test_a_relative_file_fills_the_encoder_of_a_metric_network(tmp_path: Path) -> None:
    theirs = build()
    path = save(publish(theirs.network), tmp_path / "depth_anything_v2_vits.pth")
    model = DepthAnything(weights=path, metric_max_depth=20)
    assert parts_that_differ(model.network, theirs.network) == {"neck", "head"}


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("depth_anything_v2_metric_hypersim_vits.pth", {}, "are metric up to 20 m: set metric_max_depth: 20"),
        (
            "depth_anything_v2_metric_vkitti_vits.pth",
            {"metric_max_depth": 20},
            "are metric up to 80 m: set metric_max_depth: 80",
        ),
        ("depth_anything_vits14.pth", {}, "are of version 1, .* set version: 1"),
        ("depth_anything_v2_vits.pth", {"version": 1}, "are of version 2, .* set version: 2"),
    ],
)
def test_a_head_of_another_kind_is_refused_by_the_name(
    name: str, arguments: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    theirs = build()
    path = save(publish(theirs.network), tmp_path / name)
    with pytest.raises(ValueError, match=f"^the weights '{re.escape(path)}' {sentence}"):
        DepthAnything(**arguments, weights=path)
    model = DepthAnything(**arguments, weights=path, initialize="encoder")
    assert parts_that_differ(model.network, theirs.network) == {"neck", "head"}


def refusal(tensors: dict[str, Tensor], folder: Path) -> str:
    path = save(tensors, folder / "model.pth")
    with pytest.raises(ValueError) as caught:
        DepthAnything(weights=path)
    return str(caught.value).replace(path, "FILE")


def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path: Path) -> None:
    tensors = publish(build().network)
    assert refusal({"conv1.weight": torch.ones(3)}, tmp_path) == (
        "'FILE' is no Depth Anything or DINOv2: its tensors' names begin neither with pretrained. nor with "
        "backbone.; it holds 'conv1.weight', for example"
    )
    assert refusal(publish(build(size="giant").network), tmp_path) == (
        "the weights 'FILE' are of another size: 'backbone.embeddings.cls_token' is [1, 1, 24], and would be "
        "[1, 1, 16]"
    )
    lacking = {name: tensor for name, tensor in tensors.items() if "refinenet2.out_conv" not in name}
    assert refusal(lacking, tmp_path) == (
        "the weights 'FILE' lack 2 tensors, 'neck.fusion_stage.layers.2.projection.bias' among them"
    )
    registers = {**tensors, "pretrained.register_tokens": torch.ones(1, 4, 16)}
    assert refusal(registers, tmp_path) == (
        "the weights 'FILE' are of another network: 1 tensors have no place in this one, "
        "'pretrained.register_tokens' among them"
    )


def test_a_file_of_another_patch_size_is_refused(tmp_path: Path) -> None:
    path = save(publish(build().network), tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"of another size: 'backbone\.embeddings\.patch_embeddings"):
        DepthAnything(weights=path, patch=8)


def test_a_file_that_holds_more_than_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({**publish(build().network), "written": tmp_path}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"holds more than tensors and plain values, so it was not loaded"):
        DepthAnything(weights=str(tmp_path / "model.pth"))


def test_a_file_in_a_hub_repository_is_fetched_and_recognized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    cache = tmp_path / "models--xingyang1--Distill-Any-Depth" / "snapshots" / "0a1b" / "large"
    cache.mkdir(parents=True)
    theirs = build()
    save(publish(theirs.network, "backbone"), cache / "model.safetensors")

    def cached_file(repository: str, name: str, **_: Any) -> str | None:
        asked.append((repository, name))
        path = cache.parent / name
        return str(path) if path.is_file() else None

    monkeypatch.setattr("depthkd.models.dpt.original_weights.cached_file", cached_file)
    model = DepthAnything(weights="xingyang1/Distill-Any-Depth/large/model.safetensors")
    assert asked[0] == ("xingyang1/Distill-Any-Depth", "large/model.safetensors")
    assert parts_that_differ(model.network, theirs.network) == set()
    assert model.training_sets == DEPTH_ANYTHING_V2
    for nowhere in ("xingyang1/Distill-Any-Depth/huge/model.safetensors", "model.pth", "/models/a/model.pth"):
        with pytest.raises(FileNotFoundError, match=f"^there is no file of weights '{nowhere}', and no such"):
            DepthAnything(weights=nowhere)
    assert len(asked) == 2
