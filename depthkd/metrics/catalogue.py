"""What is known of each metric by its name, in one place: tables, captions, means and records read it here.

A new metric is one line of `CATALOGUE`, beside the file that computes it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from depthkd.metrics.formulas import (
    ABS_REL,
    IMAE,
    IRMSE,
    LOG10,
    MAE,
    RMSE,
    RMSE_LOG,
    SILOG,
    SQ_REL,
    Formula,
    within,
)


class MetricSet(StrEnum):
    """Metrics that are computed together, because they need the same of a sample."""

    DEPTH = "depth"  # per pixel, from depth and its mask
    EDGES = "edges"  # PDBE and boundary F1, from dense true depth
    ANNOTATED_EDGES = "annotated_edges"  # iBims-1's depth boundary errors
    PLANES = "planes"  # iBims-1's planarity errors
    PAIRS = "pairs"  # the share of pairs of points that are ordered rightly
    MATTE = "matte"  # boundary recall, against an alpha matte
    WINDOWS = "windows"  # a fit over the image against one inside each window (a study, for any depth)
    COMPLETION = "completion"  # per pixel, of depth completion, whose papers print others than those of depth
    OUTPUT = "output"  # the raw prediction's magnitude (a study, for any benchmark)


STUDIES = (MetricSet.WINDOWS, MetricSet.OUTPUT)  # computed on request only


@dataclass(frozen=True)
class Entry:
    """One metric.

    Args:
        name: as results.json and per_sample.csv have it.
        column: the heading of its column, without the arrow; None: it has none.
        better: which values are the better ones; None: neither.
        set: with which others it is computed.
        formula: of a metric per pixel, how it is computed.
        words: what sentences call it; None: as its column.
        main: whether it stands in captions and in tables of a benchmark's parts.
        interval: whether intervals and paired differences are printed.
        weight: the count that weighs an image in the mean; None: all images count alike.
        count: whether it is a count, which is summed and not averaged.
    """

    name: str
    column: str | None
    better: Literal["lower", "higher"] | None
    set: MetricSet = MetricSet.DEPTH
    formula: Formula | None = None
    words: str | None = None
    main: bool = False
    interval: bool = False
    weight: str | None = None
    count: bool = False

    @property
    def heading(self) -> str:
        """Its column's heading, with an arrow in the better direction."""
        arrow = {"lower": " ↓", "higher": " ↑", None: ""}[self.better]
        return f"{self.column or self.words or self.name}{arrow}"

    @property
    def phrase(self) -> str:
        """What sentences call it."""
        return self.words or self.column or self.name

    @property
    def worst(self) -> float:
        """What a broken prediction gets."""
        return 0.0 if self.better == "higher" else float("inf")


_EDGES, _DBE, _PLANES = MetricSet.EDGES, MetricSet.ANNOTATED_EDGES, MetricSet.PLANES
_PAIRS, _MATTE, _WINDOWS, _OUTPUT = MetricSet.PAIRS, MetricSet.MATTE, MetricSet.WINDOWS, MetricSet.OUTPUT
_COMPLETION = MetricSet.COMPLETION

CATALOGUE = (
    Entry("abs_rel", "AbsRel", "lower", formula=ABS_REL, main=True, interval=True),
    Entry("sq_rel", "SqRel", "lower", formula=SQ_REL),
    Entry("rmse", "RMSE", "lower", formula=RMSE),
    Entry("rmse_log", "RMSElog", "lower", formula=RMSE_LOG),
    Entry("log10", "log10", "lower", formula=LOG10),
    Entry("silog", "SIlog", "lower", formula=SILOG),
    Entry("irmse", "iRMSE", "lower", formula=IRMSE),
    Entry("delta1", "δ1", "higher", formula=within(1.25), main=True, interval=True),
    Entry("delta2", "δ2", "higher", formula=within(1.25**2)),
    Entry("delta3", "δ3", "higher", formula=within(1.25**3)),
    Entry("delta_1_05", None, "higher", formula=within(1.05), words="δ1.05"),
    Entry("delta_1_10", None, "higher", formula=within(1.10), words="δ1.10"),
    Entry("delta_1_15", None, "higher", formula=within(1.15)),
    Entry("delta_1_20", None, "higher", formula=within(1.20)),
    Entry("mae", "MAE", "lower", _COMPLETION, formula=MAE, interval=True),
    Entry("imae", "iMAE", "lower", _COMPLETION, formula=IMAE),
    Entry("delta_1_02", "δ1.02", "higher", _COMPLETION, formula=within(1.02)),
    Entry("pdbe_accuracy", "PDBE acc", "lower", _EDGES, words="PDBE accuracy", interval=True),
    Entry("pdbe_completeness", "PDBE compl", "lower", _EDGES),
    Entry("boundary_f1", "F1", "higher", _EDGES, words="boundary F1", interval=True),
    Entry("dbe_accuracy", "DBE acc", "lower", _DBE),
    Entry("dbe_completeness", "DBE compl", "lower", _DBE),
    Entry("dbe_paper_accuracy", "DBE acc (paper)", "lower", _DBE),
    Entry("dbe_paper_completeness", "DBE compl (paper)", "lower", _DBE),
    Entry(
        "planarity_flatness", "PE flat, cm", "lower", _PLANES, words="PE flat", interval=True, weight="planes"
    ),
    Entry(
        "planarity_orientation", "PE ori, °", "lower", _PLANES, words="PE ori", interval=True, weight="planes"
    ),
    Entry("planes", None, None, _PLANES, count=True),
    Entry(
        "pair_accuracy", "pairs in order", "higher", _PAIRS, words="pair accuracy", main=True, interval=True,
        weight="pairs",
    ),
    Entry("pairs", None, None, _PAIRS, count=True),
    Entry("boundary_recall", "recall", "higher", _MATTE, words="boundary recall", main=True, interval=True),
    Entry("global_abs_rel_2", "2x2 windows, one fit: AbsRel", "lower", _WINDOWS),
    Entry("local_abs_rel_2", "own fits", "lower", _WINDOWS),
    Entry("abs_rel_change_2", "change", None, _WINDOWS),
    Entry("global_abs_rel_4", "4x4 windows, one fit: AbsRel", "lower", _WINDOWS),
    Entry("local_abs_rel_4", "own fits", "lower", _WINDOWS),
    Entry("abs_rel_change_4", "change", None, _WINDOWS),
    Entry("output_median", "output's median", None, _OUTPUT),
    Entry("output_deviation", "output's deviation", None, _OUTPUT),
)  # fmt: skip

BY_NAME = {entry.name: entry for entry in CATALOGUE}
FORMULAS, COMPLETION_FORMULAS = (
    {entry.name: entry.formula for entry in CATALOGUE if entry.formula is not None and entry.set is one}
    for one in (MetricSet.DEPTH, MetricSet.COMPLETION)
)
COMPLETION_COLUMNS = (  # of the table of a benchmark of depth completion, in the order of its papers
    "rmse", "mae", "irmse", "imae", "abs_rel", "delta1", "delta2", "delta3", "delta_1_02", "delta_1_05",
    "delta_1_10",
)  # fmt: skip
IN_METERS, IN_INVERSE_METERS = ("rmse", "mae"), ("irmse", "imae")  # of metric depth


def names_of(sets: Iterable[MetricSet]) -> list[str]:
    """The metrics of some sets, in the catalogue's order."""
    wanted = set(sets)
    return [entry.name for entry in CATALOGUE if entry.set in wanted]


def columns(measured: Iterable[str]) -> list[Entry]:
    """The metrics that a table shows of those that were measured, in its order: others of depth completion
    than of depth alone."""
    known = set(measured)
    completion = not known.isdisjoint(COMPLETION_FORMULAS)
    per_pixel = [BY_NAME[name] for name in COMPLETION_COLUMNS] if completion else []
    others = [e for e in CATALOGUE if e.column is not None and not (completion and e.formula)]
    return [entry for entry in (*per_pixel, *others) if entry.name in known]


def heading(name: str) -> str:
    """The heading of a metric's column; the name itself of one that is not in the catalogue."""
    return BY_NAME[name].heading if name in BY_NAME else name


def phrase(name: str) -> str:
    """What sentences call a metric; the name itself of one that is not in the catalogue."""
    return BY_NAME[name].phrase if name in BY_NAME else name


def higher_is_better(name: str) -> bool:
    """Whether a larger value of the metric is the better one."""
    return BY_NAME[name].better == "higher"
