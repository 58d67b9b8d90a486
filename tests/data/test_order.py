import numpy as np
import pytest

from depthkd.data.order import Recent, ShardOrder

COUNTS = [5, 1, 9, 3, 7, 2, 4]


def walk(order: ShardOrder, turn: int) -> list[tuple[int, int]]:
    return [order(turn * order.samples + place) for place in range(order.samples)]


@pytest.mark.parametrize("window", [1, 2, 3, 7, 100])
def test_every_pass_holds_every_sample_once_in_its_own_order(window: int):
    order = ShardOrder(COUNTS, window, (0,))
    everything = {(shard, i) for shard, count in enumerate(COUNTS) for i in range(count)}
    passes = [walk(order, turn) for turn in range(4)]
    assert all(len(p) == len(everything) and set(p) == everything for p in passes)
    assert len({tuple(p) for p in passes}) == 4


@pytest.mark.parametrize("window", [1, 2, 3])
def test_a_window_of_shards_is_read_out_before_the_next_is_opened(window: int):
    order = ShardOrder(COUNTS, window, (3,))
    shards = [shard for shard, _ in walk(order, 1)]
    unopened = set(range(len(COUNTS)))
    while shards:
        opened = set(dict.fromkeys(shards))
        first = list(dict.fromkeys(shards))[:window]
        size = sum(COUNTS[shard] for shard in first)
        # a small shard may hide behind the others of its window, so ask which shards complete one
        block = next(n for n in range(1, len(shards) + 1) if complete(shards[:n], window, len(unopened)))
        assert block >= size or len(opened) < window
        unopened -= set(shards[:block])
        shards = shards[block:]
        assert not set(shards) & (set(range(len(COUNTS))) - unopened)


def complete(block: list[int], window: int, left: int) -> bool:
    return len(set(block)) == min(window, left) and len(block) == sum(COUNTS[s] for s in set(block))


def test_samples_are_mixed_within_a_window():
    order = ShardOrder([50, 50], 2, (0,))
    shards = np.array([shard for shard, _ in walk(order, 0)])
    assert 15 < shards[:50].sum() < 35


def test_any_position_can_be_asked_for_first():
    walked = ShardOrder(COUNTS, 3, (7,))
    there = [walked(p) for p in range(200)]
    for position in (199, 0, 31, 30, 117):
        assert ShardOrder(COUNTS, 3, (7,))(position) == there[position]
    assert [walked(p) for p in reversed(range(200))] == there[::-1]


def test_passes_shuffle_shards_and_samples_anew():
    orders = [[shard for shard, _ in walk(ShardOrder(COUNTS, 1, (0,)), turn)] for turn in range(2)]
    assert orders[0] != orders[1]
    one_shard = ShardOrder([30], 1, (0,))
    assert walk(one_shard, 0) != walk(one_shard, 1)


def test_seeds_differ():
    assert walk(ShardOrder(COUNTS, 3, (0, 1)), 0) != walk(ShardOrder(COUNTS, 3, (0, 2)), 0)


def test_redraws_reach_all_samples_alike():
    order, rng = ShardOrder(COUNTS, 3, (0,)), np.random.default_rng(0)
    drawn = [order.any(rng) for _ in range(31 * 100)]
    _, times = np.unique(drawn, axis=0, return_counts=True)
    assert len(times) == 31
    assert times.min() > 60 and times.max() < 140


def test_recent_forgets_what_was_longest_unused():
    made: list[str] = []
    recent: Recent[str, str] = Recent(2)
    for key in "abacab":
        assert recent.get(key, lambda key=key: made.append(key) or key.upper()) == key.upper()
    assert made == ["a", "b", "c", "b"]
