"""NYUv2 from the owners' own file."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from depthkd import datasets
from depthkd.benchmarks.crops import NYU_EIGEN
from depthkd.benchmarks.public import NYUv2
from depthkd.benchmarks.roots import holdings
from depthkd.datasets.dataset import shipped_split
from depthkd.errors import UserError
from depthkd.formats.sample import BadSample

FRAMES = 9
HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  1 00:00:00 2012 HDF5 schema 1.00 ."


def image(frame: int) -> np.ndarray:
    return np.random.default_rng(frame).integers(0, 256, (480, 640, 3), dtype=np.uint8)


def depth(frame: int, holes: bool) -> np.ndarray:
    meters = np.linspace(0.7, 9.9, 480 * 640, dtype=np.float32).reshape(480, 640) / frame
    if holes:
        meters[::3, 100 + frame :: 7] = 0
    return meters


@pytest.fixture(scope="module")
def mat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As MATLAB writes it: columns first, behind 512 bytes of its own, with arrays that nobody asked for."""
    path = tmp_path_factory.mktemp("nyu") / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, kind, shape in (
            ("images", np.uint8, (FRAMES, 3, 640, 480)),
            ("depths", np.float32, (FRAMES, 640, 480)),
            ("rawDepths", np.float32, (FRAMES, 640, 480)),
        ):
            file.create_dataset(
                key, shape, kind, chunks=(1, *shape[1:]), compression="gzip", compression_opts=1
            )
        for n in (1, 2, 9):
            file["images"][n - 1] = image(n).transpose(2, 1, 0)
            file["depths"][n - 1] = depth(n, holes=False).T
            file["rawDepths"][n - 1] = depth(n, holes=True).T
        file.create_dataset("names", (1, 3), h5py.ref_dtype)
    with path.open("r+b") as file:
        file.write(HEADER.ljust(512))
    return path


def test_the_list_counts_the_frames_of_the_whole_file() -> None:
    numbers = [int(line.split()[0][-8:-4]) for line in shipped_split("nyuv2_test_654.txt")]
    assert numbers[:10] == [1, 2, 9, 14, 15, 16, 17, 18, 21, 28]  # testNdxs of the owners' splits.mat
    assert len(set(numbers)) == 654 and numbers == sorted(numbers) and numbers[-1] == 1449
    for line in shipped_split("nyuv2_test_654.txt"):
        assert len({word[-8:-4] for word in line.split()}) == 1


def test_the_frames_that_are_not_tested_are_to_train_on(mat: Path) -> None:
    found = datasets.NYUv2(mat, "train")
    assert [line[0] for line in found.lines] == [f"train/rgb_{n:04d}.png" for n in range(3, 9)]
    assert found.missing() == [] and found.sample(0).image.shape == (480, 640, 3)
    assert datasets.NYUv2(mat, "train", truth="filled").paths(found.line(5))[1] == "train/filled_0008.png"


@pytest.mark.parametrize("truth", ["raw", "filled"])
@pytest.mark.parametrize("where", ["file", "folder"])
def test_the_owners_file_is_read(mat: Path, truth: str, where: str) -> None:
    benchmark = NYUv2(mat if where == "file" else mat.parent, truth=truth)  # type: ignore[arg-type]
    assert len(benchmark) == 654
    for index, frame in enumerate((1, 2, 9)):
        sample = benchmark.sample(index)
        meters = depth(frame, holes=truth == "raw")
        inside = np.zeros((480, 640), bool)
        inside[NYU_EIGEN] = True
        assert sample.key.endswith(f"rgb_{frame:04}.png") and sample.digest is not None
        assert np.array_equal(sample.image, image(frame))
        assert sample.depth is not None and sample.mask is not None
        assert np.array_equal(sample.mask, inside & (meters > 0))
        assert np.array_equal(sample.depth[sample.mask], meters[sample.mask])
    missing = benchmark.dataset.missing()
    assert len(missing) == 651 and missing[0].endswith("rgb_0014.png")
    with pytest.raises(BadSample, match=r"labeled\.mat has no frame for test/.*/rgb_0014\.png"):
        benchmark.sample(3)
    [held] = holdings(mat.parent, ["nyuv2"])
    assert (held.place, held.samples, held.missing) == (mat, 654, 651)


def test_what_is_another_file_is_said(mat: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.mat", "w") as file:
        file["dataset"] = np.zeros((2, 2))
    with pytest.raises(UserError, match=r"other\.mat is not NYUv2's labelled file.*; it has dataset"):
        NYUv2(tmp_path / "other.mat").dataset.missing()
    with h5py.File(tmp_path / "flat.mat", "w") as file:
        file["images"] = np.zeros((3, 480, 640), np.uint8)
        file["rawDepths"] = np.zeros((3, 640, 480), np.float32)
    with pytest.raises(BadSample, match=r"flat\.mat: 'images' has shape \(3, 480, 640\) of uint8"):
        NYUv2(tmp_path / "flat.mat").sample(0)
    (tmp_path / "cut.mat").write_bytes(mat.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"cut\.mat is an HDF5 file that cannot be read"):
        NYUv2(tmp_path / "cut.mat").sample(0)
    for start, told in (
        (b"MATLAB 5.0 MAT-file", "it is a MATLAB file"),
        (b"\x1f\x8b", "it is compressed with gzip: unpack it first"),
    ):
        (tmp_path / "x.mat").write_bytes(start.ljust(2000))
        with pytest.raises(UserError, match=rf"x\.mat is no folder, no zip and no plain tar \({told}\)"):
            NYUv2(tmp_path / "x.mat").dataset.missing()
