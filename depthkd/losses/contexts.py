"""Normalisation within many sets of pixels at once: N_u of Distill Any Depth, Eq. 3.

A partition gives each pixel the number of its segment, 0 to `count` - 1; invalid pixels get `count`.
Tables hold one value a segment, and 0 in the last column, for the pixels of none. Everything is
batched, and nothing makes the host wait for the device.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

Pixels = Float[Tensor, "batch pixels"]
Partition = Int[Tensor, "batch pixels"]
Order = Int[Tensor, "batch pixels"]
Table = Float[Tensor, "batch columns"]
Indices = Int[Tensor, "batch columns"]
PerImage = Float[Tensor, " batch"]

EPSILON = 1e-6  # floor of the deviation: a constant map stays finite


@dataclass(frozen=True)
class Statistics:
    """What a context is normalised with.

    Args:
        median: of its pixels, the lower one of two middles.
        pixel: where the median stands.
        inverse: 1 / max(mean absolute deviation from the median, EPSILON).
        free: whether the deviation is above that floor, so that a gradient passes it.
    """

    median: Table
    pixel: Indices
    inverse: Table
    free: Float[Tensor, "batch columns"]


def segment_sizes(partition: Partition, count: int) -> Indices:
    """How many pixels each segment has; the last column counts those of none."""
    sizes = partition.new_zeros(len(partition), count + 1)
    return sizes.scatter_add_(1, partition, torch.ones_like(partition))


def segment_sums(values: Pixels, partition: Partition, count: int) -> Table:
    """Sum over each segment, in float64."""
    sums = torch.zeros(len(values), count + 1, dtype=torch.float64, device=values.device)
    return sums.scatter_add_(1, partition, values.double()).to(values.dtype)


def order_within_segments(values: Pixels, partition: Partition) -> Order:
    """The pixels of each image, segment by segment, and by value within a segment.

    Segment, value and place of a pixel share one 64-bit key, so that one sort of integers does,
    and on the CPU NumPy's, which is about twenty times as fast as torch's.
    """
    if values.dtype is not torch.float32:
        order = values.argsort(dim=1, stable=True)
        return order.gather(1, partition.gather(1, order).argsort(dim=1, stable=True))
    places = (values.shape[1] - 1).bit_length()
    bits = values.contiguous().view(torch.int32)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long().bitwise_left_shift_(places)
    keys.add_(partition << 32 + places).add_(torch.arange(values.shape[1], device=values.device))
    keys = torch.from_numpy(np.sort(keys.numpy())) if keys.is_cpu else keys.sort(dim=1).values
    return keys & ((1 << places) - 1)


def context_statistics(
    values: Pixels, order: Order, partition: Partition, sizes: Indices, count: int
) -> Statistics:
    """Median and mean absolute deviation of every context; `order` is that of `order_within_segments`."""
    last = values.shape[1] - 1
    middle = sizes.cumsum(1) - sizes + (sizes - 1).clamp(min=0) // 2
    pixel = order.gather(1, middle.clamp(max=last))
    used = (sizes > 0).to(values.dtype)
    used[:, count] = 0
    median = values.gather(1, pixel) * used
    distance = (values - median.gather(1, partition)).abs()
    deviation = segment_sums(distance, partition, count) / sizes.clamp(min=1)
    inverse = used / deviation.clamp(min=EPSILON)
    return Statistics(median, pixel, inverse, (deviation >= EPSILON).to(values.dtype))


class NormalizedDifference(torch.autograd.Function):
    """`normalized_difference`, with its gradient in closed form: one map is kept for the backward pass.

    With e the sign of the difference, m and d the student's median and deviation and n the size of
    a context, the gradient is e/d - sign(s - m) sum(e N(s)) / (n d), and the median's own pixel
    gets -sum(e)/d + sum(sign(s - m)) sum(e N(s)) / (n d) besides.
    """

    @staticmethod
    def forward(
        ctx: Any, student: Pixels, teacher: Pixels, teacher_order: Order, partition: Partition, count: int
    ) -> PerImage:
        """See `normalized_difference`."""
        sizes = segment_sizes(partition, count)
        order = order_within_segments(student, partition)
        ours = context_statistics(student, order, partition, sizes, count)
        theirs = context_statistics(teacher, teacher_order, partition, sizes, count)
        centred = student - ours.median.gather(1, partition)
        inverse = ours.inverse.gather(1, partition)
        normalized = centred * inverse
        difference = teacher - theirs.median.gather(1, partition)
        difference = normalized - difference * theirs.inverse.gather(1, partition)
        if ctx.needs_input_grad[0]:
            sign, side = difference.sign(), centred.sign()
            pull = segment_sums(sign * normalized, partition, count)
            pull = pull * ours.inverse * ours.free / sizes.clamp(min=1)
            gradient = sign * inverse - side * pull.gather(1, partition)
            moved = segment_sums(side, partition, count) * pull
            moved = moved - segment_sums(sign, partition, count) * ours.inverse
            ctx.save_for_backward(gradient.scatter_add_(1, ours.pixel, moved))
        return difference.abs().sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output: PerImage) -> tuple[Tensor, None, None, None, None]:
        """The map that the forward pass kept, times the incoming gradient."""
        (gradient,) = ctx.saved_tensors
        return gradient * output[:, None], None, None, None, None


def normalized_difference(
    student: Pixels, teacher: Pixels, teacher_order: Order, partition: Partition, count: int
) -> PerImage:
    """Sum over valid pixels of |N_u(student) - N_u(teacher)|, u the pixel's segment (Eqs. 3 and 4).

    `teacher_order` is `order_within_segments` of the teacher: where segments are ranges of its
    values, one order serves every partition. The gradient goes to the student alone.
    """
    difference: PerImage = NormalizedDifference.apply(student, teacher, teacher_order, partition, count)
    return difference
