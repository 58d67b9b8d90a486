"""iBims-1: 100 indoor images with laser-scanned truth, annotated edges and planes (Koch et al. 2018)."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float64

from depthkd.batch import METRIC_DEPTH
from depthkd.datasets.dataset import ListedDataset
from depthkd.datasets.encodings import measured, read_mat
from depthkd.formats.sample import AnnotatedSample, BadSample
from depthkd.geometry import camera_matrix

KINDS = ("wall", "table", "floor")
MAPS = ("depth", "edges", "mask_invalid", "mask_transp")
FIELDS = ("rgb", "calib", *MAPS, *(f"mask_{k}" for k in KINDS), *(f"mask_{k}_paras" for k in KINDS))

Planes = tuple[Bool[np.ndarray, "planes _ _"], Float64[np.ndarray, "planes 3"]]


def read_planes(data: Mapping[str, np.ndarray], size: tuple[int, ...], name: str) -> Planes:
    """The masks of all walls, tables and floors, and their unit normals.

    The plane of a mask's number j is described by row j (from 1) of its parameters, whose columns 5
    to 7 are its normal. Planes without a normal are left out.

    Raises:
        BadSample: masks and parameters do not go together.
    """
    masks, normals = [], []
    for kind in KINDS:
        numbers, parameters = data[f"mask_{kind}"], data[f"mask_{kind}_paras"].astype(np.float64)
        if parameters.size == 0:
            continue
        if parameters.ndim != 2 or parameters.shape[1] < 7 or numbers.shape != size:
            raise BadSample(
                f"{name}: mask_{kind} has shape {numbers.shape} and mask_{kind}_paras {parameters.shape}; "
                f"they would be {size} and (planes, 7 or more)"
            )
        for number, normal in enumerate(parameters[:, 4:7], 1):
            length = np.linalg.norm(normal)
            if np.isfinite(length) and length > 0:
                masks.append(numbers == number)
                normals.append(normal / length)
    return np.array(masks, bool).reshape(-1, *size), np.array(normals, np.float64).reshape(-1, 3)


class IBims1(ListedDataset):
    """Lines are names of images; `<name>.mat` holds all that is known of one.

    Each file has a struct `data`, as the owners' evaluate_ibims.py reads it: `rgb`; `depth` in
    meters, 0 not measured; `mask_invalid` and `mask_transp`, 0 where a pixel does not count; `edges`;
    `calib`, the camera matrix transposed, for pixels that are counted from 1; and the planes' masks
    and parameters.

    Args:
        root, split: see `ListedDataset`.
    """

    name = "ibims1"
    title = "iBims-1"
    splits: ClassVar = {"test": "ibims1_100.txt"}
    layout = "ibims1_core_mat/<name>.mat, as in ibims1_core_mat.zip"
    places = ("ibims1/ibims1_core_mat.zip", "ibims1_core_mat.zip", "ibims1", "ibims1_core_mat")
    folders = ("", "ibims1_core_mat")

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedDataset.paths`."""
        return [f"{line[0]}.mat"]

    def sample_of(self, line: list[str]) -> AnnotatedSample:
        """See `ListedDataset.sample_of`."""
        path = self.paths(line)[0]
        data = read_mat(self.archive.read(path), "data", FIELDS, path)
        image, calib = data["rgb"], data["calib"].astype(np.float64)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or calib.shape != (3, 3):
            raise BadSample(
                f"{path}: rgb has shape {image.shape} of {image.dtype} and calib {calib.shape}; they would "
                "be (height, width, 3) of uint8 and (3, 3)"
            )
        size = image.shape[:2]
        for field in MAPS:
            if data[field].shape != size:
                raise BadSample(f"{path}: {field} has shape {data[field].shape}, but rgb {size}")
        depth, mask = measured(data["depth"].astype(np.float64))
        planes, normals = read_planes(data, size, path)
        return AnnotatedSample(
            key=line[0],
            image=image,
            depth=depth,
            mask=mask & (data["mask_invalid"] > 0) & (data["mask_transp"] > 0),
            intrinsics=camera_matrix(calib[0, 0], calib[1, 1], calib[2, 0] - 1, calib[2, 1] - 1),
            space=METRIC_DEPTH,
            edges=data["edges"] > 0,
            planes=planes,
            normals=normals,
        )
