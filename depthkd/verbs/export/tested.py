"""What `depthkd test` has last said of a run's weights, for the model card of their export."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from depthkd.errors import UserError
from depthkd.evaluation.saved_results import RESULTS
from depthkd.models.weights import read_json_file
from depthkd.runs.folder import Run

COLUMNS = {"abs_rel": "AbsRel ↓", "rmse": "RMSE ↓", "delta1": "δ1 ↑"}
BESIDE = "vertical ramp"  # the trivial row that shows what a metric is worth


def latest_results(run: Run, identity: str) -> tuple[Path, dict[str, Any], str] | None:
    """The newest results.json of a run's very weights, and the row's name in it; None where there is none.

    Args:
        run: in whose folder, and in the folders beside it, results may lie.
        identity: of the network, which results.json has as `weights`.
    """
    paths = (*run.folder.rglob(RESULTS), *run.folder.parent.glob(f"*/{RESULTS}"))
    found = {path.resolve(): path for path in paths if path.is_file()}
    for path in sorted(found.values(), key=lambda one: one.stat().st_mtime, reverse=True):
        try:
            content = read_json_file(path)
        except UserError as error:
            print(f"left out of the card: {error}")
            continue
        models = content.get("models")
        for name, about in models.items() if isinstance(models, dict) else ():
            if isinstance(about, dict) and about.get("weights") == identity:
                return path, content, str(name)
    return None


def results_section(run: Run, identity: str) -> list[str]:
    """The lines of the card."""
    latest = latest_results(run, identity)
    if latest is None:
        return [
            f"None is known: no {RESULTS} in `{run.folder}`, or in a folder beside it, is of these weights "
            "(depthkd test writes one)."
        ]
    path, content, name = latest
    return [f"From `{path.relative_to(run.folder.parent)}`:", "", *_table(content, name)]


def _table(content: dict[str, Any], name: str) -> Iterator[str]:
    heads = ["benchmark", "protocol", "images", *COLUMNS.values(), f"AbsRel of a {BESIDE}"]
    yield f"| {' | '.join(heads)} |"
    yield "| --- " * len(heads) + "|"
    for title, one in content.get("benchmarks", {}).items():
        metrics = one.get("metrics", {})
        ours, trivial = metrics.get(name), metrics.get(BESIDE, {})
        if not ours:
            continue
        figures = [_figure(ours.get(metric)) for metric in COLUMNS]
        cells = [title, str(one.get("protocol", "")), str(int(ours.get("images", 0))), *figures]
        yield f"| {' | '.join([*cells, _figure(trivial.get('abs_rel'))])} |"


def _figure(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "-"
