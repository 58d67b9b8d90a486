"""Any images, with depth files and cameras beside them: in folders, in tars, in LMDBs."""

from collections.abc import Sequence
from copy import copy
from itertools import repeat
from pathlib import Path
from typing import Literal

from depthkd.batch import DepthSpace
from depthkd.datasets.dataset import Dataset
from depthkd.datasets.files import File, file_bytes, found_files
from depthkd.datasets.intrinsics import cameras_of
from depthkd.datasets.pairing import in_order, partners, without_shared
from depthkd.datasets.raw_depth import RawDepth
from depthkd.errors import UserError
from depthkd.formats.depth import Number
from depthkd.formats.images import IMAGE_SUFFIXES, decode_image
from depthkd.formats.sample import BadSample, Sample, content_digest
from depthkd.geometry import camera_matrix

DEPTH_SUFFIXES = ("png", "npy")


class FolderDataset(Dataset):
    """Images by patterns, with their depth files or without.

    Args:
        images: files, folders (not their subfolders), patterns such as 'photos/*.jpg' or 'photos/**', or
            @list.txt with one on each line. A tar stands for the images in it and in the tars that it holds,
            an LMDB (its folder) for all its values.
        depth: the depth files, likewise, .png of 8 or 16 bits or .npy; None: there is no depth.
        space: what their values are.
        scale, offset: value = number * scale + offset.
        invalid: numbers that mean "not measured".
        max_depth: values farther than this are not valid: meters in a metric space.
        intrinsics: fx, fy, cx, cy of all images in pixels, top-left pixel's center at (0, 0); or files that
            have them for each, as `depthkd.datasets.intrinsics` reads them.
        pair: whether depth files belong to images by "name", or in their "order".
        title: what papers call the data set.

    Raises:
        MissingFileError: a pattern matches nothing, or there is no file of intrinsics.
        UserError: files cannot be paired, an image has no intrinsics, or a setting makes no sense.
    """

    name = "folder"

    def __init__(
        self,
        images: str | Sequence[str],
        depth: str | Sequence[str] | None = None,
        space: str = "metric depth",
        scale: Number = 1.0,
        offset: Number = 0.0,
        invalid: Sequence[Number] = (0,),
        max_depth: Number | None = None,
        intrinsics: str | Sequence[Number] | None = None,
        pair: Literal["name", "order"] = "name",
        title: str | None = None,
    ) -> None:
        self.title = title
        self.raw = None
        if depth is not None:
            self.raw = RawDepth(DepthSpace.parse(space), scale, offset, invalid, max_depth)
        self.space = None if self.raw is None else self.raw.space
        self.images, self.depths = find_pairs(images, depth, pair)
        self.cameras = cameras_of(intrinsics, self.images)

    def __len__(self) -> int:
        return len(self.images)

    def between(self, start: int, stop: int) -> "FolderDataset":
        """See `Dataset.between`."""
        found = copy(self)
        found.images, found.depths = self.images[start:stop], self.depths[start:stop]
        found.cameras = self.cameras[start:stop]
        return found

    def key(self, index: int) -> str:
        """The image's path."""
        return str(self.images[index])

    def sample(self, index: int) -> Sample:
        """See `Dataset.sample`."""
        path, depth_path = self.images[index], self.depths[index]
        data = file_bytes(path)
        image = decode_image(data, str(path))
        camera, digest = self.cameras[index], content_digest(data)
        intrinsics = None if camera is None else camera_matrix(*camera)
        if self.raw is None or depth_path is None:
            return Sample(str(path), image, intrinsics=intrinsics, digest=digest)
        depth, mask = self.raw.read(depth_path)
        if depth.shape != image.shape[:2]:
            height, width = image.shape[:2]
            found = f"{depth.shape[1]} x {depth.shape[0]}"
            raise BadSample(f"{depth_path} is {found}, but its image {path} is {width} x {height}")
        return Sample(str(path), image, depth, mask, intrinsics, self.raw.space, digest=digest)

    def image_file(self, index: int) -> tuple[str, bytes | None]:
        """See `Dataset.image_file`."""
        return self.images[index].name, file_bytes(self.images[index])

    def source(self, index: int) -> dict[str, str]:
        """See `Dataset.source`."""
        depth = self.depths[index]
        return {
            **super().source(index),
            "image": self.images[index].name,
            **({} if depth is None else {"depth": depth.name}),
        }

    def truth_name(self, index: int) -> str:
        """See `Dataset.truth_name`."""
        return str(self.depths[index])

    def advice(self, index: int, value: float) -> str:
        """See `Dataset.advice`."""
        depth = self.depths[index]
        assert self.raw is not None and depth is not None
        return self.raw.advice(depth, value)


def find_pairs(
    images: str | Sequence[str],
    depths: str | Sequence[str] | None = None,
    pair: Literal["name", "order"] = "name",
) -> tuple[list[File], list[File | None]]:
    """Images with their depth files, which `depthkd.datasets.pairing` finds by their names.

    A pattern is what `depthkd.datasets.files.found_files` reads.

    Args:
        images, depths: patterns.
        pair: "name", or "order": the first image with the first depth file, and so on.

    Raises:
        MissingFileError: a pattern matches nothing.
        UserError: files cannot be paired; the sentence names one.
    """
    pictures = _files(images, IMAGE_SUFFIXES)
    if depths is None:
        return pictures, list(repeat(None, len(pictures)))
    maps = _files(depths, DEPTH_SUFFIXES)
    files = {Path(str(file)): file for file in [*maps, *pictures]}
    kept, others = without_shared([Path(str(file)) for file in pictures], [Path(str(file)) for file in maps])
    found = partners(kept, others) if pair == "name" else in_order(kept, others)
    return [files[path] for path in kept], [files[path] for path in found]


def _files(patterns: str | Sequence[str], suffixes: tuple[str, ...]) -> list[File]:
    files = found_files(patterns, suffixes)
    if not files:
        raise UserError("no images are given; name a file, a folder or a pattern")
    return files
