"""NYUv2's own file, nyu_depth_v2_labeled.mat: 1449 labelled frames in MATLAB's version 7.3, which is HDF5."""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float32, UInt8

from depthkd.datasets.archive import Archive
from depthkd.errors import UserError
from depthkd.formats.sample import BadSample

NAME = "nyu_depth_v2_labeled.mat"
NUMBER = re.compile(r"(rgb|depth|filled)_(\d+)\.\w+$")
ARRAYS = {"rgb": "images", "depth": "rawDepths", "filled": "depths"}  # as in the names of Marigold's export


class LabelledMat(Archive):
    """The frames of the owners' file, under the names that Marigold's export gives them.

    `test/<scene>/rgb_NNNN.png` is frame NNNN, counted from 1 over the whole file, as the owners' list of test
    images counts. `images` is [frames, 3, width, height] as HDF5 has it, because MATLAB stores columns first;
    `rawDepths` is what Kinect measured and `depths` its inpainting, both in meters, [frames, width, height].

    Args:
        root: the file.
    """

    @staticmethod
    def within(root: Path) -> Path | None:
        """The file that a root is, or that lies in it as a folder; None where there is none."""
        file = root / NAME if root.is_dir() else root
        return file if file.is_file() and h5py.is_hdf5(file) else None

    def names(self) -> list[str]:
        """The arrays that the file holds.

        Raises:
            UserError: it cannot be read.
        """
        try:
            with h5py.File(self.root, "r") as file:
                return sorted(file)
        except OSError as error:
            raise UserError(f"{self.root} is an HDF5 file that cannot be read: {error}") from error

    def lines_without(self, lines: list[str]) -> list[str]:
        """A line `rgb depth filled` for every frame that these lines do not name: of 1449 and the 654 of the
        test, the 795 to train on.

        Raises:
            UserError: the file is broken, or another one.
        """
        named = {int(match[2]) for line in lines if (match := NUMBER.search(line.split()[0]))}
        frames = range(1, self._frames[ARRAYS["rgb"]] + 1)
        return [
            " ".join(f"train/{kind}_{number:04d}.png" for kind in ARRAYS)
            for number in frames
            if number not in named
        ]

    def __contains__(self, path: str) -> bool:
        found = NUMBER.search(path)
        return found is not None and 1 <= int(found[2]) <= self._frames[ARRAYS[found[1]]]

    def read(self, path: str) -> bytes:
        """The frame's numbers, row after row.

        Raises:
            BadSample: there is no such frame, or the file is broken.
        """
        return self.array(path).tobytes()

    def image(self, path: str) -> UInt8[np.ndarray, "height width 3"]:
        """The photograph behind an rgb's path.

        Raises:
            BadSample: see `array`.
        """
        return self.array(path)

    def depth(self, path: str) -> Float32[np.ndarray, "height width"]:
        """Meters, 0 where nothing was measured, behind a depth's or a filled depth's path.

        Raises:
            BadSample: see `array`.
        """
        return self.array(path).astype(np.float32)

    def array(self, path: str) -> np.ndarray:
        """The frame behind a path, [height, width, ...], as the file has it.

        Raises:
            BadSample: there is no such frame, the file is broken, or its array has another layout.
        """
        found = NUMBER.search(path)
        if found is None or path not in self:
            raise BadSample(
                f"{self.root} has no frame for {path}; it would be like test/kitchen/rgb_0001.png"
            )
        key, number = ARRAYS[found[1]], int(found[2])
        layout, kind = ((3,), "u") if key == "images" else ((), "f")
        try:
            with h5py.File(self.root, "r") as file:
                array = file[key]
                if array.shape[1:-2] != layout or array.dtype.kind != kind:
                    raise BadSample(f"{self.root}: '{key}' has shape {array.shape} of {array.dtype}")
                return np.ascontiguousarray(array[number - 1].T)
        except (OSError, RuntimeError) as error:
            raise BadSample(f"{self.root}: frame {number} of '{key}' cannot be read: {error}") from error

    @cached_property
    def _frames(self) -> Mapping[str, int]:
        """How many frames each array has."""
        frames: dict[str, int] = {}
        try:
            with h5py.File(self.root, "r") as file:
                for key in ARRAYS.values():
                    array: Any = file.get(key)
                    frames[key] = array.shape[0] if isinstance(array, h5py.Dataset) and array.shape else 0
        except OSError as error:
            raise UserError(f"{self.root} is an HDF5 file that cannot be read: {error}") from error
        if not any(frames.values()):
            raise UserError(
                f"{self.root} is not NYUv2's labelled file, which has {', '.join(ARRAYS.values())}; it has "
                f"{', '.join(self.names()) or 'nothing'}"
            )
        return frames
