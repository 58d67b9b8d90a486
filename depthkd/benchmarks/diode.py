"""DIODE: 771 validation images, 325 indoors and 446 outdoors (Vasiljevic et al. 2019)."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from depthkd.benchmarks.files import Decoded, FileBenchmark
from depthkd.formats.datasets import camera_matrix
from depthkd.formats.depth import read_depth_npy
from depthkd.formats.images import decode_image

FOLDERS = {"all": ("indoors", "outdoor"), "indoor": ("indoors",), "outdoor": ("outdoor",)}
# px, of 1024 x 768; the devkit's intrinsics.txt has 512 and 384, half the size, so it counts from the corner
CAMERA = (886.81, 927.06, 512 - 0.5, 384 - 0.5)


class DIODE(FileBenchmark):
    """Lines `rgb depth mask`; arrays in metres, with masks of their own.

    Models run at a longer side of 640 px, 480 x 640, as Marigold's scripts have it. The range of .6 to 350 m
    clips predictions and leaves no pixel out. Papers print "DIODE" for the
    indoor part and for all of it: AbsRel .07 and .26 for one model, so say which.

    Args:
        part: "all", "indoor" or "outdoor".
        root, settings: see `FileBenchmark`.
    """

    name = "diode"
    data_set = "DIODE"
    split_name = "diode_val_771.txt"
    layout = "{indoors,outdoor}/scene_*/scan_*/*{.png,_depth.npy,_depth_mask.npy}, as in DIODE's val.tar"
    folders = ("", "val")
    min_depth = 0.6
    max_depth = 350.0
    own_resolution = "longer 640"
    clip_only = True

    def __init__(
        self,
        root: str | Path,
        part: Literal["all", "indoor", "outdoor"] = "all",
        **settings: Any,
    ) -> None:
        super().__init__(root, **settings)
        self.part = part
        self.name = "diode" if part == "all" else f"diode_{part}"

    def has_truth(self, line: list[str]) -> bool:
        """Lines of the other part do not count."""
        return line[0].split("/")[0] in FOLDERS[self.part]

    def group(self, index: int) -> str | None:
        """ "indoors" or "outdoor", where both parts are tested."""
        return self.line(index)[0].split("/")[0] if self.part == "all" else None

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedBenchmark.paths`."""
        return line[:3]

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"]:
        """The scanner's camera, of which all images are."""
        return camera_matrix(*CAMERA)

    def decode(self, line: list[str]) -> Decoded:
        """See `FileBenchmark.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        depth, measured = read_depth_npy(self.archive.read(line[1]), name=line[1])
        listed, _ = read_depth_npy(self.archive.read(line[2]), name=line[2])
        return image, depth, measured & (listed > 0) & (depth > 0)


class DIODEIndoor(DIODE):
    """The 325 indoor images alone, by a name of their own below a root of benchmarks.

    Args:
        root, settings: see `DIODE`.
    """

    name = "diode_indoor"

    def __init__(self, root: str | Path, **settings: Any) -> None:
        super().__init__(root, part="indoor", **settings)
