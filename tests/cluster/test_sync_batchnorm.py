"""Batch normalization over ranks: what is converted, and what it leaves as it is."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from depthkd.cluster.sync_batchnorm import SyncBatchNorm
from depthkd.errors import UserError
from depthkd.models import LightweightDepth
from tests.processes import run

ENCODERS = ["topformer_tiny", "mobilenetv4_conv_small_035"]  # the second has activations inside of its layers


def build(encoder: str) -> LightweightDepth:
    torch.manual_seed(0)
    return LightweightDepth(encoder, 8).train()


def step(model: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    """What it predicts in training, and its gradients."""
    torch.manual_seed(1)  # of dropped blocks
    image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    depth = model(image).depth
    depth.var().backward()
    return depth.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def kinds(model: nn.Module) -> list[type[nn.Module]]:
    return [type(m) for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_layer_is_converted_and_computes_the_same_on_one_rank(encoder: str) -> None:
    plain, model, sync = build(encoder), build(encoder), SyncBatchNorm()
    names = list(model.state_dict())
    parameters = dict(model.named_parameters())
    assert sync.converted(model) is model
    assert kinds(model) and all(issubclass(kind, nn.SyncBatchNorm) for kind in kinds(model))
    assert list(model.state_dict()) == names, "checkpoints are the same"
    assert all(parameters[n] is p for n, p in model.named_parameters()), "and so is what the optimizer holds"
    depth, gradients = step(model)
    expected, wanted = step(plain)
    assert torch.equal(depth, expected)
    assert gradients.keys() == wanted.keys()
    assert all(torch.equal(gradients[name], wanted[name]) for name in wanted)
    sync.revert(model)
    assert kinds(model) == kinds(plain) and model.training
    assert all(torch.equal(tensor, plain.state_dict()[n]) for n, tensor in model.state_dict().items())
    assert torch.equal(step(model)[0], step(plain)[0])


def test_torch_s_own_conversion_loses_activations() -> None:
    """Why this one is needed."""
    theirs = nn.SyncBatchNorm.convert_sync_batchnorm(build("mobilenetv4_conv_small_035"))
    assert not torch.allclose(step(theirs)[0], step(build("mobilenetv4_conv_small_035"))[0])


def test_frozen_statistics_stay_frozen() -> None:
    model = LightweightDepth("topformer_tiny", 8, frozen_statistics=True).train()
    SyncBatchNorm().converted(model)
    model.eval().train()
    trained = {name for name, m in model.named_modules() if isinstance(m, nn.SyncBatchNorm) and m.training}
    assert trained and not any(name.startswith("backbone.") for name in trained)


def test_one_rank_has_nothing_to_synchronize(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("topformer_tiny")
    assert not any(issubclass(kind, nn.SyncBatchNorm) for kind in kinds(SyncBatchNorm().apply(model)))
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    with pytest.raises(UserError, match=r"^trainer\.sync_batchnorm=true: torch .* these 2 ranks are on CPUs"):
        SyncBatchNorm().apply(model)


@pytest.mark.long
def test_two_ranks_on_cpus_are_told_and_one_trains(home: Path) -> None:
    student = {
        "class_path": "depthkd.models.LightweightDepth",
        "init_args": {"encoder": "topformer_tiny", "width": 8},
    }
    words = ["fit", "--config", "configs/tiny/teacher.yaml", "--model.init_args.student", json.dumps(student)]
    words += ["--data.batch_size", "4", "--data.workers", "0", "--trainer.max_steps", "2"]
    words += ["--trainer.limit_val_batches", "0", "--trainer.sync_batchnorm", "true"]
    codes, output = run([*words, "--run", "one", "--trainer.devices", "1"], home, 1)
    assert codes == [0], output
    assert (home / "one/checkpoints/last.ckpt").is_file()
    codes, output = run(
        [*words, "--run", "two", "--trainer.devices", "2", "--trainer.strategy", "ddp"], home, 2
    )
    assert codes == [2, 2] and "torch synchronizes batch normalization on GPUs alone" in output, output
    assert "Traceback" not in output
