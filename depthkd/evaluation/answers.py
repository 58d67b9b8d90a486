"""What a model says of a benchmark's images: asked now, or kept on disk by an earlier test."""

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from depthkd.errors import UserError
from depthkd.formats.sample import Sample
from depthkd.formats.whole_files import whole_file, write_whole
from depthkd.models.model import DepthModel

IDENTITY = "identity.json"


@dataclass(frozen=True)
class Inference:
    """How a network is run, apart from what is then done with its answer.

    Args:
        resolution: the size, see `Protocol`; None: the model's own.
        scale: a further factor on it (Depth Anything V2's test-time scaling: 1, 2, 4).
        flip: average with the mirrored image's answer.
        seed: of networks that draw noise; every image's draws begin anew from it.
    """

    resolution: int | str | None = None
    scale: float = 1.0
    flip: bool = False
    seed: int = 0


class WrongAnswerError(Exception):
    """A network that does not answer an image with one map; the sentence says what it does instead."""


class Answers:
    """Raw predictions of one model, at each image's own size.

    Args:
        model: on the device, in eval mode.
        inference: how it is run.
        device: where.
        folder: where its answers are kept, at the size that the network gave them; None: nowhere.
        identity: of the model and the benchmark's data: answers of others are not taken up.
    """

    def __init__(
        self,
        model: DepthModel,
        inference: Inference,
        device: torch.device,
        folder: Path | None = None,
        identity: str = "",
    ) -> None:
        self.model = model
        self.inference = inference
        self.device = device
        self.folder = folder
        if folder is not None:
            _claim(folder, {"identity": identity, **asdict(inference)})

    def __call__(self, index: int, sample: Sample) -> Float[Tensor, "1 height width"]:
        """The model's answer to a sample, float32, on the device.

        Raises:
            WrongAnswerError: it does not answer with one map.
        """
        size = int(sample.image.shape[0]), int(sample.image.shape[1])
        return self.model.restore(self._at_network_size(index, sample), size)

    def _at_network_size(self, index: int, sample: Sample) -> Float[Tensor, "1 _ _"]:
        path = None if self.folder is None else self.folder / f"{index:06}.npy"
        kept = None if path is None else _kept(path)
        if kept is not None:
            return kept.to(self.device)
        torch.manual_seed(self.inference.seed)
        how = self.inference
        image, camera = image_tensor(sample.image, self.device), sample.intrinsics
        intrinsics = None if camera is None else torch.tensor(camera, device=self.device)[None].float()
        try:
            depth = self.model.infer(image, how.resolution, how.scale, how.flip, intrinsics)
        except UserError as error:  # it does not take an image as odd as this one
            raise WrongAnswerError(str(error)) from error
        if depth.ndim != 3 or len(depth) != 1 or 0 in depth.shape:
            raise WrongAnswerError(
                f"{type(self.model).__name__} answers an image of {sample.image.shape[0]} x "
                f"{sample.image.shape[1]} pixels with {list(depth.shape)}; it would be [1, height, width]"
            )
        if path is not None:
            with whole_file(path, sync=False) as file:
                np.save(file, depth[0].cpu().numpy())
        return depth


class AnswersOfTruth(Answers):
    """What a model could answer at best, because it answers through an autoencoder: `DepthModel.of_truth`."""

    def __call__(self, index: int, sample: Sample) -> Float[Tensor, "1 height width"]:
        """The truth, encoded and decoded.

        Raises:
            UserError: the sample has no truth.
        """
        if sample.depth is None or sample.mask is None or sample.space is None:
            raise ValueError(f"sample '{sample.key}' has no truth")
        depth, mask = (torch.tensor(x, device=self.device)[None] for x in (sample.depth, sample.mask))
        return self.model.of_truth(depth, mask, sample.space)


def says_nothing(answer: Float[Tensor, "1 height width"]) -> str | None:
    """What an answer consists of, where that is not depth: numbers that are not finite, or one value; None of
    one that says something."""
    broken = int((~torch.isfinite(answer)).sum())
    if broken:
        return f"{broken} numbers that are not finite, of {answer.numel()}"
    if answer.numel() > 1 and bool(answer.max() == answer.min()):
        return f"{float(answer.max()):g} everywhere"
    return None


def device_of(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU where there is one.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device '{name}' does not exist; it would be auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device '{name}' is not there: torch sees {torch.cuda.device_count()} CUDA device(s)"
        )
    return device


def image_tensor(
    image: UInt8[np.ndarray, "height width 3"], device: torch.device
) -> Float[Tensor, "1 3 height width"]:
    """An image as models take it: a batch of one, RGB in [0, 1]."""
    return torch.tensor(image).to(device).permute(2, 0, 1)[None].float() / 255.0


def _kept(path: Path) -> Float[Tensor, "1 _ _"] | None:
    """An answer on disk; None where there is none, or none that is whole."""
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))[None]
    except (FileNotFoundError, ValueError, EOFError):
        return None


def answers_folder(out: Path, benchmark: str, model: str) -> Path:
    """Where a model's answers to a benchmark's images are kept."""
    return out / "predictions" / _file_name(benchmark) / _file_name(model)


def _file_name(text: str) -> str:
    plain = re.sub(r"[^\w.-]", "_", text)
    return plain if plain == text else f"{plain}-{crc32(text.encode()):08x}"


def _claim(folder: Path, facts: dict[str, object]) -> None:
    """Empty the folder, unless it holds answers that were given under the same circumstances."""
    path = folder / IDENTITY
    if path.is_file() and json.loads(path.read_text()) == facts:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_whole(path, json.dumps(facts, indent=2) + "\n")
