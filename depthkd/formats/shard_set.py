"""Many shards at once: how many samples each has, and what tells its content, without opening each index."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from depthkd.errors import UserError
from depthkd.formats.index_files import index_places, read_facts
from depthkd.formats.tar import index_tar, tar_stamp
from depthkd.formats.tar_index import ShardFacts
from depthkd.formats.whole_files import whole_file

MANIFEST = "depthkd-shards.json"  # about the tars of a folder
VERSION = 1  # of its layout
THREADS = 16  # which wait for the file system, mostly
PATIENCE = 2  # seconds before progress is shown

Facts = TypeVar("Facts")
Manifest = dict[str, ShardFacts]
"""Name of a tar in a folder -> what is known of it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardSet:
    """Shards that can be read, in their order, and a sentence for each that cannot."""

    paths: list[str]
    counts: list[int]
    """Samples with an image, of each shard."""
    digests: list[str]
    """Of each shard's content, see `TarIndex.digest`."""
    bad: list[str]


def survey(
    paths: Sequence[str], cache: Path | None = None, max_bad: int = 0, turn: tuple[int, int] = (0, 1)
) -> ShardSet:
    """What is known of shards: from their folder's manifest or their index's header where those are up to
    date; the others are indexed, which takes a while.

    Args:
        paths: of the shards.
        cache: see `index_tar`.
        max_bad: how many may be broken or missing; those are left out.
        turn: this process's number among those of the machine that survey the same shards, and how many they
            are. Each begins elsewhere, and finds what the others have indexed.

    Raises:
        UserError: more than `max_bad` are broken.
        MissingFileError: the same, where the first of them is missing.
    """
    manifests = {folder: read_manifest(folder, cache) for folder in {Path(path).parent for path in paths}}
    found: dict[int, ShardFacts] = {}
    bad: dict[int, UserError] = {}
    unknown = []
    for i, facts in enumerate(_each(partial(_known, manifests, cache), paths)):
        if facts is None:
            unknown.append(i)
        else:
            _keep(i, facts, found, bad, max_bad)
    if unknown:
        log.info("indexing %d of %d shards; `depthkd shards index` does it ahead", len(unknown), len(paths))
        first = len(unknown) * turn[0] // turn[1]
        order = unknown[first:] + unknown[:first]
        indexed = _each(partial(facts_of, cache=cache), [paths[i] for i in order])
        progress = tqdm(indexed, "indexing", len(order), unit="shard", delay=PATIENCE, disable=None)
        for i, facts in zip(order, progress, strict=True):
            _keep(i, facts, found, bad, max_bad)
    places = sorted(found)
    return ShardSet(
        [paths[i] for i in places],
        [found[i].samples for i in places],
        [found[i].digest for i in places],
        [str(bad[i]) for i in sorted(bad)],
    )


def _keep(
    i: int,
    facts: ShardFacts | UserError,
    found: dict[int, ShardFacts],
    bad: dict[int, UserError],
    max_bad: int,
) -> None:
    if isinstance(facts, ShardFacts):
        found[i] = facts
        return
    bad[i] = facts
    if max_bad == 0:
        raise facts
    if len(bad) > max_bad:
        first = bad[min(bad)]
        raise type(first)(f"{len(bad)} shards are broken or missing, and max_bad_shards={max_bad}: {first}")


def read_manifest(folder: Path, cache: Path | None = None) -> Manifest:
    """A folder's manifest; empty if it is missing or damaged."""
    for place in manifest_places(folder, cache):
        try:
            record = json.loads(place.read_bytes())
            if record["version"] != VERSION:
                continue
            return {
                name: ShardFacts((int(size), int(time)), int(samples), str(digest))
                for name, (size, time, samples, digest) in record["shards"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return {}


def write_manifest(folder: Path, shards: Manifest, cache: Path | None = None) -> Path:
    """Write a folder's manifest, in its folder or, where that is read-only, in the user's cache.

    Returns:
        where it lies.

    Raises:
        UserError: neither can be written.
    """
    rows = {name: [*facts.stamp, facts.samples, facts.digest] for name, facts in sorted(shards.items())}
    text = json.dumps({"version": VERSION, "shards": rows}).replace("], ", "],\n")
    places = manifest_places(folder, cache)
    for place in places:
        try:
            with whole_file(place, several_writers=True) as file:
                file.write(text.encode())
            return place
        except UserError:
            if place == places[-1]:
                raise
    raise AssertionError("there is always a place")


def manifest_places(folder: Path, cache: Path | None) -> list[Path]:
    """Where a folder's manifest may lie; see `index_places`."""
    beside, *others = index_places(folder / MANIFEST, cache)
    return [beside if cache is not None else beside.with_name(MANIFEST), *others]


def facts_of(path: str, cache: Path | None = None) -> ShardFacts | UserError:
    """The facts of a tar, which is indexed where that is not done yet, or why it cannot be read."""
    try:
        index = index_tar(path, cache)
    except UserError as error:
        return error
    return ShardFacts(index.stamp, len(index), index.digest)


def _known(manifests: dict[Path, Manifest], cache: Path | None, path: str) -> ShardFacts | UserError | None:
    """What a manifest or an index's header says of a tar that has not changed since."""
    place = Path(path)
    try:
        stamp = tar_stamp(place)
    except UserError as error:
        return error
    facts = manifests[place.parent].get(place.name)
    if facts is not None and facts.stamp == stamp:
        return facts
    found = (read_facts(at, stamp) for at in index_places(place, cache))
    return next((facts for facts in found if facts is not None and facts.samples), None)


def _each(function: Callable[[str], Facts], paths: Sequence[str]) -> Iterator[Facts]:
    """The function's results in order; an interruption waits for no more than what is under way."""
    threads = ThreadPoolExecutor(THREADS)
    try:
        yield from threads.map(function, paths)
    finally:
        threads.shutdown(cancel_futures=True)
