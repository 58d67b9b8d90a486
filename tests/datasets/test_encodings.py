"""Readers of single data sets' encodings, from small files and slow oracles."""

import io
import math

import h5py
import numpy as np
import pytest

from depthkd.datasets.encodings import (
    measured,
    read_dsp5,
    read_hdf5,
    read_mat,
)
from depthkd.datasets.hypersim import intrinsics, read_distance
from depthkd.formats.depth import scaled
from depthkd.formats.sample import BadSample
from depthkd.geometry import camera_matrix
from tests.datasets.files import hdf5, mat


def z_of(distance: float, row: int, column: int) -> float:
    """Depth Anything V2's and Marigold's conversion for one pixel of 1024 x 768: centers at + 0.5."""
    x, y, focal = column - 512 + 0.5, row - 384 + 0.5, 886.81
    return distance * focal / math.sqrt(x * x + y * y + focal * focal)


def test_hypersims_distance_becomes_z() -> None:
    rng = np.random.default_rng(0)
    distance = rng.uniform(0.5, 60, (768, 1024)).astype(np.float16)
    distance[5, 7], distance[6, 7], distance[7, 7] = np.nan, 0, -1
    depth, mask = read_distance(hdf5("dataset", distance), "d.hdf5")
    assert (~mask).sum() == 3 and (depth[5:8, 7] == 0).all()
    for row, column in ((0, 0), (767, 1023), (0, 1023), (383, 511), (384, 512), (100, 900)):
        assert depth[row, column] == pytest.approx(z_of(float(distance[row, column]), row, column), rel=1e-7)


def test_hypersims_camera_looks_through_the_middle() -> None:
    assert np.array_equal(intrinsics(), camera_matrix(886.81, 886.81, 511.5, 383.5))
    half = intrinsics(384, 512)
    assert half[:2, 2].tolist() == [255.5, 191.5]
    assert half[0, 0] == half[1, 1] == 886.81 / 2


def test_spring_disparity_is_read_as_it_is() -> None:
    disparity = np.array([[1.5, np.nan], [0, 1e-3]], np.float32)
    assert np.array_equal(read_dsp5(hdf5("disparity", disparity), "a.dsp5"), disparity, equal_nan=True)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "a.dsp5 is not an HDF5 file that can be read"),
        (hdf5("disparity", np.ones((9, 9)))[:900], "a.dsp5 is not an HDF5 file that can be read"),
        (hdf5("flow", np.ones((2, 2))), "a.dsp5 has no array 'disparity'; it holds 'flow'"),
        (hdf5("disparity", np.ones((2, 2, 2))), r"'disparity' has shape \(2, 2, 2\) of float64"),
        (hdf5("disparity", np.array([[b"a"]])), r"'disparity' has shape \(1, 1\) of \|S1"),
        (hdf5("disparity/x", np.ones((2, 2))), "a.dsp5 has no array 'disparity'"),
    ],
)
def test_what_is_no_such_array_is_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(BadSample, match=sentence):
        read_dsp5(data, "a.dsp5")


def test_an_array_that_claims_too_much_is_not_read() -> None:

    file = io.BytesIO()
    with h5py.File(file, "w") as written:
        written.create_dataset("dataset", shape=(100_000, 100_000), dtype="f8", chunks=(1000, 1000))
    assert len(file.getvalue()) < 10_000
    with pytest.raises(BadSample, match=r"claims shape \(100000, 100000\); at most 100000000 pixels"):
        read_hdf5(file.getvalue(), "dataset", "a.hdf5")


def test_a_struct_of_matlab() -> None:
    rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    read = read_mat(mat(data={"rgb": rgb, "paras": np.zeros((0, 0))}), "data", ("rgb", "paras"), "a.mat")
    assert np.array_equal(read["rgb"], rgb) and read["rgb"].dtype == np.uint8
    assert read["paras"].size == 0


WHOLE = mat(data={"rgb": np.arange(3000)})


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "a.mat is not a MATLAB file of version 5 to 7"),
        (b"not a file of MATLAB's" * 100, "a.mat is not a MATLAB file"),
        (WHOLE[:-100], "a.mat is not a MATLAB file"),
        (hdf5("data", np.ones((2, 2))), "a.mat is not a MATLAB file"),
        (mat(other={"rgb": 1}), "a.mat has no struct 'data'"),
        (mat(data=np.ones((2, 2))), "a.mat has no struct 'data'"),
        (mat(data={"rgb": 1, "depth": 2}), "a.mat: struct 'data' has no field edges, calib"),
    ],
)
def test_what_is_no_such_struct_is_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(BadSample, match=sentence):
        read_mat(data, "data", ("rgb", "edges", "calib"), "a.mat")


def test_numbers_that_float32_cannot_hold_are_not_measured() -> None:
    signaling = np.array([0x7F800001], np.uint32).view(np.float32)[0]
    for values in (np.array([[1.5, 1e39, np.inf]]), np.array([[1.5, signaling, -1]], np.float32)):
        for depth, mask in (measured(values), scaled(values, 1.0, 0.0, (-1,))):
            assert depth.tolist() == [[1.5, 0, 0]] and mask.tolist() == [[True, False, False]]
