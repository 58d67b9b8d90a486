"""`depthkd shards index`: many tars are indexed ahead of a run, in parallel."""

from functools import partial
from pathlib import Path

from tqdm import tqdm

from depthkd.errors import UserError
from depthkd.formats.opened import opened
from depthkd.formats.shard_set import add_to_manifests, facts_of
from depthkd.formats.shard_urls import find_shards
from depthkd.formats.splits import ALL
from depthkd.formats.tar_index import ShardFacts
from depthkd.paths import user_path
from depthkd.processes import pool
from depthkd.verbs.shards.bad import print_bad

FEW = 16  # tars, for which no processes are started


def index(
    urls: str | list[str], workers: int = 4, cache: Path | None = None, split: str | None = None
) -> list[str]:
    """Index tars, and write a manifest of each folder that has some, so that a run opens thousands at once.

    What is indexed already is left as it is, so that an interrupted call goes on where it was. A sentence is
    printed for each tar that cannot be read; then the exit status is 1.

    Args:
        urls: tars, as for training: paths, folders, wildcards, {000000..000019}.
        split: of a folder or repository that tells its splits; all of them, where none is named.
        workers: how many processes index.
        cache: folder for indexes and manifests, as a source's `cache`; None: beside the tars.

    Returns:
        a sentence for each tar that cannot be read.
    """
    paths = find_shards(urls, split, ALL).paths
    cache = None if cache is None else user_path(cache)
    found: dict[str, ShardFacts] = {}
    bad: list[str] = []
    ask = partial(facts_of, cache=cache)
    with pool(max(1, workers)) as processes:
        files = [opened(path, cache) for path in paths]
        told = map(ask, files) if len(paths) <= FEW else processes.map(ask, files, chunksize=4)
        progress = tqdm(told, "indexing", len(paths), unit="shard", disable=None)
        for path, facts in zip(paths, progress, strict=True):
            if isinstance(facts, UserError):
                bad.append(str(facts))
            else:
                found[path] = facts
    add_to_manifests(found, cache)
    samples = sum(facts.samples for facts in found.values())
    print(f"{samples:,} samples with an image in {len(paths) - len(bad):,} tars")
    print_bad(bad, len(paths))
    return bad
