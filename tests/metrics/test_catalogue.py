"""The catalogue names every metric that is computed, and a table shows every metric that it heads."""

import torch

from depthkd.metrics import depth_metrics, output_magnitude, window_errors
from depthkd.metrics.catalogue import BY_NAME, CATALOGUE, MetricSet, heading, higher_is_better, names_of
from depthkd.report.table import metrics_table


def test_names_are_unique_and_weights_are_counts() -> None:
    assert len(BY_NAME) == len(CATALOGUE)
    for entry in CATALOGUE:
        assert entry.weight is None or BY_NAME[entry.weight].count
        assert not entry.count or entry.column is None
        assert entry.better is not None or not entry.interval


def test_what_is_computed_has_an_entry() -> None:
    maps, mask = torch.rand(1, 8, 8) + 1, torch.ones(1, 8, 8, dtype=torch.bool)
    assert list(depth_metrics(maps, maps, mask)) == names_of([MetricSet.DEPTH])
    assert list(window_errors(maps, maps, mask, (2, 4))) == names_of([MetricSet.WINDOWS])
    assert list(output_magnitude(maps)) == names_of([MetricSet.OUTPUT])


def test_every_headed_metric_is_shown_in_a_table() -> None:
    row = {entry.name: 0.5 for entry in CATALOGUE if entry.set is not MetricSet.COMPLETION} | {"images": 1.0}
    table = metrics_table("b", "p", 1, {"model": row})
    table += metrics_table("c", "p", 1, {"model": row | dict.fromkeys(names_of(MetricSet), 0.5)})
    for entry in CATALOGUE:
        assert entry.column is None or f" {heading(entry.name)} |" in table
    assert "AbsRel ↓" in table and "δ1 ↑" in table and "| change |" in table


def test_directions() -> None:
    assert higher_is_better("delta1") and higher_is_better("boundary_recall")
    assert not higher_is_better("abs_rel") and not higher_is_better("output_median")
    assert BY_NAME["delta1"].worst == 0.0 and BY_NAME["rmse"].worst == float("inf")
    assert heading("unknown") == "unknown"
