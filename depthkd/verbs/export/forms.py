"""The forms in which a network leaves depthkd: written, loaded as their users will, and compared."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Picture
from torch import Tensor

from depthkd.errors import UserError
from depthkd.models.dpt.dpt import HuggingFaceDepth
from depthkd.models.dpt.preprocessing import RECORDED, Preprocessing
from depthkd.models.dpt.timm_depth import TimmDepth
from depthkd.models.hub import load_safetensors, quietly
from depthkd.models.model import DepthModel
from depthkd.models.onnx import OnnxDepth
from depthkd.models.own_folder import OwnFolder
from depthkd.models.torch_program import TorchProgram
from depthkd.models.weights import read_json_file
from depthkd.runs.named_models import GRAPH, PROGRAM, named_model
from depthkd.shapes import Image, Map
from depthkd.verbs.export.half_precision import Precision
from depthkd.verbs.export.onnx_graph import OPSET, write_graph
from depthkd.verbs.export.parity import FLOAT32, HALF, SIDE, Ask, Bounds, Row, Size, rows, sizes_for
from depthkd.verbs.export.program import write_program
from depthkd.verbs.export.timm_encoder import write_timm_encoder

HUB, DIFFUSERS, OWN = "transformers", "diffusers", "depthkd"
ONNX, TORCH, ENCODER = "onnx", "torch", "encoder"
DIFFUSION = "depthkd.models.latent_diffusion."  # imported, its modules would bring diffusers
FIXED = ("onnx", "torch")  # formats that can be of one size


@dataclass(frozen=True)
class Asked:
    """What `depthkd export` is asked to write of a network.

    Args:
        side: at which a folder's model runs where nobody asks for another size; None: the model's own.
        size: height and width of the only size of a graph or program; None: any.
        precision: of a graph.
        preprocessing: whose way of resizing a folder's model takes in depthkd from then on; None: the
            model's own.
    """

    side: int | None = None
    size: tuple[int, int] | None = None
    precision: Precision = "fp32"
    preprocessing: Preprocessing | None = None

    @property
    def bounds(self) -> Bounds:
        """How far a graph may be from the original."""
        return HALF if self.precision == "fp16" else FLOAT32


def parse_size(text: str, format: str) -> Asked:
    """What `--size` means: "dynamic", "518", or "392x518" (height x width).

    Raises:
        UserError: it is neither; or height and width, where a folder is asked for.
    """
    if text == "dynamic":
        return Asked()
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(
            f"size would be 'dynamic', a side such as 518, or HEIGHTxWIDTH such as 392x518, not '{text}'"
        )
    if len(parts) == 2 and format not in FIXED:
        raise UserError(
            f"size {text} is an ONNX graph's (--format onnx) or a program's (torch); the model of a folder "
            "runs at any size, and takes the side at which it runs where nobody asks for another, such as 518"
        )
    sides = [int(part) for part in parts]
    return Asked(sides[0] if len(sides) == 1 else None, (sides[0], sides[-1]) if format in FIXED else None)


def write_folder(model: DepthModel, folder: Path, asked: Asked) -> tuple[str, list[Row]]:
    """Write the network as transformers loads it, or diffusers, or depthkd alone; which, and how it compares.

    Raises:
        UserError: there is no such form of this network.
    """
    with quietly():
        model.save_pretrained(folder, asked.side)
    if asked.preprocessing is not None:
        record_preprocessing(model, folder, asked.preprocessing)
    if isinstance(model, OwnFolder) or is_diffusion(model):
        form = DIFFUSERS if is_diffusion(model) else OWN
        loaded = named_model(str(folder)).load().eval()
        sizes = sizes_for(model.multiple, model.fixed_size)
        return form, list(rows(form, sizes, _natively(model), _natively(loaded), model.space))
    pipe = pipeline(folder)
    found = rows(
        HUB,
        pipeline_sizes(model, pipe.image_processor),
        lambda images: model.predict(images, "native"),
        lambda images: through_pipeline(pipe, images),
        model.space,
    )
    return HUB, list(found)


def is_diffusion(model: DepthModel) -> bool:
    """Whether it is a network around diffusers' UNet."""
    return any(one.__module__.startswith(DIFFUSION) for one in type(model).__mro__)


def _natively(model: DepthModel) -> Callable[[Image], Map]:
    """Its depth of images at their own size; with the same noise every time, where it draws some."""

    def depth(images: Image) -> Map:
        points = made_up_points(images) if model.needs_sparse_depth else None
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return model.predict(images, "native", sparse=points)

    return depth


def made_up_points(images: Image) -> Map:
    """1 to 5 m, the brighter the farther, at every 16th pixel of rows and columns; 0 elsewhere."""
    points = torch.zeros_like(images[:, 0])
    points[:, 8::16, 8::16] = 1 + 4 * images.mean(1)[:, 8::16, 8::16]
    return points


def record_preprocessing(model: DepthModel, folder: Path, preprocessing: Preprocessing) -> None:
    """Write into config.json whose way of resizing images the folder's model takes in depthkd.

    Raises:
        UserError: the network knows no other than its own.
    """
    if not isinstance(model, HuggingFaceDepth):
        raise UserError(
            f"{type(model).__name__} resizes in one way: preprocessing is a choice of Depth Anything and DPT"
        )
    if preprocessing == "authors" and model.config.model_type != "depth_anything":
        raise UserError("preprocessing 'authors' is that of Depth Anything's authors, and this is a DPT")
    file = folder / "config.json"
    content = read_json_file(file) | {RECORDED: preprocessing}
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def pipeline(folder: Path) -> Any:
    """transformers' depth-estimation pipeline of a folder, on the CPU."""
    import transformers

    with quietly():
        made: Any = transformers.pipeline("depth-estimation", model=str(folder), device="cpu")
    return made


def through_pipeline(pipe: Any, images: Image) -> Tensor:
    """What the pipeline says of images of 8 bits: [batch, height, width]."""
    arrays = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    answers = pipe([Picture.fromarray(array) for array in arrays], batch_size=len(arrays))
    return torch.stack([answer["predicted_depth"].float().cpu() for answer in answers])


def pipeline_sizes(model: DepthModel, processor: Any) -> list[Size]:
    """Batches and sizes that the pipeline does not resize, so that it must predict what the model does; of a
    network that brings every image to a size of its own, as the pipeline does then, any."""
    if not isinstance(model, HuggingFaceDepth):
        return sizes_for(1)
    side = int(processor.size["height"])
    if model.fixed_size is not None or not processor.keep_aspect_ratio:
        side_fixed = model.fixed_size or model.rounded(side, side)
        return sizes_for(model.multiple, side_fixed)
    return sizes_for(model.multiple, None, model.rounded(side, side)[0])


def can_be_saved(model: DepthModel) -> bool:
    """Whether a network has a form as a folder."""
    return type(model.unwrapped()).save_pretrained is not DepthModel.save_pretrained


def graph_size(model: DepthModel, size: tuple[int, int] | None) -> tuple[int, int] | None:
    """Height and width of the only size of a network's graph, where such a size is asked for or the network
    has one; None: any.

    Raises:
        UserError: the network cannot be a graph, or not of that size.
    """
    if is_diffusion(model):
        advice = ": take --format hf, a folder of diffusers" if can_be_saved(model) else ""
        raise UserError(
            f"{type(model).__name__} is a latent diffusion network, an autoencoder around diffusers' UNet, "
            f"of which depthkd makes no graph and no program{advice}"
        )
    if model.chooses_size or model.preprocessing != "depthkd":
        advice = ": take --format hf" if can_be_saved(model) else ""
        raise UserError(
            f"{type(model).__name__} brings every image to a size of its own, which is no part of a "
            f"graph{advice}"
        )
    if model.fixed_size is not None:
        if size not in (None, model.fixed_size):
            raise UserError(
                f"{type(model).__name__} runs at {_text(model.fixed_size)} only, not at {_text(size)}"
            )
        return model.fixed_size
    if size is not None and size != model.rounded(*size):
        raise UserError(
            f"size {_text(size)} does not fit {type(model).__name__}, whose sides are multiples of "
            f"{model.multiple}: {_text(model.rounded(*size))} does"
        )
    return size


def write_onnx(model: DepthModel, folder: Path, asked: Asked, about: dict[str, Any]) -> list[Row]:
    """Write `model.onnx`, and how it compares.

    Args:
        model: in eval mode, on the CPU.
        folder: where.
        asked: size and precision.
        about: what is stated of it besides; see `OnnxDepth.stated`.

    Raises:
        UserError: the network cannot be a graph, or not of that size.
    """
    size = graph_size(model, asked.size)
    path = folder / GRAPH
    stated = {**_stated(model, size), "opset": OPSET, "precision": asked.precision, **about}
    write_graph(model, path, size, stated, asked.precision)
    return _beside(ONNX, model, OnnxDepth(str(path)), size, asked.bounds)


def write_torch(model: DepthModel, folder: Path, asked: Asked, about: dict[str, Any]) -> list[Row]:
    """Write `model.pt2`, and how it compares; arguments as of `write_onnx`.

    Raises:
        UserError: the network cannot be a program, or not of that size.
    """
    size = graph_size(model, asked.size)
    path = folder / PROGRAM
    stated = {**_stated(model, size), "size": size, "torch": torch.__version__, **about}
    write_program(model, path, size, stated)
    return _beside(TORCH, model, TorchProgram(str(path), trusted=True), size, asked.bounds)


def _stated(model: DepthModel, size: tuple[int, int] | None) -> dict[str, Any]:
    """What a graph, or program, says of itself, for the classes that read it."""
    at = model.trained_at if size is None else None
    return {
        "space": str(model.space),
        "multiple": model.multiple,
        "trained_at": None if at is None else list(at),
        "preprocessing": "RGB in [0, 1]; normalized inside",
        "input": "image: [batch, 3, height, width]",
        "output": "depth: [batch, height, width]",
    }


def _beside(
    form: str, model: DepthModel, loaded: DepthModel, size: tuple[int, int] | None, bounds: Bounds
) -> list[Row]:
    """The original and a form that runs at the size that it is given, on the same pictures."""

    def depth_of(network: DepthModel) -> Ask:
        def depth(images: Image) -> Tensor:
            found: Tensor = network(images).depth
            return found

        return depth

    sizes = sizes_for(model.multiple, size)
    return list(rows(form, sizes, depth_of(model), depth_of(loaded), model.space, bounds))


def write_encoder(model: DepthModel, folder: Path) -> tuple[str, list[Row]]:
    """Write the encoder alone, as its class of transformers loads it, or timm; which, and how
    its features compare.

    Raises:
        UserError: the network has no encoder that either of them knows.
    """
    if isinstance(model, TimmDepth):
        return "timm", write_timm_encoder(model, folder)
    backbone = getattr(getattr(model, "network", None), "backbone", None)
    if not isinstance(model, HuggingFaceDepth) or backbone is None:
        raise UserError(
            f"the encoder of {type(model).__name__} has no form of its own; that of DepthAnything, of "
            "HuggingFaceDepth with a backbone (not of a plain DPT) and of TimmDepth has"
        )
    return HUB, _write_backbone(model, backbone, folder)


def _write_backbone(model: HuggingFaceDepth, backbone: Any, folder: Path) -> list[Row]:
    reshapes = getattr(backbone.config, "reshape_hidden_states", None)  # a Swin has no such setting
    if reshapes is not None:
        backbone.config.reshape_hidden_states = True  # what segmentation networks read are maps
    try:
        with quietly():
            backbone.save_pretrained(folder)
        model.processor(min(model.trained_at or model.rounded(SIDE, SIDE))).save_pretrained(folder)
    finally:
        if reshapes is not None:
            backbone.config.reshape_hidden_states = reshapes
    # not AutoBackbone, which in transformers 5.23 takes the path of a folder for the name of a repository
    loaded = load_safetensors(type(backbone), str(folder)).eval()
    different = different_tensors(backbone.state_dict(), loaded.state_dict())
    if different:
        raise UserError(f"the encoder's '{different[0]}' is another tensor once it is loaded again")

    def original(images: Image) -> Tensor:
        tokens = model.run(model.normalized(images)).features  # at this size, whatever the model would choose
        assert tokens is not None
        return tokens

    def exported(images: Image) -> Tensor:
        maps: Tensor = loaded(model.normalized(images)).feature_maps[-1]
        return maps.flatten(2).transpose(1, 2)

    return list(rows(ENCODER, sizes_for(model.multiple, model.fixed_size), original, exported, None))


def different_tensors(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    """Names of tensors that are not the same, bit by bit, in both."""
    names: Sequence[str] = sorted({*ours, *theirs})
    return [n for n in names if n not in ours or n not in theirs or not torch.equal(ours[n], theirs[n])]


def forms_of(format: str) -> Iterator[str]:
    """The formats that a word stands for."""
    yield from ("hf", "onnx") if format == "all" else (format,)


def _text(size: tuple[int, int] | None) -> str:
    return "any size" if size is None else f"{size[0]}x{size[1]}"
