"""ARKitScenes: rooms scanned by an iPad, and by a laser (Baruch et al. 2021)."""

import csv
import io
import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float64

from depthkd.datasets.cameras import read_pincam
from depthkd.datasets.dataset import Decoded, DepthDataset
from depthkd.errors import UserError
from depthkd.formats.depth import read_depth_png
from depthkd.formats.images import decode_image
from depthkd.formats.sample import Sample
from depthkd.geometry import turn_intrinsics

Truth = Literal["highres", "lowres"]

FRAME = re.compile(
    r"(?P<scan>(?:.*/)?(?P<video>\d{8})/(?:\d{8}_frames/)?)(?P<images>wide|color|lowres_wide)/"
    r"(?P<name>(?P=video)_(?P<time>\d+\.\d+))\.png"
)
IMAGES: dict[Truth, tuple[str, ...]] = {"highres": ("wide", "color"), "lowres": ("lowres_wide",)}
APART = (-0.001, 0.001)  # s: what an image's time may differ by from its camera's, as in the owners' loader
TABLE = "metadata.csv"
TURNS = {"Up": 0, "Left": 3, "Down": 2, "Right": 1}  # where the sky is in a file -> quarter turns to the left


class ARKitScenes(DepthDataset):
    """Lines `image depth`; PNGs in millimeters, 0 not measured.

    "highres": images of 1920 x 1440 with the depth that the laser's mesh has from there, as in the owners'
    upsampling set; "lowres": images of 256 x 192 with what the iPad measured, as in their 3dod and raw sets.
    An image goes with the depth whose name, which has the time, is its own. Cameras are read from
    <images>_intrinsics/*.pincam where they are there; the upsampling set has none. Images are turned upright
    where the owners' metadata.csv says on which side the sky is.

    Args:
        root: the folder, tar or zip.
        split: "train" (also where None), all images but those below Validation/; "val", the latter; or a
            list.
        truth: "highres" or "lowres".
    """

    name = "arkitscenes"
    title = "ARKitScenes"
    splits: ClassVar = {"train": None, "val": None}
    layout = (
        "{Training,Validation}/<video>/{wide,highres_depth}/*.png or .../{lowres_wide,lowres_depth}/*.png, "
        "and metadata.csv, as the owners' download_data.py leaves them"
    )
    places = ("arkitscenes", "ARKitScenes")
    folders = ("", "upsampling", "raw", "3dod", "depth_upsampling")

    def __init__(self, root: str | Path, split: str | Path | None = None, truth: Truth = "highres") -> None:
        super().__init__(root, split)
        self.truth = truth

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`.

        Raises:
            MissingFileError: the root holds no images with such depth.
        """
        names = self.archive.names()
        held = set(names)
        frames = [match for name in names if (match := FRAME.fullmatch(name))]
        lines = [
            f"{m[0]}\t{depth}"
            for m in frames
            if m["images"] in IMAGES[self.truth]
            and (depth := f"{m['scan']}{self.truth}_depth/{m['name']}.png") in held
        ]
        if not lines:
            raise self.nothing_here(f"images with {self.truth}_depth")
        return self.of_split(split, "Validation", lines)

    @cached_property
    def skies(self) -> dict[str, str]:
        """Video -> where the sky is in its images, "Up", "Left", "Down" or "Right", by metadata.csv.

        Raises:
            UserError: that is another table.
        """
        if TABLE not in self.archive:
            return {}
        text = io.StringIO(self.archive.read(TABLE).decode("utf-8-sig", errors="replace"))
        try:
            return {row["video_id"]: row["sky_direction"] for row in csv.DictReader(text)}
        except (KeyError, csv.Error) as error:
            raise UserError(
                f"data set '{self.name}': {TABLE} is not the owners' table, with video_id and sky_direction: "
                f"{error}"
            ) from error

    def image_file(self, index: int) -> tuple[str, bytes | None]:
        """See `Dataset.image_file`."""
        path, data = super().image_file(index)
        return path, None if self._turns(self.line(index)) else data

    def intrinsics(self, line: list[str]) -> Float64[np.ndarray, "3 3"] | None:
        """The image's camera, where the scan has it."""
        match = FRAME.fullmatch(line[0])
        if match is None:
            return None
        stem = f"{match['scan']}{match['images']}_intrinsics/{match['video']}_"
        times = (match["time"], *(f"{float(match['time']) + apart:.3f}" for apart in APART))
        path = next((path for time in times if (path := f"{stem}{time}.pincam") in self.archive), None)
        if path is None:
            return None
        return read_pincam(self.archive.read(path), path)

    def sample_of(self, line: list[str]) -> Sample:
        """See `ListedDataset.sample_of`; turned upright."""
        sample, turns = super().sample_of(line), self._turns(line)
        assert sample.depth is not None and sample.mask is not None
        camera = sample.intrinsics
        if camera is not None:
            height, width = sample.image.shape[:2]
            camera = turn_intrinsics(torch.from_numpy(camera), height, width, turns).numpy()
        image, depth, mask = (
            np.ascontiguousarray(np.rot90(array, turns))
            for array in (sample.image, sample.depth, sample.mask)
        )
        return replace(sample, image=image, depth=depth, mask=mask, intrinsics=camera)

    def decode(self, line: list[str]) -> Decoded:
        """See `DepthDataset.decode`; as the files have it."""
        image = decode_image(self.archive.read(line[0]), line[0])
        return image, *read_depth_png(self.archive.read(line[1]), 1 / 1000, name=line[1])

    def _turns(self, line: list[str]) -> int:
        """Quarter turns to the left that make an image upright."""
        match = FRAME.fullmatch(line[0])
        return 0 if match is None else TURNS.get(self.skies.get(match["video"], ""), 0)
