"""nuScenes: streets with LiDAR's depth, drawn into the camera's image (Caesar et al. 2020)."""

import json
import re
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image
from depthkd.formats.sample import BadSample
from depthkd.geometry import camera_matrix

IMAGE = re.compile(r"(?P<stem>(?:.*/)?(?P<camera>CAM_[A-Z_]+)/[^/]+)\.(jpg|png)")
CAMERAS = "intrinsics.json"


class NuScenes(DepthDataset):
    """Images below `samples/`, and below `depth/` a PNG for each in 1/256 meter.

    nuScenes ships LiDAR points and not depth: `depth/CAM_FRONT/<name>.png` is what is drawn from them,
    0 where no point fell, as UniDepth has it. A file intrinsics.json, {camera: [fx, fy, cx, cy]}, is
    read if it is there. `split` names a list with lines `image depth`.
    """

    name = "nuscenes"
    title = "nuScenes"
    layout = "samples/CAM_*/*.jpg and depth/CAM_*/*.png, 16-bit, 1/256 m"
    places = ("nuscenes", "nuScenes")

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`.

        Raises:
            MissingFileError: the root holds no images with depth.
        """
        names = [name for name in self.archive.names() if IMAGE.fullmatch(name) and "samples/" in name]
        lines = [f"{name} {truth}" for name in names if (truth := self._truth(name)) in self.archive]
        if not lines:
            raise self.nothing_here("images with depth")
        return lines

    @staticmethod
    def _truth(image: str) -> str:
        head, _, tail = image.rpartition("samples/")
        return f"{head}depth/{PurePosixPath(tail).with_suffix('.png')}"

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The image's camera, where intrinsics.json knows it.

        Raises:
            BadSample: that file is broken.
        """
        match = IMAGE.fullmatch(line[0])
        if match is None or CAMERAS not in self.archive:
            return None
        try:
            known = json.loads(self.archive.read(CAMERAS)).get(match["camera"])
            return None if known is None else camera_matrix(*(float(number) for number in known))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise BadSample(
                f"{CAMERAS} is broken: {error}; it would be {{camera: [fx, fy, cx, cy]}}"
            ) from error

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        return image, *read_depth_png(self.archive.read(line[1]), 1 / 256, name=line[1])
