"""Hypersim's validation scenes (Roberts et al. 2021), as Marigold or their owners ship them."""

import csv
import io
import re

import numpy as np
from jaxtyping import Float64

from depthkd.benchmarks.benchmark import Unmeasured
from depthkd.benchmarks.files import Decoded, FileBenchmark
from depthkd.errors import MissingFileError
from depthkd.formats.datasets import hypersim_intrinsics, read_hypersim
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image
from depthkd.metrics.catalogue import MetricSet

SPLIT_TABLE = "metadata_images_split_scene_v1.csv"
PREPARED = re.compile(r"(?P<folder>(?:.*/)?)rgb_(?P<frame>cam_\d+_fr\d+)\.png")
SHIPPED = re.compile(r"(?P<stem>.*/images/scene_[^/]+)_final_preview/(?P<frame>frame\.\d+)\.tonemap\.jpg")


def shipped_line(scene: str, camera: str, frame: int) -> str:
    """`image depth` of one frame, by the owners' names."""
    stem = f"{scene}/images/scene_{camera}"
    return (
        f"{stem}_final_preview/frame.{frame:04d}.tonemap.jpg "
        f"{stem}_geometry_hdf5/frame.{frame:04d}.depth_meters.hdf5"
    )


def partition_lines(table: str, partition: str) -> list[str]:
    """`image depth` of every released frame of a partition ("train", "val", "test") of the owners' table."""
    return [
        shipped_line(row["scene_name"], row["camera_name"], int(row["frame_id"]))
        for row in csv.DictReader(io.StringIO(table))
        if row["split_partition_name"] == partition and row["included_in_public_release"] == "True"
    ]


def truth_of(image: str) -> str | None:
    """The depth file that belongs to an image, by either naming; None if the file is no image of either."""
    if match := PREPARED.fullmatch(image):
        return f"{match['folder']}depth_plane_{match['frame']}.png"
    if match := SHIPPED.fullmatch(image):
        return f"{match['stem']}_geometry_hdf5/{match['frame']}.depth_meters.hdf5"
    return None


class Hypersim(FileBenchmark):
    """Images of 1024 x 768; z in front of the camera, 1e-5 to 65 m as Marigold has it.

    The root's files say what the samples are. Marigold's tar has rgb_*.png beside depth_plane_*.png
    in millimetres; all of them count. Of the owners' files, tone-mapped previews and
    depth_meters.hdf5, those count whose partition in metadata_images_split_scene_v1.csv is "val":
    7386, as Depth Anything V2's metric models are validated on. Without that table in the root, all
    of the owners' scenes count that are there. The owners' distances to the camera's centre become z.
    `split` names a list with lines `image depth`.
    """

    name = "hypersim"
    data_set = "Hypersim"
    layout = (
        "<scene>/{rgb,depth_plane}_cam_NN_frNNNN.png, as Marigold's hypersim_processed_val.tar has them, or "
        "<scene>/images/scene_cam_NN_{final_preview,geometry_hdf5}/* and metadata_images_split_scene_v1.csv, "
        "as their owners ship them"
    )
    figures = (MetricSet.DEPTH, MetricSet.EDGES)
    unmeasured: Unmeasured = "nearest"
    min_depth = 1e-5
    max_depth = 65.0
    own_resolution = "native"

    def listed(self) -> list[str]:
        """See `ListedBenchmark.listed`.

        Raises:
            MissingFileError: the root holds neither naming's images.
        """
        if self.split is not None:
            return super().listed()
        if SPLIT_TABLE in self.archive:
            return partition_lines(self.archive.read(SPLIT_TABLE).decode(), "val")
        pairs = [(name, truth_of(name)) for name in self.archive.names()]
        lines = [f"{image} {truth}" for image, truth in pairs if truth]
        if not lines:
            raise MissingFileError(
                f"benchmark '{self.name}': {self.root} has no images; it would hold {self.layout}"
            )
        return lines

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"]:
        """The camera that all images are taken to have."""
        return hypersim_intrinsics()

    def decode(self, line: list[str]) -> Decoded:
        """See `FileBenchmark.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        data = self.archive.read(line[1])
        if line[1].endswith(".png"):
            return image, *read_depth_png(data, 1 / 1000, name=line[1])
        return image, *read_hypersim(data, line[1])
