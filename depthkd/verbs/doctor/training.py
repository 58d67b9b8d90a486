"""What a config needs to be there: shards that decode, benchmarks, teachers and their licenses."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from depthkd.benchmarks.benchmark import Benchmark
from depthkd.data.stream import ShardSource
from depthkd.errors import UserError, mistake_or_fault, sentence
from depthkd.formats.shard_set import name_of
from depthkd.formats.shard_urls import find_shards
from depthkd.models.hub import read_license
from depthkd.parsing import Parser
from depthkd.paths import local_or_hub, user_path
from depthkd.runs.folder import Run
from depthkd.storage.hub import within
from depthkd.verbs.doctor.findings import Finding, ok, problem, warning
from depthkd.verbs.export.licenses import Terms, terms
from depthkd.verbs.needs import unmade

SAMPLES = 4  # of a source that are decoded
PATIENCE = 15.0  # seconds for a source, a benchmark or a license
EMBEDDED = "apache-2.0"  # of the teacher that depthkd carries
OF_NETWORKS = ("source", "path", "weights")  # arguments of a class that say where a network is from


def look(config: dict[str, Any], needs: Mapping[str, str]) -> Iterator[Finding]:
    """Findings about what a config needs."""
    awaited = set()
    for path, maker in needs.items():
        state = unmade(path)
        if state is None:
            yield ok("needs", f"{path} is there")
        else:
            awaited.add(path)
            yield warning("needs", f"{path} {state}", f"the run makes it first: `depthkd {maker}`")
    data = config.get("data") or {}
    for name, settings in (data.get("train") or {}).items():
        yield _patiently(f"train.{name}", lambda s=settings, n=name: source(n, s, awaited))
    for name, settings in (data.get("validation") or {}).items():
        yield _patiently(f"validation.{name}", lambda s=settings, n=name: benchmark(n, s, awaited))
    model = (config.get("model") or {}).get("init_args") or {}
    for name, settings in _networks(model):
        yield _patiently(name, lambda s=settings, n=name: license_of(n, s, awaited))


def _patiently(what: str, find: Any) -> Finding:
    try:
        found: Finding = within(PATIENCE, find)
    except TimeoutError:
        return warning(
            what, f"no answer in {PATIENCE:.0f} s", "a server or a file system may be slow: try again"
        )
    except Exception as error:
        cause = mistake_or_fault(error)
        if not isinstance(cause, UserError):
            raise
        return problem(what, sentence(cause), "see docs/your_own_data.md and docs/data.md")
    return found


def source(name: str, settings: dict[str, Any], awaited: set[str]) -> Finding:
    """Whether a training source's shards are there, and the first one's first samples decode."""
    what, given = f"train.{name}", dict(settings.get("init_args") or settings)
    given.pop("class_path", None)
    if waits := _awaited(given.get("urls"), awaited):
        return warning(what, f"its shards are made first: {waits}", "look again then")
    if not given.get("urls"):
        raise UserError("it has no `urls`, which would name its shards")
    shards = find_shards(given["urls"], given.get("split")).paths
    given |= {"urls": shards[:1], "split": None}
    if given.get("labels") is not None:
        labels = find_shards(given["labels"]).paths
        given["labels"] = [path for path in labels if name_of(path) == name_of(shards[0])] or labels[:1]
    parser = Parser()
    parser.add_class_arguments(ShardSource, "source")
    with tempfile.TemporaryDirectory() as cache:
        options = parser.parse_object({"source": given | {"cache": cache}})
        opened = parser.instantiate(options).source.open(name, 0)
        skipped = [bad for i in range(SAMPLES) for bad in opened.sample(i)[1]]
    count = f"{len(shards)} shards, {len(opened)} samples in {Path(shards[0]).name}"
    if skipped:
        return warning(
            what, f"{count}: {skipped[0].reason}", "`depthkd shards verify` finds all such samples"
        )
    return ok(what, f"{count}; the first {SAMPLES} decode")


def benchmark(name: str, settings: dict[str, Any], awaited: set[str]) -> Finding:
    """Whether a benchmark's first sample can be read."""
    what = f"validation.{name}"
    if waits := _awaited(settings, awaited):
        return warning(what, f"its files are made first: {waits}", "look again then")
    parser = Parser()
    parser.add_argument("--benchmark", type=Benchmark)
    found: Benchmark = parser.instantiate(parser.parse_object({"benchmark": settings})).benchmark
    found.sample(0)
    return ok(what, f"{len(found)} samples, {found.protocol}")


def _networks(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The networks of a method's arguments by name: whatever has a class, and says where it is from."""
    for key, value in settings.items():
        if not isinstance(value, dict):
            continue
        arguments = value.get("init_args") or {}
        kind = str(value.get("class_path", ""))
        if kind and (
            any(isinstance(arguments.get(one), str) for one in OF_NETWORKS) or kind.endswith(".Embedded")
        ):
            yield above + key, value
        yield from _networks(arguments or value, f"{above}{key}.")


def license_of(name: str, settings: dict[str, Any], awaited: set[str]) -> Finding:
    """Under what license a network stands, from which the student begins or learns."""
    arguments, kind = settings.get("init_args") or {}, str(settings["class_path"])
    origin = next((str(arguments[one]) for one in OF_NETWORKS if isinstance(arguments.get(one), str)), "")
    if waits := _awaited(origin, awaited):
        return warning(name, f"{origin} is made first: {waits}", "look again then")
    if kind.endswith(".Embedded"):
        return ok(name, f"the network that depthkd carries: {EMBEDDED}")
    if origin and Run(origin).config.is_file():
        taught = {key: str(one["license"]) for key, one in Run(origin).teachers().items()}
        found = {f"{origin}, taught by {key}": license for key, license in taught.items()} or {
            origin: "your own"
        }
    else:
        found = {origin: read_license(local_or_hub(origin))}
    text = "; ".join(f"{key}: {license}" for key, license in found.items())
    asked = max((terms(license) for license in found.values() if license != "your own"), default=Terms.FREE)
    if asked is Terms.NON_COMMERCIAL:
        return warning(
            name, text, "what learns from it is not for commercial use, unless you hold the rights"
        )
    if asked is Terms.NOT_KNOWN:
        return warning(name, text, "read its model card: its license binds what learns from it")
    if asked is Terms.CONDITIONAL:
        return warning(name, text, "read its conditions: they bind what learns from it")
    return ok(name, text)


def _awaited(value: Any, awaited: set[str]) -> str | None:
    """What has to be made before a value of a config names something."""
    texts = _texts(value)
    for path in awaited:
        folder = user_path(path)
        if any(
            text == path or folder in user_path(text).parents or user_path(text) in folder.parents
            for text in texts
        ):
            return path
    return None


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return (
        [value]
        if isinstance(value, str) and "://" not in value and value and not value.startswith("@")
        else []
    )
