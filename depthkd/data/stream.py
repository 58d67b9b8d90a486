"""The training stream: a function from a position to a sample, over tar shards.

What stands at a position depends on the seed, the source's name and its shards alone: not on
ranks, on workers or on where the run was interrupted. So every rank and worker computes its own
part without talking to the others, and resuming is starting at another position.
"""

import logging
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from depthkd.batch import Batch, DepthSpace, Skipped, TrainingBatch
from depthkd.data.collate import collate
from depthkd.data.fingerprint import CONTENTS, Facts
from depthkd.data.labels import Labels
from depthkd.data.order import Recent, ShardOrder
from depthkd.data.shares import places_per_rank
from depthkd.data.transforms import Transform
from depthkd.errors import MissingFileError, UserError
from depthkd.formats.opened import opened
from depthkd.formats.sample import BadSample, Sample
from depthkd.formats.shard_samples import decode_sample
from depthkd.formats.shard_set import survey
from depthkd.formats.shard_urls import find_shards
from depthkd.formats.tar import index_tar
from depthkd.formats.tar_index import TarIndex
from depthkd.paths import user_path
from depthkd.storage.ahead import Ahead
from depthkd.storage.copies import CACHE_LIMIT, CopiedFile
from depthkd.storage.files import StoredFile, stored
from depthkd.storage.remote import is_remote

ATTEMPTS = 20  # redraws of a bad sample before the source is given up
SIZED = 8  # samples that are asked for the size of a source whose transform does not say it
READERS = 16  # requests for samples at a time, in each process
FETCHERS = 2  # copies that are made at a time, in each process
BATCHES_AHEAD = 3  # whose samples are being read, the next one among them

Members = tuple[str, str, dict[str, bytes], tuple[str, dict[str, bytes]] | None]
"""Name of a shard, key of a sample in it, and its members, suffix -> bytes; name of its label's shard, and
members."""

log = logging.getLogger(__name__)


class ShardSource:
    """Training samples in tar shards.

    Args:
        urls: shards, with braces ("sa_{000000..000019}.tar") or as a list; folders of them; data sets that
            tell their splits ("hf://datasets/ORGANIZATION/NAME", a folder that Energon has prepared).
        share: this source's part of every global batch; the shares of all sources sum to 1.
        labelled: whether samples must bring depth, which is then decoded with them.
        labels: tars of depth for the images of `urls`, one for each of those and of the same name, whose
            samples are joined by key; then `labelled` need not be said.
        transform: what brings samples to one size.
        shuffle_window: how many shards are mixed at a time.
        shorter_side_at_least: JPEGs without labels may be decoded at 1/2, 1/4 or 1/8 of their size, as long
            as their shorter side keeps this many pixels; faster. "auto": as many as the transform needs for
            what it has drawn, so that no detail is lost. None: always at their size.
        cameras: whether samples without labels bring intrinsics in their json, where they have them.
        cache: folder for the shards' indexes; None: beside the shards, where that can be written.
        max_bad_shards: how many shards may be broken or missing; those are named and left out.
        access: how shards on other machines are read: "range", each sample by a request of its own, or
            "cache", as whole copies on this machine, with ranges until a copy is there; labels by ranges.
        cache_limit: gigabytes of all copies, which lie in `shards` of the cache folder; the one that was used
            longest ago makes room.
        split: which tars of a folder or repository are read that tells its splits (see docs/data.md), or
            "all"; None: those of "train", and all tars in a folder that tells none.
        space: what all depth is taken for, where the shards are of several data sets: in "scale depth",
            metric depth stands beside depth of unknown scale, and its own is forgotten. None: samples must
            agree.

    Raises:
        UserError: a setting is out of its range, or there is no such space.
    """

    def __init__(
        self,
        urls: str | list[str],
        share: float = 1.0,
        labelled: bool = False,
        transform: Transform | None = None,
        shuffle_window: int = 16,
        shorter_side_at_least: int | Literal["auto"] | None = None,
        cache: Path | None = None,
        cameras: bool = False,
        max_bad_shards: int = 0,
        access: Literal["range", "cache"] = "range",
        cache_limit: float = CACHE_LIMIT,
        labels: str | list[str] | None = None,
        split: str | None = None,
        space: str | None = None,
    ) -> None:
        if shuffle_window < 1:
            raise UserError(f"shuffle_window counts shards and must be 1 or more, not {shuffle_window}")
        if isinstance(shorter_side_at_least, int) and shorter_side_at_least < 1:
            raise UserError(
                f"shorter_side_at_least is in pixels and must be 1 or more, not {shorter_side_at_least}"
            )
        if max_bad_shards < 0:
            raise UserError(f"max_bad_shards must be 0 or more, not {max_bad_shards}")
        if cache_limit <= 0:
            raise UserError(f"cache_limit is in gigabytes and must be above 0, not {cache_limit:g}")
        self.urls = urls
        self.share = share
        self.labelled = labelled or labels is not None
        self.labels = labels
        self.transform = transform
        self.shuffle_window = shuffle_window
        self.shorter_side_at_least = shorter_side_at_least
        self.cache = None if cache is None else user_path(cache)
        self.cameras = cameras
        self.max_bad_shards = max_bad_shards
        self.access = access
        self.cache_limit = cache_limit
        self.split = split
        try:
            self.space = None if space is None else DepthSpace.parse(space)
        except UserError as error:
            raise UserError(f"space of a ShardSource: {error}") from error

    def open(self, name: str, seed: int, turn: tuple[int, int] = (0, 1)) -> "OpenSource":
        """Find out what the shards hold, and index those that are not indexed yet.

        Args:
            name: of the source, in the configuration.
            seed: what the order is drawn from.
            turn: this rank's number among those of its machine, and how many they are: they share the work.

        Raises:
            UserError: a shard is broken or empty; the sentence names `data.train.<name>.urls`.
            MissingFileError: a shard is missing; the same.
        """
        return OpenSource(self, name, seed, turn)


class OpenSource:
    """A ShardSource whose shards are known: a function from a position to a sample.

    Holds the shards' paths, sizes and digests, and the indexes of the shards in use alone (a thousand
    SA-1B shards have eleven million keys).
    """

    def __init__(self, source: ShardSource, name: str, seed: int, turn: tuple[int, int] = (0, 1)) -> None:
        key = f"data.train.{name}.urls"
        self.source = source
        self.name = name
        try:
            named = find_shards(source.urls, source.split)
            shards = survey(
                named.paths, source.cache, source.max_bad_shards, turn,
                excluded=named.excluded, opened=self._file,
            )  # fmt: skip
            if not shards.paths:
                raise UserError(f"no shard can be read; the first: {shards.bad[0]}")
            self._labels = None
            if source.labels is not None:
                key = f"data.train.{name}.labels"
                kept = 2 * source.shuffle_window
                self._labels = Labels(source.labels, source.split, shards.paths, source.cache, kept, turn)
        except MissingFileError as error:
            raise MissingFileError(f"{key}: {error}") from error
        except UserError as error:
            raise UserError(f"{key}: {error}") from error
        for sentence in shards.bad:
            log.warning("data.train.%s: left out a shard: %s", name, sentence)
        self._seed = (seed, zlib.crc32(name.encode()))
        self.paths, self.digests = shards.paths, shards.digests
        self._excluded = named.excluded
        self.order = ShardOrder(shards.counts, source.shuffle_window, self._seed)
        self._indexes: Recent[int, TarIndex] = Recent(2 * source.shuffle_window)
        labels = () if self._labels is None else self._labels.paths
        self._remote = any(is_remote(path) for path in (*self.paths, *labels))
        self._members: Ahead[int, Members] = Ahead(READERS)
        self._fetches: Ahead[tuple[int, int], None] = Ahead(FETCHERS)

    def __len__(self) -> int:
        return self.order.samples

    def fingerprint(self) -> Facts:
        """What its stream depends on, besides the seed: the shards by their content, whatever their names."""
        facts: Facts = {
            "share": self.source.share,
            "samples": len(self),
            "shards": len(self.paths),
            "shuffle_window": self.source.shuffle_window,
            CONTENTS: self.digests,
        }
        return facts if self._labels is None else facts | {"labels": self._labels.digest()}

    def label_teachers(self) -> list[dict[str, Any]]:
        """What made its labels, see `Labels.teachers`."""
        return [] if self._labels is None else self._labels.teachers()

    def image_size(self) -> tuple[int, int] | None:
        """Height and width of its images: as the transform says, or as a few have them that are spread over
        the source; None: those differ.

        It depends neither on ranks nor on where a run was interrupted.

        Raises:
            UserError: see `sample`.
        """
        transform = self.source.transform
        if transform is not None and transform.output_size is not None:
            return transform.output_size
        positions = {i * len(self) // SIZED for i in range(SIZED)}
        shapes = [self.sample(position)[0].image.shape for position in sorted(positions)]
        sizes = {(int(shape[0]), int(shape[1])) for shape in shapes}
        return sizes.pop() if len(sizes) == 1 else None

    def sample(self, position: int) -> tuple[Sample, list[Skipped]]:
        """The sample at `position`, and every bad one that stood in its place.

        Raises:
            UserError: 20 samples in a row were bad.
        """
        skipped: list[Skipped] = []
        shard, index = self.order(position)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._decode(shard, index, position, attempt), skipped
            except BadSample as error:
                skipped.append(Skipped(error.kind, str(error)))
            shard, index = self.order.any(np.random.default_rng([*self._seed, 2, position, attempt]))
        raise UserError(
            f"data.train.{self.name}: {ATTEMPTS} samples in a row could not be used, so its shards are not "
            f"what its settings say; the last: {skipped[-1].sentence}"
        )

    def expect(self, positions: range) -> None:
        """Begin to read samples that will soon be asked for, where they lie on other machines."""
        if not self._remote:
            return
        for position in positions:
            self._members.begin(position, partial(self._read, *self.order(position)))
        if self.source.access == "cache":
            for turn, shard in self.order.shards_from(positions.start, 2 * self.source.shuffle_window):
                self._fetches.begin((turn, shard), partial(self._fetch, shard))

    def _tar(self, shard: int) -> TarIndex:
        """The index of a shard.

        Raises:
            UserError: it is not the one that was there when the run began.
        """
        tar = self._indexes.get(shard, lambda: self._index(self.paths[shard]))
        if tar.digest != self.digests[shard]:
            raise UserError(f"{tar.file.name} changed while the run was reading it; start the run again")
        return tar

    def _index(self, path: str) -> TarIndex:
        left_out = self._excluded.get(path, frozenset())
        return index_tar(self._file(path), self.source.cache, excluded=left_out)

    def _file(self, path: str) -> StoredFile:
        if self.source.access == "range":
            return stored(path)
        return opened(path, self.source.cache, self.source.cache_limit)

    def _fetch(self, shard: int) -> None:
        try:
            file = self._tar(shard).file
            if isinstance(file, CopiedFile):
                file.fetch()
        except UserError as error:  # its samples are read by ranges, or say so themselves
            log.warning("data.train.%s: no copy of a shard is made: %s", self.name, error)

    def _read(self, shard: int, index: int) -> Members:
        tar = self._tar(shard)
        label = None if self._labels is None else self._labels.read(shard, tar.keys[index])
        return tar.file.name, tar.keys[index], tar.read(index), label

    def _decode(self, shard: int, index: int, position: int, attempt: int) -> Sample:
        read = partial(self._read, shard, index)
        where, key, members, label = self._members.take(position, read) if attempt == 1 else read()
        drawn_from = [*self._seed, 3, position, zlib.crc32(key.encode())]
        transform, smallest = self.source.transform, self.source.shorter_side_at_least

        def needed(height: int, width: int) -> int | None:
            if transform is None:
                return None
            return transform.pixels_needed(height, width, np.random.default_rng(drawn_from))

        sample = decode_sample(
            key,
            members,
            where=where,
            labelled=self.source.labelled,
            label=label,
            shorter_side_at_least=needed if smallest == "auto" else smallest,
            cameras=self.source.cameras,
            sky=True,
        )
        if (wanted := self.source.space) is not None and sample.space is not None:
            if not wanted.includes(sample.space):
                raise UserError(
                    f"data.train.{self.name}.space is '{wanted}', but {where}: sample '{key}' has "
                    f"'{sample.space}', which is none: name another space, or make it a source of its own"
                )
            sample = replace(sample, space=wanted)
        if transform is None:
            return sample
        return transform(sample, np.random.default_rng(drawn_from))


class StreamBatches(IterableDataset[TrainingBatch]):
    """One rank's part of the global batches start, start + 1, ..., without end.

    Source s fills B_s = share * batch_size places of every global batch, batch k with its
    positions k * B_s to (k + 1) * B_s - 1; rank r takes the r-th equal contiguous part of them.
    Worker w of W yields batches start + w, start + w + W, ..., which the DataLoader interleaves.

    Args:
        sources: opened sources by name.
        batch_size: samples of a global batch, over all sources and ranks.
        rank, world_size: which part is yielded.
        start: number of the first global batch.

    Raises:
        UserError: the shares do not divide the batch (see `places_per_rank`).
    """

    def __init__(
        self,
        sources: Mapping[str, OpenSource],
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
    ) -> None:
        shares = {name: source.source.share for name, source in sources.items()}
        self._places = places_per_rank(shares, batch_size, world_size)
        self._sources = dict(sources)
        self._rank = rank
        self._world_size = world_size
        self._start = start

    def __iter__(self) -> Iterator[TrainingBatch]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for number in count(self._start + first, step):
            for name, source in self._sources.items():
                for coming in range(number, number + BATCHES_AHEAD * step, step):
                    source.expect(self._positions(name, coming))
            yield self.batch(number)

    def batch(self, number: int) -> TrainingBatch:
        """This rank's part of global batch `number`."""
        return {name: self._part(name, number) for name in self._sources}

    def _positions(self, name: str, number: int) -> range:
        places = self._places[name]
        first = (number * self._world_size + self._rank) * places
        return range(first, first + places)

    def _part(self, name: str, number: int) -> Batch:
        positions = self._positions(name, number)
        drawn = [self._sources[name].sample(position) for position in positions]
        batch = collate([sample for sample, _ in drawn], f"data.train.{name}")
        batch.positions = list(positions)
        batch.skipped = [one for _, skipped in drawn for one in skipped]
        return batch
