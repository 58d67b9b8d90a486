"""Which public benchmarks a folder holds, and what is missing of them; only names are looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from depthkd.benchmarks import public, public_completion
from depthkd.benchmarks.public_benchmark import PublicBenchmark
from depthkd.errors import MissingFileError, UserError
from depthkd.paths import user_path
from depthkd.report.table import markdown_table

NAMED_ONLY = (  # parts of others, and those of depth completion: looked for where they are named
    public.DIODEIndoor,
    public_completion.KITTICompletion,
    public_completion.VOID,
    public_completion.ETH3DSfM,
)


def found_below_roots() -> list[type[PublicBenchmark]]:
    """Every benchmark whose data set says where it may stand below a root, in the order of `public` and
    `public_completion`."""
    known = (vars(public) | vars(public_completion)).values()
    kinds = [kind for kind in known if isinstance(kind, type) and issubclass(kind, PublicBenchmark)]
    return [kind for kind in kinds if hasattr(kind, "kind") and kind.kind.places]


@dataclass(frozen=True)
class Holding:
    """What a root has of one benchmark.

    Attributes:
        name: what tables call the benchmark.
        kind: its class.
        place: where its data was found; None: nowhere.
        samples: how many its list has; None where only the data could say.
        missing: how many of these lack a file; None where there is no list or no place.
        sentence: what is missing, and what would stand where; None if all is there.
    """

    name: str
    kind: type[PublicBenchmark]
    place: Path | None = None
    samples: int | None = None
    missing: int | None = None
    sentence: str | None = None


def holdings(
    root: str | Path, only: Sequence[str] | None = None, splits: Mapping[str, str] | None = None
) -> list[Holding]:
    """What a root holds of every public benchmark, and of parts of them that are named.

    Of several places that exist, that with the fewest missing samples counts.

    Args:
        root: the folder.
        only: names of the benchmarks that are looked for; None: all.
        splits: name -> another list than the one that comes with depthkd.

    Raises:
        MissingFileError: there is no such folder.
        UserError: a name is not one of the benchmarks'.
    """
    folder = user_path(root)
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is no folder; benchmarks are looked for in one")
    everything = found_below_roots()
    names = [kind.name for kind in everything]
    for name in [*(only or []), *(splits or {})]:
        if name not in names:
            raise UserError(f"'{name}' is not a benchmark that a root can hold; these are {', '.join(names)}")
    wanted = [k for k in everything if (k not in NAMED_ONLY if only is None else k.name in only)]
    return [_holding(folder, kind, (splits or {}).get(kind.name)) for kind in wanted]


def listing(
    root: str | Path, only: Sequence[str] | None = None, splits: Mapping[str, str] | None = None
) -> str:
    """`holdings` as a Markdown table, and a sentence for each benchmark that is not whole; arguments and
    errors are theirs."""
    found = holdings(root, only, splits)
    rows = [
        [
            h.name,
            h.kind.__name__,
            "-" if h.place is None else str(h.place.relative_to(user_path(root))),
            *("-" if count is None else str(count) for count in (h.samples, h.missing)),
        ]
        for h in found
    ]
    table = markdown_table(["benchmark", "class", "found at", "samples", "missing"], rows)
    sentences = [f"- {h.sentence}" for h in found if h.sentence]
    return "\n\n".join([table, *(["\n".join(sentences)] if sentences else [])]) + "\n"


def _holding(root: Path, kind: type[PublicBenchmark], split: str | None) -> Holding:
    best: Holding | None = None
    for place in kind.kind.places:
        if (root / place).exists():
            found = _inspected(kind, root / place, split)
            if found.sentence is None:
                return found
            if best is None or _completeness(found) > _completeness(best):
                best = found
    return best or _absent(kind, root)


def _completeness(holding: Holding) -> int:
    return (holding.samples or 0) - (holding.missing or 0)


def _inspected(kind: type[PublicBenchmark], place: Path, split: str | None) -> Holding:
    benchmark = kind(place, split=split)
    try:
        samples, missing = len(benchmark.dataset), benchmark.dataset.missing()
    except UserError as error:
        return Holding(benchmark.name, kind, place, sentence=str(error))
    sentence = None
    if missing:
        sentence = (
            f"benchmark '{benchmark.name}': {place} lacks files of {len(missing)} of {samples} samples, such "
            f"as {missing[0]}; it would hold {benchmark.dataset.layout}"
        )
    return Holding(benchmark.name, kind, place, samples, len(missing), sentence)


def _absent(kind: type[PublicBenchmark], root: Path) -> Holding:
    places = kind.kind.places
    benchmark = kind(root / places[0])
    try:
        samples = len(benchmark.dataset)
    except MissingFileError:  # its list is its data
        samples = None
    sentence = (
        f"benchmark '{benchmark.name}': none of {', '.join(places)} is in {root}; one would hold "
        f"{benchmark.dataset.layout}"
    )
    return Holding(benchmark.name, kind, samples=samples, sentence=sentence)
