"""PointNet: features against a written-out network, `depthkd pointnet` as users type it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from depthkd.datasets.scenes.clouds import CLASSES, KINDS, cloud
from depthkd.models.pointnet import PointNet, read_facts
from tests.conftest import CommandLine

SMALL = ["--clouds", "64", "--points", "48", "--epochs", "2", "--tested", "20", "--batch_size", "16"]


def layer(hidden: np.ndarray, linear: nn.Module, norm: nn.Module) -> np.ndarray:
    state = {n: t.double().numpy() for n, t in [*linear.state_dict().items()]}
    stats = {n: t.double().numpy() for n, t in norm.state_dict().items()}
    out = hidden @ state["weight"].reshape(len(state["weight"]), -1).T + state["bias"]
    out = (out - stats["running_mean"]) / np.sqrt(stats["running_var"] + 1e-5)
    return np.maximum(out * stats["weight"] + stats["bias"], 0)


def shared(points: np.ndarray, layers: nn.Sequential) -> np.ndarray:
    for at in range(0, len(layers), 3):
        points = layer(points, layers[at], layers[at + 1])
    return points


def matrix(points: np.ndarray, transform: nn.Module) -> np.ndarray:
    hidden = shared(shared(points, transform.shared).max(0)[None], transform.dense)
    weight, bias = (x.detach().double().numpy() for x in (transform.matrix.weight, transform.matrix.bias))
    side = transform.channels
    return (hidden @ weight.T + bias).reshape(side, side) + np.eye(side)


def trained_like(network: PointNet) -> PointNet:
    """Statistics, biases and transforms that are not those of a fresh network."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not name.endswith("weight"):
            tensor += 0.2 * torch.rand(tensor.shape, generator=generator)
        if "matrix" in name:
            tensor += 0.02 * torch.rand(tensor.shape, generator=generator)
    return network.eval()


@pytest.mark.parametrize("transforms", [False, True])
def test_features_are_those_of_the_written_out_network(transforms: bool) -> None:
    network = trained_like(PointNet(transforms=transforms))
    points = torch.rand(2, 30, 3, generator=torch.Generator().manual_seed(0))
    local, whole = network.features(points)
    for i in range(2):
        hidden = points[i].double().numpy()
        if network.input_transform is not None:
            hidden = hidden @ matrix(hidden, network.input_transform)
        hidden = shared(hidden, network.local)
        if network.feature_transform is not None:
            hidden = hidden @ matrix(hidden, network.feature_transform)
        np.testing.assert_allclose(local[i].detach(), hidden, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            whole[i].detach(), shared(hidden, network.whole).max(0), rtol=1e-3, atol=1e-5
        )
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    shuffled = network.features(points[:, order])
    torch.testing.assert_close(shuffled.whole, whole)
    torch.testing.assert_close(shuffled.local, local[:, order], rtol=1e-4, atol=1e-5)


def test_random_weights_are_the_seeds_alone_and_keep_the_size_of_activations() -> None:
    points = 0.5 * torch.randn(2, 200, 3, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = PointNet(seed=3).eval().features(points)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = (PointNet(seed=seed).eval().features(points) for seed in (3, 4))
    assert torch.equal(first.whole, again.whole) and not torch.equal(first.whole, other.whole)
    assert 0.1 < first.local.square().mean() < 3 and 0.1 < first.whole.square().mean() < 10


def test_autocast_leaves_it_in_float32() -> None:
    network, points = PointNet().eval(), torch.rand(1, 40, 3)
    with torch.autocast("cpu", torch.bfloat16):
        seen = network.features(points)
    assert seen.whole.dtype == torch.float32 and torch.equal(seen.whole, network.features(points).whole)


def test_it_learns_from_transforms_and_classes() -> None:
    network = PointNet(transforms=True, classes=4).train()
    logits = network(torch.rand(3, 20, 3))
    assert logits.shape == (3, 4)
    assert isinstance(network.distance_from_rotation, Tensor)
    (logits.sum() + network.distance_from_rotation).backward()
    assert all(p.grad is not None for p in network.parameters())
    with pytest.raises(ValueError, match="features alone"):
        PointNet()(torch.rand(3, 20, 3))


def test_clouds_are_the_seeds_alone_and_lie_about_the_unit_ball() -> None:
    seen = set()
    for index in range(60):
        points, label = cloud(7, index, 80)
        again, same = cloud(7, index, 80)
        assert np.array_equal(points, again) and label == same
        assert points.shape == (80, 3) and points.dtype == np.float32 and np.isfinite(points).all()
        assert 0.7 < np.linalg.norm(points, axis=1).max() < 1.4
        assert len(np.unique(points, axis=0)) == 80  # noise tells points apart that were drawn again
        seen.add(label)
    assert len(seen) > 12 and len(CLASSES) == len(KINDS) == 18
    assert not np.array_equal(cloud(7, 0, 80)[0], cloud(8, 0, 80)[0])


def test_the_command_writes_a_file_that_says_how_it_was_made(
    command_line: CommandLine, tmp_path: Path
) -> None:
    status, out, err = command_line("pointnet", "--out", "here/a.safetensors", *SMALL)
    assert status == 0 and "on 20 clouds of 18 shapes that it has not seen" in out, err
    facts = read_facts(tmp_path / "here/a.safetensors")
    assert facts["classes"] == list(CLASSES) and facts["license"] == "apache-2.0"
    assert facts["settings"]["clouds"] == 64 and 0 <= facts["accuracy"] <= 1
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["a.safetensors"]
    assert command_line("pointnet", "--out", "b.safetensors", *SMALL)[0] == 0
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "here/a.safetensors").read_bytes()
    status, out, _ = command_line("pointnet", "--out", "b.safetensors", *SMALL)
    assert status == 0 and "is there already" in out
    status, _, err = command_line("pointnet", "--out", "b.safetensors", *SMALL, "--seed", "1")
    assert status == 2 and "was made with other settings" in err
    network = PointNet("b.safetensors").eval()
    assert network.source.startswith("a PointNet that tells 18 shapes apart (")
    assert network.training_sets == ("depthkd's scenes",)
    assert network(torch.rand(2, 30, 3)).shape == (2, 18)
    with pytest.raises(ValueError, match=r"PointNet with none of PointNet's transforms.*transforms: false"):
        PointNet("b.safetensors", transforms=True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--out", "a.pt"], "it would be a file to make, such as runs/embedded/pointnet.safetensors"),
        (["--out", "a.safetensors", "--points", "0"], "points must be 1 or more, not 0"),
        (
            ["--out", "a.safetensors", "--batch_size", "1"],
            "batch_size must be from 2, for batch normalization",
        ),
        (["--out", "a.safetensors", "--learning_rate", "0"], "learning_rate above 0"),
    ],
)
def test_mistakes_get_a_sentence(words: list[str], sentence: str, command_line: CommandLine) -> None:
    status, _, err = command_line("pointnet", *words)
    assert status == 2 and sentence in err and "Traceback" not in err
    assert not list(Path().glob("*.safetensors"))


def test_other_files_get_a_sentence(command_line: CommandLine, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"there is no PointNet .*`depthkd pointnet --out nowhere\.safetensors` makes one",
    ):
        PointNet("nowhere.safetensors")
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.ones(2)}, other)
    with pytest.raises(ValueError, match="no file that `depthkd pointnet` has written"):
        PointNet(str(other))
    status, _, err = command_line("pointnet", "--out", other, *SMALL)
    assert status == 2 and "is there already, and no PointNet of ours" in err
    assert load_file(other).keys() == {"x"}
    facts = {"classes": ["a", "b"], "digest": "0" * 8, "settings": {"transforms": False}}
    wrong = tmp_path / "wrong.safetensors"
    save_file({"local.0.weight": torch.ones(2)}, wrong, {"pointnet": json.dumps(facts)})
    with pytest.raises(ValueError, match=r"not those of a PointNet: 'local.0.weight' would be \[64, 3, 1\]"):
        PointNet(str(wrong))
    other.write_bytes(other.read_bytes()[:-3])
    status, _, err = command_line("pointnet", "--out", other, *SMALL)
    assert status == 2 and "was cut short" in err


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_it_tells_shapes_apart(command_line: CommandLine) -> None:
    words = ["--clouds", "500", "--points", "192", "--epochs", "4", "--tested", "200"]
    status, _, err = command_line("pointnet", "--out", "p.safetensors", *words)
    assert status == 0, err
    assert read_facts("p.safetensors")["accuracy"] > 0.35  # 1 of 18 by chance
