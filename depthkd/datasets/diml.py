"""DIML/CVL RGB-D: indoors by a Kinect v2, outdoors by a stereo camera (Cho et al. 2021)."""

import re
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.errors import UserError
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_gray_png, decode_image
from depthkd.formats.sample import BadSample

Resolution = Literal["HR", "LR"]

FILE = re.compile(r"(?P<place>(?:.*/)?)(?P<folder>\w+)/(?P<frame>[^/]+?)(?:_[a-z]+)*\.png")
PARTNERS = {  # folder of images -> of their depth, and of its confidence
    "color": ("depth_filled",), "col": ("up_png",), "outleft": ("depthmap", "confidencemap"),
    "left": ("depth", "conf"),
}  # fmt: skip
UNMEASURED = (0, 65535)


class DIML(DepthDataset):
    """Lines `image depth`, of the outdoor images also with a confidence behind; PNGs in millimeters.

    Indoor depth is Kinect's with its holes filled, outdoor depth of a stereo matcher, which has a confidence
    for each pixel. In the owners' sample, images are below color/ and outleft/, in their raw data below col/
    and left/; files of one frame have the same name up to suffixes such as _c or _depth. The data has no
    cameras.

    Args:
        root: the folder, tar or zip.
        split: "train" (also where None), all images but those below test/; "test", the latter; or a list.
        resolution: which of the sample's sizes counts, the folder "HR" (1344 x 756 indoors, 1920 x 1080
            outdoors) or "LR".
        confidence: pixels with less are not valid, from 0 to 1, which is white. The owners name no value.
    """

    name = "diml"
    title = "DIML"
    splits: ClassVar = {"train": None, "test": None}
    layout = (
        "{train,test}/{HR,LR}/<scene>/{color,depth_filled}/*.png indoors, {train,test}/{HR,LR}/"
        "{outleft,depthmap,confidencemap}/*.png outdoors, as in the owners' sample; in their raw data "
        "<scene>/.../{col,up_png}/*.png and <date>/.../{left,depth,conf}/*.png"
    )
    places = ("diml", "DIML")

    def __init__(
        self,
        root: str | Path,
        split: str | Path | None = None,
        resolution: Resolution = "HR",
        confidence: float | int = 0.6,
    ) -> None:
        super().__init__(root, split)
        if not 0 <= confidence <= 1:
            raise UserError(f"data set '{self.name}': confidence is from 0 to 1, and not {confidence:g}")
        self.resolution = resolution
        self.confidence = confidence

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`.

        Raises:
            MissingFileError: the root holds no images.
        """
        other = "/LR/" if self.resolution == "HR" else "/HR/"
        names = (name for name in self.archive.names() if other not in f"/{name}")
        files = {match.groups(): match[0] for name in names if (match := FILE.fullmatch(name))}
        lines = []
        for (place, folder, frame), image in files.items():
            if folder in PARTNERS:
                partners = (files.get((place, k, frame), f"{place}{k}/{frame}.png") for k in PARTNERS[folder])
                lines.append("\t".join([image, *partners]))
        if not lines:
            raise self.nothing_here("images")
        return self.of_split(split, "test", lines)

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedDataset.paths`."""
        return line[:3]

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        depth, mask = read_depth_png(self.archive.read(line[1]), 1 / 1000, 0, UNMEASURED, line[1])
        if len(line) > 2:
            confidence = decode_gray_png(self.archive.read(line[2]), line[2])
            if confidence.shape != mask.shape:
                raise BadSample(f"{line[2]} has {confidence.shape} pixels, but {line[1]} {mask.shape}")
            mask = mask & (confidence >= self.confidence * np.iinfo(confidence.dtype).max)
        return image, depth, mask
