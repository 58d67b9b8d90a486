"""Benchmarks whose samples hold more than depth: iBims-1 and DA-2K."""

import json
from typing import Any

import numpy as np
import pytest

from depthkd.benchmarks.public import DA2K, IBims1
from depthkd.formats.sample import AnnotatedSample, BadSample
from depthkd.metrics.catalogue import MetricSet
from depthkd.metrics.planarity import planarity_errors
from tests.datasets.files import Root, mat, picture

SIZE = (24, 32)
NORMALS = {"wall": ([0.2, 1.0, -0.3], [0.0, 2.0, 0.0]), "floor": ([0.05, 1.0, 0.4],)}


def plane(normal: list[float], distance: float) -> np.ndarray:
    """Depth of a plane in iBims-1's axes, right, forward and up; pixels from 1, center at (16.5, 12.5)."""
    rows, columns = np.mgrid[1 : SIZE[0] + 1, 1 : SIZE[1] + 1].astype(np.float64)
    rays = np.stack([(columns - 16.5) / 30, np.ones(SIZE), -(rows - 12.5) / 40])
    return distance / np.tensordot(np.array(normal) / np.linalg.norm(normal), rays, 1)


def fields() -> dict[str, Any]:
    """One image: two walls, left and right, above a floor."""
    walls, floor = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    walls[:16, :16], walls[:16, 16:], floor[16:] = 1, 2, 1
    depth = np.where(floor == 1, plane(NORMALS["floor"][0], 2.0), 0.0)
    depth = np.where(walls == 1, plane(NORMALS["wall"][0], 3.0), depth)
    depth = np.where(walls == 2, plane(NORMALS["wall"][1], 4.0), depth)
    invalid, transparent, edges = np.ones(SIZE, np.uint8), np.ones(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    invalid[0, 0] = transparent[1, 1] = 0
    depth[2, 2] = 0
    edges[:16, 16] = 1
    parameters = {k: np.array([[0, 0, 0, 0, *n, 9] for n in v], np.float64) for k, v in NORMALS.items()}
    return {
        "rgb": np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8),
        "depth": depth,
        "edges": edges,
        "calib": np.array([[30.0, 0, 0], [0, 40.0, 0], [16.5, 12.5, 1]]),
        "mask_invalid": invalid,
        "mask_transp": transparent,
        "mask_wall": walls,
        "mask_wall_paras": parameters["wall"],
        "mask_table": np.zeros(SIZE, np.uint8),
        "mask_table_paras": np.zeros((0, 0)),
        "mask_floor": floor,
        "mask_floor_paras": parameters["floor"],
    }


def ibims(root: Root, data: dict[str, Any], folder: str = "ibims1_core_mat/", kind: str = "folder") -> IBims1:
    path = root({f"{folder}corridor_01.mat": mat(data=data)}, kind)
    split = path.parent / "split.txt"
    split.write_text("corridor_01\n")
    return IBims1(path, split=split)


@pytest.mark.parametrize(
    ("folder", "kind"), [("", "folder"), ("ibims1_core_mat/", "folder"), ("ibims1_core_mat/", "zip")]
)
def test_ibims_reads_everything(folder: str, kind: str, root: Root) -> None:
    data = fields()
    benchmark = ibims(root, data, folder, kind)
    assert benchmark.dataset.missing() == []
    sample = benchmark.sample(0)
    assert isinstance(sample, AnnotatedSample)
    assert sample.depth is not None and sample.mask is not None and sample.edges is not None
    assert sample.planes is not None and sample.normals is not None and sample.intrinsics is not None
    assert sample.key == "corridor_01"
    assert np.array_equal(sample.image, data["rgb"])
    assert sample.depth == pytest.approx(data["depth"].astype(np.float32))
    assert sorted(zip(*np.nonzero(~sample.mask), strict=True)) == [(0, 0), (1, 1), (2, 2)]
    assert sample.edges.sum() == 16 and sample.edges[3, 16]
    assert [int(p.sum()) for p in sample.planes] == [256, 256, 256]
    assert sample.planes[1][0, 20] and sample.planes[2][20, 0]
    assert sample.normals == pytest.approx(
        np.array([[0.2, 1, -0.3], [0, 1, 0], [0.05, 1, 0.4]]) / np.sqrt([[1.13], [1], [1.1625]])
    )
    assert sample.intrinsics.tolist() == [[30, 0, 15.5], [0, 40, 11.5], [0, 0, 1]]


def test_the_truth_of_ibims_has_no_planarity_errors(root: Root) -> None:
    sample = ibims(root, fields()).sample(0)
    assert isinstance(sample, AnnotatedSample)
    assert sample.depth is not None and sample.mask is not None and sample.intrinsics is not None
    assert sample.planes is not None and sample.normals is not None
    rest = (sample.mask, sample.planes, sample.normals, sample.intrinsics)
    exact = planarity_errors(sample.depth, sample.depth, *rest)
    assert list(exact.values()) == pytest.approx([0, 0], abs=1e-3)
    shifted = planarity_errors(sample.depth + 1, sample.depth, *rest)
    assert shifted["planarity_orientation"] > 1


def test_ibims_lists_a_hundred_images_and_their_range() -> None:
    benchmark = IBims1("nowhere")
    assert len({line[0] for line in benchmark.dataset.lines}) == len(benchmark) == 100
    assert (benchmark.protocol.min_depth, benchmark.protocol.max_depth) == (0.005, 25.0)
    assert IBims1("nowhere", max_depth=10.0).protocol.max_depth == 10.0
    assert IBims1("nowhere", max_depth=None).protocol.max_depth is None
    assert MetricSet.PLANES in benchmark.metrics and MetricSet.ANNOTATED_EDGES in benchmark.metrics


def test_an_image_of_ibims_without_planes(root: Root) -> None:
    data = fields() | {f"mask_{kind}_paras": np.zeros((0, 0)) for kind in ("wall", "floor")}
    sample = ibims(root, data).sample(0)
    assert isinstance(sample, AnnotatedSample)
    assert sample.planes is not None and sample.normals is not None
    assert sample.planes.shape == (0, *SIZE) and sample.normals.shape == (0, 3)


def test_a_plane_of_ibims_without_a_normal_is_left_out(root: Root) -> None:
    data = fields()
    data["mask_wall_paras"][0, 4:7] = 0
    sample = ibims(root, data).sample(0)
    assert isinstance(sample, AnnotatedSample) and sample.planes is not None
    assert len(sample.planes) == 2 and sample.planes[0][0, 20]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rgb": np.zeros(SIZE, np.uint8)}, r"rgb has shape \(24, 32\) of uint8"),
        ({"calib": np.eye(4)}, r"calib \(4, 4\); they would be .* and \(3, 3\)"),
        ({"edges": np.zeros((3, 3))}, r"edges has shape \(3, 3\), but rgb \(24, 32\)"),
        ({"mask_wall_paras": np.ones((2, 4))}, r"mask_wall_paras \(2, 4\); they would be \(24, 32\)"),
        ({"mask_floor": np.ones((2, 2))}, r"mask_floor has shape \(2, 2\)"),
    ],
)
def test_a_broken_file_of_ibims_is_a_sentence(changes: dict[str, Any], sentence: str, root: Root) -> None:
    with pytest.raises(BadSample, match=f"corridor_01.mat: .*{sentence}"):
        ibims(root, fields() | changes).sample(0)


def pair(first: list[Any], second: list[Any], closer: str = "point1") -> dict[str, Any]:
    return {"point1": first, "point2": second, "closer_point": closer}


IMAGES = {"images/indoor/a b.jpg": picture(20, 30, jpeg=True), "images/underwater/c.png": picture(40, 10)}
PAIRS = {
    "images/indoor/a b.jpg": [pair([19, 29], [0, 0]), pair([1, 2], [3, 4], "point2")],
    "images/underwater/c.png": [pair([39, 0], [0, 9])],
}


def annotated(pairs: Any) -> dict[str, bytes]:
    return IMAGES | {"annotations.json": json.dumps(pairs).encode()}


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_da2k_reads_pairs_closer_first(kind: str, root: Root) -> None:
    benchmark = DA2K(root(annotated(PAIRS), kind))
    assert len(benchmark) == 2 and benchmark.dataset.missing() == []
    assert [benchmark.group(i) for i in range(2)] == ["indoor", "underwater"]
    first, second = benchmark.samples()
    assert isinstance(first, AnnotatedSample) and isinstance(second, AnnotatedSample)
    assert first.pairs is not None and second.pairs is not None
    assert first.pairs.tolist() == [[[19, 29], [0, 0]], [[3, 4], [1, 2]]]
    assert first.image.shape == (20, 30, 3) and first.depth is None
    assert second.pairs.tolist() == [[[39, 0], [0, 9]]]


def test_da2k_is_found_in_the_folder_that_its_zip_unpacks_to(root: Root) -> None:
    benchmark = DA2K(root({f"DA-2K/{name}": data for name, data in annotated(PAIRS).items()}), limit=1)
    assert (len(benchmark), benchmark.sample(0).key) == (1, "images/indoor/a b.jpg")
    assert benchmark.metrics == (MetricSet.PAIRS,)
    assert (benchmark.protocol.name, benchmark.protocol.resolution) == ("depth_anything", "518 or own")


def test_da2k_takes_other_annotations(root: Root) -> None:
    path = root(IMAGES)
    (path / "mine.json").write_text(json.dumps({"images/underwater/c.png": [pair([0, 0], [1, 1])]}, indent=1))
    sample = DA2K(path, split=path / "mine.json").sample(0)
    assert isinstance(sample, AnnotatedSample) and sample.pairs is not None
    assert sample.pairs.tolist() == [[[0, 0], [1, 1]]]


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ([pair([40, 0], [0, 0])], r"has the point \[40, 0\]; it would be \[row, column\] inside .* 40 x 10"),
        ([pair([0, 0], [0, 10])], r"has the point \[0, 10\]"),
        ([pair([0, -1], [0, 0])], r"has the point \[0, -1\]"),
        ([pair([0.5, 0], [0, 0])], r"has the point \[0.5, 0\]"),
        ([pair([0], [0, 0])], r"has the point \[0\]"),
        ([pair([0, 0], [0, 1], "point3")], "a closer_point that is one of them"),
        ([[0, 1]], r"has the pair \[0, 1\]"),
        ([], r"needs a list of pairs, not \[\]"),
    ],
)
def test_pairs_that_make_no_sense_are_sentences(pairs: Any, sentence: str, root: Root) -> None:
    benchmark = DA2K(root(annotated({"images/underwater/c.png": pairs})))
    with pytest.raises(BadSample, match=f"annotations.json: images/underwater/c.png .*{sentence}"):
        benchmark.sample(0)


def test_da2k_without_readable_annotations(root: Root) -> None:
    path = root(IMAGES)
    with pytest.raises(FileNotFoundError, match=r"'da2k': .* has no annotations.json; it would hold"):
        len(DA2K(path))
    (path / "annotations.json").write_bytes(b"\xff{")
    with pytest.raises(ValueError, match=r"'da2k': .*annotations.json is not JSON"):
        len(DA2K(path))
    (path / "annotations.json").write_text("[1]")
    with pytest.raises(ValueError, match="would map images to lists of pairs"):
        len(DA2K(path))
