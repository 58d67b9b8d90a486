"""TUM RGB-D: sequences of a Kinect in offices and halls (Sturm et al. 2012)."""

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.errors import UserError
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image
from depthkd.geometry import camera_matrix

CAMERAS = {
    "freiburg1": (517.3, 516.5, 318.6, 255.3),
    "freiburg2": (520.9, 521.0, 325.1, 249.7),
    "freiburg3": (535.4, 539.2, 320.1, 247.6),
}  # px, of the color images, to which the depth is registered
APART = 0.02  # s between an image and its depth, at most; as the owners' associate.py
FACTOR = 1 / 5000  # m
LIST = "rgb.txt"

Stamped = tuple[float, str]
"""When a file was taken, in seconds, and its path."""


class TUMRGBD(DepthDataset):
    """Images of 640 x 480 with PNGs of 1/5000 m, 0 not measured.

    Color and depth are taken at different times: an image goes with the depth that is nearest in time, at
    most 20 ms apart, each used once, as the owners' associate.py pairs them. All sequences of the root
    count; `split` names a list with lines `image depth`.
    """

    name = "tum_rgbd"
    title = "TUM RGB-D"
    layout = "rgbd_dataset_freiburg*/{rgb.txt,depth.txt,rgb/*.png,depth/*.png}, as the owners' tars unpack"
    places = ("tum", "TUM", "tum_rgbd")

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`."""
        lists = [PurePosixPath(name) for name in self.archive.names() if PurePosixPath(name).name == LIST]
        if not lists:
            raise self.nothing_here("sequences")
        return [
            f"{image} {depth}"
            for path in lists
            for image, depth in associated(
                list(self._stamped(path)), list(self._stamped(path.with_name("depth.txt")))
            )
        ]

    def _stamped(self, path: PurePosixPath) -> Iterator[Stamped]:
        for number, line in enumerate(self.archive.read(str(path)).decode(errors="replace").splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            try:
                yield float(words[0]), str(path.parent / words[1])
            except (ValueError, IndexError) as error:
                raise UserError(
                    f"{path}, line {number} would be a time and a file, and is '{line}'"
                ) from error

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The camera of the image's sequence, which its folder's name tells."""
        return next((camera_matrix(*CAMERAS[name]) for name in CAMERAS if name in line[0]), None)

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        return image, *read_depth_png(self.archive.read(line[1]), FACTOR, name=line[1])


def associated(images: list[Stamped], depths: list[Stamped]) -> list[tuple[str, str]]:
    """Images with the depth nearest in time, closest pairs first, each file once; in the images' order."""
    depths = sorted(depths)
    times = [time for time, _ in depths]
    near = [
        (abs(time - times[j]), i, j)
        for i, (time, _) in enumerate(images)
        for j in range(bisect_left(times, time - APART), bisect_left(times, time + APART))
        if abs(time - times[j]) < APART
    ]
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for _, i, j in sorted(near):
        if i not in partner and j not in taken:
            partner[i] = j
            taken.add(j)
    return [(images[i][1], depths[partner[i]][1]) for i in sorted(partner)]
