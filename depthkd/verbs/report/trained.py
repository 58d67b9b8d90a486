"""What a report says of a run: how far it has come, its config, its curves, and who taught it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from depthkd.errors import UserError
from depthkd.evaluation.saved_results import SavedResults
from depthkd.metrics.catalogue import CATALOGUE
from depthkd.report.curves import curves, keys
from depthkd.report.document import Block, Drawing, Fold, Part, Table, Text
from depthkd.report.table import number
from depthkd.runs.folder import Progress, Run
from depthkd.runs.history import History, history
from depthkd.runs.trained_on import read_data_sets, read_digests

ABSENT, NOTHING = "-", "null"
FIRST = ("val/", "train/loss", "train/")  # which curves come first, by how they begin
SHOWN = 12  # curves; what is beyond is folded
BETTER = {entry.name: entry.better for entry in CATALOGUE}


@dataclass(frozen=True)
class RunFacts:
    """A run.

    Args:
        name: what the report calls it.
        run: its folder.
        progress: None before its first checkpoint.
        busy: whether it is being trained in now.
        settings: what its config says, with dotted keys.
        logged: its curves.
        teachers: name -> source, license and training sets.
        data_sets: the public data sets that its images are of, as far as shards say so.
        images: how many images it has met; 0 where it kept no list.
    """

    name: str
    run: Run
    progress: Progress | None
    busy: bool
    settings: Mapping[str, str]
    logged: History
    teachers: Mapping[str, Mapping[str, Any]]
    data_sets: Sequence[str]
    images: int

    @classmethod
    def read(cls, name: str, run: Run) -> "RunFacts":
        """Those of a folder.

        Raises:
            UserError: its config, its checkpoint or what it has trained on is broken.
        """
        settings, progress = flattened(run.settings()), run.progress()
        images = int(read_digests(run.checkpoint if run.checkpoint.is_file() else run.folder).size)
        taught, sets = run.teachers(), read_data_sets(run.folder)
        return cls(name, run, progress, _busy(run), settings, history(run), taught, sets, images)

    @property
    def finished(self) -> bool:
        """Whether nothing of its training is left to do."""
        return self.progress is not None and self.progress.finished

    @property
    def status(self) -> str:
        """How far it has come, in words."""
        being = "; it is being trained in now" if self.busy else ""
        if self.progress is None:
            return f"Unfinished: it has no checkpoint yet{being}"
        if self.finished:
            return f"Finished, {self.progress}"
        return f"Unfinished, at {self.progress}: its figures are not what they will be{being}"

    @property
    def title(self) -> str:
        """Its name, with a word where it is unfinished."""
        return self.name if self.finished else f"{self.name} (unfinished)"

    def kind(self, key: str) -> str:
        """The class that its config names there, without its module; a dash where it names none."""
        return self.settings.get(f"{key}.class_path", ABSENT).rpartition(".")[2] or ABSENT


def _busy(run: Run) -> bool:
    try:
        run.in_use.check()
    except UserError:
        return True
    return False


def flattened(tree: Any, key: str = "") -> dict[str, str]:
    """A config with dotted keys, and its values as texts: {"a": {"b": [1, 2]}} as {"a.b": "[1, 2]"}."""
    if isinstance(tree, dict) and tree:
        items = [(str(name), value) for name, value in tree.items()]
    elif isinstance(tree, list) and any(isinstance(value, dict | list) for value in tree):
        items = [(str(i), value) for i, value in enumerate(tree)]
    else:
        return {key: tree if isinstance(tree, str) else json.dumps(tree, default=str)}
    return {k: v for name, value in items for k, v in flattened(value, f"{key}.{name}".strip(".")).items()}


def overview(runs: Sequence[RunFacts], tests: Sequence[tuple[str, SavedResults]]) -> Part:
    """What is reported."""
    blocks: list[Block] = []
    if runs:
        rows = [
            [r.name, r.status, r.kind("model"), r.kind("model.init_args.student"), str(r.run.folder)]
            for r in runs
        ]
        blocks.append(Table("Runs", ["run", "how far", "method", "student", "folder"], rows, words=True))
    if tests:
        rows = [
            [
                name,
                "whole" if test.whole else "Unfinished: it was interrupted, or goes on",
                f"{len(test.models)}",
                ", ".join(dict.fromkeys(b.name for b in test.benchmarks)),
                f"{test.device}, depthkd {test.version}",
                str(test.folder),
            ]
            for name, test in tests
        ]
        header = ["test", "state", "rows", "benchmarks", "measured on", "folder"]
        blocks.append(Table("Test results", header, rows, words=True))
    return Part("What is reported", blocks)


def config_differences(runs: Sequence[RunFacts]) -> Part:
    """The settings that are not the same in all runs; empty of one run. Null is as good as not there."""
    if len(runs) < 2:
        return Part("Settings", [])
    every = list(dict.fromkeys(key for run in runs for key in run.settings))
    values = {key: [run.settings.get(key, ABSENT) for run in runs] for key in every}
    rows = [
        [key, *texts]
        for key, texts in values.items()
        if len({ABSENT if text == NOTHING else text for text in texts}) > 1
    ]
    same = Text(f"{len(every) - len(rows)} settings are the same in all runs, and not shown.", "note")
    header = ["setting", *(run.title for run in runs)]
    table = Table("Settings that differ", header, rows, words=True)
    return Part("Settings", [table, same] if rows else [Text("All settings are the same."), same])


def training_curves(runs: Sequence[RunFacts]) -> Part:
    """Every value that the runs have logged over their steps, and where it ended."""
    logged = [run for run in runs if run.logged]
    silent = [Text(f"{run.title} has logged nothing.", "note") for run in runs if not run.logged]
    names = sorted({name for run in logged for name in run.logged}, key=_order)
    if not names:
        return Part("Curves", silent)
    figures = [
        curves(name, {run.title: run.logged.get(name, []) for run in logged}, _better(name)) for name in names
    ]
    legend = keys([run.title for run in logged])
    blocks: list[Block] = [Drawing(f'{legend}<div class="curves">{"".join(figures[:SHOWN])}</div>')]
    if len(figures) > SHOWN:
        more = Drawing(f'<div class="curves">{"".join(figures[SHOWN:])}</div>')
        blocks.append(Fold(f"{len(figures) - SHOWN} more curves", [more]))
    rows = [[name, *(_last(run.logged.get(name, [])) for run in logged)] for name in names]
    table = Table("The last value of each, and its step", ["logged", *(run.title for run in logged)], rows)
    return Part("Curves", [*blocks, Fold("Last values", [table]), *silent])


def _order(name: str) -> tuple[int, str]:
    return next((i for i, begin in enumerate(FIRST) if name.startswith(begin)), len(FIRST)), name


def _better(name: str) -> str:
    """Of a metric or a loss, which values are the better ones."""
    if name.startswith("val/"):
        return BETTER.get(name.rpartition("/")[2]) or ""
    return "lower" if name == "train/loss" else ""


def _last(points: Sequence[tuple[int, float]]) -> str:
    return f"{number(points[-1][1])} at {points[-1][0]}" if points else ABSENT


def provenance(runs: Sequence[RunFacts], tests: Sequence[tuple[str, SavedResults]]) -> Part:
    """Who taught the students, on what, and under which licenses."""
    blocks: list[Block] = []
    rows = []
    for run in runs:
        images = f"{run.images:,} images" if run.images else "images that it kept no list of"
        sets = ", ".join(run.data_sets) or "no public data set that shards name"
        rows.append([run.title, "its training", f"{images}; {sets}", ABSENT])
        for name, teacher in run.teachers.items():
            known = teacher.get("training_sets")
            taught = ABSENT if known is None else ", ".join(known)
            what = f"{name}: {teacher['source']}; trained on {taught}"
            rows.append([run.title, "taught by", what, str(teacher["license"])])
    if rows:
        blocks.append(Table("Training", ["run", "what", "from where", "license"], rows, words=True))
    tested: dict[str, list[str]] = {}
    for _, test in tests:
        trivial = {row for benchmark in test.benchmarks for row in benchmark.trivial}
        for row, model in test.models.items():
            if row not in trivial:
                facts = (str(model.get(what, ABSENT)) for what in ("source", "space", "weights", "license"))
                tested.setdefault(f"{row} {model.get('weights')}", [row, *facts])
    if tested:
        header = ["model", "source", "predicts", "weights", "license"]
        blocks.append(Table("Tested models", header, list(tested.values()), words=True))
    if blocks:
        bound = "The license of a teacher's weights may bind the student that learned from it."
        blocks.append(Text(bound, "note"))
    return Part("Provenance and licenses", blocks)
