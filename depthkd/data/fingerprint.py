"""What a stream depends on, and how that of a checkpoint differs from that of a run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest

Facts = dict[str, int | float | str | list[str]]
"""Of the configuration and its shards: a config key, or what it leads to -> a number or digests."""
CONTENTS = "contents"  # the last part of the key under which the shards' digests stand, in their order


def stream_changes(before: Mapping[str, object], now: Facts, paths: Mapping[str, Sequence[str]]) -> list[str]:
    """Part of a sentence for each fact that differs between a checkpoint and a run.

    An older checkpoint has no digests of shards; there the numbers of samples and shards are compared alone.

    Args:
        before: the checkpoint's facts.
        now: the run's.
        paths: the run's shards, by the source's config key, such as "data.train.photos".
    """
    changes = []
    for key in sorted(before.keys() | now.keys()):
        source, _, fact = key.rpartition(".")
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if fact != CONTENTS:
            changes.append(f"{key} was {old} and is {new}")
        elif isinstance(old, list) and isinstance(new, list):
            changes.append(f"{source}.urls: {_shard_change(old, new, paths[source])}")
    return changes


def _shard_change(before: list[str], now: list[str], paths: Sequence[str]) -> str:
    """The first shard that is another, in words that tell a new content from a new order."""
    added, gone = Counter(now) - Counter(before), Counter(before) - Counter(now)
    if added and not gone:
        new = next(path for path, digest in zip(paths, now, strict=True) if digest in added)
        return f"shards were added, {new} first of {added.total()}"
    if gone and not added:
        missing = next(i for i, digest in enumerate(before) if digest in gone)
        return f"shards are gone, number {missing + 1} of {len(before)} first of {gone.total()}"
    place = next(i for i, (old, new) in enumerate(zip_longest(before, now)) if old != new)
    which = f"number {place + 1}, {paths[place]}," if place < len(paths) else f"number {place + 1}"
    if not added:
        return f"the shards are the same in another order, from {which} on"
    return f"shard {which} holds other samples" if place < len(paths) else f"shard {which} is gone"
