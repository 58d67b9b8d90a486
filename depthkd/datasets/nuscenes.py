"""nuScenes: streets with LiDAR's depth, drawn into the camera's image (Caesar et al. 2020)."""

import json
import re
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float64

from depthkd.datasets.dataset import Decoded, DepthDataset, words_of
from depthkd.datasets.nuscenes_lidar import SAMPLES, TABLE, Recordings, drawn, read_points, read_recordings
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image
from depthkd.formats.sample import BadSample
from depthkd.geometry import camera_matrix

IMAGE = re.compile(r"(?P<stem>(?:.*/)?(?P<camera>CAM_[A-Z_]+)/[^/]+)\.(jpg|png)")
CAMERAS = "intrinsics.json"
POINTS = ".pcd.bin"


class NuScenes(DepthDataset):
    """Images of 1600 x 900 with the depth of LiDAR's points, where these fall.

    Points are drawn into the image of each key frame, as the owners' devkit does; see `nuscenes_lidar`. Where
    the root has below `depth/` what somebody has drawn before, such as depth/CAM_FRONT/<name>.png in 1/256
    meter, 0 where no point fell, that is read instead; a file intrinsics.json, {camera: [fx, fy, cx, cy]}, is
    read with it if it is there. All images that the root has with either count. `split` names a list with
    lines `image depth` or `image points`.
    """

    name = "nuscenes"
    title = "nuScenes"
    layout = (
        "v1.0-*/{sample_data,calibrated_sensor,ego_pose}.json, samples/CAM_*/*.jpg and "
        "samples/LIDAR_TOP/*.pcd.bin, as the owners' archives unpack; or samples/CAM_*/*.jpg and "
        "depth/CAM_*/*.png, 16-bit, 1/256 m"
    )
    places = ("nuscenes", "nuScenes")

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`.

        Raises:
            MissingFileError: the root holds no images with depth or points.
        """
        names = self.archive.names()
        held = set(names)
        images = [name for name in names if IMAGE.fullmatch(name) and SAMPLES in name]
        lines = [f"{name}\t{truth}" for name in images if (truth := self._truth(name)) in held]
        if not lines and any(TABLE.fullmatch(name) for name in names):
            lines = [f"{name}\t{scan}" for name in images if (scan := self.recordings.lidar(name)) in held]
        if not lines:
            raise self.nothing_here("images with depth or points")
        return lines

    def listed(self) -> list[str]:
        """See `ListedDataset.listed`. Where points are to be drawn, the tables are read here: once, and not
        again in every process that packs."""
        lines = super().listed()
        if any(words_of(line)[1].endswith(POINTS) for line in lines):
            _ = self.recordings
        return lines

    @cached_property
    def recordings(self) -> Recordings:
        """What the owners' tables say of the sensors.

        Raises:
            MissingFileError: there are none.
            UserError: they are broken.
        """
        tables = [name for name in self.archive.names() if TABLE.fullmatch(name)]
        if not tables:
            raise self.nothing_here("v1.0-*/sample_data.json, without which no points can be drawn")
        return read_recordings(self.archive, tables)

    @staticmethod
    def _truth(image: str) -> str:
        head, _, tail = image.rpartition(SAMPLES)
        return f"{head}depth/{PurePosixPath(tail).with_suffix('.png')}"

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The image's camera, where the owners' tables or intrinsics.json know it.

        Raises:
            BadSample: that file is broken.
        """
        if line[1].endswith(POINTS):
            return self.recordings.camera(line[0])
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
        if line[1].endswith(POINTS):
            points = read_points(self.archive.read(line[1]), line[1])
            points = self.recordings.in_camera(points, line[1], line[0])
            return image, *drawn(points, self.recordings.camera(line[0]), *image.shape[:2])
        return image, *read_depth_png(self.archive.read(line[1]), 1 / 256, name=line[1])
