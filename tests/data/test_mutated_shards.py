"""2,000 damaged shards through the training stream: `make test-long`.

No crash, no hang, and nothing silently wrong: what the stream gives of members whose bytes are untouched has
the pixels of the whole shard.
"""

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depthkd.batch import METRIC_DEPTH
from depthkd.data.stream import ATTEMPTS, ShardSource
from depthkd.errors import UserError
from depthkd.formats.depth import CODECS
from depthkd.formats.images import IMAGE_SUFFIXES
from depthkd.formats.sample import BadSample, Sample
from depthkd.formats.shard_samples import decode_sample, encode_sample
from depthkd.formats.tar import index_tar

SHARDS = 2000
HEIGHT, WIDTH = 24, 32
BLOCK = tarfile.BLOCKSIZE

Members = Mapping[str, bytes]
Rng = np.random.Generator


def picture(rng: Rng, kind: str) -> bytes:
    """Smooth colors as a file of some kind."""
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    file = io.BytesIO()
    coarse.resize((WIDTH, HEIGHT)).save(file, {"jpg": "jpeg"}.get(kind, kind))
    return file.getvalue()


def shard(rng: Rng, labelled: bool) -> dict[str, Members]:
    """Samples of every image format and, with depth, every codec."""
    samples: dict[str, Members] = {}
    for number, codec in enumerate(CODECS):
        for kind in ("jpg", "png", "webp"):
            name = "d/" + "long" * 40 if number == 1 else ""  # a name that needs a header of its own
            key = f"{name}{number}_{kind}"
            drawn = np.exp(rng.uniform(0, 3, (HEIGHT, WIDTH))).astype(np.float32)
            camera = np.array([[30.0, 0, 15.5], [0, 30.0, 11.5], [0, 0, 1]])
            blank = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            depth, space = (drawn, METRIC_DEPTH) if labelled else (None, None)
            sample = Sample(key, blank, depth, None, camera, space)
            label = {suffix: data for suffix, data in encode_sample(sample, codec).items() if suffix != "jpg"}
            samples[key] = {kind: picture(rng, kind), **label}
    return samples


def tar_of(samples: Mapping[str, Members], form: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for key, members in samples.items():
            for suffix, data in members.items():
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def flip_bits(data: bytearray, rng: Rng) -> None:
    for place in rng.integers(len(data), size=rng.integers(1, 20)):
        data[place] ^= 1 << rng.integers(8)


def cut(data: bytearray, rng: Rng) -> None:
    del data[rng.integers(len(data)) :]


def noise(data: bytearray, rng: Rng) -> None:
    start = int(rng.integers(len(data)))
    size = min(int(rng.integers(1, 4 * BLOCK)), len(data) - start)
    data[start : start + size] = rng.bytes(size)


def zeros(data: bytearray, rng: Rng) -> None:
    start = int(rng.integers(len(data) // BLOCK)) * BLOCK
    size = min(int(rng.integers(1, 9)) * BLOCK, len(data) - start)
    data[start : start + size] = bytes(size)


def lose_blocks(data: bytearray, rng: Rng) -> None:
    start = int(rng.integers(len(data) // BLOCK)) * BLOCK
    del data[start : start + int(rng.integers(1, 9)) * BLOCK]


def repeat_blocks(data: bytearray, rng: Rng) -> None:
    start = int(rng.integers(len(data) // BLOCK)) * BLOCK
    data[start:start] = data[start : start + int(rng.integers(1, 9)) * BLOCK]


def swap_blocks(data: bytearray, rng: Rng) -> None:
    one, other = (int(place) * BLOCK for place in rng.integers(len(data) // BLOCK, size=2))
    data[one : one + BLOCK], data[other : other + BLOCK] = (
        data[other : other + BLOCK],
        data[one : one + BLOCK],
    )


def lie_in_a_header(data: bytearray, rng: Rng) -> None:
    """Another size, kind or name of a member, with a checksum that agrees."""
    headers = [at for at in range(0, len(data) - BLOCK, BLOCK) if data[at + 257 : at + 262] == b"ustar"]
    at = headers[rng.integers(len(headers))]
    match rng.integers(4):
        case 0:
            data[at + 124 : at + 136] = b"%011o\0" % int(rng.integers(1 << 33))
        case 1:
            data[at + 156] = int(rng.integers(256))
        case 2:
            data[at + int(rng.integers(100))] = int(rng.integers(256))
        case _:
            data[at + 124 : at + 136] = b"\x80" + rng.bytes(11)  # a number in base 256
    checksum = sum(data[at : at + 148]) + 8 * 32 + sum(data[at + 156 : at + BLOCK])
    data[at + 148 : at + 156] = b"%06o\0 " % checksum


CHANGES: list[Callable[[bytearray, Rng], None]] = [
    flip_bits, cut, noise, zeros, lose_blocks, repeat_blocks, swap_blocks, lie_in_a_header,
]  # fmt: skip


def part(members: Members, names: tuple[str, ...]) -> dict[str, bytes]:
    return {suffix: data for suffix, data in members.items() if suffix in names}


def held(path: Path) -> dict[str, list[Members]]:
    """All members of a damaged shard that can be read, by their sample's key."""
    index = index_tar(str(path))
    found: dict[str, list[Members]] = {}
    for number, key in enumerate(index.keys):
        try:
            found.setdefault(key, []).append(index.read(number))
        except BadSample:
            found.setdefault(key, []).append({})
    return found


class Tally:
    """What became of the samples."""

    refused = used = compared = skipped = 0


def check(
    path: Path, whole: Mapping[str, Sample], samples: Mapping[str, Members], labelled: bool, tally: Tally
) -> None:
    """Read a damaged shard as training does."""
    try:
        opened = ShardSource(str(path), labelled=labelled, cameras=True).open("photos", 0)
    except UserError as error:
        assert str(error).startswith("data.train.photos.urls: "), error
        tally.refused += 1
        return
    readable = held(path)
    for position in range(len(opened)):
        try:
            sample, skipped = opened.sample(position)
        except UserError as error:
            assert f"{ATTEMPTS} samples in a row" in str(error), error
            return
        tally.used += 1
        tally.skipped += len(skipped)
        assert sample.image.dtype == np.uint8 and sample.image.ndim == 3
        if sample.depth is not None:
            assert (
                sample.mask is not None and sample.mask.shape == sample.depth.shape == sample.image.shape[:2]
            )
            assert np.isfinite(sample.depth[sample.mask]).all() and (sample.depth[sample.mask] > 0).all()
        copies, original = readable[sample.key], samples.get(sample.key)
        if original is None or len(copies) != 1:
            continue
        expected = whole[sample.key]
        if part(copies[0], IMAGE_SUFFIXES) == part(original, IMAGE_SUFFIXES):
            assert np.array_equal(sample.image, expected.image)
            tally.compared += 1
        label = ("json", "mask.png", *CODECS.values())
        if labelled and part(copies[0], label) == part(original, label):
            for one, other in (
                (sample.depth, expected.depth),
                (sample.mask, expected.mask),
                (sample.intrinsics, expected.intrinsics),
            ):
                assert one is not None and other is not None and np.array_equal(one, other)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("labelled", [True, False])
def test_the_stream_survives_damaged_shards(labelled: bool, tmp_path: Path) -> None:
    mutate(SHARDS // 2, labelled, tmp_path)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_stream_survives_a_few_damaged_shards(labelled: bool, tmp_path: Path) -> None:
    mutate(24, labelled, tmp_path)


def mutate(count: int, labelled: bool, folder: Path) -> None:
    rng = np.random.default_rng(0)
    samples = shard(rng, labelled)
    whole = {
        key: decode_sample(key, members, "whole", labelled, cameras=True) for key, members in samples.items()
    }
    forms = (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    tars = [tar_of(samples, form) for form in forms]
    tally = Tally()
    for number in range(count):
        data = bytearray(tars[number % len(tars)])
        for _ in range(int(rng.integers(1, 4))):
            CHANGES[rng.integers(len(CHANGES))](data, rng)
            if len(data) < 2 * BLOCK:
                break
        path = folder / f"{number}.tar"
        path.write_bytes(data)
        check(path, whole, samples, labelled, tally)
        for left in folder.iterdir():
            left.unlink()
    assert tally.used > count and tally.compared > tally.used // 2, vars(tally)
    assert tally.refused > count // 10 and tally.skipped > count // 10, vars(tally)
