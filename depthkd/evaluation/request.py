"""What `depthkd test` is asked for, and the plan that comes of it before any model is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from depthkd.batch import METRIC_DEPTH, METRIC_DISPARITY
from depthkd.benchmarks.benchmark import Benchmark
from depthkd.benchmarks.completion import CompletionBenchmark
from depthkd.benchmarks.roots import holdings
from depthkd.errors import UserError
from depthkd.evaluation.honest_rows import of_model
from depthkd.evaluation.protocols import ALL, chosen
from depthkd.evaluation.reading import truth_space
from depthkd.evaluation.rows import Row, given_truth, rows
from depthkd.evaluation.task import Task
from depthkd.metrics.catalogue import MetricSet
from depthkd.models.inference import device_of
from depthkd.models.model import DepthModel
from depthkd.paths import user_path
from depthkd.report.claims import Claim
from depthkd.report.published import paper_table

METRIC = (METRIC_DEPTH, METRIC_DISPARITY)


@dataclass(frozen=True)
class EvaluationRequest:
    """What is tested, and how.

    Args:
        models: name -> a run folder, one of its checkpoints, an .onnx file, a folder or hub id of
            transformers, or any DepthModel.
        benchmarks: name -> benchmark; its protocol stands beside every metric.
        completion: patterns of sparse depth, such as ["200 points", "lidar 16"] (see
            `depthkd.sparse_depth.parse_pattern`): each benchmark of metric depth is tested as one of depth
            completion with each of them, instead of as it is; "measured" takes points that data sets bring.
        root: a folder of public benchmarks: those that are whole there are tested too. Without models,
            `depthkd test --root FOLDER` lists what it holds and what is missing.
        only: names of the benchmarks that are looked for below `root`; None: all.
        splits: name of a benchmark below `root` -> another list than the one that comes with depthkd.
        mean_map: labelled training shards, whose mean disparity map becomes a trivial row.
        out: the folder for results.
        protocol: one preset or several ("all" of them) instead of each benchmark's own.
        resolution: the size at which models run instead of the protocols' own: the shorter side in pixels;
            "longer 756", the longer side; "native", the image's own size; "own", each model's own.
        scale: a further factor on the size (test-time scaling: 1, 2, 4).
        scales: several further factors, such as [0.75, 1, 1.25]: the mean of the predictions at all of them.
        flip: average each prediction with that of the mirrored image.
        stand_in: what boundary ratios are taken of: the fitted depth ("aligned") or the "raw" prediction.
        clip_predictions: whether fitted predictions are clipped to the range of valid depths (Marigold,
            ZoeDepth) or not (SharpDepth), instead of what the protocols say.
        studies: metrics besides the benchmarks' own: "windows" (a fit over the image against fits inside
            windows, Distill Any Depth's Figure 2), "output" (the raw prediction's magnitude).
        keep_predictions: keep raw predictions below `out`, to be scored again without running the models.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1".
        workers: processes for the metrics of edges; None: one less than there are processors.
        seed: of models that draw noise; every image's draws begin anew from it.
        pictures: samples of each benchmark on the picture sheet.
        photographs: whether the sheet ends with photographs, which have no truth.
        untrained: whether each run also gets a row for its student with the weights before training.
        cost: whether tables also have each model's parameters, multiply-adds and latency at the size at which
            most images ran, as `depthkd cost` measures them.
        claims: what should come out; each is printed with its verdict.
        tables: of papers, such as "SharpDepth, Table 1": each laid out as it is there, with our rows.
    """

    models: dict[str, str | DepthModel]
    benchmarks: dict[str, Benchmark]
    completion: list[str] | None = None
    root: Path | None = None
    only: list[str] | None = None
    splits: dict[str, str] | None = None
    mean_map: str | list[str] | None = None
    out: Path = Path("runs/test")
    protocol: str | list[str] | None = None
    resolution: int | str | None = None
    scale: float = 1.0
    scales: list[float] | None = None
    flip: bool = False
    stand_in: Literal["aligned", "raw"] = "aligned"
    clip_predictions: bool | None = None
    studies: list[Literal["windows", "output"]] | None = None
    keep_predictions: bool = False
    device: str = "auto"
    workers: int | None = None
    seed: int = 0
    pictures: int = 4
    photographs: bool = True
    untrained: bool = True
    cost: bool = False
    claims: list[Claim] | None = None
    tables: list[str] | None = None

    @property
    def protocols(self) -> list[str] | None:
        """The presets that are asked for; None: each benchmark's own."""
        return [self.protocol] if isinstance(self.protocol, str) else self.protocol

    def inference_changes(self) -> dict[str, Any]:
        """The fields of every protocol that the request sets."""
        changes: dict[str, Any] = {"scale": self.scale, "flip": self.flip, "stand_in": self.stand_in}
        changes["scales"] = tuple(self.scales or ())
        if self.resolution is not None:
            changes["resolution"] = self.resolution
        if self.clip_predictions is not None:
            changes["clip_predictions"] = self.clip_predictions
        return changes


@dataclass(frozen=True)
class Plan:
    """What will be done, row by row and task by task.

    Args:
        request: what was asked.
        out: the folder for results.
        device: where models run.
        tasks: benchmarks, each under each of its protocols.
        left_out: sentences about benchmarks below the root that are not whole.
    """

    request: EvaluationRequest
    out: Path
    device: torch.device
    tasks: tuple[Task, ...]
    left_out: list[str] = field(default_factory=list)

    def rows(self) -> list[Row]:
        """All rows, the models first."""
        request = self.request
        return list(rows(request.models, request.mean_map, request.untrained, self.completion))

    @property
    def completion(self) -> bool:
        """Whether there is a benchmark of depth completion."""
        return any(task.completion for task in self.tasks)

    def row_names(self) -> list[str]:
        """What rows are called, those among them that only some models have."""
        models = self.request.models
        fits = [row for name in models if self.completion for row in of_model(name)]
        return [*(row.name for row in self.rows()), *fits, *map(given_truth, models)]

    @property
    def predictions(self) -> Path | None:
        """Where raw predictions are kept."""
        return self.out if self.request.keep_predictions else None

    def optional(self, row_is_trivial: bool) -> bool:
        """Whether a row that a protocol cannot score is left out with a note; otherwise it is an error."""
        return row_is_trivial or ALL in (self.request.protocols or [])


def planned(request: EvaluationRequest) -> Plan:
    """The plan, if it can be carried out.

    Raises:
        UserError: there is nothing to test, a name is unknown, or a claim is about what is not tested.
    """
    for name in request.tables or []:
        paper_table(name)  # a wrong name is told now, not after hours
    benchmarks, left_out = dict(request.benchmarks), list[str]()
    if request.root is not None:
        held, left_out = _held(user_path(request.root), request.only, request.splits or {})
        benchmarks = held | benchmarks
        for sentence in left_out:
            print(f"left out: {sentence}")
    needed: tuple[tuple[str, Mapping[str, object]], ...] = (
        ("models", request.models),
        ("benchmarks", benchmarks),
    )
    for what, things in needed:
        if not things:
            raise UserError(f"there is nothing to test: give one or more {what}, such as --{what}.NAME ...")
    if request.completion:
        benchmarks, without = completing(benchmarks, request.completion)
        left_out += without
    tasks = tuple(task for name, b in benchmarks.items() for task in _tasks(name, b, request))
    plan = Plan(request, user_path(request.out), device_of(request.device), tasks, left_out)
    for claim in request.claims or []:
        claim.check([task.name for task in tasks], plan.row_names())
    return plan


def _held(
    root: Path, only: list[str] | None, splits: dict[str, str]
) -> tuple[dict[str, Benchmark], list[str]]:
    """The benchmarks that are whole below a folder; and sentences about those that are asked for or there,
    and are not whole."""
    found: dict[str, Benchmark] = {}
    sentences = []
    for holding in holdings(root, only, splits):
        if holding.sentence is None and holding.place is not None:
            found[holding.name] = holding.kind(holding.place, split=splits.get(holding.name))
        elif holding.sentence is not None and (holding.place is not None or only is not None):
            sentences.append(holding.sentence)
    return found, sentences


def completing(
    benchmarks: Mapping[str, Benchmark], patterns: Sequence[str]
) -> tuple[dict[str, Benchmark], list[str]]:
    """Each benchmark as one of depth completion, once for each pattern; and sentences about those that cannot
    be.

    Raises:
        UserError: a pattern is none, or no benchmark can be.
    """
    found: dict[str, Benchmark] = {}
    sentences = []
    for name, benchmark in benchmarks.items():
        if MetricSet.DEPTH not in benchmark.metrics or truth_space(benchmark) not in METRIC:
            sentences.append(f"benchmark '{name}' has no metric depth, of which points could be given")
            continue
        for pattern in patterns:
            one = CompletionBenchmark(benchmark, pattern)
            found[f"{name}, {one.pattern}"] = one
    if not found:
        raise UserError(f"there is nothing to complete: {'; '.join(sentences)}")
    return found, sentences


def _tasks(name: str, benchmark: Benchmark, request: EvaluationRequest) -> list[Task]:
    found = chosen(benchmark, request.protocols, request.inference_changes())
    studies = tuple(MetricSet(study) for study in request.studies or [])
    return [Task(name, benchmark, protocol, len(found) == 1, studies) for protocol in found]
