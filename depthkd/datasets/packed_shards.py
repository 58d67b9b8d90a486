"""A data set packed shard by shard, by several processes, and gone on with after an interruption."""

import hashlib
import json
import math
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from depthkd.datasets.packing import PackedShard, Packer, TooManyBadError
from depthkd.errors import ExistingFileError, UserError
from depthkd.formats.depth import Number
from depthkd.formats.index_files import SUFFIX
from depthkd.formats.shard_set import add_to_manifests, facts_of
from depthkd.formats.tar import index_tar
from depthkd.formats.tar_index import ShardFacts
from depthkd.formats.whole_files import write_whole, writing
from depthkd.formats.writing import existing_shards, is_numbered, numbered
from depthkd.processes import finished, pool

SETTINGS, MOVES = "settings.json", "moves.json"
PLAIN = (str, int, float, Path)  # arguments of a data set that tell it from another of its class
FEW = 512  # samples, for which processes take longer to start than to pack

_packer: Packer | None = None


@dataclass(frozen=True)
class Packing:
    """What is packed into which tars.

    Args:
        packer: the samples.
        pattern: of the tars, such as "photos-%06d.tar"; without a number, one tar.
        samples_per_shard: how many samples go into a tar, bad ones among them.
        max_bad: the share of samples that may be bad; one always may, unless it is 0.
        settings: what else the tars depend on.

    Raises:
        UserError: the pattern is not one, or `samples_per_shard` is not positive.
    """

    packer: Packer
    pattern: str
    samples_per_shard: int
    max_bad: Number
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.samples_per_shard < 1:
            raise UserError(f"samples_per_shard must be at least 1, not {self.samples_per_shard}")
        existing_shards(self.pattern)

    @property
    def folder(self) -> Path:
        """Where whole shards wait for the last one."""
        path = numbered(self.pattern, 0)
        return path.with_name(f".{Path(self.pattern).name}.packing")

    @property
    def allowed(self) -> int:
        """How many samples may be bad."""
        return math.ceil(self.max_bad * len(self.packer))

    def ranges(self) -> list[tuple[int, int]]:
        """The samples of each shard: from the first one to before the second."""
        total = len(self.packer)
        step = self.samples_per_shard if is_numbered(self.pattern) else total
        return [(start, min(start + step, total)) for start in range(0, total, step)]

    def digest(self) -> str:
        """What the tars depend on: with the same one, a shard that is whole is the right one."""
        names = "\n".join(self.packer.keys)
        dataset = {
            name: value for name, value in vars(self.packer.dataset).items() if isinstance(value, PLAIN)
        }
        told = json.dumps(
            [dict(self.settings), dataset, self.samples_per_shard, self.pattern], sort_keys=True, default=str
        )
        return hashlib.blake2b(f"{told}\n{names}".encode(), digest_size=16).hexdigest()

    def begun(self) -> bool:
        """Whether the folder of drafts is of this very packing."""
        try:
            return bool(json.loads((self.folder / SETTINGS).read_text())["digest"] == self.digest())
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def draft(self, number: int) -> Path:
        """Where a shard is before the last one is whole."""
        return self.folder / f"{number:06d}.tar"

    def done(self, number: int) -> PackedShard | None:
        """What became of a shard that is whole; None: it is not."""
        with suppress(OSError, ValueError, TypeError):
            record = json.loads(self.draft(number).with_suffix(".json").read_text())
            record["extremes"], record["valid"] = tuple(record["extremes"]), tuple(record["valid"])
            return PackedShard(**record)
        return None


def pack_shards(
    packing: Packing, overwrite: bool = False, workers: int | None = None
) -> tuple[list[Path], PackedShard]:
    """Write all shards; they get their names when the last one is whole.

    After an interruption, `kill -9` included, the same call goes on where it was, to the same bytes.

    Args:
        packing: what and where.
        overwrite: whether tars of the pattern may be replaced.
        workers: how many processes pack; None: as many as there are processors.

    Returns:
        the tars, and what became of all samples.

    Raises:
        ExistingFileError: there are such tars already, and `overwrite` is false.
        UserError: too many samples are bad, the codec does not suit a depth map, or a tar cannot be written.
    """
    ranges = packing.ranges()
    if not ((packing.folder / MOVES).exists() and packing.begun()):
        existing = existing_shards(packing.pattern)
        if existing and not overwrite:
            raise ExistingFileError(
                f"{existing[0]} exists already; --overwrite true replaces it, or choose another name"
            )
        packing.packer.refuse_formats(packing.allowed)
    _begin(packing)
    try:
        shards = _packed(packing, ranges, workers)
    except UserError:
        kept = sum(packing.done(number) is not None for number in range(len(ranges)))
        if kept:
            print(f"{kept} of {len(ranges)} shards are kept: the same command goes on", file=sys.stderr)
        else:
            shutil.rmtree(packing.folder)
        raise
    whole = sum(shards.values(), PackedShard())
    if not whole.samples:
        shutil.rmtree(packing.folder)
        raise UserError(f"none of {len(packing.packer)} samples can be used: {whole.bad[0]}")
    return _named(packing, [number for number in sorted(shards) if shards[number].samples]), whole


def _begin(packing: Packing) -> None:
    """Make the folder of drafts; what another call has left there is removed."""
    if packing.begun():
        return
    with writing(packing.folder):
        if packing.folder.exists():
            shutil.rmtree(packing.folder)
        packing.folder.mkdir(parents=True)
    write_whole(packing.folder / SETTINGS, json.dumps({"digest": packing.digest()}))


def _packed(packing: Packing, ranges: list[tuple[int, int]], workers: int | None) -> dict[int, PackedShard]:
    """Number -> what became of each shard, packed now unless it is whole."""
    shards = {number: done for number in range(len(ranges)) if (done := packing.done(number)) is not None}
    todo = {number: ranges[number] for number in range(len(ranges)) if number not in shards}
    bad = sum(len(shard.bad) for shard in shards.values())
    before = sum(stop - start for number, (start, stop) in enumerate(ranges) if number in shards)
    total = len(packing.packer)
    with tqdm(initial=before, total=total, desc="pack", unit="sample", disable=None) as progress:
        try:
            for number, shard in _results(packing, todo, workers, packing.allowed - bad, progress.update):
                shards[number] = shard
                bad += len(shard.bad)
                if bad > packing.allowed:
                    raise TooManyBadError(shard.bad[-1])
        except TooManyBadError as error:
            bad = max(bad, packing.allowed + 1)
            counted = f"{bad} of {total} samples are bad, and max_bad allows {packing.allowed}"
            raise UserError(f"{counted}: {error}") from error
    return shards


def _results(
    packing: Packing,
    todo: Mapping[int, tuple[int, int]],
    workers: int | None,
    allowed: int,
    tick: Callable[[int], object],
) -> Iterator[tuple[int, PackedShard]]:
    count = min(len(todo), workers or len(os.sched_getaffinity(0)))
    samples = sum(stop - start for start, stop in todo.values())
    whole = packing.packer if packing.packer.part(0, 1) is None else None
    if count < 2 or (workers is None and samples < FEW) or not _crosses(whole):
        for number, (start, stop) in todo.items():
            shard = _pack(packing.packer, start, stop, packing.draft(number), allowed, tick)
            allowed -= len(shard.bad)
            yield number, shard
        return
    jobs: dict[int, tuple[object, ...]] = {}
    for number, (start, stop) in todo.items():
        part = packing.packer.part(start, stop)
        where = (start, stop) if part is None else (0, stop - start)
        jobs[number] = (part, *where, packing.draft(number), allowed)
    with pool(count, partial(_remember, whole)) as processes:
        for number, shard in finished(processes, count, _pack_here, jobs):
            tick(todo[number][1] - todo[number][0])
            yield number, shard


def _crosses(packer: Packer | None) -> bool:
    """Whether a packer can be sent to another process; a data set of one's own need not be such."""
    try:
        pickle.dumps(packer)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


def _remember(packer: Packer | None) -> None:
    """What this process packs from, where its jobs do not bring it."""
    import signal

    import cv2

    global _packer
    _packer = packer
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _pack_here(part: Packer | None, start: int, stop: int, path: Path, allowed: int) -> PackedShard:
    packer = part or _packer
    assert packer is not None
    return _pack(packer, start, stop, path, allowed)


def _pack(
    packer: Packer, start: int, stop: int, path: Path, allowed: int, tick: Callable[[int], object] = int
) -> PackedShard:
    """Pack one shard, index it, and say last that it is whole."""
    shard = packer.pack(start, stop, path, allowed, tick)
    if shard.samples:
        index_tar(path, images=False)
    write_whole(path.with_suffix(".json"), json.dumps(asdict(shard)))
    return shard


def _named(packing: Packing, whole: list[int]) -> list[Path]:
    """Give the whole shards their names, all of them even after an interruption, and write their manifest."""
    moves = packing.folder / MOVES
    if not moves.exists():
        write_whole(moves, json.dumps(whole))
    whole = json.loads(moves.read_text())
    paths = [numbered(packing.pattern, place) for place in range(len(whole))]
    with writing(paths[0]):
        for number, path in zip(whole, paths, strict=True):
            draft = packing.draft(number)
            for ending in (SUFFIX, ""):  # the tar last: with it, its index is there
                with suppress(FileNotFoundError):
                    draft.with_name(draft.name + ending).replace(path.with_name(path.name + ending))
        for path in set(existing_shards(packing.pattern)) - set(paths):
            path.unlink()
            path.with_name(path.name + SUFFIX).unlink(missing_ok=True)
    known = {str(path): facts_of(str(path)) for path in paths}
    add_to_manifests({path: facts for path, facts in known.items() if isinstance(facts, ShardFacts)})
    shutil.rmtree(packing.folder)
    return paths
