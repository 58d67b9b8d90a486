"""`depthkd test`: score any models on any benchmarks, each under its protocol, beside the trivial rows."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from depthkd.batch import DepthSpace
from depthkd.benchmarks.benchmark import Benchmark
from depthkd.benchmarks.roots import holdings
from depthkd.cluster.processors import use_processors
from depthkd.errors import UserError
from depthkd.evaluation.answers import WrongAnswerError, device_of
from depthkd.evaluation.certainty import certainty
from depthkd.evaluation.comparison import overview, papers_own, reproductions, scatters
from depthkd.evaluation.contenders import Contender, contenders
from depthkd.evaluation.measure import Subject, measure
from depthkd.evaluation.outcomes import Outcome, illustrate, sheet_rows
from depthkd.evaluation.protocols import ALL, chosen
from depthkd.evaluation.provenance import provenance
from depthkd.evaluation.records import Records
from depthkd.evaluation.results import everything, facts, looks, reasons, section, table
from depthkd.evaluation.workers import Workers
from depthkd.formats.sample import Sample
from depthkd.formats.whole_files import write_whole
from depthkd.in_use import InUse
from depthkd.metrics.catalogue import MetricSet, higher_is_better, names_of
from depthkd.models.model import DepthModel
from depthkd.paths import user_path
from depthkd.report.claims import Claim
from depthkd.report.html import write_report
from depthkd.report.photographs import photographs as carried_photographs
from depthkd.report.picks import picked
from depthkd.report.pictures import SheetRow, picture_sheet
from depthkd.report.published import paper_table
from depthkd.runs.folder import LOCK, Run
from depthkd.runs.named_models import named_model

USAGE = "depthkd test [RUN or FILE.onnx or FOLDER or HUB_ID ...] [--config FILE] [options]"


def evaluate(
    models: dict[str, str | DepthModel],
    benchmarks: dict[str, Benchmark],
    root: Path | None = None,
    only: list[str] | None = None,
    splits: dict[str, str] | None = None,
    mean_map: str | list[str] | None = None,
    out: Path = Path("runs/test"),
    protocol: str | list[str] | None = None,
    resolution: int | str | None = None,
    scale: float = 1.0,
    flip: bool = False,
    stand_in: Literal["aligned", "raw"] = "aligned",
    clip_predictions: bool | None = None,
    studies: list[Literal["windows", "output"]] | None = None,
    keep_predictions: bool = False,
    device: str = "auto",
    workers: int | None = None,
    seed: int = 0,
    pictures: int = 4,
    photographs: bool = True,
    untrained: bool = True,
    claims: list[Claim] | None = None,
    tables: list[str] | None = None,
) -> dict[str, Any]:
    """Score models on benchmarks; write results.json, per_sample.csv, table.md, sheet.png and report.html.

    What an interrupted test, or an earlier one, has measured in `out` is taken up where model,
    weights, protocol and the benchmark's settings and data are the same.

    Args:
        models: name -> a run folder, one of its checkpoints, an .onnx file, a folder or hub id of
            transformers, or any DepthModel.
        benchmarks: name -> benchmark; its protocol stands beside every metric.
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
        claims: what should come out; each is printed with its verdict.
        tables: of papers, such as "SharpDepth, Table 1": each laid out as it is there, with our rows.

    Returns:
        What results.json holds.

    Raises:
        UserError: nothing to test, a model's space does not suit a benchmark's protocol, or a claim is about
            what is not tested.
    """
    left_out: list[str] = []
    out = user_path(out)
    for name in tables or []:
        paper_table(name)  # a wrong name is told now, not after hours
    if root is not None:
        root = user_path(root)
        held, left_out = _held(root, only, splits or {})
        benchmarks = held | benchmarks
        for sentence in left_out:
            print(f"left out: {sentence}")
    given: tuple[tuple[str, Mapping[str, object]], ...] = (("models", models), ("benchmarks", benchmarks))
    for what, things in given:
        if not things:
            raise UserError(f"there is nothing to test: give one or more {what}, such as --{what}.NAME ...")
    for model in models.values():
        if isinstance(model, str):
            named_model(model)  # the same
    place = device_of(device)
    run_at: dict[str, Any] = {"scale": scale, "flip": flip, "stand_in": stand_in}
    if resolution is not None:
        run_at["resolution"] = resolution
    if clip_predictions is not None:
        run_at["clip_predictions"] = clip_predictions
    names = [protocol] if isinstance(protocol, str) else protocol
    outcomes = [o for name, b in benchmarks.items() for o in _outcomes(name, b, names, run_at)]
    for outcome in outcomes:
        outcome.studies = tuple(MetricSet(study) for study in studies or [])
    rows = [contender.name for contender in contenders(models, mean_map, untrained)]
    for claim in claims or []:
        claim.check([o.name for o in outcomes], [*rows, *(f"{name}, given the truth" for name in models)])
    photos = [SheetRow(s.key, s.image) for s in carried_photographs()] if photographs else []
    about: dict[str, dict[str, Any]] = {}
    spaces: dict[str, DepthSpace] = {}
    keep = out if keep_predictions else None
    busy = f"{out} is being written by {{who}}: wait for it, or choose another --out"
    with InUse(out / LOCK, busy), Workers(workers) as processes:
        records = Records(out)
        for contender in contenders(models, mean_map, untrained):
            for subject in _subjects(contender, place):
                about[subject.name], spaces[subject.name] = _about(subject), subject.model.space
                for outcome in outcomes:
                    outcome.notes += _unfinished(contender)
                optional = subject.trivial or ALL in (names or [])
                suited = [o for o in outcomes if o.check(subject.name, subject.model.space, optional)]
                suited = [o for o in suited if not subject.knows_truth or o.has_truth()]
                for name in benchmarks:  # all protocols are asked first
                    same = [o for o in suited if o.title == name]
                    if same:
                        measure(subject, same, records, processes, seed, keep)
                    if same and not subject.trivial:
                        _picture(subject, same, records, pictures, seed, keep)
                if not subject.trivial:
                    _look(subject, photos, outcomes[0], seed)
            results = everything(about, outcomes, place, seed)  # after each model: the next may take hours
            write_whole(out / "results.json", json.dumps(results, indent=2) + "\n")
    records.save()
    for o in outcomes:
        o.certainty = certainty(records, o.name, [m for m in o.metrics if m not in o.trivial])
    why = {o.name: reasons(o, outcomes, spaces) for o in outcomes}
    owns = papers_own(tables or [], outcomes)
    beside, printed = [*overview(outcomes), *owns], reproductions(outcomes, about)
    absent = [f"Left out: {sentence}.\n" for sentence in left_out]
    each, remarks = [table(o, why[o.name]) for o in outcomes], [*printed, *absent]
    write_whole(out / "table.md", "\n".join([*each, *beside, *remarks]))
    print("\n".join([*each, *owns, *remarks]))
    pictured = sheet_rows(outcomes) + photos
    if pictured:
        picture_sheet(pictured, list(models), out / "sheet.png")
        print(f"pictures: {out / 'sheet.png'}")
    metrics = {o.name: o.metrics for o in outcomes}
    results = everything(about, outcomes, place, seed)
    results |= {"published": printed, "left_out": left_out}
    results["claims"] = {claim.sentence(metrics): claim.met(metrics) for claim in claims or []}
    write_whole(out / "results.json", json.dumps(results, indent=2) + "\n")
    parts = [*(section(o, why[o.name]) for o in outcomes), *looks(photos)]
    write_report(
        out / "report.html",
        "depthkd test",
        facts(results),
        parts,
        [*beside, *printed, *absent],
        scatters(outcomes),
    )
    print(f"report: {out / 'report.html'}")
    for sentence in results["claims"]:
        print(sentence)
    return results


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


def _outcomes(
    name: str, benchmark: Benchmark, protocols: list[str] | None, changes: Mapping[str, Any]
) -> list[Outcome]:
    found = chosen(benchmark, protocols, changes)
    return [Outcome(name, benchmark, protocol, alone=len(found) == 1) for protocol in found]


def _subjects(contender: Contender, device: torch.device) -> list[Subject]:
    """The row of a model; and its floor, if it answers through an autoencoder."""
    model = contender.load().to(device).eval()
    use_processors(model, device)
    known = provenance(contender.name, model, contender.run)
    subject = Subject(contender.name, model, model.identity(), device, known, contender.trivial)
    return [subject, subject.knowing_truth()] if model.through_codec and not contender.trivial else [subject]


def _unfinished(contender: Contender) -> list[str]:
    """The remark about a run that has not come to its end."""
    progress = None if contender.run is None else Run(contender.run).progress()
    if progress is None or progress.finished or contender.trivial:
        return []
    return [f"{contender.name} is unfinished, at {progress}: its metrics are not what they will be."]


def _about(subject: Subject) -> dict[str, Any]:
    model = subject.model
    return {
        "source": model.source,
        "licence": model.licence,
        "space": str(model.space),
        "preprocessing": model.preprocessing,
        "weights": subject.weights,
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_sets": {who: list(sets) for who, sets in subject.provenance.training_sets.items()},
    }


def _picture(
    subject: Subject, outcomes: list[Outcome], records: Records, pictures: int, seed: int, keep: Path | None
) -> None:
    """Draw a few samples of a benchmark, under its first protocol."""
    outcome = outcomes[0]
    if not pictures:
        return
    by = names_of(outcome.benchmark.metrics)[0]
    best = "highest" if higher_is_better(by) else "lowest"
    outcome.picks = outcome.picks or picked(records.of(outcome.name, subject.name), pictures, by, best)
    illustrate(outcome, subject.name, subject.answers(outcome, seed, keep))


def _look(subject: Subject, photos: list[SheetRow], outcome: Outcome, seed: int) -> None:
    """Draw the photographs, with the model run as on the benchmark."""
    answers = subject.answers(outcome, seed, None)
    for index, row in enumerate(photos):
        try:
            depth = answers(index, Sample(row.title, row.image))
        except WrongAnswerError as error:
            print(f"no photographs by {subject.name}: {error}")
            return
        row.predictions[subject.name] = depth[0].cpu().numpy()
        row.spaces[subject.name] = subject.model.space
