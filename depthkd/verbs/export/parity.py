"""Whether an exported form predicts what the original does: the same pictures through both."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from depthkd.batch import Ambiguity, DepthSpace
from depthkd.errors import UserError
from depthkd.models.inference import says_nothing
from depthkd.shapes import Image, Map

WITHIN = (1.05, 1.25)  # ratios; of affine values, less 1: of the map's range
SMALLEST = 1e-6  # of the largest value: what is below has no ratio to speak of
SIDE = 256  # pixels, about: of the pictures, where no size is given
Ask = Callable[[Image], Tensor]
Size = tuple[int, int, int]  # batch, height, width


@dataclass(frozen=True)
class Bounds:
    """How far a form may be from the original.

    Args:
        enough: the least share of the pixels that are within the smaller of `WITHIN`.
        largest: by so much may one pixel differ, as a share of the original's range.
        metric: by so much may AbsRel and delta1 change on pictures whose depth is known.
    """

    enough: float = 0.999
    largest: float = 0.01
    metric: float = 0.001


FLOAT32 = Bounds()
HALF = Bounds(
    enough=0.99, largest=0.25, metric=0.005
)  # a pixel at the border of a thing may be on either side


@dataclass(frozen=True)
class Row:
    """How a form's predictions compare with the original's, of one batch.

    Args:
        form: its name.
        batch, height, width: of the pictures.
        within: shares of the pixels that are within each of `WITHIN`.
        largest: the largest difference, as a share of the original's range.
        fault: what is wrong with a prediction that cannot be compared; None: nothing.
        bounds: how far the form may be from the original.
    """

    form: str
    batch: int
    height: int
    width: int
    within: tuple[float, ...] = (0.0, 0.0)
    largest: float = float("inf")
    fault: str | None = None
    bounds: Bounds = FLOAT32

    @property
    def agrees(self) -> bool:
        """Whether the form is as good as the original: enough pixels are within the smaller bound, and none
        differs by more of the range than it may."""
        near = self.largest <= self.bounds.largest and self.within[0] >= self.bounds.enough
        return self.fault is None and near


def compare(
    form: str, original: Map, exported: Tensor, space: DepthSpace | None, bounds: Bounds = FLOAT32
) -> Row:
    """One row of the table.

    Values that are metric, or known up to scale, are compared by their ratio, max(a/b, b/a); affine ones, and
    features, which have no zero, by their difference as a share of the original's range.

    Args:
        form: its name.
        original, exported: predictions for the same pictures.
        space: of both; None: of features.
        bounds: how far they may be apart.
    """
    batch, height, width = original.shape
    row = Row(form, batch, height, width, bounds=bounds)
    if exported.shape != original.shape:
        return replace(row, fault=f"has shape {list(exported.shape)}, and would have {list(original.shape)}")
    if (nothing := nothing_in(exported)) is not None:
        return replace(row, fault=f"answers with {nothing}")
    a, b = original.double(), exported.double()
    spread = float(a.max() - a.min())
    largest = float((a - b).abs().max()) / spread
    if space is None or space.ambiguity == Ambiguity.AFFINE:
        far = 1 + (a - b).abs() / spread
    else:
        tiny = SMALLEST * float(a.abs().max())
        far = torch.maximum(a.clamp(min=tiny) / b.clamp(min=tiny), b.clamp(min=tiny) / a.clamp(min=tiny))
    shares = tuple(float((far <= bound).double().mean()) for bound in WITHIN)
    return replace(row, within=shares, largest=largest)


def nothing_in(maps: Tensor) -> str | None:
    """What is in one of several maps that cannot be depth; None where all are fine."""
    return next((text for one in maps if (text := says_nothing(one[None].float()))), None)


def rows(
    form: str,
    sizes: Sequence[Size],
    original: Ask,
    exported: Ask,
    space: DepthSpace | None,
    bounds: Bounds = FLOAT32,
) -> Iterator[Row]:
    """`compare` for pictures of several sizes.

    Raises:
        UserError: the original says nothing of one.
    """
    for batch, height, width in tqdm(sizes, desc=f"compare {form}", leave=False, disable=None):
        images = pictures(batch, height, width)
        with torch.no_grad():
            expected = original(images)
            if (nothing := nothing_in(expected)) is not None:
                raise UserError(
                    f"the network itself answers a picture of {height} x {width} pixels with {nothing}: "
                    "there is nothing to compare an export with"
                )
            try:
                found = compare(form, expected, exported(images), space, bounds)
                yield replace(found, height=height, width=width)
            except UserError as error:
                yield Row(form, batch, height, width, fault=str(error))


def sizes_for(multiple: int, fixed: tuple[int, int] | None = None, side: int | None = None) -> list[Size]:
    """Batches of one at three sizes, square, wide and tall, and a batch of three; of one size where that is
    fixed.

    Args:
        multiple: of the sides.
        fixed: height and width of the only size.
        side: the shorter one, about; `SIDE` where None.
    """
    if fixed is not None:
        return [(1, *fixed), (3, *fixed)]
    short, long = (max(1, round(n / multiple)) * multiple for n in (side or SIDE, 1.5 * (side or SIDE)))
    long = max(long, short + multiple)
    return [(1, short, short), (1, short, long), (1, long, short), (3, short, long)]


def pictures(batch: int, height: int, width: int) -> Float[Tensor, "batch 3 height width"]:
    """Pictures of 8 bits with structure at several scales, the same every time."""
    numbers = np.random.default_rng(0)
    total = torch.zeros(batch, 3, height, width)
    for cells in (2, 5, 16):
        grid = torch.from_numpy(numbers.random((batch, 3, cells, cells), dtype=np.float32))
        total += F.interpolate(grid, (height, width), mode="bicubic", align_corners=False) / 3
    return (total.clamp(0, 1) * 255).round() / 255


def table(found: Sequence[Row], space: DepthSpace | None) -> str:
    """The rows as text, for the terminal and for the card (Markdown)."""
    ratio = space is not None and space.ambiguity != Ambiguity.AFFINE
    heads = [f"within {b}x" if ratio else f"within {round(100 * (b - 1))} % of the range" for b in WITHIN]
    lines = [f"| form | batch | size | {heads[0]} | {heads[1]} | largest difference, of the range |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for row in found:
        size = f"{row.height} x {row.width}"
        figures = [f"{100 * share:.2f} %" for share in row.within] + [f"{row.largest:.1e}"]
        told = " | ".join(figures) if row.fault is None else f"{row.fault} | | "
        lines.append(f"| {row.form} | {row.batch} | {size} | {told} |")
    return "\n".join(lines)
