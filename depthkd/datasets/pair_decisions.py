"""What annotators have decided of proposed pairs, merged into annotations of DA-2K's layout."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from depthkd.datasets.da2k import POINTS
from depthkd.errors import UserError
from depthkd.formats.sample import read_file

SKIP = "skip"
Pair = dict[str, Any]
Pairs = dict[str, list[Pair]]  # image -> its pairs, as in annotations.json
Place = tuple[str, tuple[int, ...], tuple[int, ...]]  # an image and its two points


@dataclass(frozen=True)
class Decisions:
    """One annotator's file.

    Args:
        annotator: the name in it.
        made_by: what the pairs' page was made by.
        choices: which pair -> "point1", "point2" or "skip".
    """

    annotator: str
    made_by: str
    choices: Mapping[Place, str]


@dataclass
class MergedPairs:
    """What has become of all proposed pairs.

    Args:
        annotations: DA-2K's layout: the pairs that are left, point1 the closer one; those that not every
            annotator has decided have `closer_point` null.
        skipped: how many an annotator has skipped.
        undecided: how many are left to decide.
        disagreed: a sentence for each pair on which annotators disagree.
    """

    annotations: Pairs = field(default_factory=dict)
    skipped: int = 0
    undecided: int = 0
    disagreed: list[str] = field(default_factory=list)


def place_of(image: str, pair: Pair) -> Place:
    """What tells a pair from all others."""
    first, second = (tuple(pair[point]) for point in POINTS)
    return image, first, second


def read_decisions(path: Path) -> Decisions:
    """An annotator's file, as the page saves it.

    Raises:
        UserError: it is none.
    """
    try:
        found = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not JSON; it would be what the page saves: {error}") from error
    try:
        choices = {
            place_of(image, pair): pair["closer_point"]
            for image, pairs in found["decisions"].items()
            for pair in pairs
        }
        decisions = Decisions(str(found["annotator"]).strip(), str(found["made_by"]), choices)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no file of decisions, as the page saves them: annotator, made_by, and decisions with "
            "point1, point2 and closer_point of each image's pairs"
        ) from error
    wrong = next((place for place, choice in choices.items() if choice not in (*POINTS, SKIP)), None)
    if wrong is not None:
        raise UserError(f"{path}: the decision on {_words(wrong)} would be {', '.join(POINTS)} or {SKIP}")
    return decisions


def read_all(paths: Sequence[Path], made_by: str, proposed: Pairs) -> list[Decisions]:
    """All annotators' files, which are of these pairs.

    Raises:
        UserError: one is of other pairs, or two are of one annotator.
    """
    places = {place_of(image, pair) for image, pairs in proposed.items() for pair in pairs}
    found: dict[str, Path] = {}
    files = []
    for path in paths:
        decisions = read_decisions(path)
        if decisions.annotator in found:
            raise UserError(
                f"{found[decisions.annotator]} and {path} are both by '{decisions.annotator}': an annotator "
                "cannot check their own decisions, so give one of them"
            )
        found[decisions.annotator] = path
        strange = next((place for place in decisions.choices if place not in places), None)
        if decisions.made_by != made_by or strange is not None:
            which = "" if strange is None else f": {_words(strange)} is not among them"
            raise UserError(f"{path} decides on other pairs than those that are proposed here{which}")
        files.append(decisions)
    return files


def merged(proposed: Pairs, files: Sequence[Decisions]) -> MergedPairs:
    """The pairs on which all annotators agree; without those that one of them skipped, or that they decided
    differently.

    Args:
        proposed: image -> its pairs, with `closer_point` null.
        files: one an annotator.
    """
    result = MergedPairs()
    for image, pairs in proposed.items():
        left = []
        for pair in pairs:
            place = place_of(image, pair)
            choices = {file.annotator: file.choices.get(place) for file in files}
            if SKIP in choices.values():
                result.skipped += 1
            elif len({*choices.values()} - {None}) > 1:
                said = ", ".join(f"{who} takes {choice}" for who, choice in choices.items() if choice)
                result.disagreed.append(f"{_words(place)}: {said}")
            elif None in choices.values():
                result.undecided += 1
                left.append(pair)
            else:
                left.append(_closer_first(pair, next(iter(choices.values()))))
        if left:
            result.annotations[image] = left
    return result


def _closer_first(pair: Pair, closer: str | None) -> Pair:
    """The pair, decided, its points in DA-2K's order; the votes name them as they are then called."""
    now = dict(zip(POINTS, POINTS if closer == POINTS[0] else POINTS[::-1], strict=True))
    votes = {model: None if vote is None else now[vote] for model, vote in pair["votes"].items()}
    return {**pair, **{name: pair[now[name]] for name in POINTS}, "closer_point": POINTS[0], "votes": votes}


def _words(place: Place) -> str:
    image, first, second = place
    return f"{image}, {list(first)} and {list(second)}"
