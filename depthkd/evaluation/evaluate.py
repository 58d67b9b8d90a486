"""Any models on any benchmarks, each under its protocol, beside the trivial rows.

What is asked becomes a plan, the plan is carried out row by row, the rows become results, and the results
are written.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from depthkd.benchmarks.benchmark import Benchmark
from depthkd.cluster.processors import use_processors
from depthkd.cost.counting import parameter_count
from depthkd.datasets.photographs import Photographs
from depthkd.evaluation.certainty import certainty
from depthkd.evaluation.comparison import by_protocol, overview, papers_own, reproductions, scatters
from depthkd.evaluation.costs import costs
from depthkd.evaluation.drawing import Drawings, draw, draw_photographs, picks, sheet_rows
from depthkd.evaluation.honest_rows import STAGES, fitted_to_points
from depthkd.evaluation.measure import EvaluatedModel, Measured, measure
from depthkd.evaluation.provenance import provenance
from depthkd.evaluation.records import Records
from depthkd.evaluation.request import EvaluationRequest, Plan, planned
from depthkd.evaluation.result import BenchmarkResult, ModelResult
from depthkd.evaluation.results import (
    photograph_section,
    protocol_differences,
    report_header,
    results_json,
    section,
    table,
)
from depthkd.evaluation.rows import Row
from depthkd.evaluation.saved_results import RESULTS
from depthkd.evaluation.workers import Workers
from depthkd.formats.whole_files import write_whole
from depthkd.in_use import InUse
from depthkd.models.model import DepthModel
from depthkd.report.html import write_report
from depthkd.report.picks import SPREAD
from depthkd.report.pictures import SheetRow, picture_sheet
from depthkd.runs.folder import LOCK, Run


def evaluate(
    models: dict[str, str | DepthModel], benchmarks: dict[str, Benchmark], **settings: Any
) -> dict[str, Any]:
    """`carried_out` with a request of these fields; see `EvaluationRequest`."""
    return carried_out(EvaluationRequest(models, benchmarks, **settings))


def carried_out(request: EvaluationRequest) -> dict[str, Any]:
    """Score models on benchmarks; write results.json, per_sample.csv, table.md, sheet.png and report.html.

    What an interrupted test, or an earlier one, has measured in `out` is taken up where model,
    weights, protocol and the benchmark's settings and data are the same.

    Returns:
        What results.json holds.

    Raises:
        UserError: nothing to test, a model's space does not suit a benchmark's protocol, or a claim is about
            what is not tested.
    """
    plan = planned(request)
    busy = f"{plan.out} is being written by {{who}}: wait for it, or choose another --out"
    models: list[ModelResult] = []
    with InUse(plan.out / LOCK, busy), Workers(request.workers) as workers:
        records = Records(plan.out)
        for row in plan.rows():
            for number, model in enumerate(_evaluated(row, plan)):
                notes = _unfinished(row) if number == 0 else []
                models.append(_measured(model, plan, records, workers, models, notes))
            shutil.rmtree(plan.out / STAGES, ignore_errors=True)
            unsure = [BenchmarkResult(task, tuple(models)) for task in plan.tasks]
            # after every row, because the next may take hours
            _write_results(plan, results_json(models, unsure, plan.device, request.seed))
    records.save()
    results = [
        BenchmarkResult(
            task,
            tuple(models),
            certainty(
                records, task.name, [m.name for m in models if task.name in m.measured and not m.trivial]
            ),
        )
        for task in plan.tasks
    ]
    return _written(plan, models, results)


def _evaluated(row: Row, plan: Plan) -> Iterator[EvaluatedModel]:
    """The model of a row; its floor, if it predicts through an autoencoder; and where depth is completed, its
    relative depth fitted to the points."""
    device = plan.device
    model = row.load().to(device).eval()
    use_processors(model, device)
    known = provenance(row.name, model, row.run)
    identity, only = model.identity(), row.completes
    evaluated = EvaluatedModel(row.name, model, identity, device, known, row.trivial, completes=only)
    yield evaluated
    if row.trivial:
        return
    if model.decodes_latents:
        yield evaluated.knowing_truth()
    if plan.completion:
        folder = plan.out / STAGES / f"{identity}-{plan.request.seed}"
        for name, one in fitted_to_points(row.name, model, folder):
            fit = one.to(device).eval()
            known = provenance(name, fit, row.run)
            yield EvaluatedModel(name, fit, fit.identity(), device, known, trivial=True, completes=True)


def _unfinished(row: Row) -> list[str]:
    """The remark about a run that has not come to its end."""
    progress = None if row.run is None else Run(row.run).progress()
    if progress is None or progress.finished or row.trivial:
        return []
    return [f"{row.name} is unfinished, at {progress}: its metrics are not what they will be."]


def _measured(
    model: EvaluatedModel,
    plan: Plan,
    records: Records,
    workers: Workers,
    before: Sequence[ModelResult],
    notes: list[str],
) -> ModelResult:
    """One model on all benchmarks that suit it.

    Args:
        model, plan: which, and what is asked.
        records, workers: see `measure`.
        before: the models that were measured before; the first that has metrics says which samples are drawn.
        notes: what is said of it under every table.
    """
    seed, space = plan.request.seed, model.model.space
    optional = plan.optional(model.trivial)
    asked = [t for t in plan.tasks if model.suits(t)]
    refusals = {task.name: task.refusal(model.name, space, optional) for task in asked}
    suited = [t for t in asked if refusals[t.name] is None and (not model.knows_truth or t.has_truth())]
    measured: dict[str, Measured] = {}
    drawn: dict[str, Drawings] = {}
    for title in dict.fromkeys(task.title for task in suited):  # all protocols are asked first
        tasks = [task for task in suited if task.title == title]
        found = measure(model, tasks, records, workers, seed, plan.predictions)
        measured |= {task.name: one for task, one in zip(tasks, found, strict=True)}
        if model.pictured and plan.request.pictures:
            task = tasks[0]
            models = [*(m.name for m in before if not m.trivial or task.name in m.drawn), model.name]
            chosen = picks(task, models, records, plan.request.pictures)
            drawn[task.name] = draw(task, model.predictions(task, seed, plan.predictions), chosen)
    photographs = Photographs()
    wanted = plan.request.photographs and not model.trivial
    shown = [photographs.sample(i) for i in range(len(photographs))] if wanted else []
    return ModelResult(
        model.name,
        model.trivial,
        _about(model),
        space,
        measured,
        {name: [*notes, *([refusal] if refusal else [])] for name, refusal in refusals.items()},
        drawn,
        draw_photographs(model, plan.tasks[0], shown, seed),
        costs(model, suited, records) if plan.request.cost and not model.trivial else {},
    )


def _about(evaluated: EvaluatedModel) -> dict[str, Any]:
    model = evaluated.model
    return {
        "source": model.source,
        "license": model.license,
        "space": str(model.space),
        "preprocessing": model.preprocessing,
        "weights": evaluated.weights,
        "parameters": parameter_count(model),
        "training_sets": {who: list(sets) for who, sets in evaluated.provenance.training_sets.items()},
    }


def _written(plan: Plan, models: Sequence[ModelResult], results: list[BenchmarkResult]) -> dict[str, Any]:
    """Write and print all; returns what results.json holds."""
    request = plan.request
    why = {result.name: protocol_differences(result, results) for result in results}
    owns = papers_own(request.tables or [], results)
    beside, printed = [*overview(results), *owns], reproductions(results)
    absent = [f"Left out: {sentence}.\n" for sentence in plan.left_out]
    each, remarks = [table(result, why[result.name]) for result in results], [*printed, *absent]
    each += by_protocol(results)
    write_whole(plan.out / "table.md", "\n".join([*each, *beside, *remarks]))
    print("\n".join([*each, *owns, *remarks]))
    photos = list(sheet_rows((model.name, model.photographs) for model in models).values())
    pictured = _sheet(results) + photos
    if pictured:
        shown = list(dict.fromkeys(name for row in pictured for name in row.predictions))
        tested = [name for name in request.models if name in shown]
        columns = shown if plan.completion else tested or shown  # with what depth has to be completed better
        picture_sheet(pictured, columns, plan.out / "sheet.png")
        print(f"pictures: {plan.out / 'sheet.png'}")
    metrics = {result.name: result.metrics for result in results}
    written = results_json(models, results, plan.device, request.seed)
    written |= {"published": printed, "left_out": plan.left_out}
    written["claims"] = {claim.sentence(metrics): claim.met(metrics) for claim in request.claims or []}
    _write_results(plan, written)
    parts = [*(section(result, why[result.name]) for result in results), *photograph_section(photos)]
    report, header = plan.out / "report.html", report_header(written)
    write_report(report, "depthkd test", header, parts, [*beside, *printed, *absent], scatters(results))
    print(f"report: {report}")
    for sentence in written["claims"]:
        print(sentence)
    return written


def _sheet(results: Sequence[BenchmarkResult]) -> list[SheetRow]:
    """The samples of all benchmarks that are spread evenly, each benchmark under its first protocol."""
    first: dict[str, BenchmarkResult] = {}
    for result in results:
        first.setdefault(result.task.title, result)
    return [row for r in first.values() for i, row in r.pictures.items() if SPREAD in r.picks[i]]


def _write_results(plan: Plan, results: dict[str, Any]) -> None:
    write_whole(plan.out / RESULTS, json.dumps(results, indent=2) + "\n")
