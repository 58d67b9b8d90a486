"""`precision: auto` on faked devices."""

import pytest
import torch

from depthkd.cluster.precision import AnyPrecisionTrainer, choose_precision, local_capabilities

DEVICES = {
    "V100": ([(7, 0)], "16-mixed", "sm_70 has no native bf16"),
    "A100": ([(8, 0)] * 2, "bf16-mixed", "every device has bf16 (the weakest is sm_80)"),
    "H100": ([(9, 0)], "bf16-mixed", "sm_90"),
    "mixed": ([(8, 0), (7, 0), (9, 0)], "16-mixed", "sm_70"),
    "Pascal": ([(6, 1)], "32-true", "sm_61 gains nothing"),
    "CPU": ([], "32-true", "there is no CUDA device"),
}


@pytest.mark.parametrize("case", DEVICES)
def test_the_weakest_device_decides(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    devices, precision, reason = DEVICES[case]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(devices))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(devices))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: devices[i])
    assert local_capabilities() == devices
    chosen, why = choose_precision(local_capabilities())
    assert chosen == precision
    assert reason in why


def test_a_trainer_without_preflight_settles_it_too() -> None:
    trainer = AnyPrecisionTrainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_steps=1)
    assert trainer.precision == "32-true"
