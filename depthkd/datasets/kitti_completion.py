"""KITTI's depth completion: one scan of the LiDAR, and the depth of several (Uhrig et al. 2017)."""

import re
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.cameras import read_matrix_words
from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.datasets.kitti import KITTI, camera_of_day
from depthkd.errors import UserError
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image
from depthkd.shapes import DepthArray

SELECTED = re.compile(
    r"(?P<folder>(?:.*/)?val_selection_cropped/)image/(?P<drive>20\d\d_\d\d_\d\d_drive_\d{4}_sync)"
    r"_image_(?P<frame>\d{10})_(?P<camera>image_0[23])\.png"
)
VALIDATED = re.compile(
    r"(?:.*/)?val/(?P<drive>(?P<day>20\d\d_\d\d_\d\d)_drive_\d{4}_sync)/proj_depth/groundtruth/"
    r"(?P<camera>image_0[23])/(?P<frame>\d{10})\.png"
)
LINES = 64  # of KITTI's LiDAR


class KITTICompletion(DepthDataset):
    """Lines `rgb depth sparse`, or with a file of the camera behind; PNGs in 1/256 meter, 0 not measured.

    Args:
        root: the folder, tar or zip.
        split: "selection" (also where None), the owners' 1,000 images of 352 x 1216; "val", all 6,852 of the
            validation drives, at their whole size; or a list.
        lines: how many of the LiDAR's 64 lines are kept: see `some_lines`.

    Raises:
        UserError: there cannot be so many lines.
    """

    name = "kitti_completion"
    title = "KITTI"
    splits: ClassVar = {"selection": None, "val": None}
    layout = (
        "depth_selection/val_selection_cropped/{image,velodyne_raw,groundtruth_depth,intrinsics}/*, as the "
        "owners' data_depth_selection.zip; of the split val, data_depth_annotated/val, data_depth_velodyne/"
        "val and <date>/<drive>/image_0{2,3}/data/*.png, in the root or below raw/"
    )
    places = ("kitti_completion", "kitti_depth", "data_depth_selection.zip", "depth_selection")
    folders = (
        *KITTI.folders, "rawdata", "data_depth_velodyne", "data_depth_velodyne/val", "data_depth_selection",
    )  # fmt: skip
    words = 3

    def __init__(self, root: str | Path, split: str | Path | None = None, lines: int = LINES) -> None:
        super().__init__(root, split)
        if not 1 <= lines <= LINES or LINES % lines:
            raise UserError(f"data set '{self.name}': lines would be 64, 32, 16, 8, 4, 2 or 1, not {lines}")
        self.kept_lines = lines

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`."""
        if split != "val":
            return self.lines_like(
                SELECTED,
                lambda m: [
                    f"{m['folder']}{folder}/{m['drive']}_{kind}_{m['frame']}_{m['camera']}.{suffix}"
                    for folder, kind, suffix in (
                        ("groundtruth_depth", "groundtruth_depth", "png"),
                        ("velodyne_raw", "velodyne_raw", "png"),
                        ("intrinsics", "image", "txt"),
                    )
                ],
            )
        found = [match for name in self.archive.names() if (match := VALIDATED.fullmatch(name))]
        if not found:
            raise self.nothing_here("depth maps of validation drives")
        return [
            f"{m['day']}/{m['drive']}/{m['camera']}/data/{m['frame']}.png\t{m[0]}\t"
            f"{m['drive']}/proj_depth/velodyne_raw/{m['camera']}/{m['frame']}.png"
            for m in found
        ]

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedDataset.paths`."""
        return line[:4]

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The image's own, of its file; without one, that of the day, as of `KITTI`."""
        if len(line) > 3:
            return read_matrix_words(self.archive.read(line[3]), line[3])
        return camera_of_day(line[0])

    def sparse(self, line: list[str]) -> DepthArray:
        """The scan."""
        sparse, _ = read_depth_png(self.archive.read(line[2]), 1 / 256, name=line[2])
        camera = self.intrinsics(line)
        if self.kept_lines == LINES:
            return sparse
        if camera is None:
            raise UserError(
                f"data set '{self.name}': the camera of {line[0]} is not known, which tells the LiDAR's "
                "lines apart; leave out lines"
            )
        return some_lines(sparse, camera, self.kept_lines)

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        return image, *read_depth_png(self.archive.read(line[1]), 1 / 256, name=line[1])


def some_lines(sparse: DepthArray, camera: Float64[np.ndarray, "3 3"], lines: int) -> DepthArray:
    """A scan of 64 lines as a LiDAR with fewer lines would have it, as OMNI-DC's protocol takes them.

    The range of the points' elevation angles is parted evenly into 64, and each point has the number of the
    nearest of the 65 limits, from the top; every (64 / `lines`)-th number is kept.

    Args:
        sparse: the scan, in meters, 0 where nothing was measured.
        camera: its image's.
        lines: how many to keep, a divisor of 64.
    """
    rows, columns = np.nonzero(sparse)
    if not len(rows):
        return sparse
    x, y, _ = np.linalg.inv(camera) @ np.stack([columns, rows, np.ones(len(rows))])
    angle = np.arcsin(y / np.sqrt(x * x + y * y + 1))
    step = (angle.max() - angle.min()) / LINES
    number = np.round((angle - angle.min()) / step) if step > 0 else np.zeros(len(rows))
    kept = number % (LINES // lines) == 0
    fewer = np.zeros_like(sparse)
    fewer[rows[kept], columns[kept]] = sparse[rows[kept], columns[kept]]
    return fewer
