"""What is said of intervals and of differences between models."""

from itertools import combinations

from depthkd.evaluation.certainty import Certainty
from depthkd.report.bootstrap import Interval


def about(count: int) -> Certainty:
    names = [f"m{i}" for i in range(count)]
    found = {"abs_rel": Interval(0.1, 0.05, 0.15)}
    return Certainty(dict.fromkeys(names, found), dict.fromkeys(combinations(names, 2), found))


def test_every_pair_of_few_models_has_a_sentence_and_of_many_those_with_the_first() -> None:
    few, many = about(4).sentences(), about(5).sentences()
    assert len(few) == 1 + 6 and few[-1].startswith("m2 minus m3, image by image: AbsRel +0.100")
    assert [s.split(",")[0] for s in many[1:-1]] == [f"m0 minus m{i}" for i in range(1, 5)]
    assert many[-1] == "Differences between the others are in results.json."
    assert about(0).sentences() == []
