from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from depthkd.batch import METRIC_DEPTH, Batch, TrainingBatch
from depthkd.data.shares import places_per_rank
from depthkd.data.stream import OpenSource, ShardSource, StreamBatches
from depthkd.data.transforms import CrossContextCrop, SquareCrop
from depthkd.formats.images import encode_jpeg
from depthkd.formats.sample import BadSample, Sample
from depthkd.formats.shard_samples import encode_sample
from tests.data.shards import write_shards, write_tar

COUNTS = [5, 3, 7, 4]
MORE_WORKERS_THAN_CORES = "ignore:This DataLoader will create:UserWarning"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OpenSource]:
    photos = write_shards(tmp_path_factory.mktemp("photos"), COUNTS)
    scenes = write_shards(tmp_path_factory.mktemp("scenes"), [6, 5], labelled=True)
    crop = CrossContextCrop(16, smallest=18, windows=2, window=14)
    return {
        "photos": ShardSource(photos, 0.75, transform=crop, shuffle_window=2).open("photos", 0),
        "scenes": ShardSource(scenes, 0.25, labelled=True, transform=SquareCrop(16, 10)).open("scenes", 0),
    }


def take(stream, number: int) -> list[TrainingBatch]:
    return list(islice(iter(stream), number))


def assert_same(ours: Batch, theirs: Batch):
    assert ours.keys == theirs.keys
    assert ours.positions == theirs.positions
    for name in ("image", "depth", "mask", "intrinsics", "windows", "boxes"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


def test_batches_hold_what_they_say(sources: dict[str, OpenSource]):
    batch = StreamBatches(sources, 8).batch(3)
    photos, scenes = batch["photos"], batch["scenes"]
    assert photos.image.dtype == torch.uint8 and photos.image.shape == (6, 3, 16, 16)
    assert photos.windows is not None and photos.windows.shape == (6, 2, 3, 14, 14)
    assert photos.boxes is not None and photos.boxes.shape == (6, 2, 4)
    assert photos.depth is None and photos.positions == list(range(18, 24))
    assert scenes.depth is not None and scenes.depth.dtype == torch.float32
    assert scenes.space == METRIC_DEPTH and scenes.positions == [6, 7]
    for key, depth, mask in zip(scenes.keys, scenes.depth, scenes.mask, strict=True):
        assert mask.all()
        assert depth[-1, -1] == pytest.approx(1 + int(key[3:]), abs=1e-3)  # its own depth, not another's


@pytest.mark.filterwarnings(MORE_WORKERS_THAN_CORES)
@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(sources: dict[str, OpenSource], workers: int):
    stream = StreamBatches(sources, 8, start=2)
    loader = DataLoader(stream, batch_size=None, num_workers=workers)
    for ours, theirs in zip(take(loader, 8), take(stream, 8), strict=True):
        for name in sources:
            assert_same(ours[name], theirs[name])


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_see_what_one_would(sources: dict[str, OpenSource], world_size: int):
    whole = take(StreamBatches(sources, 16), 5)
    parts = [take(StreamBatches(sources, 16, rank, world_size), 5) for rank in range(world_size)]
    for step in range(5):
        for name in sources:
            ranks = [part[step][name] for part in parts]
            assert len({len(part) for part in ranks}) == 1
            assert [key for part in ranks for key in part.keys] == whole[step][name].keys
            assert torch.equal(torch.cat([part.image for part in ranks]), whole[step][name].image)


@pytest.mark.parametrize("start", [1, 7, 30])
def test_starting_at_a_batch_is_the_tail_of_starting_at_none(sources: dict[str, OpenSource], start: int):
    tail = take(StreamBatches(sources, 8), start + 4)[start:]
    for ours, theirs in zip(take(StreamBatches(sources, 8, start=start), 4), tail, strict=True):
        for name in sources:
            assert_same(ours[name], theirs[name])


def test_shares_hold_in_every_batch_and_passes_go_on_without_end(sources: dict[str, OpenSource]):
    batches = take(StreamBatches(sources, 8), 57)
    assert all(len(batch["photos"]) == 6 and len(batch["scenes"]) == 2 for batch in batches)
    keys = [key for batch in batches for key in batch["photos"].keys]
    assert len(keys) == 18 * sum(COUNTS)
    assert set(Counter(keys).values()) == {18}


def test_a_sample_is_cropped_anew_in_every_pass(tmp_path: Path):
    source = ShardSource(write_shards(tmp_path, [1]), transform=SquareCrop(16, 8)).open("one", 0)
    batches = take(StreamBatches({"one": source}, 1), 4)
    assert len({batch["one"].image.numpy().tobytes() for batch in batches}) == 4


def test_seeds_and_names_make_other_streams(tmp_path: Path):
    urls = write_shards(tmp_path, COUNTS)
    orders = {
        tuple(ShardSource(urls).open(name, seed).sample(p)[0].key for p in range(19))
        for name, seed in (("a", 0), ("b", 0), ("a", 1), ("a", 0))
    }
    assert len(orders) == 3


def test_a_bad_sample_is_replaced_and_shifts_nothing(tmp_path: Path):
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    whole = ShardSource(write_shards(tmp_path / "good", [6, 6])).open("s", 0)
    holed = ShardSource(write_shards(tmp_path / "bad", [6, 6], bad=1)).open("s", 0)
    skipped = []
    for position in range(24):
        (sample, none), (other, sentences) = whole.sample(position), holed.sample(position)
        assert not none
        if sample.key.endswith("_00"):
            assert sentences
            assert not other.key.endswith("_00")
            skipped += sentences
        else:
            assert other.key == sample.key and not sentences
    assert len(skipped) >= 4  # redraws may meet the other bad sample
    assert all(kind == "image" for kind, _ in skipped)
    assert all("sample '00_00'" in text or "sample '01_00'" in text for _, text in skipped)
    batch = StreamBatches({"s": holed}, 12).batch(0)["s"]
    assert len(batch) == 12 and set(batch.skipped) <= set(skipped) and batch.skipped
    assert [holed.sample(p)[0].key for p in range(24)] == [holed.sample(p)[0].key for p in range(24)]


def test_redraws_differ_from_place_to_place(tmp_path: Path):
    source = ShardSource(write_shards(tmp_path, [20], bad=10)).open("s", 0)
    drawn = [source.sample(position) for position in range(20)]
    assert len({sample.key for sample, skipped in drawn if skipped}) >= 4


def test_a_source_of_bad_samples_is_given_up(tmp_path: Path):
    source = ShardSource(write_shards(tmp_path, [4], bad=4)).open("web", 0)
    with pytest.raises(ValueError, match=r"^data\.train\.web: 20 samples in a row could not be used.*'00_0"):
        source.sample(0)


def test_a_transform_may_refuse_a_sample(tmp_path: Path):
    class NoFirst(SquareCrop):
        def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
            if sample.key == "00_00":
                raise BadSample("not this one")
            return super().__call__(sample, rng)

    source = ShardSource(write_shards(tmp_path, [3]), transform=NoFirst(8, 8)).open("s", 0)
    assert sorted(bad.sentence for p in range(3) for bad in source.sample(p)[1])[0] == "not this one"


@pytest.mark.parametrize(
    ("content", "error", "sentence"),
    [
        (None, FileNotFoundError, r"^data\.train\.sa1b\.urls: .*absent\.tar"),
        (b"", ValueError, r"^data\.train\.sa1b\.urls: .*absent\.tar"),
        (b"no tar" * 1000, ValueError, r"^data\.train\.sa1b\.urls: .*absent\.tar"),
    ],
)
def test_shards_that_cannot_be_read_are_named(
    tmp_path: Path, content: bytes | None, error: type[Exception], sentence: str
):
    if content is not None:
        (tmp_path / "absent.tar").write_bytes(content)
    with pytest.raises(error, match=sentence):
        ShardSource(str(tmp_path / "absent.tar")).open("sa1b", 0)


def test_an_empty_shard_is_named(tmp_path: Path):
    write_shards(tmp_path, [3])
    write_tar(tmp_path / "empty.tar", {})
    with pytest.raises(ValueError, match=r"^data\.train\.sa1b\.urls: .*empty\.tar"):
        ShardSource(str(tmp_path / "*.tar")).open("sa1b", 0)


def test_a_shard_that_changes_under_the_run_is_noticed(tmp_path: Path):
    urls = write_shards(tmp_path, [3])
    source = ShardSource(urls).open("s", 0)
    write_shards(tmp_path, [5])
    with pytest.raises(ValueError, match="changed while the run was reading it"):
        source.sample(0)


def test_samples_of_two_sizes_need_a_transform(tmp_path: Path):
    images = {f"{i}": Sample(f"{i}", np.zeros((8, 8 + i, 3), dtype=np.uint8)) for i in range(2)}
    write_tar(tmp_path / "s.tar", {key: encode_sample(sample) for key, sample in images.items()})
    source = ShardSource(str(tmp_path / "s.tar")).open("s", 0)
    with pytest.raises(ValueError, match=r"data\.train\.s: a batch must be alike.*8 x 8 pixels"):
        StreamBatches({"s": source}, 2).batch(0)


@pytest.mark.parametrize(
    ("shares", "batch_size", "world_size", "places"),
    [
        ({"a": 1.0}, 8, 4, {"a": 2}),
        ({"a": 0.75, "b": 0.25}, 8, 2, {"a": 3, "b": 1}),
        ({"a": 0.3333, "b": 0.3333, "c": 0.3334}, 192, 2, {"a": 32, "b": 32, "c": 32}),
        ({"a": 0.1, "b": 0.2, "c": 0.7}, 10, 1, {"a": 1, "b": 2, "c": 7}),
    ],
)
def test_shares_become_places(
    shares: dict[str, float], batch_size: int, world_size: int, places: dict[str, int]
):
    assert places_per_rank(shares, batch_size, world_size) == places


@pytest.mark.parametrize(
    ("shares", "batch_size", "world_size", "sentence"),
    [
        ({"a": 0.5, "b": 0.25}, 8, 1, r"data\.train\.b\.share=0\.25 sum to 0\.75"),
        ({"a": 1.5, "b": -0.5}, 8, 1, r"must be positive"),
        ({"a": 0.75, "b": 0.25}, 6, 1, r"data\.train\.a\.share=0\.75 of .*=6 is no .*batch_size=8 would do"),
        ({"a": 0.75, "b": 0.25}, 8, 4, r"on each of 4 ranks: batch_size=16 would do"),
        ({"a": 1.0}, 9, 2, r"batch_size=10 would do"),
        ({"a": 1.0}, 0, 1, r"data\.batch_size must be 1 or more"),
        ({}, 8, 1, r"data\.train names no sources"),
    ],
)
def test_shares_that_do_not_divide_are_named_with_a_way_out(
    shares: dict[str, float], batch_size: int, world_size: int, sentence: str
):
    with pytest.raises(ValueError, match=sentence):
        places_per_rank(shares, batch_size, world_size)


@pytest.mark.parametrize("pixels", [0, -3])
def test_images_keep_a_pixel_at_least(pixels: int):
    with pytest.raises(ValueError, match=f"shorter_side_at_least is in pixels and must .*, not {pixels}"):
        ShardSource("a.tar", shorter_side_at_least=pixels)


def test_crops_that_shrink_may_be_decoded_at_a_fraction(tmp_path: Path):
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8), (192, 128))
    write_tar(tmp_path / "a.tar", {f"{i}": {"jpg": encode_jpeg(smooth)} for i in range(8)})
    transform = SquareCrop(32, 48)

    def opened(least: Literal["auto"] | None) -> OpenSource:
        source = ShardSource(str(tmp_path / "a.tar"), transform=transform, shorter_side_at_least=least)
        return source.open("a", 0)

    decoded: list[tuple[int, int]] = []

    class Seen(SquareCrop):
        def region(self, sample: Sample, rng: np.random.Generator) -> tuple[int, int, int, bool]:
            drawn = super().region(sample, rng)
            decoded.append((sample.image.shape[0], drawn[2]))
            return drawn

    whole = [opened(None).sample(i)[0].image.astype(float) for i in range(8)]
    transform = Seen(32, 48)
    fast = [opened("auto").sample(i)[0].image for i in range(8)]
    assert all(height == {1: 128, 2: 64, 3: 64, 4: 32}[side // 32] for height, side in decoded)
    assert {64, 128} <= {height for height, _ in decoded}
    assert all(np.abs(one - other).mean() < 2 for one, other in zip(whole, fast, strict=True))
