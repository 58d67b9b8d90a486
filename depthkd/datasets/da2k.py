"""DA-2K: about 2000 pairs of points in 1000 images of eight kinds (Depth Anything V2, section 6)."""

import json
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Int64

from depthkd.datasets.dataset import ListedDataset
from depthkd.errors import UserError
from depthkd.formats.images import decode_image
from depthkd.formats.sample import AnnotatedSample, BadSample

ANNOTATIONS = "annotations.json"
POINTS = ("point1", "point2")
SCENARIOS = (  # in the order of Table 14; as the folders of DA-2K.zip are called
    *("indoor", "outdoor", "non_real", "transparent_reflective"),
    *("adverse_style", "aerial", "underwater", "object"),
)


def read_pairs(annotations: Any, size: tuple[int, ...], name: str) -> Int64[np.ndarray, "pairs 2 2"]:
    """One image's pairs as (row, column), the closer point first.

    Args:
        annotations: its list of {"point1": [row, column], "point2": ..., "closer_point": "point1"}.
        size: the image's height and width.
        name: the image.

    Raises:
        BadSample: it is no such list, is empty, or a point lies outside the image.
    """
    if not isinstance(annotations, list) or not annotations:
        raise BadSample(f"{ANNOTATIONS}: {name} needs a list of pairs, not {json.dumps(annotations)[:80]}")
    pairs = []
    for pair in annotations:
        closer = pair.get("closer_point") if isinstance(pair, dict) else None
        if isinstance(pair, dict) and closer is None and "closer_point" in pair:
            raise BadSample(
                f"{ANNOTATIONS}: {name} has a pair that not all annotators have decided: `depthkd pairs "
                "--decisions` merges their files"
            )
        if closer not in POINTS:
            raise BadSample(
                f"{ANNOTATIONS}: {name} has the pair {json.dumps(pair)[:120]}; it needs point1, point2 and a "
                "closer_point that is one of them"
            )
        farther = POINTS[1 - POINTS.index(closer)]
        pairs.append([_point(pair.get(key), size, name) for key in (closer, farther)])
    return np.array(pairs, np.int64)


def _point(value: Any, size: tuple[int, ...], name: str) -> list[int]:
    point = value if isinstance(value, list) and all(type(v) is int for v in value) else []
    if len(point) != 2 or not all(0 <= v < side for v, side in zip(point, size, strict=True)):
        raise BadSample(
            f"{ANNOTATIONS}: {name} has the point {json.dumps(value)}; it would be [row, column] inside the "
            f"image of {size[0]} x {size[1]} pixels"
        )
    return point


class DA2K(ListedDataset):
    """Images with pairs of points, one of which is closer; no depth.

    Args:
        root: the folder or zip with the images and annotations.json.
        split: another file of the form of annotations.json.
    """

    name = "da2k"
    title = "DA-2K"
    space = None
    layout = "annotations.json and images/<kind>/*, as in DA-2K.zip"
    places = ("da2k/DA-2K.zip", "DA-2K.zip", "da2k", "DA-2K")
    folders = ("", "DA-2K")

    @cached_property
    def annotations(self) -> dict[str, Any]:
        """Image -> its pairs, as they stand in the file.

        Raises:
            MissingFileError: there is no such file.
            UserError: it is no JSON object.
        """
        if self.split is None and ANNOTATIONS not in self.archive:
            raise self.nothing_here(ANNOTATIONS)
        text = self.archive.read(ANNOTATIONS) if self.split is None else "\n".join(self.listed())
        where = self.split or self.root / ANNOTATIONS
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"data set '{self.name}': {where} is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise UserError(f"data set '{self.name}': {where} would map images to lists of pairs")
        return found

    @cached_property
    def lines(self) -> list[list[str]]:
        """One image a line."""
        return [[image] for image in self.annotations]

    def group(self, index: int) -> str | None:
        """The kind of scene, such as "underwater"."""
        return PurePosixPath(self.line(index)[0]).parent.name or None

    def sample_of(self, line: list[str]) -> AnnotatedSample:
        """See `ListedDataset.sample_of`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        pairs = read_pairs(self.annotations[line[0]], image.shape[:2], line[0])
        return AnnotatedSample(line[0], image, pairs=pairs)
