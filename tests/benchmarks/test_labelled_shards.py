"""Labelled shards as a benchmark."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from depthkd.batch import METRIC_DEPTH
from depthkd.benchmarks import Protocol, ShardBenchmark
from depthkd.formats.sample import BadSample, Sample
from depthkd.formats.shard_samples import encode_sample


def labelled(key: str, seed: int, size: tuple[int, int] = (24, 32)) -> Sample:
    """A floor under noise: nearer towards the bottom, one corner unknown."""
    rng = np.random.default_rng(seed)
    height, width = size
    disparity = np.linspace(0.1, 1.0, height)[:, None] + rng.uniform(0, 0.1, size)
    image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    mask = np.ones(size, bool)
    mask[:4, :4] = False
    return Sample(key, image, (1 / disparity).astype(np.float32), mask, None, METRIC_DEPTH)


def write_shard(path: Path, samples: list[Sample], broken: str | None = None) -> Path:
    with tarfile.open(path, "w") as tar:
        for sample in samples:
            for suffix, content in encode_sample(sample, image="png").items():
                if sample.key == broken and suffix == "depth.png":
                    content = content[:20]
                member = tarfile.TarInfo(f"{sample.key}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def two_shards(tmp_path: Path) -> list[str]:
    parts = [[labelled(f"s{i}", i) for i in numbers] for numbers in (range(3), range(3, 8))]
    return [str(write_shard(tmp_path / f"{n}.tar", part)) for n, part in enumerate(parts)]


def test_samples_come_in_order_across_shards(two_shards: list[str]) -> None:
    benchmark = ShardBenchmark(two_shards)
    assert len(benchmark) == 8
    assert [s.key for s in benchmark.samples()] == [f"s{i}" for i in range(8)]
    assert benchmark.name == "0"
    for i, sample in enumerate(benchmark.samples()):
        original = labelled(f"s{i}", i)
        assert sample.depth is not None and original.depth is not None
        assert sample.mask is not None and original.mask is not None
        assert sample.space == METRIC_DEPTH
        assert np.array_equal(sample.image, original.image)
        assert np.array_equal(sample.mask, original.mask)
        np.testing.assert_allclose(sample.depth[sample.mask], original.depth[original.mask], rtol=1e-3)


@pytest.mark.parametrize(("limit", "keys"), [(1, "0"), (3, "025"), (4, "0246"), (99, "01234567")])
def test_limit_spreads_evenly(two_shards: list[str], limit: int, keys: str) -> None:
    benchmark = ShardBenchmark(two_shards, limit=limit)
    assert "".join(s.key[1:] for s in benchmark.samples()) == keys


def test_range_and_preset_make_the_protocol(two_shards: list[str]) -> None:
    benchmark = ShardBenchmark(two_shards, "floor", "depth_anything", min_depth=None, max_depth=10.0)
    assert benchmark.protocol == Protocol.named("depth_anything", min_depth=None, max_depth=10.0)
    assert benchmark.name == "floor"
    assert ShardBenchmark(two_shards, resolution=96).protocol.resolution == 96
    own = Protocol.named("marigold", resolution=518)
    assert ShardBenchmark(two_shards, protocol=own).protocol.resolution == 518


def test_mistakes_are_sentences(two_shards: list[str], tmp_path: Path) -> None:
    with pytest.raises(IndexError, match="'floor' has 8 samples, so no index 8"):
        ShardBenchmark(two_shards, "floor").sample(8)
    with pytest.raises(ValueError, match="'marigold': resolution must be at least 1 pixel, not 0"):
        ShardBenchmark(two_shards, resolution=0)
    with pytest.raises(ValueError, match="'floor': limit must be at least 1, not 0"):
        ShardBenchmark(two_shards, "floor", limit=0)
    absent = ShardBenchmark(str(tmp_path / "absent.tar"))  # nothing is read before it is needed
    with pytest.raises(FileNotFoundError, match=r"absent\.tar"):
        len(absent)
    damaged = write_shard(tmp_path / "damaged.tar", [labelled("a", 0), labelled("b", 1)], broken="b")
    benchmark = ShardBenchmark(str(damaged))
    assert benchmark.sample(0).key == "a"
    with pytest.raises(BadSample, match=r"damaged\.tar.*'b'"):
        benchmark.sample(1)
