"""The forms in which a network leaves depthkd: written, loaded as their users will, and compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Picture
from torch import Tensor

from depthkd.errors import UserError
from depthkd.models.backbone_depth import BackboneDepth
from depthkd.models.dpt.dpt import HuggingFaceDepth
from depthkd.models.dpt.timm_depth import TimmDepth
from depthkd.models.hub import load_safetensors, quietly
from depthkd.models.model import DepthModel
from depthkd.models.onnx import OnnxDepth
from depthkd.shapes import Image, Map
from depthkd.verbs.export.onnx_graph import OPSET, write_graph
from depthkd.verbs.export.parity import SIDE, Row, Size, rows, sizes_for
from depthkd.verbs.export.timm_encoder import write_timm_encoder

GRAPH = "model.onnx"
HUB, OWN, ONNX, ENCODER = "transformers", "depthkd", "onnx", "encoder"


@dataclass(frozen=True)
class Asked:
    """What `depthkd export` is asked to write of a network.

    Args:
        side: at which a folder's model runs where nobody asks for another size; None: the model's own.
        size: height and width of the only size of a graph; None: any.
    """

    side: int | None = None
    size: tuple[int, int] | None = None


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
    if len(parts) == 2 and format != "onnx":
        raise UserError(
            f"size {text} is an ONNX graph's (--format onnx); the model of a folder runs at any size, and "
            "takes the side at which it runs where nobody asks for another, such as 518"
        )
    sides = [int(part) for part in parts]
    return Asked(sides[0] if len(sides) == 1 else None, (sides[0], sides[-1]) if format == "onnx" else None)


def write_folder(model: DepthModel, folder: Path, asked: Asked) -> tuple[str, list[Row]]:
    """Write the network as transformers loads it, or as depthkd alone does; which, and how it compares.

    Raises:
        UserError: there is no such form of this network.
    """
    with quietly():
        model.save_pretrained(folder, asked.side)
    if isinstance(model, BackboneDepth):
        loaded = model.saved_as().from_folder(str(folder)).eval()
        sizes = sizes_for(model.multiple, model.fixed_size)

        def original(images: Image) -> Map:
            return model.predict(images, "native")

        return OWN, list(
            rows(OWN, sizes, original, lambda images: loaded.predict(images, "native"), model.space)
        )
    pipe = pipeline(folder)
    found = rows(
        HUB,
        pipeline_sizes(model, pipe.image_processor),
        lambda images: model.predict(images, "native"),
        lambda images: through_pipeline(pipe, images),
        model.space,
    )
    return HUB, list(found)


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
        asked: the size.
        about: what is stated of it besides; see `OnnxDepth.stated`.

    Raises:
        UserError: the network cannot be a graph, or not of that size.
    """
    size = graph_size(model, asked.size)
    at = model.trained_at if size is None else None
    stated = {
        "space": str(model.space),
        "multiple": model.multiple,
        "trained_at": None if at is None else list(at),
        "preprocessing": "RGB in [0, 1]; normalized inside",
        "input": "image: [batch, 3, height, width]",
        "output": "depth: [batch, height, width]",
        "opset": OPSET,
        **about,
    }
    path = folder / GRAPH
    write_graph(model, path, size, stated)
    graph = OnnxDepth(str(path))

    def original(images: Image) -> Map:
        depth: Tensor = model(images).depth
        return depth

    sizes = sizes_for(model.multiple, size)
    return list(rows(ONNX, sizes, original, lambda images: graph(images).depth, model.space))


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
