"""DIODE: 771 validation images, 325 indoors and 446 outdoors (Vasiljevic et al. 2019)."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.formats.depth import read_depth_npy
from depthkd.formats.images import decode_image
from depthkd.geometry import camera_matrix

Part = Literal["all", "indoor", "outdoor"]

FOLDERS: dict[Part, tuple[str, ...]] = {
    "all": ("indoors", "outdoor"),
    "indoor": ("indoors",),
    "outdoor": ("outdoor",),
}
# px, of 1024 x 768; the devkit's intrinsics.txt has 512 and 384, half the size, so it counts from the corner
CAMERA = (886.81, 927.06, 512 - 0.5, 384 - 0.5)


class DIODE(DepthDataset):
    """Lines `rgb depth mask`; arrays in meters, with masks of their own.

    Args:
        part: "all", "indoor" or "outdoor".
        root, split: see `ListedDataset`.
    """

    name = "diode"
    title = "DIODE"
    splits: ClassVar = {"test": "diode_val_771.txt"}
    layout = "{indoors,outdoor}/scene_*/scan_*/*{.png,_depth.npy,_depth_mask.npy}, as in DIODE's val.tar"
    words = 3
    places = ("diode/diode_val.tar", "diode/diode_val", "diode")
    folders = ("", "val")

    def __init__(self, root: str | Path, split: str | Path | None = None, part: Part = "all") -> None:
        super().__init__(root, split)
        self.part = part
        self.name = "diode" if part == "all" else f"diode_{part}"

    def has_truth(self, line: list[str]) -> bool:
        """Lines of the other part do not count."""
        return line[0].split("/")[0] in FOLDERS[self.part]

    def group(self, index: int) -> str | None:
        """ "indoors" or "outdoor", where both parts are tested."""
        return self.line(index)[0].split("/")[0] if self.part == "all" else None

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedDataset.paths`."""
        return line[:3]

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"]:
        """The scanner's camera, of which all images are."""
        return camera_matrix(*CAMERA)

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        depth, measured = read_depth_npy(self.archive.read(line[1]), name=line[1])
        listed, _ = read_depth_npy(self.archive.read(line[2]), name=line[2])
        return image, depth, measured & (listed > 0) & (depth > 0)
