"""What `depthkd test` has last said of a run's weights, for the model card of their export."""

from collections.abc import Iterator

from depthkd.errors import UserError
from depthkd.evaluation.saved_results import RESULTS, SavedResults, read_results
from depthkd.runs.folder import Run

COLUMNS = {"abs_rel": "AbsRel ↓", "rmse": "RMSE ↓", "delta1": "δ1 ↑"}
BESIDE = "vertical ramp"  # the trivial row that shows what a metric is worth


def latest_results(run: Run, identity: str) -> tuple[SavedResults, str] | None:
    """The newest whole test of a run's very weights, and the row's name in it; None where there is none.

    Args:
        run: in whose folder, and in the folders beside it, results may lie.
        identity: of the network, which results.json has as `weights`.
    """
    paths = (*run.folder.rglob(RESULTS), *run.folder.parent.glob(f"*/{RESULTS}"))
    found = {path.resolve(): path for path in paths if path.is_file()}
    for path in sorted(found.values(), key=lambda one: one.stat().st_mtime, reverse=True):
        try:
            results = read_results(path.parent)
        except UserError as error:
            print(f"left out of the card: {error}")
            continue
        names = [name for name, about in results.models.items() if about.get("weights") == identity]
        if names and results.whole:
            return results, names[0]
        if names:
            print(f"left out of the card: {path}, as that test did not come to its end")
    return None


def results_section(run: Run, identity: str) -> list[str]:
    """The lines of the card."""
    latest = latest_results(run, identity)
    if latest is None:
        return [
            f"None is known: no {RESULTS} in `{run.folder}`, or in a folder beside it, is of these weights "
            "(depthkd test writes one)."
        ]
    results, name = latest
    source = (results.folder / RESULTS).relative_to(run.folder.parent)
    return [f"From `{source}`:", "", *_table(results, name)]


def _table(results: SavedResults, name: str) -> Iterator[str]:
    heads = ["benchmark", "protocol", "images", *COLUMNS.values(), f"AbsRel of a {BESIDE}"]
    yield f"| {' | '.join(heads)} |"
    yield "| --- " * len(heads) + "|"
    for one in results.benchmarks:
        ours, trivial = one.metrics.get(name), one.metrics.get(BESIDE, {})
        if not ours:
            continue
        figures = [_figure(ours.get(metric)) for metric in COLUMNS]
        cells = [one.name, one.description, str(int(ours["images"])), *figures]
        yield f"| {' | '.join([*cells, _figure(trivial.get('abs_rel'))])} |"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
