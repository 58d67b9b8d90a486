"""The smallest model of every class, with another value of each of its arguments."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import yaml
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from depthkd import models
from depthkd.batch import METRIC_DEPTH
from depthkd.benchmarks import trivial
from depthkd.models.dpt.depth_anything import depth_anything_config
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.models.torch_program import TRUST
from depthkd.runs.student import TrainedDepth
from tests.models import stand_ins
from tests.models.families import DEPTH_ANYTHING
from tests.models.graphs import mixer
from tests.models.programs import program
from tests.models.stable_diffusion import DPT_CHANNELS, WIDTH, genpercept, genpercept_dpt, stable_diffusion
from tests.models.test_metric import depth_pro, zoedepth
from tests.models.test_prompt_depth_anything import prompt_depth_anything
from tests.models.test_torch_hub import METRIC3D, UNIDEPTH, clone, weights

ARGUMENTS = tuple[type[DepthModel], dict[str, Any], dict[str, Any]]


class Level(DepthModel):
    """So many meters everywhere."""

    chooses_size = True
    space = METRIC_DEPTH

    def __init__(self, meters: float = 2.0) -> None:
        super().__init__()
        self.meters = meters

    def forward(self, image: Tensor) -> DepthOutput:
        return DepthOutput(torch.full_like(image[:, 0], self.meters))

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return self.parameters()


class Instead:
    """A value of an argument for which others must change too."""

    def __init__(self, value: Any, **others: Any) -> None:
        self.value, self.others = value, others


NARROW = {"embed_dim": 16, "depth": 4, "num_heads": 2}  # of a plain transformer of timm


def run(folder: Path, kind: str, seed: int = 1, **arguments: Any) -> str:
    """A run folder, with what a student needs of it."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    student = {"class_path": f"depthkd.models.{kind}", "init_args": arguments}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"student": student}}}))
    torch.manual_seed(seed)
    state = getattr(models, kind)(**arguments).state_dict()
    facts = {"averaged": False, "teachers": {}, "steps": 1}
    tensors = {f"student.{name}": tensor for name, tensor in state.items()}
    torch.save({"depthkd": facts, "global_step": 1, "state_dict": tensors}, folder / "checkpoints/last.ckpt")
    return str(folder)


def plain_unet() -> UNet2DConditionModel:
    """Of four levels, for GenPercept's DPT head, without attention."""
    return UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=DPT_CHANNELS,
        down_block_types=("DownBlock2D",) * 4,
        up_block_types=("UpBlock2D",) * 4,
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        norm_num_groups=8,
    )


def cloned(name: str, place: tuple[str, str], **others: Any) -> dict[str, ARGUMENTS]:
    """A model from a clone and weights, by its name."""
    repo, weights = place
    words = {"license": "other", "training_sets": ["KITTI"], "focal_length": 500.0}
    arguments = {"repo": repo, "weights": weights}
    aside = f"{Path(weights).parent}/./{Path(weights).name}"
    return {
        name: (getattr(models, name), arguments, {**words, "repo": f"{repo}/", "weights": aside, **others})
    }


def smallest(place: Path) -> dict[str, ARGUMENTS]:
    """Name -> class, arguments, other arguments; files are written into `place`."""
    words: dict[str, Any] = {"license": "mit", "training_sets": ["KITTI"]}
    hub = {**words, "revision": "v2"}
    place.mkdir(exist_ok=True)
    np.save(place / "text.npy", np.ones((1, 2, WIDTH), np.float32))
    empty, base = str(place / "text.npy"), stable_diffusion(place / "base")
    latent = {**hub, "text": empty, "longest": 64}
    percept = {**latent, "space": "affine depth", "base": Instead(f"{base}/", text="zeros")}
    models.HuggingFaceDepth(config=DEPTH_ANYTHING).save_pretrained(place / "hf")
    models.HuggingFaceDepth(config=depth_anything_config("tiny")).save_pretrained(place / "tiny")
    hf, zoe, pro = str(place / "hf"), zoedepth(place / "zoe"), depth_pro(place / "pro")
    disparity, dpt = genpercept(place / "genpercept"), genpercept_dpt(place / "genpercept-dpt")
    plain_unet().save_pretrained(place / "genpercept-dpt/unet_disparity_dpt_head_v2")
    unidepth, metric3d = clone(place / "unidepth", UNIDEPTH), clone(place / "metric3d", METRIC3D)
    torch.save(timm.create_model("resnet10t", num_classes=0).state_dict(), place / "t.pth")
    overlay = {"pretrained_cfg_overlay": {"file": f"{place}/t.pth"}}
    tensors, graph, pt2 = weights(place), mixer(place / "graph.onnx"), program(place)
    os.environ[TRUST] = "1"
    code = {**words, "weights": f"{place}/./weights.safetensors", "trust": True, "focal_length": 500.0}
    trained = run(place / "run", "SharpDepth", size="tiny")
    clones = {
        **cloned("DepthAnything3", stand_ins.da3(place), variant="da3metric-large", fov=60.0, masked=True),
        **cloned("MoGe", stand_ins.moge(place), resolution_level=3, masked=True),
        **cloned("UniK3D", stand_ins.unik3d(place), resolution_level=3, backbone="vits"),
    }
    prompted = prompt_depth_anything(place / "prompt")
    relative, other = models.DepthAnything(size="tiny"), trivial.VerticalRamp()
    return {
        "HuggingFaceDepth": (
            models.HuggingFaceDepth,
            {"source": hf},
            {
                **hub,
                "source": f"{hf}/",
                "config": Instead(DEPTH_ANYTHING, source=None),
                "space": "metric depth",
                "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5],
                "multiple": 28,
                "gradient_checkpointing": True,
                "initialize": "encoder",
                "preprocessing": "transformers",
            },
        ),
        "DepthAnything": (
            models.DepthAnything,
            {"size": "tiny"},
            {
                "size": "mini",
                "version": 1,
                "metric_max_depth": 20,
                "patch": 16,
                "weights": str(place / "tiny"),
                "license": "mit",
                "gradient_checkpointing": True,
                "initialize": "encoder",
                "preprocessing": "authors",
            },
        ),
        "MetricBinsDepth": (
            models.MetricBinsDepth,
            {"size": "tiny", "image_size": (24, 32), "bins": 6, "embedding": 8, "centers": "normed"},
            {
                "size": "mini",
                "version": 1,
                "patch": 16,
                "weights": str(place / "tiny"),
                "license": "mit",
                "gradient_checkpointing": True,
                "initialize": "encoder",
                "image_size": (32, 32),
                "keep_aspect": True,
                "bins": 7,
                "embedding": 10,
                "attractors": (8, 4, 2, 1),
                "centers": "softplus",
                "attraction": "exp",
                "alpha": 100.0,
                "gamma": 3,
                "joining": "sum",
                "min_depth": 0.1,
                "max_depth": 80.0,
                "temperatures": (0.1, 5.0),
            },
        ),
        "TimmDepth": (
            models.TimmDepth,
            {"backbone": "resnet10t", "fusion": 16},
            {
                "backbone": "mobilenetv4_conv_small_035",
                "pretrained": Instead(True, options=overlay),
                "layers": "last",
                "fusion": 24,
                "widths": Instead([4, 8, 16, 16], backbone="vit_tiny_patch16_224", options=NARROW),
                "options": {"drop_rate": 0.5},
                "license": "mit",
                "gradient_checkpointing": True,
                "frozen_statistics": True,
            },
        ),
        "LightweightDepth": (
            models.LightweightDepth,
            {"encoder": "topformer_tiny", "width": 8},
            {
                "encoder": "mobilenetv4_conv_small_035",
                "width": [4, 8, 8, 8],
                "quarter_skip": False,
                "pretrained": Instead(True, encoder="resnet10t", options=overlay),
                "space": "affine depth",
                "options": {"scaled_attention": True},
                "license": "mit",
                "frozen_statistics": True,
            },
        ),
        "Embedded": (models.Embedded, {}, {"shorter_side": 96}),
        "ZoeDepth": (models.ZoeDepth, {"source": zoe}, {**hub, "source": f"{zoe}/"}),
        "DepthPro": (models.DepthPro, {"source": pro}, {**hub, "source": f"{pro}/"}),
        "GenPercept": (
            models.GenPercept,
            {"source": disparity, "base": base, "text": "zeros"},
            {**percept, "source": f"{disparity}/", "unet": Instead("./unet_disparity_v2")},
        ),
        "GenPerceptDPT": (
            models.GenPerceptDPT,
            {"source": dpt, "base": base, "text": "zeros"},
            {
                **percept,
                "source": f"{dpt}/",
                "unet": Instead("./unet_disparity_dpt_head_v2"),
                "head": Instead("./dpt_head_identity"),
            },
        ),
        "Lotus": (
            models.Lotus,
            {"size": "tiny"},
            {**latent, "source": "lotus-depth", "space": "affine disparity", "size": "fine"},
        ),
        "Marigold": (
            models.Marigold,
            {"size": "tiny"},
            {**latent, "source": "marigold", "size": "fine", "steps": 2, "ensemble": 3},
        ),
        "FiffDepth": (
            models.FiffDepth,
            {"size": "tiny"},
            {
                **latent,
                "source": "sd",
                "size": "fine",
                "space": "affine depth",
                "step": -1,
                "vae": f"{base}/vae",
                "vae_dtype": "bfloat16",
                "gradient_checkpointing": True,
            },
        ),
        "SharpDepth": (
            models.SharpDepth,
            {"size": "tiny"},
            {
                **latent,
                "source": "lotus",
                "size": "fine",
                "prediction": "v_prediction",
                "metric": Level,
                "metric_resolution": 64,
                "variant": "released",
                "alignment": "none",
                "blend": "noised_answer",
                "intrinsics": False,
                "fit_size": "image",
                "gate": "noise",
                "reliable": 0.4,
                "vae": f"{base}/vae",
                "gradient_checkpointing": True,
            },
        ),
        "UniDepth": (
            models.UniDepth,
            {"repo": unidepth, "weights": tensors},
            {
                **code,
                "repo": f"{unidepth}/",
                "version": "v1",
                "backbone": "cnvnxtl",
                "resolution_level": 3,
            },
        ),
        "Metric3D": (
            models.Metric3D,
            {"repo": metric3d, "weights": tensors, "entry": "metric3d_vit_small"},
            {
                **code,
                "repo": f"{metric3d}/",
                "entry": "metric3d_convnext_tiny",
                "fov": 60.0,
                "size": [28, 56],
            },
        ),
        **clones,
        "PromptDepthAnything": (
            models.PromptDepthAnything,
            {"source": prompted},
            {**hub, "source": f"{prompted}/"},
        ),
        "PromptedByPoints": (
            models.PromptedByPoints,
            {"source": prompted},
            {**hub, "source": f"{prompted}/"},
        ),
        "OnnxDepth": (
            models.OnnxDepth,
            {"path": graph, "threads": 1},
            {
                **words,
                "path": f"{place}/./graph.onnx",
                "space": "metric depth",
                "input_range": 255.0,
                "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5],
                "size": [8, 8],
                "multiple": 4,
                "keep_aspect": True,
                "output": "mixed",
                "threads": 2,
            },
        ),
        "TorchProgram": (
            models.TorchProgram,
            {"path": pt2, "trusted": True},
            {"path": f"{place}/./model.pt2", "trusted": None},
        ),
        "AlignedDepth": (
            models.AlignedDepth,
            {"relative": relative, "metric": Level()},
            {"relative": other, "metric": Level(3.0), "metric_resolution": 64, "intrinsics": False},
        ),
        "UnsharpMask": (
            models.UnsharpMask,
            {"model": Level()},
            {"model": Level(3.0), "radius": 0.1, "amount": 2.0, "resolution": 64},
        ),
        "InterpolatedPoints": (models.InterpolatedPoints, {}, {"interpolation": "nearest"}),
        "AlignedToPoints": (
            models.AlignedToPoints,
            {"relative": relative},
            {"relative": other, "fit": "robust", "shrinkage": 0.5, "neighbors": 3, "beyond": 2.0},
        ),
        "DepthCompletion": (
            models.DepthCompletion,
            {"widths": (8, 16)},
            {
                "relative": Level,
                "relative_resolution": 64,
                "fit": "robust",
                "shrinkage": 0.5,
                "neighbors": 3,
                "beyond": 2.0,
                "widths": (8, 8),
            },
        ),
        "RandomScaleShift": (
            models.RandomScaleShift,
            {"model": Level()},
            {"model": Level(3.0), "scale": 5.0, "shift": 5.0, "seed": 1},
        ),
        "TrainedDepth": (
            TrainedDepth,
            {"path": trained},
            {"path": f"{trained}/.", "fresh": True, "settings": {"gate": "noise"}, "metric": Level},
        ),
        "BestConstant": (trivial.BestConstant, {}, {}),
        "VerticalRamp": (trivial.VerticalRamp, {}, {}),
        "MeanMap": (
            trivial.MeanMap,
            {"disparity": np.ones((4, 5), np.float32)},
            {"disparity": np.ones((5, 4), np.float32)},
        ),
        "Level": (Level, {}, {"meters": 2.5}),
    }
