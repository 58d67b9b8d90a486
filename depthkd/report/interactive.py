"""What of a page can be moved: pictures that are compared by a slider, and a point cloud that is turned."""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from depthkd.geometry import resize_intrinsics
from depthkd.report.html import jpeg_source
from depthkd.report.pictures import SheetRow, image_cell, row_cells
from depthkd.shapes import ArrayMap

STYLES, SCRIPTS = ("interactive.css",), ("compare.js", "cloud.js", "clouds.js")
IMAGE, TRUTH = "image", "truth"
SIDE = 560  # px of a picture that is compared
CLOUD_SIDE = 320  # px of the maps of which points are made: some 70,000
FARTHEST = 3.0  # times the median depth; what is farther is no point
CODES = 65534  # of a point's depth; 0 is none
BUTTONS = (
    ("ArrowLeft", "←", "turn to the left"),
    ("ArrowRight", "→", "turn to the right"),
    ("ArrowUp", "↑", "turn up"),
    ("ArrowDown", "↓", "turn down"),
    ("+", "+", "closer"),
    ("-", "−", "farther"),
    ("Home", "reset", "as at the start"),
)

Camera = Float[np.ndarray, "3 3"]


def json_script(value: Any) -> str:
    """Data for a script of the page, which no text in them can end."""
    data = json.dumps(value).replace("<", "\\u003c")
    return f'<script type="application/json">{data}</script>'


def comparison(rows: Sequence[SheetRow]) -> str:
    """A figure for each row, with the image, the truth and each model's depth: two of them at a time, to the
    left and to the right of an edge that a slider moves.

    Args:
        rows: at least one, with a prediction.
    """
    names = [IMAGE, *([TRUTH] if any(row.truth is not None for row in rows) else [])]
    names += dict.fromkeys(name for row in rows for name in row.predictions)
    models = names[1 + (TRUTH in names) :]
    chosen = [_select(f"{side}:", names, start) for side, start in (("left", IMAGE), ("right", models[0]))]
    figures = "".join(_figure(row, list(models)) for row in rows)
    return (
        f'<div data-comparisons><div class="controls">{"".join(chosen)}</div>'
        f'<div class="pairs">{figures}</div></div>'
    )


def _select(label: str, names: Sequence[str], start: str) -> str:
    options = "".join(
        f'<option value="{escape(name)}"{" selected" * (name == start)}>{escape(name)}</option>'
        for name in names
    )
    return f"<label>{label} <select>{options}</select></label>"


def _figure(row: SheetRow, models: Sequence[str]) -> str:
    cells = row_cells(row, models, errors=row.truth is not None)
    shown = {IMAGE: image_cell(row)}
    if row.truth is not None:
        shown |= {TRUTH: cells[1], **dict(zip(models, cells[2::2], strict=True))}
    else:
        shown |= dict(zip(models, cells[1:], strict=True))
    pictures = [
        {"name": name, "source": jpeg_source(cell[0], SIDE)}
        for name, cell in shown.items()
        if cell is not None
    ]
    told = "; ".join(f"{name}: {row.captions[name]}" for name in models if row.captions.get(name))
    caption = f"<figcaption><b>{escape(row.title)}</b>{f'<br>{escape(told)}' if told else ''}</figcaption>"
    return slider(row.title, pictures[0]["source"], pictures[1]["source"], json_script(pictures) + caption)


def slider(title: str, over: str, under: str, rest: str) -> str:
    """A figure of two pictures and the slider that moves the edge between them.

    Args:
        title: what it is called by those who do not see it.
        over, under: the addresses of the images, at the left and at the right.
        rest: what else is in the figure.
    """
    name = escape(title)
    return (
        f'<figure data-title="{name}"><div class="stage">'
        f'<img class="under" src="{under}" alt="{name}"><img class="over" src="{over}" alt="{name}">'
        '<div class="edge"></div><span class="tag left"></span><span class="tag right"></span></div>'
        f'<input type="range" min="0" max="100" value="50" aria-label="edge between the pictures of {name}">'
        f"{rest}</figure>"
    )


def cloud(title: str, data: Mapping[str, Any], names: Sequence[str]) -> str:
    """A figure with the points of depth maps of one image, of which one at a time is shown.

    Args:
        title: of the image.
        data: as `cloud_data` has them.
        names: of its sources.
    """
    options = "".join(f'<option value="{i}">{escape(name)}</option>' for i, name in enumerate(names))
    return (
        '<figure class="cloud"><div class="controls">'
        f"<label>depth of: <select>{options}</select></label></div>"
        f"{cloud_canvas(title)}{json_script(data)}</figure>"
    )


def cloud_canvas(title: str) -> str:
    """What cloud.js draws on, and the buttons that move it."""
    name = escape(f"Point cloud of {title}: arrow keys turn it, + and - change the distance, Home resets it")
    buttons = "".join(
        f'<button type="button" data-key="{key}" aria-label="{what}" title="{what}">{sign}</button>'
        for key, sign, what in BUTTONS
    )
    return (
        f'<canvas tabindex="0" role="application" aria-label="{name}"></canvas>'
        f'<div class="controls" role="group" aria-label="move the point cloud">{buttons}</div>'
    )


def cloud_data(
    image: UInt8[np.ndarray, "height width 3"],
    depths: Mapping[str, ArrayMap],
    camera: Camera,
    side: int = CLOUD_SIDE,
) -> dict[str, Any]:
    """What cloud.js reads: an image, its camera, and depth of its pixels in 16 bits.

    Args:
        image: RGB.
        depths: name -> z-depth of the image's pixels, in any unit; not finite where there is none.
        camera: of the image, in pixels.
        side: of the maps that are written, in pixels; at most that of the image.
    """
    height, width = (int(n) for n in image.shape[:2])
    scale = min(1.0, side / max(height, width))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    matrix = resize_intrinsics(torch.from_numpy(camera), small[1] / height, small[0] / width).numpy()
    sources = []
    for name, depth in depths.items():
        values = np.asarray(cv2.resize(depth.astype(np.float32), small, interpolation=cv2.INTER_NEAREST))
        sources.append({"name": name, **_coded(values)})
    return {
        "width": small[0],
        "height": small[1],
        "image": jpeg_source(image, side),
        "focal": [float(matrix[0, 0]), float(matrix[1, 1])],
        "center": [float(matrix[0, 2]), float(matrix[1, 2])],
        "sources": sources,
    }


def _coded(depth: Float[np.ndarray, "height width"]) -> dict[str, Any]:
    """Depth between its nearest and farthest point in 16 bits; 0 where there is none, or it is too far."""
    known = np.isfinite(depth) & (depth > 0)
    if known.any():
        known &= depth <= FARTHEST * np.median(depth[known])
    near, far = (float(depth[known].min()), float(depth[known].max())) if known.any() else (0.0, 1.0)
    share = (np.where(known, depth, near) - near) / max(far - near, 1e-12)
    codes = np.where(known, 1 + np.round(share * CODES), 0).astype("<u2")
    return {"near": near, "far": far, "depth": base64.b64encode(codes.tobytes()).decode()}
