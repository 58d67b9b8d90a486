"""`depthkd report`: runs and test results as one page that needs nothing else, and as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from depthkd.errors import MissingFileError, UserError
from depthkd.evaluation.saved_results import RESULTS, SavedResults, read_results
from depthkd.formats.whole_files import write_whole
from depthkd.models.inference import device_of
from depthkd.paths import user_path
from depthkd.report.document import Document, Part, Text
from depthkd.report.interactive import SCRIPTS, STYLES
from depthkd.runs.folder import CONFIG, Run
from depthkd.verbs.configs import Command
from depthkd.verbs.options import parsed
from depthkd.verbs.report.drawn import models_to_draw, photographs, pictures_part
from depthkd.verbs.report.tables import columns_of, cost_part, metrics_part, papers_part
from depthkd.verbs.report.trained import (
    RunFacts,
    config_differences,
    overview,
    provenance,
    training_curves,
)
from depthkd.versions import installed

USAGE = "depthkd report RUN|TEST_RESULTS ... [--out FOLDER] [options]"
PAGE, MARKDOWN = "report.html", "report.md"
MOST_NAMED = 4  # runs and tests in a title


@dataclass(frozen=True)
class Found:
    """What was named: runs and tests, each with the name that the report gives it."""

    runs: list[tuple[str, Run]]
    tests: list[tuple[str, Path]]


def report(
    runs: str | list[str],
    out: Path = Path("runs/report"),
    images: str | list[str] | None = None,
    pictures: int = 4,
    teacher: str | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Path:
    """Write report.html, which needs no other file, and report.md below `out`.

    Args:
        runs: run folders, and folders that `depthkd test --out` wrote.
        out: the folder for the report.
        images: photographs to show the models' depth of: files, folders or patterns; by default those that
            come with scikit-image.
        pictures: how many of them, besides the motorcycle, whose depth is measured; 0: no pictures and no
            point cloud, and no model is loaded.
        teacher: a model to show beside the students, as `depthkd predict --model` takes it; None: their own
            teachers, where these are runs on this machine or the embedded teacher.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1".
        seed: of models that draw noise.

    Returns:
        The page.

    Raises:
        MissingFileError: a folder is not there.
        UserError: a folder is neither a run nor a test's results, or something in it is broken.
    """
    if pictures < 0:
        raise UserError(f"pictures would be 0 or more, not {pictures}")
    place = device_of(device)
    found = _found([runs] if isinstance(runs, str) else runs)
    out = user_path(out)
    if (out / RESULTS).is_file():
        raise UserError(f"{out} holds a test's results, whose own {PAGE} would be lost: choose another --out")
    samples = photographs(images, pictures) if pictures else []
    if teacher is not None:
        named_teacher(teacher)
    named = tqdm(found.runs, desc="runs", unit="run", disable=None)
    trained = [RunFacts.read(name, run) for name, run in named]
    tested = [(name, read_results(folder)) for name, folder in found.tests]
    models = models_to_draw(trained, tested, teacher) if pictures else []
    drawn = pictures_part(models, samples, place, seed)
    document = composed(trained, tested, drawn)
    write_whole(out / PAGE, document.html(STYLES, SCRIPTS))
    write_whole(out / MARKDOWN, document.markdown())
    print(
        f"{_counted(len(trained), 'run')} and {_counted(len(tested), 'test')}: {out / PAGE}, {out / MARKDOWN}"
    )
    return out / PAGE


def composed(
    runs: Sequence[RunFacts], tests: Sequence[tuple[str, SavedResults]], drawn: Sequence[Part]
) -> Document:
    """The report's sections, without those that would be empty."""
    columns = columns_of(tests)
    parts = [
        overview(runs, tests),
        metrics_part(columns),
        papers_part(columns),
        cost_part(columns),
        *drawn,
        training_curves(runs),
        config_differences(runs),
        provenance(runs, tests),
    ]
    open_ends = [f"{run.name}: {run.status}." for run in runs if not run.finished]
    open_ends += [f"{name}: the test is unfinished; rows may be missing." for name, t in tests if not t.whole]
    names = [name for name, _ in tests]
    several = list(dict.fromkeys([*(run.name for run in runs), *names]))
    counts = [_counted(len(runs), "run")] * bool(runs) + [_counted(len(tests), "test")] * bool(tests)
    title = ", ".join(several) if len(several) <= MOST_NAMED else " and ".join(counts)
    lead = [Text(f"Made by depthkd {installed('depthkd')}.", "note"), *(Text(s, "warn") for s in open_ends)]
    return Document(f"Report of {title}", lead, [part for part in parts if part.blocks])


def _found(words: Sequence[str]) -> Found:
    """Runs and tests of the words; a folder that is both is taken as both.

    Raises:
        MissingFileError: there is no such folder.
        UserError: it is neither, or is named twice.
    """
    places = [user_path(word) for word in words]
    runs, tests = list[tuple[str, Run]](), list[tuple[str, Path]]()
    resolved = [place.resolve() for place in places]
    for place, name in zip(places, short_names(resolved), strict=True):
        if resolved.count(place.resolve()) > 1:
            raise UserError(f"{place} is given {resolved.count(place.resolve())} times")
        if not place.exists():
            raise MissingFileError(f"there is no {place}; it would be a run folder or a test's results")
        folder = place.parent if place.name == RESULTS else place
        run = Run(place)
        is_run = run.config.is_file()
        if is_run:
            runs.append((name, run))
        if (folder / RESULTS).is_file():
            tests.append((name, folder))
        elif not is_run:
            raise UserError(
                f"{place} is neither a run folder, for it has no {CONFIG}, nor a test's results, for it has "
                f"no {RESULTS}"
            )
    return Found(runs, tests)


def short_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, and as many before it as tell it from the others."""
    names = []
    for path in paths:
        others = [other.parts for other in paths if other != path]
        count = 1
        while count < len(path.parts) and any(o[-count:] == path.parts[-count:] for o in others):
            count += 1
        names.append("/".join(path.parts[-count:]))
    return names


def named_teacher(word: str) -> None:
    """See that a word names a model, before anything is read.

    Raises:
        UserError, MissingFileError: it does not.
    """
    from depthkd.runs.named_models import named_model

    named_model(word)


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def main(command: Command) -> int:
    """Run `depthkd report`; returns the exit status.

    Raises:
        UserError, MissingFileError: a user's mistake, as a sentence.
    """
    options = parsed("report", USAGE, report, command.arguments, "runs", several=("images",))
    report(**options.as_dict())
    return 0
