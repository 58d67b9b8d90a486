"""Normalization within many sets of pixels at once: N_u of Distill Any Depth, Eq. 3.

A partition gives each pixel the number of its segment, 0 to F - 1; invalid pixels get F. On each
level, segments join to contexts: `joined[l, f, g]` says whether segments f and g are one context of
level l. Tables hold, for each level and segment, the value of the segment's context. So one sort of
a map serves all levels: a median is then found in the few sorted runs of its context, and a mean
deviation in their prefix sums. Everything is batched, and nothing makes the host wait for the device.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from depthkd.shapes import PerImage

Pixels = Float[Tensor, "batch pixels"]
Partition = Int[Tensor, "batch pixels"]
Joined = Bool[Tensor, "levels segments segments"]
Table = Float[Tensor, "batch levels segments"]
Counts = Int[Tensor, "batch levels segments"]
Bounds = Int[Tensor, "batch segments"]

EPSILON = 1e-6  # floor of the deviation: a constant map stays finite
DIGIT = 4  # bits of a median that are found in one step
SIGN, REST = -(2**31), 2**31 - 1


@dataclass(frozen=True)
class Sorted:
    """The pixels of each image, segment by segment, and by value within a segment.

    Args:
        keys: ascending; segment, code of the value and place of the pixel, one above the other.
        sums: of the values before each position.
        width: bits of a code.
        places: bits of a place.
    """

    keys: Int[Tensor, "batch pixels"]
    sums: Float64[Tensor, "batch positions"]
    width: int
    places: int

    def pixel(self, position: Int[Tensor, "batch ..."]) -> Int[Tensor, "batch ..."]:
        """Where in the image the pixel at a position stands."""
        found = self.keys.gather(1, position.flatten(1).clamp(max=self.keys.shape[1] - 1))
        return (found & ((1 << self.places) - 1)).view_as(position)

    def below(self, label: Int[Tensor, "..."], rest: Int[Tensor, "batch ..."]) -> Int[Tensor, "batch ..."]:
        """How many pixels come before the key of segment `label` whose code and place are `rest`."""
        query = ((label << self.width + self.places) + rest).flatten(1)
        return torch.searchsorted(self.keys, query).view_as(rest)


@dataclass(frozen=True)
class Statistics:
    """What contexts are normalized with.

    Args:
        median: of the context's pixels, the lower one of two middles.
        pixel: where the median stands; of equal values, the one in the middle.
        side: sum over the context of sign(value - median).
        inverse: 1 / max(mean absolute deviation from the median, EPSILON); 0 where it has no pixel.
        free: whether the deviation is above that floor, so that a gradient passes it.
    """

    median: Table
    pixel: Counts
    side: Table
    inverse: Table
    free: Table


def joined_ranges(segments: int, levels: tuple[int, ...], device: torch.device) -> Joined:
    """`segments` ranges, of which each level joins neighbors to so many contexts."""
    segment = torch.arange(segments, device=device)
    contexts = torch.stack([segment * level // segments for level in levels])
    return contexts[:, :, None] == contexts[:, None]


def joined_cells(side: int, levels: tuple[int, ...], device: torch.device) -> Joined:
    """`side` x `side` cells, row by row, of which each level joins neighbors to a grid of so many a side."""
    ranges = joined_ranges(side, levels, device)
    return (ranges[:, :, None, :, None] & ranges[:, None, :, None]).flatten(3, 4).flatten(1, 2)


def pool(values: Tensor, joined: Joined) -> Tensor:
    """Sum over the segments of each context, `[..., levels, segments]`, written to all of them."""
    return (values.unsqueeze(-2) * joined).sum(-1)


def segment_sums(values: Pixels, partition: Partition, segments: int) -> Float64[Tensor, "batch 1 segments"]:
    """Sum over each segment, in float64."""
    sums = torch.zeros(len(values), segments + 1, dtype=torch.float64, device=values.device)
    return sums.scatter_add_(1, partition, values.double())[:, None, :segments]


def value_codes(values: Pixels) -> tuple[Int[Tensor, "batch pixels"], int]:
    """Integers from 0 on in the order of the values, equal for equal ones, and how many bits they have."""
    if values.dtype is torch.float32:
        bits = (values + 0.0).view(torch.int32)  # -0.0 becomes 0.0
        codes = bits.bitwise_xor_((bits >> 31).bitwise_and_(REST)).long()
        return codes.sub_(SIGN), 32
    order = values.argsort(dim=1, stable=True)
    ordered = values.gather(1, order)
    ranks = torch.zeros_like(order)
    torch.cumsum(ordered[:, 1:] != ordered[:, :-1], 1, out=ranks[:, 1:])
    return torch.empty_like(order).scatter_(1, order, ranks), values.shape[1].bit_length()


def sort_within_segments(values: Pixels, partition: Partition) -> Sorted:
    """Segment, value and place of a pixel share one 64-bit key, so that one sort of integers does.

    On the CPU it is NumPy's, which is many times as fast as torch's.
    """
    count = values.shape[1]
    places = (count - 1).bit_length()
    codes, width = value_codes(values)
    keys = codes.add_(partition << width).bitwise_left_shift_(places)
    keys.add_(torch.arange(count, device=values.device))
    if keys.is_cpu:
        np.ndarray.sort(keys.numpy(), axis=1)
    else:
        keys = keys.sort(dim=1).values
    sums = values.new_empty(len(values), count + 1, dtype=torch.float64)
    sums[:, :1] = 0
    torch.cumsum(sorted_values(values, keys, places), 1, dtype=torch.float64, out=sums[:, 1:])
    return Sorted(keys, sums, width, places)


def sorted_values(values: Pixels, keys: Int[Tensor, "batch pixels"], places: int) -> Pixels:
    """The values in the order of the keys: out of these where they can be, which spares a gather."""
    if values.dtype is not torch.float32:
        return values.gather(1, keys & ((1 << places) - 1))
    bits = (keys >> places).int().bitwise_xor_(SIGN)
    return bits.bitwise_xor_((bits >> 31).bitwise_and_(REST)).view(torch.float32)


def segment_bounds(order: Sorted, segments: int) -> tuple[Bounds, Bounds]:
    """Where each segment begins and ends among the sorted pixels."""
    labels = torch.arange(segments + 1, device=order.keys.device)
    bounds = order.below(labels, torch.zeros_like(labels).repeat(len(order.keys), 1))
    return bounds[:, :-1], bounds[:, 1:]


def context_statistics(
    values: Pixels, order: Sorted, start: Bounds, stop: Bounds, joined: Joined, split: bool = True
) -> Statistics:
    """Median and mean absolute deviation of every context.

    The code and the place of a median are found digit by digit, the highest first: they are the
    largest that have no more pixels of the context under them than the median has.

    Args:
        values: the map.
        order: `sort_within_segments` of it.
        start: where each segment begins in that order.
        stop: where it ends.
        joined: the levels.
        split: whether `order` knows the segments; if not, they are ranges of the values, and follow
            one another in the order of all valid pixels.
    """
    labels = torch.arange(start.shape[1], device=start.device) * split
    first, last = start[:, None], stop[:, None]
    size = pool((stop - start)[:, None].expand(-1, len(joined), -1), joined)
    middle = (size - 1).clamp(min=0) // 2
    found = torch.zeros_like(size)
    steps = torch.arange(1, 1 << DIGIT, device=start.device)[:, None, None]
    for shift in reversed(range(0, order.width + order.places, DIGIT)):
        probes = found[:, None] + (steps << shift)
        under = order.below(labels, probes).clamp(first[:, None], last[:, None]) - first[:, None]
        found += (pool(under, joined) <= middle[:, None]).sum(1) << shift
    pixel = torch.where(size > 0, found & ((1 << order.places) - 1), 0)
    code = found >> order.places
    low = order.below(labels, code << order.places).clamp(first, last)
    high = order.below(labels, code + 1 << order.places).clamp(first, last)
    median = values.gather(1, pixel.flatten(1)).view_as(pixel) * (size > 0)
    at = [order.sums.gather(1, p.expand_as(low).flatten(1)).view_as(low) for p in (first, low, high, last)]
    side = pool((last - high) - (low - first), joined)
    total = pool((at[3] - at[2]) - (at[1] - at[0]), joined) - median.double() * side
    deviation = (total / size.clamp(min=1)).to(values.dtype)
    inverse = (size > 0) / deviation.clamp(min=EPSILON)
    free = (deviation >= EPSILON).to(values.dtype)
    return Statistics(median, pixel, side.to(values.dtype), inverse, free)


class NormalizedDifference(torch.autograd.Function):
    """`normalized_difference`, with its gradient in closed form: one map is kept for the backward pass.

    With e the sign of the difference, m and d the student's median and deviation and n the size of
    a context, the gradient is e/d - sign(s - m) sum(e N(s)) / (n d), and the median's own pixel
    gets -sum(e)/d + sum(sign(s - m)) sum(e N(s)) / (n d) besides.
    """

    @staticmethod
    def forward(
        ctx: Any,
        student: Pixels,
        teacher: Pixels,
        partition: Partition,
        joined: Joined,
        teacher_order: Sorted | None,
    ) -> PerImage:
        """See `normalized_difference`."""
        segments = joined.shape[-1]
        order = sort_within_segments(student, partition)
        start, stop = segment_bounds(order, segments)
        ours = context_statistics(student, order, start, stop, joined)
        split = teacher_order is None
        teacher_order = teacher_order or sort_within_segments(teacher, partition)
        theirs = context_statistics(teacher, teacher_order, start, stop, joined, split)
        loss, gradient = student.new_zeros(len(student)), torch.zeros_like(student)

        def spread(table: Table, level: int) -> Pixels:
            return torch.nn.functional.pad(table[:, level], (0, 1)).gather(1, partition)

        for level in range(len(joined)):
            centered = student - spread(ours.median, level)
            inverse = spread(ours.inverse, level)
            normalized = centered * inverse
            difference = spread(theirs.median, level).sub_(teacher).mul_(spread(theirs.inverse, level))
            difference.add_(normalized)
            if not ctx.needs_input_grad[0]:
                loss += difference.abs_().sum(1)
                continue
            sign = difference.sign()
            loss += difference.abs_().sum(1)
            here = slice(level, level + 1)
            sums = [segment_sums(x, partition, segments) for x in (normalized.mul_(sign), sign)]
            pulled, signs = (pool(x, joined[here]).to(student.dtype) for x in sums)
            size = pool((stop - start)[:, None], joined[here]).clamp(min=1)
            pull = pulled * ours.inverse[:, here] * ours.free[:, here] / size
            gradient.add_(sign.mul_(inverse).sub_(centered.sign_().mul_(spread(pull, 0))))
            moved = ours.side[:, here] * pull - signs * ours.inverse[:, here]
            share = moved / joined[level].sum(-1)  # each segment of a context adds as much
            gradient.scatter_add_(1, ours.pixel[:, level], share[:, 0])
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output: PerImage) -> tuple[Tensor, None, None, None, None]:
        """The map that the forward pass kept, times the incoming gradient."""
        (gradient,) = ctx.saved_tensors
        return gradient * output[:, None], None, None, None, None


def normalized_difference(
    student: Pixels,
    teacher: Pixels,
    partition: Partition,
    joined: Joined,
    teacher_order: Sorted | None = None,
) -> PerImage:
    """Sum over levels and valid pixels of |N_u(student) - N_u(teacher)|, u the pixel's context (Eqs. 3, 4).

    Where segments are ranges of the teacher's values, `teacher_order` may be `sort_within_segments`
    of its valid pixels as one segment and the others as the next. The gradient goes to the student
    alone.
    """
    loss: PerImage = NormalizedDifference.apply(student, teacher, partition, joined, teacher_order)
    return loss
