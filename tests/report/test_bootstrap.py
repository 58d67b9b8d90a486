import numpy as np
import pytest

from depthkd.report.bootstrap import interval, paired

RNG = np.random.default_rng(0)


def test_intervals_are_as_wide_as_theory_says() -> None:
    values = RNG.normal(3.0, 2.0, 400)
    found = interval(values)
    error = values.std() / np.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)
    assert interval(values) == found  # the draws are seeded


def test_they_hold_the_truth_about_as_often_as_they_say() -> None:
    held = sum(i.low <= 0 <= i.high for i in (interval(RNG.normal(0, 1, 60), seed) for seed in range(200)))
    assert 178 <= held <= 200


def test_pairs_decide_what_single_means_do_not() -> None:
    hard = RNG.uniform(0, 1, 100)  # images differ much more than models
    one = {str(i): float(v + 0.02) for i, v in enumerate(hard)}
    other = {str(i): float(v + RNG.normal(0, 0.01)) for i, v in enumerate(hard)}
    difference = paired(one, other)
    assert difference.decided
    assert difference.mean == pytest.approx(0.02, abs=0.005)
    assert interval(np.array(list(one.values()))).low < np.mean(list(other.values()))
    assert not paired(one, one).decided


def test_only_shared_images_are_compared() -> None:
    assert paired({"a": 1.0, "b": 2.0, "c": 9.0}, {"b": 1.0, "a": 0.0}).mean == 1.0
    with pytest.raises(ValueError, match="at least one image"):
        paired({"a": 1.0}, {"b": 1.0})


def test_one_image_decides_nothing() -> None:
    only = interval(np.array([5.0]))
    assert (only.mean, only.decided) == (5.0, False)
