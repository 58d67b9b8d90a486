"""Which camera took a picture: given, packed with it, noted in its EXIF block, estimated, or assumed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float64

from depthkd.errors import UserError
from depthkd.formats.depth import Number
from depthkd.formats.exif import focal_length_in_pixels
from depthkd.geometry import camera_matrix, focal_length
from depthkd.parsing import numbers

FIELD_OF_VIEW = 60.0  # degrees, of photographs whose camera nobody knows

Matrix = Float64[np.ndarray, "3 3"]
Source: TypeAlias = Literal["given", "packed", "EXIF", "estimated", "assumed"]


@dataclass(frozen=True)
class Camera:
    """Intrinsics in pixels, the top-left pixel's center at (0, 0), and how they are known."""

    matrix: Matrix
    source: Source

    @property
    def known(self) -> Matrix | None:
        """The intrinsics that a model may hear of; None of those that nobody but a model knows."""
        return None if self.source in ("estimated", "assumed") else self.matrix

    def record(self) -> dict[str, object]:
        """For predict.json."""
        (fx, _, cx), (_, fy, cy), _ = self.matrix.tolist()
        return {"intrinsics": [fx, fy, cx, cy], "from": self.source}


@dataclass(frozen=True)
class Cameras:
    """What a user says of all pictures' camera.

    Args:
        intrinsics: fx, fy, cx and cy in pixels.
        fov: the horizontal field of view in degrees.
    """

    intrinsics: list[float] | None = None
    fov: Number | None = None

    @classmethod
    def parse(cls, intrinsics: str | list[float] | None, fov: Number | None) -> "Cameras":
        """Read what a user wrote.

        Raises:
            UserError: intrinsics, or the field of view, cannot be.
        """
        camera = None if intrinsics is None else numbers(intrinsics, "intrinsics")
        if camera is not None and (
            len(camera) != 4 or not min(camera[:2]) > 0 or not np.isfinite(camera).all()
        ):
            raise UserError(f"intrinsics {camera} would be [fx, fy, cx, cy] in pixels, fx and fy above 0")
        if fov is not None and (intrinsics is not None or not 0.0 < fov < 180.0):
            raise UserError(f"fov would be degrees between 0 and 180, and not beside intrinsics; it is {fov}")
        return cls(camera, fov)

    def of(self, height: int, width: int, packed: Matrix | None = None, exif: bytes | None = None) -> Camera:
        """The camera of a picture of this size: given, else packed, else by its EXIF block, else assumed."""
        if self.intrinsics is not None:
            return Camera(camera_matrix(*self.intrinsics), "given")
        if self.fov is not None:
            return _central(height, width, focal_length(width, self.fov), "given")
        if packed is not None:
            return Camera(packed, "packed")
        focal = focal_length_in_pixels(exif, height, width)
        if focal is not None:
            return _central(height, width, focal, "EXIF")
        return _central(height, width, focal_length(width, FIELD_OF_VIEW), "assumed")


def _central(height: int, width: int, focal: float, source: Source) -> Camera:
    return Camera(camera_matrix(focal, focal, (width - 1) / 2, (height - 1) / 2), source)


def told(counts: Mapping[str, int]) -> str | None:
    """The sentence about point clouds of so many pictures with a camera of each source; None without any."""
    known = Counter(counts)
    total, assumed = known.total(), known.pop("assumed", 0)
    others = ", ".join(f"{count} {WORDS[source]}" for source, count in known.items())
    if not total or (not assumed and known.keys() == {"given"}):
        return None
    if not assumed:
        return f"point clouds: cameras are known, {others}"
    of = f" for {assumed} of {total} images" if total > 1 else ""
    beside = f" (cameras of the others: {others})" if others else ""
    return (
        f"point clouds assume a field of view of {FIELD_OF_VIEW:g} degrees{of}{beside}: give "
        "--fov or --intrinsics"
    )


WORDS = {
    "given": "as given",
    "packed": "packed with the images",
    "EXIF": "from EXIF",
    "estimated": "estimated by the model",
}
