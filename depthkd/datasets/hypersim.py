"""Hypersim: rendered rooms (Roberts et al. 2021), as their owners or Marigold ship them."""

import csv
import io
import re
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float64

from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.datasets.encodings import measured, read_hdf5
from depthkd.errors import MissingFileError, UserError
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image
from depthkd.formats.sample import Sample
from depthkd.geometry import camera_matrix, distance_to_z
from depthkd.shapes import DepthArray, MaskArray

FOCAL = 886.81  # px, at 1024 x 768
SPLIT_TABLE = "metadata_images_split_scene_v1.csv"
PREPARED = re.compile(r"(?P<folder>(?:.*/)?)rgb_(?P<frame>cam_\d+_fr\d+)\.png")
SHIPPED = re.compile(r"(?P<stem>.*/images/scene_[^/]+)_final_preview/(?P<frame>frame\.\d+)\.tonemap\.jpg")


def intrinsics(height: int = 768, width: int = 1024) -> Float64[np.ndarray, "3 3"]:
    """The camera that Marigold and Depth Anything V2 take all of Hypersim's images to have.

    The principal point is the image's center, which in our pixels is half a pixel less than half the
    size. A few scenes have other, tilted cameras; those two ignore it.
    """
    focal = FOCAL * width / 1024
    return camera_matrix(focal, focal, (width - 1) / 2, (height - 1) / 2)


def read_distance(data: bytes, name: str) -> tuple[DepthArray, MaskArray]:
    """frame.NNNN.depth_meters.hdf5: meters *to the camera's center*, NaN where nothing is; as z.

    Raises:
        BadSample: it is no such file.
    """
    distance = read_hdf5(data, "dataset", name)
    camera = torch.from_numpy(intrinsics(*distance.shape))
    return measured(distance_to_z(torch.from_numpy(distance), camera).numpy())


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


class Hypersim(DepthDataset):
    """Images of 1024 x 768, with z in front of the camera.

    Of the owners' files, tone-mapped previews and depth_meters.hdf5, metadata_images_split_scene_v1.csv
    says which belong to a split: 7386 to "val", on which Depth Anything V2's metric models are validated.
    Marigold's tars have rgb_*.png beside depth_plane_*.png in millimeters; where several of them are unpacked
    beside each other, the folders train/, val/ and test/ say the split. The owners' distances to the camera's
    center become z.

    Args:
        root: the folder, tar or zip.
        split: "train", "val", "test", or a list with lines `image depth`. None: "val" where the table is
            there, else all images that the root holds.
    """

    name = "hypersim"
    title = "Hypersim"
    layout = (
        "<scene>/{rgb,depth_plane}_cam_NN_frNNNN.png, as Marigold's hypersim_processed_val.tar has them, or "
        "<scene>/images/scene_cam_NN_{final_preview,geometry_hdf5}/* and metadata_images_split_scene_v1.csv, "
        "as their owners ship them"
    )
    splits: ClassVar = {"train": None, "val": None, "test": None}
    places = (
        "hypersim/hypersim_processed_val.tar",
        "hypersim/hypersim_processed_val",
        "hypersim/val",
        "hypersim",
    )

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`.

        Raises:
            MissingFileError: the root holds neither naming's images, or nothing says of which split they are.
        """
        if SPLIT_TABLE in self.archive:
            try:
                return partition_lines(self.archive.read(SPLIT_TABLE).decode("utf-8-sig"), split or "val")
            except (KeyError, ValueError, TypeError, csv.Error) as error:
                raise UserError(
                    f"data set '{self.name}': {self.root / SPLIT_TABLE} is not the owners' table, with "
                    f"scene_name, camera_name, frame_id, included_in_public_release and "
                    f"split_partition_name: {error}"
                ) from error
        pairs = [(name, truth_of(name)) for name in self.archive.names()]
        lines = [f"{image} {truth}" for image, truth in pairs if truth]
        if not lines:
            raise self.nothing_here("images")
        if split is None:
            return lines
        chosen = [line for line in lines if f"/{split}/" in f"/{line}"]
        if not chosen:
            raise MissingFileError(
                f"data set '{self.name}': {self.root} does not say which images are of split '{split}': it "
                f"has neither {SPLIT_TABLE} nor a folder {split}/; leave the split out to take all images"
            )
        return chosen

    @property
    def default_split(self) -> str | None:
        """None: the root decides."""
        return None

    def sample_of(self, line: list[str]) -> Sample:
        """See `ListedDataset.sample_of`; images of any size have the camera of theirs."""
        sample = super().sample_of(line)
        return replace(sample, intrinsics=intrinsics(*sample.image.shape[:2]))

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`."""
        image = decode_image(self.archive.read(line[0]), line[0])
        data = self.archive.read(line[1])
        if line[1].endswith(".png"):
            return image, *read_depth_png(data, 1 / 1000, name=line[1])
        return image, *read_distance(data, line[1])
