"""Many shards at once: how many samples each has, and what tells its content, without opening each index."""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from tqdm import tqdm

from depthkd.errors import UserError
from depthkd.formats.index_files import index_places, kept_facts
from depthkd.formats.tar import index_tar
from depthkd.formats.tar_index import ShardFacts
from depthkd.formats.whole_files import whole_file
from depthkd.storage.files import StoredFile, stored
from depthkd.storage.remote import is_remote, shown, sibling, small_file

MANIFEST = "depthkd-shards.json"  # about the tars of a folder
VERSION = 1  # of its layout
THREADS = 16  # which wait for the file system, mostly
PATIENCE = 2  # seconds before progress is shown
MANY = 64  # shards, which take longer than a few seconds to index

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
    paths: Sequence[str],
    cache: Path | None = None,
    max_bad: int = 0,
    turn: tuple[int, int] = (0, 1),
    images: bool = True,
    excluded: Mapping[str, Collection[str]] = MappingProxyType({}),
    opened: Callable[[str], StoredFile] = stored,
) -> ShardSet:
    """What is known of shards: from their folder's manifest or their index's header where those are up to
    date; the others are indexed, which takes a while.

    Args:
        paths: of the shards.
        cache: see `index_tar`.
        max_bad: how many may be broken or missing; those are left out.
        turn: this process's number among those of the machine that survey the same shards, and how many they
            are. Each begins elsewhere, and finds what the others have indexed.
        images: whether each must have a sample with an image, and not labels alone.
        excluded: path -> keys of the samples that are left out of that shard.
        opened: how a shard is opened that has to be indexed.

    Raises:
        UserError: more than `max_bad` are broken.
        MissingFileError: the same, where the first of them is missing.
    """
    one_of = {folder_of(path): path for path in paths}
    manifests = {folder: read_manifest(path, cache) for folder, path in one_of.items()}
    found: dict[int, ShardFacts] = {}
    bad: dict[int, UserError] = {}
    unknown = []
    for i, facts in enumerate(_each(partial(_known, manifests, cache), paths)):
        if isinstance(facts, ShardFacts) and (paths[i] in excluded or (images and not facts.samples)):
            facts = None
        if facts is None:
            unknown.append(i)
        else:
            _keep(i, facts, found, bad, max_bad)
    if unknown:
        if len(unknown) > MANY:
            log.warning("indexing %d shards, once; `depthkd shards index` does it ahead", len(unknown))
        first = len(unknown) * turn[0] // turn[1]
        order = unknown[first:] + unknown[:first]
        ask = partial(_facts_without, excluded, cache, images, opened)
        indexed = _each(ask, [paths[i] for i in order])
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


def read_manifest(path: str, cache: Path | None = None) -> Manifest:
    """The manifest of the folder that a shard is in; empty if it is missing or damaged.

    Raises:
        UserError: the folder is remote, and its server cannot be reached.
    """
    for place in manifest_places(folder_of(path), cache):
        with suppress(OSError):
            if (found := _parsed(place.read_bytes())) is not None:
                return found
    data = small_file(sibling(path, name=MANIFEST)) if is_remote(path) else None
    return {} if data is None else _parsed(data) or {}


def write_manifest(folder: str, shards: Manifest, cache: Path | None = None) -> Path:
    """Write a folder's manifest, in it or, where it is read-only or remote, in the user's cache.

    Returns:
        where it lies.

    Raises:
        UserError: neither can be written.
    """
    rows = {name: [*facts.stamp, facts.samples, facts.digest] for name, facts in sorted(shards.items())}
    text = json.dumps({"version": VERSION, "shards": rows}).replace("], ", "],\n")
    *others, last = manifest_places(folder, cache)
    for place in others:
        with suppress(UserError), whole_file(place, several_writers=True) as file:
            file.write(text.encode())
            return place
    with whole_file(last, several_writers=True) as file:
        file.write(text.encode())
    return last


def add_to_manifests(
    found: Mapping[str, ShardFacts], cache: Path | None = None, gone: Iterable[str] = ()
) -> None:
    """Write what is known of some shards into the manifests of their folders; those that are gone leave them.

    Args:
        found: path -> what is known.
        cache: see `index_tar`.
        gone: shards that were removed, whose folders may have no others.

    Raises:
        UserError: a manifest cannot be written.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    for path in (*found, *gone):
        folders[folder_of(path)].append(path)
    for folder, paths in folders.items():
        known = read_manifest(paths[0], cache)
        if not is_remote(folder):
            known = {name: facts for name, facts in known.items() if (Path(folder) / name).exists()}
        new = {name_of(path): found[path] for path in paths if path in found}
        write_manifest(folder, known | new, cache)


def manifest_places(folder: str, cache: Path | None) -> list[Path]:
    """Where on this machine a folder's manifest may lie; see `index_places`."""
    places = index_places(f"{folder}/{MANIFEST}", cache)
    beside = cache is None and not is_remote(folder)
    return [places[0].with_name(MANIFEST), *places[1:]] if beside else places


def folder_of(path: str) -> str:
    """The folder that a shard is in, of a path or a url."""
    return shown(path).rpartition("/")[0] if is_remote(path) else str(Path(path).parent)


def name_of(path: str) -> str:
    """A shard's name in its folder's manifest."""
    return (shown(path) if is_remote(path) else path).rpartition("/")[2]


def _parsed(data: bytes) -> Manifest | None:
    try:
        record = json.loads(data)
        if record["version"] != VERSION:
            return None
        return {
            name: ShardFacts((int(size), tag), int(samples), str(digest))
            for name, (size, tag, samples, digest) in record["shards"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def facts_of(
    path: str | StoredFile, cache: Path | None = None, images: bool = False, excluded: Collection[str] = ()
) -> ShardFacts | UserError:
    """The facts of a tar, which is indexed where that is not done yet, without the samples that are excluded,
    or why it cannot be read, or, with `images`, why it has none."""
    try:
        index = index_tar(path, cache, images, excluded)
    except UserError as error:
        return error
    return ShardFacts(index.file.stamp, index.pictured, index.digest)


def _facts_without(
    excluded: Mapping[str, Collection[str]],
    cache: Path | None,
    images: bool,
    opened: Callable[[str], StoredFile],
    path: str,
) -> ShardFacts | UserError:
    return facts_of(opened(path), cache, images, excluded.get(path, ()))


def _known(manifests: dict[str, Manifest], cache: Path | None, path: str) -> ShardFacts | UserError | None:
    """What a manifest or an index's header says of a tar that has not changed since. Of a remote one in a
    manifest nothing is asked before it is read."""
    file = stored(path)
    facts = manifests[folder_of(path)].get(name_of(path))
    if facts is not None and file.remote:
        return facts
    try:
        stamp = file.stamp  # a file that is missing is said before others are indexed
        if facts is not None and facts.stamp == stamp:
            return facts
        facts = kept_facts(file, cache)
    except UserError as error:
        return error
    return facts


def _each(function: Callable[[str], Facts], paths: Sequence[str]) -> Iterator[Facts]:
    """The function's results in order; an interruption waits for no more than what is under way."""
    threads = ThreadPoolExecutor(THREADS)
    try:
        yield from threads.map(function, paths)
    finally:
        threads.shutdown(cancel_futures=True)
