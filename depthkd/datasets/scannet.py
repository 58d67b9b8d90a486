"""ScanNet: rooms scanned with a depth camera (Dai et al. 2017); Marigold drew 800 of its images for tests."""

import re
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Float64

from depthkd.datasets.cameras import read_matrix
from depthkd.datasets.dataset import Decoded, DepthDataset, shipped_split
from depthkd.errors import MissingFileError
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image, image_size

FRAME = re.compile(r"(?P<folder>(?:.*/)?(?P<scene>(?P<room>scene\d{4})_\d\d)/)color/(?P<frame>\d+)\.jpg")
SCENE = re.compile(r"scene\d{4}_\d\d")
CAMERAS = ("intrinsic/intrinsic_depth.txt", "intrinsics_depth.txt")  # of a scan, and in scannet_frames_25k
UNMEASURED = (0, 65535)
SAME_SHAPE = 0.01  # by which the shapes of image and depth may differ: 1296 x 968 and 640 x 480 do by .004


class ScanNet(DepthDataset):
    """Lines `rgb depth`; PNGs in millimeters, 0 and 65535 not measured.

    The owners export images of 1296 x 968 and depth of 640 x 480, registered to each other: "they can be
    resampled to the same resolution" (ScanNet/ScanNet#2). Images are averaged down to the size of the depth,
    which stays as it was measured, and have the camera of the depth. Marigold's tar has no cameras.

    Args:
        root: the folder, tar or zip.
        split: "test" (also where None), Marigold's 800 images; "train", all images of the root but those of
            rooms that "test" shows; or a list: with lines `rgb depth`, or with a scene in each line, such as
            the owners' scannetv2_train.txt, for all images of these scenes.
    """

    name = "scannet"
    title = "ScanNet"
    splits: ClassVar = {"test": "scannet_val_800.txt", "train": None}
    layout = (
        "<scene>/{color/*.jpg,depth/*.png}, as Marigold's scannet_val_sampled_800_1.tar has them, or with "
        "<scene>/intrinsic/intrinsic_depth.txt, as the owners' SensReader exports scans, or with "
        "<scene>/intrinsics_depth.txt, as in scannet_frames_25k"
    )
    places = ("scannet/scannet_val_sampled_800_1.tar", "scannet/scannet_val_sampled_800_1", "scannet")
    folders = ("", "scans", "scannet_frames_25k")

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`."""
        tested = shipped_split("scannet_val_800.txt")
        if split != "train":
            return tested
        rooms = {line.partition("_")[0] for line in tested}
        return [line for line in self._frames() if self._named(line, "room") not in rooms]

    def of_samples(self, lines: list[str]) -> list[str]:
        """See `ListedDataset.of_samples`; scenes stand for their images.

        Raises:
            MissingFileError: the root has none of a scene.
        """
        scenes = {line.strip() for line in lines}
        if not all(SCENE.fullmatch(scene) for scene in scenes):
            return lines
        frames = [line for line in self._frames() if self._named(line, "scene") in scenes]
        missing = sorted(scenes - {self._named(line, "scene") for line in frames})
        if missing:
            raise MissingFileError(
                f"data set '{self.name}': {self.root} has no images of {len(missing)} of the {len(scenes)} "
                f"scenes in {self.split}, {missing[0]} first; it would hold {self.layout}"
            )
        return frames

    def _frames(self) -> list[str]:
        return self.lines_like(FRAME, lambda m: [f"{m['folder']}depth/{m['frame']}.png"])

    @staticmethod
    def _named(line: str, part: str) -> str:
        match = FRAME.match(line)
        assert match is not None
        return match[part]

    def image_file(self, index: int) -> tuple[str, bytes | None]:
        """See `Dataset.image_file`."""
        path, data = super().image_file(index)
        depth = self.line(index)[1]
        if data is None or image_size(data, path) == image_size(self.archive.read(depth), depth):
            return path, data
        return path, None

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The camera of the depth, where the scene's folder has it."""
        folder = line[1].rpartition("depth/")[0]
        path = next((path for name in CAMERAS if (path := folder + name) in self.archive), None)
        return None if path is None else read_matrix(self.archive.read(path), path)

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        depth, mask = read_depth_png(self.archive.read(line[1]), 1 / 1000, 0, UNMEASURED, line[1])
        (height, width), (tall, wide) = depth.shape, image.shape[:2]
        if (height, width) != (tall, wide) and abs(wide * height / (tall * width) - 1) < SAME_SHAPE:
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        return image, depth, mask
