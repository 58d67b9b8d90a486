"""Samples -> a batch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from depthkd.batch import Batch
from depthkd.errors import UserError
from depthkd.formats.sample import Sample


def collate(samples: Sequence[Sample], where: str) -> Batch:
    """One batch of samples of one size and one space; images stay uint8.

    What not all samples have (intrinsics or sparse depth) the batch leaves out; a depth map without a
    mask is valid where it is finite.

    Args:
        samples: one or more.
        where: the config key that the sentences name.

    Raises:
        UserError: sizes or spaces differ, or only some samples have depth.
    """
    _same(samples, [f"{s.image.shape[0]} x {s.image.shape[1]} pixels" for s in samples], where)
    _same(samples, ["labelled" if s.depth is not None else "not labelled" for s in samples], where)
    _same(samples, [f"in {s.space} space" for s in samples], where)
    depth = _stacked([s.depth for s in samples])
    masks = [np.isfinite(s.depth) if s.mask is None and s.depth is not None else s.mask for s in samples]
    intrinsics = _stacked([s.intrinsics for s in samples])
    windows = [s.windows for s in samples if s.windows is not None]
    return Batch(
        image=_planes([s.image for s in samples]),
        keys=[s.key for s in samples],
        depth=depth,
        mask=None if depth is None else _stacked(masks),
        intrinsics=None if intrinsics is None else intrinsics.float(),
        space=samples[0].space,
        windows=_planes(windows) if len(windows) == len(samples) else None,
        boxes=_stacked([s.boxes for s in samples]),
        digests=[s.digest for s in samples if s.digest is not None],
        sparse=_stacked([s.sparse for s in samples]),
        data_sets=sorted({s.data_set for s in samples if s.data_set is not None}),
    )


def _same(samples: Sequence[Sample], facts: Sequence[str], where: str) -> None:
    for sample, fact in zip(samples, facts, strict=True):
        if fact != facts[0]:
            raise UserError(
                f"{where}: a batch must be alike, but '{samples[0].key}' is {facts[0]} and '{sample.key}' is "
                f"{fact}; a transform that ends in one size, or a source of its own for each kind, would do"
            )


def _planes(images: Sequence[np.ndarray]) -> Tensor:
    """One tensor of images [..., height, width, 3], color by color; in shared memory in a worker process."""
    writable = [np.require(image, requirements="W") for image in images]
    stacked: Tensor = default_collate([torch.from_numpy(image).movedim(-1, -3) for image in writable])
    return stacked


def _stacked(arrays: Sequence[np.ndarray | None]) -> Tensor | None:
    present = [array for array in arrays if array is not None]
    return torch.from_numpy(np.stack(present)) if len(present) == len(arrays) else None
