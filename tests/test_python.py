"""depthkd as a library: one import, light until a name is used."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import depthkd
from depthkd import load_model, models
from depthkd.errors import UnknownNameError, UserError

HEAVY = """
import sys
import depthkd
print([m for m in ("torch", "lightning", "numpy") if m in sys.modules])
"""


def test_import_is_light_until_a_name_is_used() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", HEAVY], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    assert {"load_model", "evaluate", "predict", "ShardDataModule", "CrossContextDistill"} <= set(
        depthkd.__all__
    )
    for name in depthkd.__all__:
        assert callable(getattr(depthkd, name)), name
    assert depthkd.DepthAnything is models.DepthAnything
    with pytest.raises(UnknownNameError, match=r"depthkd has no 'load_modle'; it has load_model"):
        _ = depthkd.load_modle


def test_one_word_loads_a_model(tmp_path: Path) -> None:
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    embedded = load_model("embedded")
    assert not embedded.training and embedded.predict(image).shape == (1, 32, 48)
    torch.manual_seed(0)
    tiny = models.DepthAnything("tiny").eval()
    tiny.save_pretrained(tmp_path / "tiny")
    torch.testing.assert_close(load_model(str(tmp_path / "tiny")).predict(image), tiny.predict(image))
    with pytest.raises(UserError, match="device 'gpu' does not exist"):
        load_model("embedded", device="gpu")
    with pytest.raises(UserError, match="there is no"):
        load_model(str(tmp_path / "nothing"))
