"""A model's raw predictions for a benchmark's images: made now, or kept on disk by an earlier test."""

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from depthkd.formats.sample import Sample
from depthkd.formats.whole_files import whole_file, write_whole
from depthkd.models.inference import Inference, infer_sample, mean_of
from depthkd.models.model import DepthModel

IDENTITY = "identity.json"


class RawPredictions:
    """Raw predictions of one model, at each image's own size.

    Args:
        model: on the device, in eval mode.
        inference: how it is run.
        device: where.
        folder: where its predictions are kept, at the size that the network gave them; None: nowhere.
        identity: of the model and the benchmark's data: predictions of others are not taken up.
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
        """The model's raw prediction for a sample, float32, on the device.

        Raises:
            WrongPredictionError: it does not answer with one map.
        """
        size = int(sample.image.shape[0]), int(sample.image.shape[1])
        return mean_of(
            self.model.resize_to(self._at_network_size(index, sample, how), size)
            for how in self.inference.at_each_scale()
        )

    def _at_network_size(self, index: int, sample: Sample, how: Inference) -> Float[Tensor, "1 _ _"]:
        times = f"x{how.scale:g}" if self.inference.scales else ""
        path = None if self.folder is None else self.folder / f"{index:06}{times}.npy"
        kept = None if path is None else _kept(path)
        if kept is not None:
            return kept.to(self.device)
        depth = infer_sample(self.model, sample, how, self.device)
        if path is not None:
            with whole_file(path, sync=False) as file:
                np.save(file, depth[0].cpu().numpy())
        return depth


class TruthThroughCodec(RawPredictions):
    """What a model could predict at best, because an autoencoder makes its predictions: see
    `DepthModel.encode_decode_truth`."""

    def __call__(self, index: int, sample: Sample) -> Float[Tensor, "1 height width"]:
        """The truth, encoded and decoded.

        Raises:
            ValueError: the sample has no truth.
        """
        if sample.depth is None or sample.mask is None or sample.space is None:
            raise ValueError(f"sample '{sample.key}' has no truth")
        depth, mask = (torch.tensor(x, device=self.device)[None] for x in (sample.depth, sample.mask))
        return self.model.encode_decode_truth(depth, mask, sample.space)


def _kept(path: Path) -> Float[Tensor, "1 _ _"] | None:
    """A prediction on disk; None where there is none, or none that is whole."""
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))[None]
    except (FileNotFoundError, ValueError, EOFError):
        return None


def predictions_folder(out: Path, benchmark: str, model: str) -> Path:
    """Where a model's predictions for a benchmark's images are kept."""
    return out / "predictions" / _file_name(benchmark) / _file_name(model)


def _file_name(text: str) -> str:
    plain = re.sub(r"[^\w.-]", "_", text)
    return plain if plain == text else f"{plain}-{crc32(text.encode()):08x}"


def _claim(folder: Path, circumstances: dict[str, object]) -> None:
    """Empty the folder, unless it holds predictions that were made under the same circumstances."""
    path, text = folder / IDENTITY, json.dumps(circumstances, indent=2) + "\n"
    if path.is_file() and path.read_text() == text:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_whole(path, text)
