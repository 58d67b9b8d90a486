"""Depth maps as colors, and sheets of pictures to look at.

Maps are float arrays; pixels that are not finite are unknown, and drawn gray. Near is bright.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from depthkd.batch import METRIC_DEPTH, DepthSpace, Quantity
from depthkd.formats.whole_files import whole_file
from depthkd.metrics.catalogue import CATALOGUE
from depthkd.metrics.edges import depth_edges
from depthkd.shapes import ArrayMap

Picture = UInt8[np.ndarray, "height width 3"]
Resized = UInt8[np.ndarray, "new_height new_width 3"]
Cell = tuple[UInt8[np.ndarray, "_ _ 3"], str] | None  # a picture of any size, and its caption

UNKNOWN = 128  # gray
LARGEST_ERROR = 0.5  # of the truth, at which an error map saturates
WIDTH, GAP = 320, 6  # of a sheet's cells, px
DOT = 5  # px: side of a measured point, unless more than a part of the pixels are measured
SPARSE = 0.01
JPEG_SUFFIXES, JPEG_QUALITY = (".jpg", ".jpeg"), 90
TITLE, CAPTION = 15, 12  # letters, px
CAPTIONS = {e.name: e.phrase.replace("δ", "delta") for e in CATALOGUE if e.main}  # Pillow's font has no Greek
INK, FAINT, PAPER = (20, 20, 20), (100, 100, 100), (255, 255, 255)


@dataclass
class SheetRow:
    """One image with its truth, where there is one, and each model's prediction.

    With `truth` (depth), `predictions` are depth maps in its unit; without, they are raw
    predictions, in `spaces`. `captions` are printed under the predictions. `camera` is the 3x3 matrix of
    the image as it is here, if it is known. `points` is depth that models were given of some pixels, 0
    elsewhere: it is drawn on the image.
    """

    title: str
    image: Picture
    truth: ArrayMap | None = None
    predictions: dict[str, ArrayMap] = field(default_factory=dict)
    spaces: dict[str, DepthSpace] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)
    camera: Float[np.ndarray, "3 3"] | None = None
    points: ArrayMap | None = None


def nearness(values: ArrayMap, space: DepthSpace) -> ArrayMap:
    """Values that grow towards the camera: disparity, 1 / depth, or -depth where its offset is unknown."""
    if space.quantity is Quantity.DISPARITY:
        return values
    if not space.invertible:
        return -values
    return 1.0 / np.where(values > 0, values, np.nan)


def limits(values: ArrayMap) -> tuple[float, float]:
    """The 2nd and 98th percentile of the finite values; 0 and 1 where there are none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, (2, 98))
    return float(low), float(high)


def colors(values: ArrayMap, between: tuple[float, float] | None = None) -> Picture:
    """Inferno, bright for what is near; `between` is (farthest, nearest), by default its `limits`."""
    low, high = limits(values) if between is None else between
    return _color_map((values - low) / max(high - low, 1e-12), cv2.COLORMAP_INFERNO)


def error_colors(prediction: ArrayMap, truth: ArrayMap) -> Picture:
    """Turbo of |prediction - truth| / truth: blue for 0, red from `LARGEST_ERROR` on."""
    error = np.abs(prediction - truth) / np.where(truth > 0, truth, np.nan)
    return _color_map(error / LARGEST_ERROR, cv2.COLORMAP_TURBO)


def edge_colors(prediction: ArrayMap, truth: ArrayMap) -> Picture:
    """Edges of depth: the truth's in green, the prediction's in red, shared ones in yellow."""
    known = np.isfinite(truth)
    filled = np.where(known, truth, truth[known].max() if known.any() else 1.0)
    picture = np.zeros((*truth.shape, 3), np.uint8)
    for channel, depth in enumerate((prediction, filled)):
        picture[..., channel] = 255 * (depth_edges(depth) & known)
    return picture


def panel(
    image: Float[Tensor, "3 height width"],
    maps: Sequence[tuple[Float[Tensor, "_ _"], DepthSpace]],
) -> UInt8[np.ndarray, "height all_widths 3"]:
    """The image (RGB in [0, 1]) and its maps side by side, each on its own scale; for training logs.

    Maps are resized to the image. NaN where nothing is known, which is drawn gray.
    """
    cells = [(image.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()]
    height, width = cells[0].shape[:2]
    for values, space in maps:
        near = nearness(values.detach().float().cpu().numpy(), space)
        cells.append(cv2.resize(colors(near), (width, height), interpolation=cv2.INTER_AREA))
    return np.concatenate(cells, axis=1)


def picture_sheet(rows: Sequence[SheetRow], models: Sequence[str], path: Path) -> None:
    """Write a sheet: image, truth, and each model's depth; its error too, if any row has a truth.

    Rows with a truth share its color scale, rows without have a scale for each model.
    """
    if not rows:
        raise ValueError(f"{path}: a picture sheet needs at least one row")
    errors = any(row.truth is not None for row in rows)
    columns = ["image", *(["truth"] if errors else [])]
    for model in models:
        columns += [model, f"error of {model}"] if errors else [model]
    legend = "Depth: bright is near. Gray: no truth."
    if errors:
        legend += f" Error: |prediction - truth| / truth, blue 0 to red {LARGEST_ERROR:g} and more."
    cells = [row_cells(row, models, errors) for row in rows]
    draw_sheet(columns, [row.title for row in rows], cells, legend, path)


def row_cells(row: SheetRow, models: Sequence[str], errors: bool, edges: bool = False) -> list[Cell]:
    """One row: image, truth, and each model's depth, with its error and its edges, if asked for."""
    scale = None if row.truth is None else limits(nearness(row.truth, METRIC_DEPTH))
    cells: list[Cell] = [image_cell(row)]
    if row.truth is not None:
        near = nearness(row.truth, METRIC_DEPTH)
        cells.append((colors(near, scale), _depth_range(row.truth)))
    elif errors:
        cells.append(None)
    for model in models:
        prediction = row.predictions.get(model)
        if prediction is None:
            cells += [None] * (1 + errors + edges)
            continue
        caption = row.captions.get(model, "")
        near = nearness(prediction, METRIC_DEPTH if row.truth is not None else row.spaces[model])
        cells.append((colors(near, scale), caption))
        if errors:
            cells.append(None if row.truth is None else (error_colors(prediction, row.truth), ""))
        if edges:
            cells.append(None if row.truth is None else (edge_colors(prediction, row.truth), ""))
    return cells


def image_cell(row: SheetRow) -> Cell:
    """The image, with the points that models were given in the colors of the truth's depth, and how many."""
    if row.points is None:
        return row.image, ""
    known = row.points > 0
    truth = row.points if row.truth is None else row.truth
    near = nearness(np.where(known, row.points, np.nan), METRIC_DEPTH)
    dots = colors(near, limits(nearness(truth, METRIC_DEPTH)))
    size = DOT if known.mean() < SPARSE else 1
    picture = row.image.copy()
    for y, x in np.argwhere(known):
        top, left = max(y - size // 2, 0), max(x - size // 2, 0)
        picture[top : y + size // 2 + 1, left : x + size // 2 + 1] = dots[y, x]
    number = int(known.sum())
    return picture, f"{number} measured point{'s' * (number != 1)} at this size"


def _depth_range(depth: ArrayMap) -> str:
    known = depth[np.isfinite(depth)]
    return f"depth {known.min():.3g} to {known.max():.3g}" if known.size else "nothing known"


def draw_sheet(
    columns: Sequence[str],
    titles: Sequence[str],
    cells: Sequence[Sequence[Cell]],
    legend: str,
    path: Path,
    cell: int = WIDTH,
    below: Sequence[Picture] = (),
) -> None:
    """Write a sheet of pictures; a JPEG where the path says so, and a PNG else.

    Args:
        columns: what stands above each column.
        titles: what stands above each row, if anything.
        cells: rows of as many as there are columns.
        legend: a line below all rows.
        path: of the sheet.
        cell: width of a column, px.
        below: pictures at the end, as they are.

    Raises:
        UserError: it cannot be written.
    """
    title_font, caption_font = (ImageFont.load_default(size) for size in (TITLE, CAPTION))
    head, foot = TITLE + 2 * GAP, CAPTION + 2 * GAP
    heights = [max(cell_height(c[0], cell) for c in row if c is not None) for row in cells]
    above = [foot if title else 0 for title in titles]
    width = GAP + len(columns) * (cell + GAP)
    height = head + sum(above) + sum(h + foot for h in heights) + foot + sum(len(p) for p in below)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [GAP + i * (cell + GAP) for i in range(len(columns))]
    for left, name in zip(lefts, columns, strict=True):
        draw.text((left, GAP), _shortened(name, title_font, cell), INK, title_font)
    top = head
    for title, title_height, row, row_height in zip(titles, above, cells, heights, strict=True):
        draw.text((GAP, top + GAP), title, FAINT, caption_font)
        top += title_height
        for left, drawn in zip(lefts, row, strict=True):
            if drawn is None:
                continue
            picture, caption = drawn
            sheet.paste(Image.fromarray(shrunk(picture, cell)), (left, top))
            caption = _shortened(caption, caption_font, cell)
            draw.text((left, top + cell_height(picture, cell) + 2), caption, FAINT, caption_font)
        top += row_height + foot
    draw.text((GAP, top + GAP), legend, INK, caption_font)
    top += foot
    for picture in below:
        sheet.paste(Image.fromarray(picture), (0, top))
        top += len(picture)
    with whole_file(path) as file:
        if path.suffix.lower() in JPEG_SUFFIXES:
            sheet.save(file, format="JPEG", quality=JPEG_QUALITY)
        else:
            sheet.save(file, format="PNG")


def shrunk(picture: Picture, width: int) -> Resized:
    """A picture at a width in pixels, of its own shape."""
    size = (width, cell_height(picture, width))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def within(picture: Picture, side: int) -> Resized:
    """A picture whose longer side has at most so many pixels."""
    height, width = (int(n) for n in picture.shape[:2])
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def cell_height(picture: Picture, width: int) -> int:
    """How high a picture is at a width."""
    return max(1, round(int(picture.shape[0]) * width / int(picture.shape[1])))


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Without its middle, where it would be wider: names mostly differ at their ends."""
    shown, kept = text, len(text)
    while font.getlength(shown) > width and kept:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return shown


def _color_map(unit: ArrayMap, color_map: int) -> Picture:
    known = np.isfinite(unit)
    levels = np.where(known, unit, 0.0).clip(0.0, 1.0) * 255.0
    picture = cv2.cvtColor(cv2.applyColorMap(levels.astype(np.uint8), color_map), cv2.COLOR_BGR2RGB)
    picture[~known] = UNKNOWN
    return np.asarray(picture, np.uint8)


def metrics_caption(metrics: Mapping[str, float]) -> str:
    """A prediction's caption, such as AbsRel and delta1."""
    return ", ".join(f"{word} {metrics[name]:.3f}" for name, word in CAPTIONS.items() if name in metrics)
