"""Patterns of two sensors: the lines of a LiDAR, and the corners that structure from motion finds."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from depthkd.errors import UserError
from depthkd.geometry import camera_matrix
from depthkd.shapes import MaskArray
from depthkd.sparse_depth.patterns import Sensor, View, some_of

HIGHEST = math.degrees(0.5)  # of OMNI-DC's LiDAR; the lowest line is as far below the horizon
COLUMNS = 200  # measurements of a line
WIDEST = 180 / 2.1  # degrees to the left and to the right
FIELD_OF_VIEW = math.degrees(2 * math.atan(0.5))  # vertical, of the camera that OMNI-DC assumes
FEWEST = 20  # corners: with fewer of them OMNI-DC draws random points
INSTEAD = 1000  # points


@dataclass(frozen=True)
class LidarLines(Sensor):
    """Lines of a LiDAR that stands at the camera: "lidar 64", "lidar 16 of 53.13 degrees".

    Its lines have elevation angles from half a radian below the horizon to half a radian above, evenly (a
    single one is at the horizon), with 200 measurements each, evenly in azimuth, 85.7 degrees to both sides
    (OMNI-DC's virtual LiDAR). A measurement is that of the pixel on which its ray falls; rays outside of the
    image measure nothing, so that an image of a narrow field of view shows fewer lines.

    Args:
        lines: how many.
        field_of_view: vertical, in degrees, of a camera to assume for all images. OMNI-DC assumes 53.13,
            a focal length of the image's height. None: the image's own camera, where it is known, else that.

    Raises:
        UserError: there is no line, or the field of view is not between 0 and 180 degrees.
    """

    lines: int
    field_of_view: float | None = None

    def __post_init__(self) -> None:
        if self.lines < 1 or not 0 < self._assumed < 180:
            raise UserError(
                f"a LiDAR would have 1 line or more, and a field of view between 0 and 180 degrees, not "
                f"'{self.name}'"
            )

    @property
    def _assumed(self) -> float:
        return FIELD_OF_VIEW if self.field_of_view is None else self.field_of_view

    @property
    def name(self) -> str:
        """Such as "lidar 64"."""
        of = "" if self.field_of_view is None else f" of {self.field_of_view:g} degrees"
        return f"lidar {self.lines}{of}"

    def chosen(self, view: View, rng: np.random.Generator) -> MaskArray:
        """See `Selection`."""
        height, width = view.valid.shape
        camera = view.intrinsics
        if camera is None or self.field_of_view is not None:
            focal = height / 2 / math.tan(math.radians(self._assumed) / 2)
            camera = camera_matrix(focal, focal, width / 2, height / 2)  # OMNI-DC's principal point
        highest = HIGHEST if self.lines > 1 else 0.0
        elevation = np.radians(np.linspace(-highest, highest, self.lines))[:, None]
        azimuth = np.radians(np.linspace(-WIDEST, WIDEST, COLUMNS))[None]
        x, y, z = np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)
        columns = np.round(camera[0, 0] * x / z + camera[0, 2]).astype(int)
        rows = np.round(camera[1, 1] * y / z + camera[1, 2]).astype(int)
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        chosen = np.zeros((height, width), np.bool_)
        chosen[rows[inside], columns[inside]] = True
        return chosen


Detector = Literal["orb", "sift"]


@dataclass(frozen=True)
class Corners(Sensor):
    """The corners that OpenCV's ORB or SIFT finds in the image: "sift", "orb 300".

    As in OMNI-DC's protocol: all that are found with the detector's own settings (of ORB up to 100,000, by
    FAST's score), and random points instead, 1000 where no number is asked for, in an image in which fewer
    than 20 are found.

    Args:
        detector: which one finds them.
        count: the strongest so many of the corners whose depth is valid; None: all corners.

    Raises:
        UserError: the detector is another, or the count is below 1.
    """

    detector: Detector
    count: int | None = None

    def __post_init__(self) -> None:
        if self.detector not in ("orb", "sift") or (self.count is not None and self.count < 1):
            raise UserError(
                f"corners would be 'orb' or 'sift', with 1 or more where counted, not '{self.name}'"
            )

    @property
    def name(self) -> str:
        """Such as "orb 300"."""
        return self.detector if self.count is None else f"{self.detector} {self.count}"

    def chosen(self, view: View, rng: np.random.Generator) -> MaskArray:
        """See `Selection`."""
        valid, image = view.valid, np.ascontiguousarray(view.image)
        found = _detector(self.detector).detect(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
        if len(found) < FEWEST:
            return some_of(valid, self.count or INSTEAD, rng)
        # pixels by the strongest corner in each, the strongest first, whatever order the detector has
        ordered = sorted(found, key=lambda corner: (-corner.response, corner.pt[1], corner.pt[0]))
        places = dict.fromkeys((round(corner.pt[1]), round(corner.pt[0])) for corner in ordered)
        height, width = valid.shape
        pixels = [(y, x) for y, x in places if y < height and x < width and valid[y, x]]
        chosen = np.zeros(valid.shape, np.bool_)
        for y, x in pixels[: self.count]:
            chosen[y, x] = True
        return chosen


def _detector(name: Detector) -> Any:
    if name == "sift":
        return cv2.SIFT.create()
    return cv2.ORB.create(nfeatures=100000, scoreType=cv2.ORB_FAST_SCORE)
