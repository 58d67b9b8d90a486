"""`depthkd replicate`: the tiny twins of a paper's tables, seed by seed, and whether they agree with it.

A replication is a file:

    paper: Distill Any Depth (arXiv 2502.19204)
    common: configs/embedded/replication.yaml   # what every row is built on
    benchmark: film                           # of the common config's validation
    metrics: [abs_rel, abs_rel@motorcycle]    # what the table shows; after an @, of another benchmark
    rows:
      hybrid: {config: configs/ablations/.../table1_shared_context_hybrid.yaml, seeds: 5, paper: ETH3D .057}
      baseline: {config: ..., tiny: {data: ...}}   # what has to be smaller besides
    claims:
      - {better: hybrid, worse: baseline, metric: abs_rel, paper: "Table 1: .057 against .064 on ETH3D"}
      - {better: hybrid, worse: baseline, at_most: 0.9}   # of its metric
    remarks: [what explains a disagreement]   # printed under the verdicts

A row is the common config under the differences that the ablation's own file makes (its `base`, which
is of full size, left out) and under `tiny`. The rows of one seed see the same images in one order.
"""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import yaml
from jsonargparse import ArgumentParser
from tqdm import tqdm

from depthkd.errors import UserError
from depthkd.formats.whole_files import write_whole
from depthkd.metrics.catalogue import heading, higher_is_better
from depthkd.models.dpt.packaged_weights import EMBEDDED, embedded_card
from depthkd.parsing import read_yaml
from depthkd.paths import user_path
from depthkd.processes import finished, pool
from depthkd.report.table import markdown_table
from depthkd.report.verdict import verdict
from depthkd.runs.folder import Run
from depthkd.verbs.configs import Command, Tree, compose, load_config, merge
from depthkd.verbs.options import parsed
from depthkd.verbs.shipped import REPLICATIONS, find_config

USAGE = "depthkd replicate FILE [options]: a paper's tables in miniature, seed by seed"
RESULT, RESULT_OF_0_1 = "metrics.json", "figure.json"
Metrics = dict[str, float]


@dataclass(frozen=True)
class ReplicatedRow:
    """One line of the table.

    Args:
        config: the ablation whose differences it makes; None: the common config as it is.
        seeds: how many times it is trained.
        tiny: what has to be smaller than in the ablation.
        paper: the paper's metric, in words.
        model: a run folder, or the class_path and init_args of a DepthModel, that is scored as it is, with
            nothing to train.
    """

    config: str | None = None
    seeds: int = 2
    tiny: Tree = field(default_factory=dict)
    paper: str = ""
    model: str | Tree | None = None


@dataclass(frozen=True)
class ReplicationClaim:
    """What the paper says of two rows; of the first of the replication's metrics, if it names none.

    With `at_most`, of a metric of which less is better: that the one is at most so many times the other.
    """

    better: str
    worse: str
    paper: str = ""
    metric: str = ""
    at_most: float = 1.0

    def __str__(self) -> str:
        if self.at_most == 1.0:
            return f"{self.better} beats {self.worse}"
        return f"{self.better} is at most {self.at_most:g} x {self.worse}"


@dataclass(frozen=True)
class Replication:
    """What a replication's file says."""

    paper: str
    common: str
    benchmark: str
    rows: Mapping[str, ReplicatedRow]
    claims: tuple[ReplicationClaim, ...]
    metrics: tuple[str, ...] = ("abs_rel",)
    remarks: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "Replication":
        """Read the file.

        Raises:
            UserError, MissingFileError: there is none, or a claim names no row.
        """
        tree = load_config(path)
        if not isinstance(tree.get("rows"), dict) or not tree["rows"]:
            raise UserError(f"{path} is not a replication: 'rows' would map names to what is trained")
        _check_numbers(path, tree)
        try:
            rows = {name: ReplicatedRow(**row) for name, row in tree["rows"].items()}
            metrics = tuple(tree.get("metrics", ["abs_rel"]))
            claims = tuple(
                ReplicationClaim(**({"metric": metrics[0]} | claim)) for claim in tree.get("claims", [])
            )
            remarks = tuple(tree.get("remarks", []))
            found = cls(tree["paper"], tree["common"], tree["benchmark"], rows, claims, metrics, remarks)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} is not a replication: {error} (see depthkd/verbs/replicate.py)"
            ) from error
        for claim in claims:
            for name in (claim.better, claim.worse):
                if name not in rows:
                    raise UserError(f"{path}: a claim names the row '{name}', which is none of {list(rows)}")
            if claim.metric not in metrics:
                raise UserError(f"{path}: a claim names '{claim.metric}', which is none of {list(metrics)}")
            if claim.at_most != 1.0 and _more_is_better(claim.metric):
                raise UserError(f"{path}: of '{claim.metric}' more is better, so at_most claims nothing")
        return found

    def heading(self, metric: str) -> str:
        """Of a metric's column, with its benchmark."""
        name, _, other = metric.partition("@")
        return f"{heading(name)} on {other or self.benchmark}"

    def needed(self) -> list[Path]:
        """The runs that the rows' common config needs: their teachers."""
        needs = load_config(find_config(self.common)).get("needs") or {}
        return [user_path(path) for path in needs if str(path).endswith(".ckpt")]

    def tree(self, row: ReplicatedRow) -> Tree:
        """The config of one row."""
        tree = load_config(find_config(self.common))
        tree.pop("needs", None)
        if row.config is not None:
            path = find_config(row.config)
            difference = read_yaml(path.read_bytes(), str(path)) or {}
            difference = {key: value for key, value in difference.items() if key not in ("base", "needs")}
            tree = merge(tree, difference)
        return merge(tree, row.tiny)


def _more_is_better(metric: str) -> bool:
    return higher_is_better(metric.partition("@")[0])


def _benchmarks(first: str, metrics: Sequence[str]) -> list[str]:
    """The benchmarks of a replication, the one of most metrics first."""
    return list(dict.fromkeys([first, *(other for m in metrics if (other := m.partition("@")[2]))]))


def _check_numbers(path: Path, tree: Tree) -> None:
    for name, row in tree["rows"].items():
        seeds = row.get("seeds", 1) if isinstance(row, dict) else 1
        if not isinstance(seeds, int) or seeds < 1:
            raise UserError(f"{path}: the row '{name}' has {seeds} seeds; it would be 1 or more")
    for claim in tree.get("claims", []):
        most = claim.get("at_most", 1) if isinstance(claim, dict) else 1
        if not isinstance(most, int | float):
            raise UserError(f"{path}: at_most of '{claim.get('better')}' is '{most}', and no number")


def train_and_score(
    folder: str, tree: Tree, benchmark: str, model: str | Tree | None, seed: int, wanted: Sequence[str]
) -> Metrics:
    """Train one row with one seed and score it; what is there already is not done again, and a run that was
    interrupted is gone on with.

    Args:
        folder: of this row, this seed and these settings: see `folder_of`.
        tree: the row's config.
        benchmark: of the config's validation.
        model: what is scored with nothing to train.
        seed: of the training.
        wanted: metrics, those of another benchmark with its name after an @.

    Raises:
        UserError: it cannot be trained, or the benchmark has no such metrics.
    """
    place = Path(folder)
    result = place / RESULT
    for path in (result, place / RESULT_OF_0_1):
        known: Metrics = json.loads(path.read_text()) if path.is_file() else {}
        if set(wanted) <= set(known):
            return known
    import torch

    from depthkd.benchmarks.benchmark import Benchmark
    from depthkd.evaluation.evaluate import evaluate
    from depthkd.models.model import DepthModel
    from depthkd.verbs import fit

    torch.set_num_threads(1)
    place.mkdir(parents=True, exist_ok=True)
    progress = Run(place / "run").progress()
    if model is None and (progress is None or not progress.finished):
        config = place / "row.yaml"
        write_whole(config, yaml.safe_dump(tree, sort_keys=False))
        words = ["--config", str(config), "--run", str(place / "run"), "--seed_everything", str(seed)]
        words += ["--trainer.enable_progress_bar", "false"]
        status = fit.main(compose(words if progress is None else [*words, "--ckpt_path", "last"]))
        if status:
            raise SystemExit(status)
    names = _benchmarks(benchmark, wanted)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--benchmarks", type=dict[str, Benchmark])
    parser.add_argument("--model", type=str | DepthModel)
    validation = {name: tree["data"]["validation"][name] for name in names}
    made = parser.instantiate(
        parser.parse_object({"benchmarks": validation, "model": model or str(place / "run")})
    )
    for scored in made.benchmarks.values():
        scored.limit = None
    results = evaluate(
        {"row": made.model}, made.benchmarks, out=place / "test",
        photographs=False, pictures=0, untrained=False, workers=0,
    )  # fmt: skip
    metrics: Metrics = {
        metric if name == benchmark else f"{metric}@{name}": value
        for name in names
        for metric, value in results["benchmarks"][name]["metrics"]["row"].items()
    }
    if lacking := [name for name in wanted if name not in metrics]:
        raise UserError(f"{' and '.join(names)} give no {', '.join(lacking)}; they give {list(metrics)}")
    write_whole(result, json.dumps(metrics) + "\n")
    return metrics


def folder_of(runs: Path, name: str, seed: int, settings: object, needed: Sequence[Path]) -> Path:
    """Where a row is trained with one seed: with other settings, or other teachers, elsewhere.

    The embedded teacher is one of them.

    Args:
        runs: the replication's folder.
        name: the row's.
        seed: of the training.
        settings: all that is configured of it.
        needed: checkpoints of the teachers.
    """
    told = json.dumps(settings, sort_keys=True, default=str)
    digest = sha256(told.encode())
    if EMBEDDED in told.lower():  # by its class, or by the word
        digest.update(embedded_card()["sha256"].encode())
    for path in needed:
        digest.update(path.read_bytes())
    return runs / re.sub(r"[^\w-]+", "_", name) / f"seed{seed}-{digest.hexdigest()[:8]}"


def report(replication: Replication, found: Mapping[str, Mapping[int, Metrics]], command: str) -> str:
    """The table: rows with their metrics beside the paper's, and the claims with their verdicts."""
    rows = []
    for name, row in replication.rows.items():
        seeds = found[name].values()
        cells = [_mean_and_spread([metrics[f] for metrics in seeds]) for f in replication.metrics]
        rows.append([name, *cells, str(len(seeds)), row.paper or "-"])
    several = len(_benchmarks(replication.benchmark, replication.metrics)) > 1
    lines = []
    for claim in replication.claims:
        sign = -1.0 if _more_is_better(claim.metric) else 1.0
        sides = ((claim.better, sign), (claim.worse, sign * claim.at_most))
        v = verdict(*({s: by * f[claim.metric] for s, f in found[row].items()} for row, by in sides))
        interval = f"{v.mean:+.4f} ({v.low:+.4f} to {v.high:+.4f})"
        what = replication.heading(claim.metric) if several else heading(claim.metric)
        lines.append([str(claim), claim.paper or "-", what, interval, str(v.seeds), v.word])
    header = ["claim", "paper", "metric", "how much better", "seeds", "verdict"]
    names = [replication.heading(metric) for metric in replication.metrics]
    parts = [
        f"# {replication.paper}, in miniature",
        f"Mean and standard deviation over seeds. Made by `{command}`.",
        markdown_table(["row", *names, "seeds", "the paper's"], rows),
        "The rows of a claim share seeds, and with them images, crops and first weights. Intervals are "
        "Student's t over seeds, 95 %. A claim is decided where its interval leaves 0 out.",
        markdown_table(header, lines),
        *(f"- {remark}" for remark in replication.remarks),
    ]
    return "\n\n".join(parts) + "\n"


def _mean_and_spread(values: Sequence[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def checked(file: str, workers: int) -> tuple[Path, Replication]:
    """A replication's file and what it says, if it can be run.

    Raises:
        UserError, MissingFileError: it cannot.
    """
    if workers < 1:
        raise UserError(f"workers must be 1 or more, not {workers}")
    source = find_config(file, REPLICATIONS)
    replication = Replication.read(source)
    for row in replication.rows.values():
        known = (replication.tree(row).get("data") or {}).get("validation") or {}
        for name in _benchmarks(replication.benchmark, replication.metrics):
            if name not in known:
                raise UserError(
                    f"{source}: the benchmark '{name}' is not in data.validation of "
                    f"{replication.common}, which has {', '.join(known) or 'none'}"
                )
    return source, replication


def replicate(file: str, out: str = "runs/replicate", workers: int = 2, table: str | None = None) -> str:
    """Train and score every row with every seed, and write the table.

    Rows that are done are not done again, so that an interrupted replication goes on; of rows with the same
    settings one is trained for all.

    Args:
        file: the replication.
        out: the folder for all runs.
        workers: rows that are trained at a time, one thread each.
        table: where the table goes besides the terminal; None: `out`.

    Returns:
        The table.

    Raises:
        UserError, MissingFileError: a user's mistake, as a sentence.
    """
    source, replication = checked(file, workers)
    runs = user_path(out) / source.stem
    most = max(row.seeds for row in replication.rows.values())
    found: dict[str, dict[int, Metrics]] = {name: {} for name in replication.rows}
    jobs: dict[tuple[str, int], tuple[object, ...]] = {}
    alike: dict[str, tuple[str, int]] = {}  # settings and seed -> what is trained with them
    twins: dict[tuple[str, int], tuple[str, int]] = {}
    for name, row in replication.rows.items():
        tree = replication.tree(row)
        settings = [tree, replication.benchmark, row.model]
        for seed in range(1 if row.model else row.seeds):
            folder = folder_of(runs, name, seed, settings, replication.needed())
            benchmark, metrics = replication.benchmark, replication.metrics
            first = alike.setdefault(folder.name, (name, seed))
            if first != (name, seed):
                twins[name, seed] = first
                continue
            jobs[name, seed] = (str(folder), tree, benchmark, row.model, seed, metrics)
    with pool(workers, _quietly) as processes:
        done = finished(processes, workers, train_and_score, jobs)
        for (name, seed), values in tqdm(done, desc="rows x seeds", total=len(jobs), disable=None):
            found[name][seed] = values
            told = ", ".join(f"{replication.heading(m)} {values[m]:.4f}" for m in replication.metrics)
            print(f"{name}, seed {seed}: {told}", flush=True)
    for (name, seed), (twin, _) in twins.items():
        found[name][seed] = found[twin][seed]
    for name, row in replication.rows.items():
        if row.model is not None:  # the same with every seed
            found[name] = dict.fromkeys(range(most), found[name][0])
    text = report(replication, found, f"depthkd replicate {file}")
    place = user_path(table) if table else user_path(out) / f"{source.stem}.md"
    write_whole(place, text)
    print(text)
    print(f"table: {place}")
    return text


def _quietly() -> None:
    """What the rows say goes nowhere: they would talk at once. Ctrl-C reaches them by way of `finished`."""
    os.setpgrp()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(command: Command) -> int:
    """Run `depthkd replicate`; returns the exit status."""
    options = parsed("replicate", USAGE, replicate, command.arguments, "file")
    _, replication = checked(options.file, options.workers)
    command.make(compose(["--config", replication.common]).needs)
    replicate(**options.as_dict())
    return 0
