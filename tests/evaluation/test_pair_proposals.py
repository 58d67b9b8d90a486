"""Pairs for annotators: key points, votes, depth ratios and what is proposed, against slow oracles."""

from dataclasses import replace
from itertools import combinations
from math import exp, hypot, log
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY, METRIC_DEPTH, SCALE_DISPARITY, DepthSpace
from depthkd.errors import UserError
from depthkd.evaluation.pair_proposals import (
    PairRules,
    Prediction,
    deciding_ratio,
    depth_ratio,
    disagreed,
    fitted_disparity,
    grid_points,
    proposed_pairs,
    ratio_disparity,
    spanned_disparity,
    votes,
)

SIZE = 24, 36


def drawn(seed: int = 0, low: float = 1.0, high: float = 9.0) -> Tensor:
    return torch.rand(SIZE, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


def places(*points: tuple[int, int]) -> Tensor:
    return torch.tensor(points)


def test_each_cell_of_the_grid_has_one_point() -> None:
    points = grid_points(50, 90, 5, np.random.default_rng(1))
    assert len({(row * 5 // 50, column * 5 // 90) for row, column in points}) == len(points) == 25
    assert (points == grid_points(50, 90, 5, np.random.default_rng(1))).all()
    assert (points != grid_points(50, 90, 5, np.random.default_rng(2))).any()
    few = grid_points(2, 3, 32, np.random.default_rng(0))
    assert sorted(map(tuple, few.tolist())) == [(row, column) for row in range(2) for column in range(3)]


def test_a_model_votes_in_its_own_space() -> None:
    depth = drawn().round()
    first, second = torch.randint(0, 24, (2, 200, 2), generator=torch.Generator().manual_seed(3))
    by_hand = [
        int(depth[tuple(b)] > depth[tuple(a)]) - int(depth[tuple(b)] < depth[tuple(a)])
        for a, b in zip(first.tolist(), second.tolist(), strict=True)
    ]
    assert 0 in by_hand
    assert votes(Prediction(depth, METRIC_DEPTH), first, second).tolist() == by_hand
    assert votes(Prediction(1 / depth, SCALE_DISPARITY), first, second).tolist() == by_hand
    assert votes(Prediction(3 - depth, AFFINE_DISPARITY), first, second).tolist() == by_hand


def test_a_model_without_an_opinion_does_not_disagree() -> None:
    ballots = torch.tensor([[1, 1, 1, 0, 0], [1, -1, 0, 0, -1], [1, 1, 0, 0, 1]], dtype=torch.int8)
    assert disagreed(ballots).tolist() == [False, True, False, False, True]


@pytest.mark.parametrize("space", [AFFINE_DISPARITY, AFFINE_DEPTH])
def test_a_span_makes_ratios_of_affine_maps(space: DepthSpace) -> None:
    values = torch.linspace(0, 1, 24 * 36).reshape(SIZE)
    found = spanned_disparity(Prediction(values, space), 20.0)
    assert float(found.max() / found.min()) == pytest.approx(20, rel=1e-5)
    moved = spanned_disparity(Prediction(values * 7 - 3, space), 20.0)
    torch.testing.assert_close(found, moved, rtol=1e-4, atol=1e-6)
    u = (float(values[12, 18]) - 0.02) / 0.96
    by_hand = 1 / 20 + (1 - 1 / 20) * u
    assert float(found[12, 18]) == pytest.approx(
        by_hand if space is AFFINE_DISPARITY else 1 / by_hand, rel=1e-4
    )
    flat = spanned_disparity(Prediction(torch.ones(SIZE), space), 20.0)
    assert torch.isfinite(flat).all() and float(flat.max()) == float(flat.min())


@pytest.mark.parametrize("space", [AFFINE_DISPARITY, AFFINE_DEPTH])
def test_a_fit_to_a_metric_model_finds_its_ratios(space: DepthSpace) -> None:
    depth = drawn()
    seen = 5 / depth + 2 if space is AFFINE_DISPARITY else depth / 4 - 7
    reference = Prediction(depth, METRIC_DEPTH)
    found = fitted_disparity(Prediction(seen, space), reference)
    torch.testing.assert_close(found, 1 / depth, rtol=1e-3, atol=0)
    assert torch.equal(ratio_disparity(Prediction(seen, space), reference, 20.0), found)
    beyond = fitted_disparity(Prediction(seen - 100 * (seen == seen.min()), space), reference)
    assert float(beyond.min()) > 0 and torch.isfinite(beyond).all()
    assert torch.equal(reference.values, drawn())


def test_ratios_of_known_offset_are_as_they_are() -> None:
    depth = drawn()
    first, second = places((0, 0), (3, 5)), places((23, 35), (3, 4))
    by_hand = [
        max(float(depth[a] / depth[b]), float(depth[b] / depth[a]))
        for a, b in (((0, 0), (23, 35)), ((3, 5), (3, 4)))
    ]
    for prediction in (Prediction(depth, METRIC_DEPTH), Prediction(9 / depth, SCALE_DISPARITY)):
        disparity = ratio_disparity(prediction, None, 20.0)
        assert depth_ratio(disparity, first, second).tolist() == pytest.approx(by_hand, rel=1e-5)
    nothing = ratio_disparity(Prediction(depth - 5, METRIC_DEPTH), None, 20.0)
    assert float(nothing.min()) > 0 and torch.isfinite(nothing).all()


def test_whose_ratio_counts() -> None:
    ratios = {
        name: torch.tensor([value]) for name, value in (("a", 2.0), ("b", 3.0), ("c", 12.0), ("d", 9.0))
    }
    expected = {"largest": 12, "smallest": 2, "median": exp((log(3) + log(9)) / 2), "b": 3}
    for ratio_of, value in expected.items():
        assert float(deciding_ratio(ratios, ratio_of)) == pytest.approx(value, rel=1e-5)


def models() -> dict[str, Prediction]:
    return {
        "near": Prediction(drawn(1, 0.2, 9), METRIC_DEPTH),
        "other": Prediction(drawn(2, 0.2, 9), METRIC_DEPTH),
        "affine": Prediction(drawn(3), AFFINE_DISPARITY),
    }


@pytest.mark.parametrize("ratio_of", ["median", "largest", "smallest", "other"])
def test_what_is_proposed_is_what_the_rules_say(ratio_of: str) -> None:
    predictions, rules = models(), PairRules(ratio=2.0, ratio_of=ratio_of, apart=0.0, limit=10_000)
    points = grid_points(*SIZE, 5, np.random.default_rng(0))
    found = proposed_pairs(predictions, points, rules, np.random.default_rng(0))
    disparities = {
        name: spanned_disparity(p, 20.0) if name == "affine" else 1 / p.values
        for name, p in predictions.items()
    }
    expected = set()
    for one, other in combinations(map(tuple, points.tolist()), 2):
        nearer = {float(d[one]) > float(d[other]) for d in disparities.values()}
        logs = {n: abs(log(float(d[one]) / float(d[other]))) for n, d in disparities.items()}
        ranked = sorted(logs.values())
        decides = {"median": ranked[1], "largest": ranked[2], "smallest": ranked[0], "other": logs["other"]}
        if len(nearer) == 2 and decides[ratio_of] > log(2.0):
            expected.add(frozenset((one, other)))
    assert expected
    seen: list[tuple[int, int]] = []
    for pair in found:
        assert frozenset(pair.points) in expected
        first, second = pair.points
        assert first not in seen and second not in seen  # a point stands in one pair
        seen += [first, second]
        for name, d in disparities.items():
            assert pair.votes[name] == ("point1" if d[first] > d[second] else "point2")
            assert pair.ratios[name] == pytest.approx(exp(abs(log(float(d[first] / d[second])))), rel=2e-3)
    left = [pair for pair in expected if not pair & set(seen)]
    assert found and not left  # no more would fit


def test_points_of_an_image_are_apart_and_few_and_their_order_says_nothing() -> None:
    rules = PairRules(ratio=1.2, ratio_of="largest", apart=0.2, limit=3)
    points = grid_points(*SIZE, 16, np.random.default_rng(0))
    order = []
    for seed in range(12):
        found = proposed_pairs(models(), points, rules, np.random.default_rng(seed))
        assert len(found) == 3
        chosen = [point for pair in found for point in pair.points]
        least = min(hypot(a[0] - b[0], a[1] - b[1]) for a, b in combinations(chosen, 2))
        assert least >= 0.2 * hypot(*SIZE)
        order += [pair.points[0] < pair.points[1] for pair in found]
        assert found == proposed_pairs(models(), points, rules, np.random.default_rng(seed))
    assert 0.2 < np.mean(order) < 0.8


def test_nothing_is_proposed_where_models_agree_or_points_are_few() -> None:
    one = models()["near"]
    same = {"a": one, "b": Prediction(1 / one.values, SCALE_DISPARITY)}
    points = grid_points(*SIZE, 8, np.random.default_rng(0))
    assert proposed_pairs(same, points, PairRules(), np.random.default_rng(0)) == []
    for few in (points[:0], points[:1]):
        assert proposed_pairs(models(), few, PairRules(), np.random.default_rng(0)) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ratio": 0.5}, "ratio would be 1 or more, not 0.5"),
        ({"ratio": float("nan")}, "ratio would be 1 or more"),
        ({"span": 3.0}, "span would be above the ratio of 3, not 3"),
        ({"span": float("inf")}, "span would be above"),
        ({"apart": 1.0}, "apart would be a part of the diagonal"),
        ({"limit": 0}, "limit would be 1 pair an image or more"),
    ],
)
def test_rules_outside_of_their_range(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        replace(PairRules(), **changes)


@pytest.mark.parametrize(
    ("rules", "spaces", "sentence"),
    [
        (PairRules(), {"a": METRIC_DEPTH}, "takes two or more; given: a"),
        (
            PairRules(ratio_of="c"),
            {"a": METRIC_DEPTH, "b": METRIC_DEPTH},
            "'c' would be one of median, .*a, b",
        ),
        (PairRules(reference="c"), {"a": METRIC_DEPTH, "b": METRIC_DEPTH}, "'c' would be one of the models"),
        (
            PairRules(reference="b"),
            {"a": METRIC_DEPTH, "b": AFFINE_DEPTH},
            "affine depth, whose offset is unk",
        ),
    ],
)
def test_rules_that_do_not_suit_the_models(
    rules: PairRules, spaces: dict[str, DepthSpace], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        rules.check(spaces)
