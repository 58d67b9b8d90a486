"""A model on a benchmark, sample by sample."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from depthkd.batch import DepthSpace
from depthkd.benchmarks.benchmark import Benchmark, Protocol
from depthkd.formats.sample import BadSample, Sample
from depthkd.models.model import DepthModel

AHEAD = 4  # samples decoded while the model runs


@dataclass
class Scored:
    """One sample, the fitted prediction and its figures; tensors have a batch of one."""

    index: int
    sample: Sample
    truth: Float[Tensor, "1 height width"]
    mask: Bool[Tensor, "1 height width"]
    aligned: Float[Tensor, "1 height width"]
    scores: dict[str, Float[Tensor, " 1"]]


def scored(
    model: DepthModel,
    benchmark: Benchmark,
    protocol: Protocol,
    device: torch.device,
    unreadable: dict[int, str],
    indices: Sequence[int] | None = None,
) -> Iterator[Scored]:
    """Every readable sample of `indices` (None: of all), in order; the sentences of the others go into
    `unreadable`.

    Raises:
        ValueError: the model's space does not suit the protocol.
    """
    for index, sample in _ahead(benchmark, range(len(benchmark)) if indices is None else indices):
        if isinstance(sample, BadSample):
            unreadable[index] = str(sample)
            continue
        if sample.depth is None or sample.mask is None or sample.space is None:
            raise ValueError(f"benchmark '{benchmark.name}': sample '{sample.key}' has no truth")
        prediction = model.predict(image_tensor(sample.image, device), protocol.resolution)
        truth = torch.tensor(sample.depth).to(device)[None]
        mask = torch.tensor(sample.mask).to(device)[None]
        aligned = protocol.aligned(prediction, model.space, truth, sample.space, mask)
        scores = protocol.compare(aligned, truth, sample.space, mask)
        yield Scored(index, sample, truth, mask, aligned, scores)


def image_tensor(
    image: UInt8[np.ndarray, "height width 3"], device: torch.device
) -> Float[Tensor, "1 3 height width"]:
    """An image as models take it: a batch of one, RGB in [0, 1]."""
    return torch.tensor(image).to(device).permute(2, 0, 1)[None].float() / 255.0


def fingerprint(model: DepthModel) -> str:
    """What tells one model from another: its settings, every tensor, and the file if `source` is one."""
    digest = sha256(_settings(model).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    if Path(model.source).is_file():
        digest.update(Path(model.source).read_bytes())
    return digest.hexdigest()[:16]


def benchmark_fingerprint(benchmark: Benchmark) -> str:
    """What tells one benchmark from another: settings, length, and the first, middle and last sample."""
    count = len(benchmark)
    digest = sha256(f"{_settings(benchmark)} {count}".encode())
    for _, sample in _ahead(benchmark, sorted({0, count // 2, count - 1} & set(range(count)))):
        if isinstance(sample, BadSample):
            digest.update(str(sample).encode())
            continue
        for part in (sample.image, sample.depth, sample.mask):
            digest.update(b"" if part is None else np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16]


def _settings(thing: object) -> str:
    """The plain attributes of a model or a benchmark, without what it has worked out from them."""
    plain = (str, int, float, bool, tuple, list, Path, type(None))
    own = {
        name: value
        for name, value in vars(thing).items()
        if isinstance(value, plain) and not isinstance(getattr(type(thing), name, None), cached_property)
    }
    return repr(sorted(own.items()))


def truth_space(benchmark: Benchmark) -> DepthSpace:
    """The space of the benchmark's truth, from its first readable sample.

    Raises:
        ValueError: no sample can be read.
    """
    for _, sample in _ahead(benchmark, range(len(benchmark))):
        if isinstance(sample, Sample) and sample.space is not None:
            return sample.space
    raise ValueError(f"benchmark '{benchmark.name}': none of its {len(benchmark)} samples can be read")


def _ahead(benchmark: Benchmark, indices: Sequence[int]) -> Iterator[tuple[int, Sample | BadSample]]:
    """Samples in order, decoded by one thread (tar readers are not for several) a few ahead."""

    def read(index: int) -> Sample | BadSample:
        try:
            return benchmark.sample(index)
        except BadSample as error:
            return error

    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[Sample | BadSample]] = deque()
        try:
            for place, index in enumerate(indices):
                while len(waiting) <= AHEAD and place + len(waiting) < len(indices):
                    waiting.append(thread.submit(read, indices[place + len(waiting)]))
                yield index, waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
