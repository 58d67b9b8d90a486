"""Small packages with the interface of the authors' code of Depth Anything 3, MoGe and UniK3D."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

DA3 = {
    "src/depth_anything_3/model/da3.py": """
import torch

class DepthAnything3Net(torch.nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.backbone = torch.nn.Linear(1, 1)
        self.gain = torch.nn.Parameter(torch.full((1,), gain))

    def forward(self, x):
        \"\"\"The red channel, with the top rows for sky, whose depth is a random 9-ish.\"\"\"
        assert x.shape[:3] == (1, 1, 3) and x.shape[3] % 14 == 0 and x.shape[4] % 14 == 0
        self.seen = x
        depth, sky = self.gain * (x[:, :, 0] + 3), torch.zeros_like(x[:, :, 0])
        sky[:, :, :7] = 0.3
        return {"depth": torch.where(sky < 0.3, depth, 9 + torch.rand(1)), "sky": sky}
""",
    "src/depth_anything_3/cfg.py": """
from importlib import import_module
from pathlib import Path
import json

print("noise")

def load_config(path):
    return json.loads(Path(path).read_text())

def create_object(config):
    return import_module("depth_anything_3.model.da3").DepthAnything3Net(**config)
""",
    "src/depth_anything_3/configs/da3mono-large.yaml": '{"gain": 0.0}',
    "src/depth_anything_3/configs/da3metric-large.yaml": '{"gain": 0.0}',
}
MOGE = {
    "moge/__init__.py": "",
    "moge/model/__init__.py": "",
    "moge/model/v2.py": """
import torch

class MoGeModel(torch.nn.Module):
    def __init__(self, scale_head, encoder):
        super().__init__()
        self.encoder = torch.nn.Linear(encoder, 1)
        self.gain = torch.nn.Parameter(torch.zeros(1))

    @torch.inference_mode()
    def infer(self, image, resolution_level=9, apply_mask=True, fov_x=None, use_fp16=True):
        assert image.ndim == 4 and not use_fp16
        self.seen = (resolution_level, fov_x)
        depth, valid = self.gain * image[:, 0], image[:, 1] > 0.5
        camera = torch.tensor([[0.8, 0, 0.5], [0, 1.1, 0.5], [0, 0, 1]]).expand(len(image), 3, 3)
        depth = torch.where(valid, depth, torch.inf) if apply_mask else depth
        return {"depth": depth, "mask": valid, "intrinsics": camera}
""",
}
UNIK3D = {
    "unik3d/__init__.py": "",
    "unik3d/models/__init__.py": """
import torch
import warnings

class UniK3D(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.backbone, self._seen = config["backbone"], []
        self.gain = torch.nn.Parameter(torch.zeros(1))

    @torch.no_grad()
    def infer(self, rgb, camera=None):
        assert rgb.dtype == torch.uint8 and rgb.ndim == 3
        if not hasattr(self, "resolution_level"):
            warnings.warn("no resolution_level")
        self._seen.append(camera)
        self.shapes = rgb.shape
        return {"depth": self.gain * (rgb[None, :1].float() - 100), "distance": rgb[None, :1].float()}
""",
    "unik3d/utils/__init__.py": "",
    "unik3d/utils/camera.py": """
class Pinhole:
    def __init__(self, params):
        self.params = params
""",
    "configs/eval/vitl.json": '{"backbone": "L"}',
    "configs/eval/vits.json": '{"backbone": "S"}',
}


def write(folder: Path, files: dict[str, str]) -> str:
    """A clone with these files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return str(folder)


def da3(folder: Path, name: str = "da3mono-large") -> tuple[str, str]:
    """A clone of Depth Anything 3, and weights of a gain of 2."""
    linear = {"model.backbone.weight": torch.ones(1, 1), "model.backbone.bias": torch.ones(1)}
    repo = write(folder / "da3", DA3)
    save_file({"model.gain": torch.tensor([2.0]), **linear}, folder / f"{name}.safetensors")
    return repo, str(folder / f"{name}.safetensors")


def moge(folder: Path, **changes: Any) -> tuple[str, str]:
    """A clone of MoGe, and a checkpoint of a gain of 2."""
    repo = write(folder / "moge", MOGE)
    config = {"scale_head": {}, "encoder": 2}
    tensors = {"encoder.weight": torch.ones(1, 2), "encoder.bias": torch.ones(1), "gain": torch.tensor([2.0])}
    torch.save({"model_config": config, "model": tensors, **changes}, folder / "model.pt")
    return repo, str(folder / "model.pt")


def unik3d(folder: Path, backbone: str = "vitl") -> tuple[str, str]:
    """A clone of UniK3D, and weights of a gain of 2."""
    repo = write(folder / "unik3d", UNIK3D)
    torch.save({"gain": torch.tensor([2.0])}, folder / f"unik3d-{backbone}.bin")
    return repo, str(folder / f"unik3d-{backbone}.bin")
