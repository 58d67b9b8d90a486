"""What alignment and metrics do with pixels, `[batch, pixels]`: NumPy arrays on a CPU, tensors elsewhere.

On a CPU torch spends more time on starting operations than on the pixels of a chunk that fits into the
cache, and NumPy's logarithms and products are several times as fast. Operators, comparisons and `abs`
serve both kinds; these are the rest. Functions that end in an underscore change what they are given.
"""

from collections.abc import Iterator
from math import inf
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

Pixels = Any  # an array or a tensor [batch, pixels]
RowSums = Any  # an array or a tensor [batch]

ONE = 0x3F800000  # the bits of 1.0 in float32
BLOCK = 1 << 10  # pixels that are summed in float32; no BLAS starts threads for so few
CHUNK = 1 << 17  # pixels: enough to be worth an operation, and few enough to stay in a cache
ONES = {kind: np.ones(BLOCK, kind) for kind in "fd"}


def chunks(*maps: Shaped[Tensor, "batch height width"]) -> Iterator[tuple[Pixels, ...]]:
    """The maps' pixels: on a CPU as arrays, in pieces of the whole batch; elsewhere all at once.

    Maps of other kinds than float32 and bool, and maps that want gradients, stay tensors.
    """
    flat = [m.flatten(1) for m in maps]
    kinds = (torch.float32, torch.bool)
    if not all(f.is_cpu and f.dtype in kinds and not f.requires_grad for f in flat):
        yield tuple(flat)
        return
    batch, pixels = flat[0].shape
    size = max(CHUNK // max(batch, 1), 1)
    arrays = [f.numpy() for f in flat]
    for start in range(0, max(pixels, 1), size):
        yield tuple(a[:, start : start + size] for a in arrays)


def is_array(values: Pixels) -> bool:
    """Whether these are on a CPU."""
    return isinstance(values, np.ndarray)


def widened(values: Pixels) -> Pixels:
    """A copy in float64."""
    return values.astype(np.float64) if is_array(values) else values.to(torch.float64, copy=True)


def narrowed(values: Pixels) -> Pixels:
    """In float32."""
    return values.astype(np.float32, copy=False) if is_array(values) else values.float()


def clamp_(values: Pixels, low: float, high: float | None = None) -> Pixels:
    """Between two values; NaN stays."""
    if not is_array(values):
        return values.clamp_(low, high)
    return np.clip(values, low, inf if high is None else high, out=values)  # np.maximum is four times as slow


def reciprocal_(values: Pixels) -> Pixels:
    """1 / x."""
    return np.divide(1.0, values, out=values) if is_array(values) else values.reciprocal_()


def nan_where_not_finite_(values: Pixels, originals: Pixels) -> Pixels:
    """NaN where what is given is infinite or NaN."""
    finite = np.isfinite(originals) if is_array(originals) else originals.isfinite()
    if not is_array(values):
        return values.masked_fill_(~finite, torch.nan)
    if not finite.all():
        values[~finite] = np.nan
    return values


def natural_log_(values: Pixels) -> Pixels:
    """ln x; NaN of what is negative."""
    if not is_array(values):
        return values.log_()
    return np.log(values, out=values)


def exp_(values: Pixels) -> Pixels:
    """e to the power of x."""
    return np.exp(values, out=values) if is_array(values) else values.exp_()


def every_bit(mask: Pixels) -> Pixels:
    """All bits of an int32 where the mask is true, none elsewhere: for `keep`."""
    if not is_array(mask):
        return mask.to(torch.int32).neg_()
    bits = mask.astype(np.int32)
    return np.negative(bits, out=bits)


def keep(values: Pixels, bits: Pixels) -> Pixels:
    """The float32 values where `bits` are set, 0 elsewhere, whatever stands there.

    Choosing branches at every pixel on a CPU, and takes several times as long. No gradient passes.
    """
    if is_array(values):
        return (values.view(np.int32) & bits).view(np.float32)
    return values.view(torch.int32).bitwise_and(bits).view(torch.float32)


def keep_or_1(values: Pixels, bits: Pixels) -> Pixels:
    """As `keep`, but 1 elsewhere."""
    if is_array(values):
        words = values.view(np.int32) - np.int32(ONE)
        words &= bits
        words += np.int32(ONE)
        return words.view(np.float32)
    return (values.view(torch.int32) - ONE).bitwise_and_(bits).add_(ONE).view(torch.float32)


def row_dots(one: Pixels, other: Pixels) -> RowSums:
    """Sums of products, row by row; in float32 block by block, where the rows are."""
    if not is_array(one):
        return torch.linalg.vecdot(one, other)
    whole = one.shape[1] // BLOCK * BLOCK
    shape = len(one), whole // BLOCK, BLOCK
    blocks = np.vecdot(one[:, :whole].reshape(shape), other[:, :whole].reshape(shape))
    return blocks.sum(1, dtype=np.float64) + np.vecdot(one[:, whole:], other[:, whole:])


def row_sums(values: Pixels) -> RowSums:
    """Sums, row by row; in float32 block by block, where the rows are."""
    if not is_array(values):
        return values.sum(1)
    ones = ONES[values.dtype.char]
    whole = values.shape[1] // BLOCK * BLOCK
    blocks = np.vecdot(values[:, :whole].reshape(len(values), whole // BLOCK, BLOCK), ones)
    return blocks.sum(1, dtype=np.float64) + np.vecdot(values[:, whole:], ones[: values.shape[1] - whole])


def row_counts(mask: Pixels) -> RowSums:
    """How many are true, row by row, as float64."""
    if not is_array(mask):
        return mask.sum(1).double()
    return np.array([np.count_nonzero(row) for row in mask], np.float64)  # with an axis it takes far longer


def row_missing(values: Pixels) -> RowSums:
    """1 for each row that has a NaN, 0 for others, as float64."""
    if not is_array(values):
        return values.isnan().any(1).double()
    return np.isnan(values.min(1, initial=inf)).astype(np.float64)  # a minimum over a NaN is one


def row_hits(values: Pixels, below: float) -> RowSums:
    """How many values are below a number, row by row, as float64."""
    return row_counts(values < below)


def total(parts: list[list[RowSums]], device: torch.device) -> Tensor:
    """Sums of chunks -> sums of images, float64 [sums, batch]."""
    if not is_array(parts[0][0]):
        return torch.stack([torch.stack([one.double() for one in part]) for part in parts]).sum(0)
    return torch.from_numpy(np.array(parts, np.float64).sum(0)).to(device)


def kth_largest(values: Float[Tensor, "rows pixels"], k: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    """The k-th largest value of each row, 1 the largest, without sorting and without a gradient.

    On a CPU it is NumPy's partition, row by row, several times as fast as torch's sort. On a device the bits
    of the result are found one by one, the highest first: as integers floats have an order, and the result
    is the largest integer that no fewer than k values reach. Only whole numbers are added up, so that
    nothing depends on the order in which a device adds; and the host does not wait.

    Args:
        values: in any precision, without NaN.
        k: of each row, from 1 to the number of pixels.
    """
    values = values.detach()
    if values.dtype not in (torch.float32, torch.float64):
        return kth_largest(values.float(), k).to(values.dtype)
    if values.is_cpu:
        places = (values.shape[1] - k).tolist()
        found = [np.partition(row, n)[n] for row, n in zip(values.numpy(), places, strict=True)]
        return values.new_tensor(np.array(found))
    kind, bits = (torch.int64, 63) if values.dtype is torch.float64 else (torch.int32, 31)
    magnitude = (1 << bits) - 1
    codes = values.contiguous().view(kind)
    codes = codes ^ ((codes >> bits) & magnitude)  # of a negative one, the larger the magnitude the smaller
    code = torch.where((codes >= 0).sum(1) >= k, 0, -magnitude - 1).to(kind)
    for bit in reversed(range(bits)):
        probe = code | (1 << bit)
        code = torch.where((codes >= probe[:, None]).sum(1) >= k, probe, code)
    return (code ^ ((code >> bits) & magnitude)).view(values.dtype)
