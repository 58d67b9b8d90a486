"""Samples at a glance: small images beside their depth, and histograms of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from depthkd.batch import DepthSpace
from depthkd.formats.images import RGB
from depthkd.formats.shard_samples import unit_of
from depthkd.report.depth_histogram import DepthHistogram
from depthkd.report.pictures import GAP, PAPER, Cell, Picture, Resized, colors, draw_sheet, nearness, shrunk

MOST = 24  # samples on a sheet, which then has some 2 MB as a PNG
ACROSS, CELL = 8, 192  # pictures side by side, and the width of each in px
TALLEST = 1.25  # times its width; a higher picture gets a margin

Small = UInt8[np.ndarray, "_ _ 3"]
Label = tuple[Float32[np.ndarray, "_ _"], Bool[np.ndarray, "_ _"], DepthSpace]


@dataclass(frozen=True)
class Thumbnail:
    """A sample as a sheet shows it: its key, and the image and the depth with its range, as far as it has
    them."""

    key: str
    image: Small | None
    depth: Small | None
    depth_range: str = ""

    @classmethod
    def of(cls, key: str, image: RGB | None, label: Label | None) -> "Thumbnail":
        """That of an image and a label of any size."""
        small = None if image is None else _small(image)
        if label is None:
            return cls(key, small, None)
        depth, mask, space = label
        near = nearness(np.where(mask, depth, np.float32(np.nan)), space)
        low, high = depth[mask].min(), depth[mask].max()
        unit = "" if unit_of(space) == "relative" else f" {unit_of(space)}"
        return cls(key, small, _small(colors(near)), f"{low:.3g} to {high:.3g}{unit}")


def contact_sheet(thumbnails: Sequence[Thumbnail], histograms: Sequence[DepthHistogram], path: Path) -> None:
    """Write a sheet of samples, each with its key, above histograms of depth.

    Args:
        thumbnails: at least one.
        histograms: one for each depth space.
        path: a JPEG or a PNG, by its suffix.

    Raises:
        UserError: it cannot be written.
    """
    heads = ["image"] * any(t.image is not None for t in thumbnails)
    heads += ["depth"] * any(t.depth is not None for t in thumbnails)
    samples = ACROSS // len(heads)
    cells = [cell for thumbnail in thumbnails for cell in _cells(thumbnail, heads)]
    cells += [None] * (-len(cells) % ACROSS)
    rows = [cells[at : at + ACROSS] for at in range(0, len(cells), ACROSS)]
    legend = "Depth: bright is near, on a scale of each map's own. Gray: not valid." * ("depth" in heads)
    width = GAP + ACROSS * (CELL + GAP)
    below = [histogram.picture(width) for histogram in histograms]
    draw_sheet(heads * samples, [""] * len(rows), rows, legend, path, CELL, below)


def _cells(thumbnail: Thumbnail, heads: Sequence[str]) -> list[Cell]:
    """A cell for each head; the key stands under the first picture."""
    pictures = {"image": thumbnail.image, "depth": thumbnail.depth}
    words = {"image": thumbnail.key, "depth": thumbnail.depth_range}
    if thumbnail.image is None:
        words["depth"] = f"{thumbnail.key}: {thumbnail.depth_range}"
    return [None if (picture := pictures[head]) is None else (picture, words[head]) for head in heads]


def _small(picture: Picture) -> Resized:
    """A picture of the width of a cell, with a margin at both sides where it would be too high."""
    height, width = picture.shape[:2]
    if height <= TALLEST * width:
        return shrunk(picture, CELL)
    small = shrunk(picture, max(1, round(TALLEST * CELL * width / height)))
    missing = CELL - small.shape[1]
    canvas = np.full((small.shape[0], CELL, 3), PAPER, np.uint8)
    canvas[:, missing // 2 : missing // 2 + small.shape[1]] = small
    return canvas
