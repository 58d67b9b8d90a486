"""Small files in the formats of public benchmarks."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import cv2
import h5py
import lmdb
import numpy as np
from scipy.io import savemat

from depthkd.formats.images import encode_jpeg
from depthkd.formats.sample import Sample


class Root(Protocol):
    """Writes files below a folder, or into a tar or zip in which they stand below another folder."""

    def __call__(self, files: Mapping[str, bytes], kind: str = "folder") -> Path: ...


def write(where: Path, files: Mapping[str, bytes], kind: str = "folder") -> Path:
    """Files as `where`: a folder, a plain tar or a zip."""
    where.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        for name, data in files.items():
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            (where / name).write_bytes(data)
    elif kind == "zip":
        with zipfile.ZipFile(where, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("some_folder")
            for name, data in files.items():
                archive.writestr(f"some_folder/{name}", data)
    else:
        where.write_bytes(tarred({f"./some_folder/{name}": data for name, data in files.items()}))
    return where


def tarred(files: Mapping[str, bytes]) -> bytes:
    """A plain tar."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def database(folder: Path, values: Mapping[bytes, bytes]) -> Path:
    """An LMDB as LSUN's are, without its lock file."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(folder), map_size=1 << 24) as written, written.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)
    (folder / "lock.mdb").unlink()
    return folder


def picture(height: int, width: int, jpeg: bool = False) -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return encode_jpeg(image) if jpeg else png(image)


def png(array: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", array)[1])


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def known(sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth, mask and camera of a sample that has all three."""
    assert sample.depth is not None and sample.mask is not None and sample.intrinsics is not None
    return sample.depth, sample.mask, sample.intrinsics


def hdf5(key: str, array: np.ndarray) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as written:
        written.create_dataset(key, data=array, compression="gzip")
    return file.getvalue()


def mat(**variables: Any) -> bytes:
    file = io.BytesIO()
    savemat(file, variables, do_compression=True)
    return file.getvalue()
