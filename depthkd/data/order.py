"""The order of the stream: from a position to a sample, without walking there."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Int64

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Remembers what was made for the last `keep` keys; threads may share it, and each thing is made once.

    A pickled copy begins empty.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._made: OrderedDict[K, V] = OrderedDict()
        self._making: dict[K, Lock] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[type["Recent[K, V]"], tuple[int]]:
        return type(self), (self._keep,)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """What belongs to `key`, made now where it is not remembered."""
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
            making = self._making.setdefault(key, Lock())
        with making:
            with self._lock:
                if key in self._made:
                    return self._made[key]
            value = make()
            with self._lock:
                self._made[key] = value
                self._making.pop(key, None)
                if len(self._made) > self._keep:
                    self._made.popitem(last=False)
        return value


class ShardOrder:
    """Which sample of which shard stands at each position of an endless stream.

    Position p lies in pass p // samples, which holds every sample once. Shards are shuffled anew
    in every pass, and samples within every window of `window` consecutive shards, so that a
    reader touches few files at a time. Any position can be asked for at any time.

    Args:
        counts: samples of each shard.
        window: shards that are mixed.
        seed: what every choice is drawn from.
    """

    def __init__(self, counts: list[int], window: int, seed: tuple[int, ...]) -> None:
        self.counts = np.asarray(counts, dtype=np.int64)
        self.samples = int(self.counts.sum())
        self._window = window
        self._seed = seed
        # two of each: a batch may straddle two passes or two windows
        self._passes: Recent[int, tuple[Int64[np.ndarray, " shards"], list[int]]] = Recent(2)
        self._mixed: Recent[tuple[int, int], Int64[np.ndarray, " samples"]] = Recent(2)

    def __call__(self, position: int) -> tuple[int, int]:
        """(shard, sample in it) at `position`."""
        turn, place = divmod(position, self.samples)
        shards, starts = self._passes.get(turn, lambda: self._draw_pass(turn))
        window = bisect_right(starts, place) - 1
        members = shards[window * self._window : (window + 1) * self._window]
        mixed = self._mixed.get((turn, window), lambda: self._draw_window(turn, window, members))
        return self._locate(members, int(mixed[place - starts[window]]))

    def shards_from(self, position: int, count: int) -> list[tuple[int, int]]:
        """(pass, shard) of those that the stream needs next at `position`: of its window, and of the ones
        after it in the same pass."""
        turn, place = divmod(position, self.samples)
        shards, starts = self._passes.get(turn, lambda: self._draw_pass(turn))
        first = (bisect_right(starts, place) - 1) * self._window
        return [(turn, int(shard)) for shard in shards[first : first + count]]

    def any(self, rng: np.random.Generator) -> tuple[int, int]:
        """(shard, sample in it), drawn from all samples alike."""
        return self._locate(np.arange(len(self.counts)), int(rng.integers(self.samples)))

    def _locate(self, shards: Int64[np.ndarray, " shards"], place: int) -> tuple[int, int]:
        ends = np.cumsum(self.counts[shards])
        index = int(np.searchsorted(ends, place, side="right"))
        shard = int(shards[index])
        return shard, int(place - ends[index] + self.counts[shard])

    def _draw_pass(self, turn: int) -> tuple[Int64[np.ndarray, " shards"], list[int]]:
        """The shards in this pass's order, and where each window starts in it."""
        shards = np.random.default_rng([*self._seed, 0, turn]).permutation(len(self.counts))
        ends = np.cumsum(self.counts[shards])[self._window - 1 :: self._window]
        starts = [0, *(int(end) for end in ends if end < self.samples)]
        return shards, starts

    def _draw_window(
        self, turn: int, window: int, members: Int64[np.ndarray, " members"]
    ) -> Int64[np.ndarray, " samples"]:
        rng = np.random.default_rng([*self._seed, 1, turn, window])
        return rng.permutation(int(self.counts[members].sum()))
