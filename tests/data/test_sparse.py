"""Sparse depth in training: drawn by a mixture of patterns, and carried through transforms and batches."""

import numpy as np
import pytest

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.data import Compose, RandomFlip, ResizeCrop, SparsePoints, WholeImage
from depthkd.data.collate import collate
from depthkd.data.sparse import PATTERNS
from depthkd.data.transforms import crop, flipped, resize
from depthkd.errors import UserError
from depthkd.formats.sample import BadSample, Sample


def sample(key: str = "a", **changes: object) -> Sample:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (24, 32, 3), np.uint8)
    depth = rng.uniform(1, 9, (24, 32)).astype(np.float32)
    known = {"depth": depth, "mask": depth > 2, "space": METRIC_DEPTH, **changes}
    return Sample(key, image, **known)  # type: ignore[arg-type]


def test_patterns_are_drawn_as_often_as_asked() -> None:
    transform = SparsePoints({"7 points": 3, "40 points": 1, "0 points": 0})
    rng = np.random.default_rng(1)
    counts = [np.count_nonzero(transform(sample(), rng).sparse) for _ in range(400)]
    assert set(counts) == {7, 40}
    assert 260 < counts.count(7) < 340


def test_the_generator_alone_decides_and_points_are_of_the_depth() -> None:
    transform = Compose([ResizeCrop((20, 24)), SparsePoints()])
    one, other = (transform(sample(), np.random.default_rng(9)) for _ in range(2))
    assert one.sparse is not None and other.sparse is not None and one.depth is not None
    np.testing.assert_array_equal(one.sparse, other.sparse)
    where = one.sparse > 0
    assert where.any() and one.mask is not None and one.mask[where].all()
    assert transform.output_size == (20, 24)


def test_all_default_patterns_measure_something() -> None:
    for name in PATTERNS:
        measured = SparsePoints({name: 1.0})(sample(), np.random.default_rng(0))
        assert np.count_nonzero(measured.sparse)


def test_what_is_too_far_is_not_measured() -> None:
    measured = SparsePoints({"9999 points": 1.0}, max_depth=5)(sample(), np.random.default_rng(0)).sparse
    assert measured is not None
    assert 4.9 < measured.max() <= 5


def test_what_cannot_be_measured_or_drawn_is_refused() -> None:
    for wrong in ({}, {"5 points": -1.0}, {"5 points": 0.0}, {"5 points": float("nan")}, {"sonar": 1.0}):
        with pytest.raises(UserError):
            SparsePoints(wrong)
    with pytest.raises(UserError, match="max_depth must be above 0 m"):
        SparsePoints(max_depth=0)
    for changes in ({"depth": None, "mask": None, "space": None}, {"space": AFFINE_DISPARITY}):
        with pytest.raises(BadSample, match="measured of metric depth"):
            SparsePoints()(sample(**changes), np.random.default_rng(0))


def test_points_stay_points_in_transforms_and_batches() -> None:
    rng = np.random.default_rng(0)
    sparse = np.zeros((24, 32), np.float32)
    sparse.flat[rng.choice(24 * 32, 30, replace=False)] = rng.uniform(1, 9, 30)
    given = sample(sparse=sparse)
    np.testing.assert_array_equal(crop(given, 2, 3, 10, 12).sparse, sparse[2:12, 3:15])
    np.testing.assert_array_equal(flipped(given, True).sparse, sparse[:, ::-1])
    larger = resize(given, (48, 64)).sparse
    assert larger is not None and np.count_nonzero(larger) == 30
    assert set(np.unique(larger)) == set(np.unique(sparse))
    chain = Compose([WholeImage(24, 32, flip=0.0), RandomFlip(0.0)])
    batch = collate([chain(given, rng), given], "x")
    assert batch.sparse is not None and batch.sparse.shape == (2, 24, 32)
    assert collate([given, sample("b")], "x").sparse is None
