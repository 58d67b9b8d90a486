"""The pictures of a report: models' depth of the motorcycle, whose truth is known, and of photographs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from depthkd.benchmarks.motorcycle import Motorcycle
from depthkd.cluster.processors import use_processors
from depthkd.datasets.photographs import Photographs
from depthkd.errors import UserError
from depthkd.evaluation.drawing import Drawings, draw, draw_photographs, sheet_rows
from depthkd.evaluation.measure import EvaluatedModel
from depthkd.evaluation.provenance import Provenance
from depthkd.evaluation.saved_results import SavedResults
from depthkd.evaluation.task import Task
from depthkd.formats.images import IMAGE_SUFFIXES, decode_image
from depthkd.formats.sample import Sample, read_file
from depthkd.models.dpt.embedded import SOURCE
from depthkd.models.dpt.packaged_weights import EMBEDDED
from depthkd.paths import expand_paths
from depthkd.report.document import Block, Drawing, Heading, Part, Text
from depthkd.report.interactive import TRUTH, cloud, cloud_data, comparison
from depthkd.report.pictures import SheetRow, within
from depthkd.runs.folder import Run
from depthkd.runs.named_models import named_model
from depthkd.verbs.report.trained import RunFacts

MOST_MODELS = 6
LARGEST = 960  # px: longer side of a photograph that models are asked about
TEACHER = "teacher of "
ON_PAGE = "On the page: pictures of {names} with a slider, and a point cloud."


@dataclass(frozen=True)
class Drawn:
    """A model that is drawn.

    Args:
        name: what it is called.
        word: names it.
        tested: of a row of a test, what results.json says of its model; None: it is no such row.
    """

    name: str
    word: str
    tested: Mapping[str, Any] | None = None


def models_to_draw(
    runs: Sequence[RunFacts], tests: Sequence[tuple[str, SavedResults]], teacher: str | None
) -> list[Drawn]:
    """The runs' students and their teachers, and the tested models, as far as they are on this machine.

    Args:
        runs, tests: what is reported.
        teacher: a model that is drawn in place of the runs' teachers; None: those, where they are here.
    """
    found = {str(r.run.checkpoint.resolve()): Drawn(r.title, str(r.run.folder)) for r in runs if r.progress}
    if teacher is not None:
        found.setdefault(teacher, Drawn(f"teacher: {teacher}", teacher))
    else:
        for run in runs:
            for known in run.teachers.values():
                _add(found, str(known["source"]), f"{TEACHER}{run.name}")
    for name, test in tests:
        trivial = {row for benchmark in test.benchmarks for row in benchmark.trivial}
        for row, model in test.models.items():
            if row not in trivial and "untrained" not in row:
                taken = any(one.name == row for one in found.values())
                source = _from_there(str(model.get("source")), test.folder)
                _add(found, source, f"{row} ({name})" if taken else row, model)
    return list(found.values())[:MOST_MODELS]


def _from_there(source: str, folder: Path) -> str:
    """A model's path as it was typed for a test, from where that was run: somewhere above its folder."""
    if Path(source).exists():
        return source
    above = (str(parent / source) for parent in folder.resolve().parents)
    return next((path for path in above if Path(path).exists()), source)


def _add(found: dict[str, Drawn], source: str, name: str, tested: Mapping[str, Any] | None = None) -> None:
    if source.startswith(SOURCE):
        found.setdefault(EMBEDDED, Drawn(f"{EMBEDDED} teacher", EMBEDDED))
    elif (place := Path(source)).exists():
        run = Run(place)
        key = run.checkpoint if run.config.is_file() else place
        found.setdefault(str(key.resolve()), Drawn(name, source, tested))


def photographs(images: str | list[str] | None, count: int) -> list[Sample]:
    """The photographs that are drawn: those that are asked for, else such as come with scikit-image.

    Raises:
        UserError, MissingFileError: there are none of these names, or one cannot be read.
    """
    if images is None:
        known = Photographs()
        return [known.sample(i) for i in range(min(count, len(known)))]
    paths = [Path(path) for path in expand_paths(images, IMAGE_SUFFIXES)][:count]
    return [Sample(path.name, within(decode_image(read_file(path), str(path)), LARGEST)) for path in paths]


def pictures_part(
    models: Sequence[Drawn], samples: Sequence[Sample], device: torch.device, seed: int
) -> tuple[Part, Part]:
    """Sections with the pictures, and with the point cloud; both empty where there is no model."""
    with_truth: dict[str, Drawings] = {}
    without: dict[str, Drawings] = {}
    notes: list[Block] = []
    benchmark = Motorcycle()
    task = Task(benchmark.name, benchmark, benchmark.protocol)
    for one in tqdm(models, desc="pictures", unit="model", disable=None):
        try:
            network = named_model(one.word).load().to(device).eval()
        except UserError as error:
            notes.append(Text(f"No pictures by {one.name}: {error}.", "note"))
            continue
        if one.tested is not None and str(network.space) != one.tested.get("space"):
            then = f"it was tested as {one.tested.get('space')}, and {one.word} is read as {network.space}"
            notes.append(Text(f"No pictures by {one.name}: {then}.", "note"))
            continue
        if one.tested is not None and network.identity() != one.tested.get("weights"):
            changed = f"{one.word} has changed since the test, or depthkd's code for it has"
            notes.append(Text(f"Pictures by {one.name}: {changed}; they show it as it is now.", "warn"))
        use_processors(network, device)
        evaluated = EvaluatedModel(one.name, network, "", device, Provenance())
        refused = task.refusal(one.name, network.space, optional=True)
        if refused is None:
            with_truth[one.name] = draw(task, evaluated.predictions(task, seed, None), {0: [benchmark.name]})
        without[one.name] = draw_photographs(evaluated, task, samples, seed)
    measured = {i: replace(row, title=benchmark.name) for i, row in sheet_rows(with_truth.items()).items()}
    rows = [row for row in [*measured.values(), *sheet_rows(without.items()).values()] if row.predictions]
    if not rows:
        return Part("Pictures", notes), Part("Point cloud", [])
    names = ", ".join(dict.fromkeys(name for row in rows for name in row.predictions))
    said = (
        "Bright is near. The motorcycle's depth is measured: that of models is fitted to it as the protocol "
        "says, and shares its colors. The others have a scale of each map's own. The slider moves the edge "
        "between two pictures."
    )
    shown = [Text(said, "note"), Drawing(comparison(rows), ON_PAGE.format(names=names)), *notes]
    return Part("Pictures", shown), _cloud_part(measured)


def _cloud_part(rows: Mapping[int, SheetRow]) -> Part:
    row = next((row for row in rows.values() if row.camera is not None and row.predictions), None)
    if row is None or row.camera is None or row.truth is None:
        return Part("Point cloud", [])
    depths = dict(_largest_first(row))
    said = (
        "The motorcycle's pixels where each depth puts them, after the fit to the measured one. Flat things "
        "should be flat, and nothing should hang between a thing and what is behind it. Drag it, or use the "
        "arrow keys and + and -."
    )
    drawing = Drawing(cloud(row.title, cloud_data(row.image, depths, row.camera), list(depths)))
    return Part("Point cloud", [Heading(row.title), Text(said, "note"), drawing])


def _largest_first(row: SheetRow) -> Iterator[tuple[str, np.ndarray]]:
    yield from row.predictions.items()
    if row.truth is not None:
        yield f"{TRUTH} (measured)", row.truth
