"""One tar of images -> one tar of labels: decoding, network, encoding and writing go on at the same time."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from pathlib import Path
from queue import Full, Queue
from time import perf_counter
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from depthkd.errors import UserError
from depthkd.formats.depth import Number
from depthkd.formats.images import IMAGE_SUFFIXES
from depthkd.formats.sample import BadSample, Sample
from depthkd.formats.shard_samples import (
    IMAGE_DIGEST,
    decode_sample,
    digest_in_words,
    encode_label,
    read_intrinsics,
)
from depthkd.formats.tar_index import TarIndex
from depthkd.formats.whole_files import draft_file, draft_of, writing
from depthkd.formats.writing import Member, write_samples
from depthkd.in_use import InUse
from depthkd.models.inference import WAITING, batches
from depthkd.verbs.label.manifest import Manifest, remove
from depthkd.verbs.label.teachers import Label, Prepared, Teachers

KEPT = ("intrinsics", "source")
LARGEST = 1 << 16  # bytes of a json that is read: SA-1B's, of masks, are larger
EVERY = 8  # pixel of a row or column, by which images are told apart

Tick = Callable[[int, int], object]
"""Told of so many more samples, and so many bad ones among them."""


class Decoded(NamedTuple):
    """An image that is ready for a batch, and what its label's tar needs of its own."""

    key: str
    prepared: Prepared
    known: dict[str, Any]
    """What of the image's json stays in the label's."""
    members: dict[str, bytes]
    pixels: bytes
    """By which it is told from other images."""


@dataclass
class Encoded:
    """A label as members of a tar, and what is counted of it; or why there is none."""

    key: str
    members: dict[str, bytes] = field(default_factory=dict)
    pixels: bytes = b""
    answer: bytes = b""
    valid: int = 0
    size: int = 0
    fault: str | None = None


@dataclass(frozen=True)
class Made:
    """What became of a shard: its manifest, and the seconds in which the model ran."""

    manifest: Manifest
    model_seconds: float


class TooManyBadError(UserError):
    """More samples of a shard have no label than may."""


@dataclass
class ShardLabeller:
    """Labels shards, each by itself, so that nothing about one depends on the others.

    Args:
        teachers: who label.
        out: the folder of labels.
        max_bad: the share of a shard's samples that may be without a label; one always may, unless it is 0.
        workers: threads that decode, and as many that encode.
    """

    teachers: Teachers
    out: Path
    max_bad: Number
    workers: int

    def __call__(self, index: TarIndex, name: str, tick: Tick) -> Made:
        """Label one shard.

        Args:
            index: of the samples with images.
            name: of both tars.
            tick: is told of progress.

        Raises:
            TooManyBadError: more samples are bad than may be; nothing is written.
            UserError: another process labels this shard now, or it cannot be written.
        """
        target = self.out / name
        with lock_of(target):
            for draft in self.out.glob(f".{name}.*.writing"):  # of a process that was killed
                with writing(target):
                    draft.unlink(missing_ok=True)
            run = _Run(self, index, tick)
            draft = draft_of(target, several_writers=True)
            try:
                with draft_file(target, draft) as file:
                    hashed = _Hashed(file)
                    run.write(hashed)
                return self._named(run, hashed, draft, target)
            finally:
                draft.unlink(missing_ok=True)

    def _named(self, run: "_Run", hashed: "_Hashed", draft: Path, target: Path) -> Made:
        """Give a tar its name, once its manifest is there; one that it replaces goes first."""
        manifest = Manifest(
            tar=target.name,
            images=run.index.digest,
            settings=self.teachers.settings(),
            samples=len(run.index),
            bad={key: run.bad[key] for key in run.index.keys if key in run.bad},
            size=hashed.size,
            sha256=hashed.digest.hexdigest(),
            invalid=1 - run.valid / max(1, run.pixels),
        )
        remove(target)
        manifest.write(target)
        with writing(target):
            draft.replace(target)
        return Made(manifest, run.model_seconds)


def lock_of(target: Path) -> InUse:
    """Held while a tar of labels is made."""
    return InUse(
        target.with_name(f".{target.name}.lock"),
        f"{target} is being labelled by {{who}}: wait for it",
        target,
    )


class _Hashed:
    """A file of which the size and the digest are known when it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size, self.digest = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.digest.update(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.size


class _Run:
    """One shard, as it is labelled. The main thread runs the network, and another writes what comes of it."""

    def __init__(self, shards: ShardLabeller, index: TarIndex, tick: Tick) -> None:
        self.teachers, self.index, self.tick = shards.teachers, index, tick
        self.workers, self.max_bad = shards.workers, shards.max_bad
        self.bad: dict[str, str] = {}
        self.answers: dict[bytes, tuple[str, bytes]] = {}
        self.repeated = 0
        self.model_seconds = 0.0
        self.valid = self.pixels = 0
        self._coming: Queue[Future[Encoded] | None] = Queue(WAITING * shards.teachers.asked.batch_size)

    def write(self, file: Any) -> None:
        """Write the tar; what is bad is left out.

        Raises:
            TooManyBadError: too much is bad.
            UserError: it cannot be written.
        """
        decoders, encoders, writer = (ThreadPoolExecutor(n) for n in (self.workers, self.workers, 1))
        written = writer.submit(write_samples, self._good(), file)
        try:
            decoded = self._decoded(decoders, written)
            for batch in batches(decoded, self.teachers.asked.batch_size, lambda one: one.prepared.group()):
                start = perf_counter()
                labels = self.teachers.label([one.prepared for one in batch])
                self.model_seconds += perf_counter() - start
                for one, label in zip(batch, labels, strict=True):
                    self._hand_on(encoders.submit(self._encode, one, label), written)
            self._hand_on(None, written)
            written.result()
        finally:
            decoders.shutdown(cancel_futures=True)
            encoders.shutdown(cancel_futures=True)
            while not written.done():  # after an error
                with suppress(Full):
                    self._coming.put(None, timeout=0.1)
            writer.shutdown()

    def _hand_on(self, encoded: Future[Encoded] | None, written: Future[int]) -> None:
        """Put a label where the writer takes it, which waits where the disk is slow."""
        while True:
            if written.done():
                written.result()  # raises what has stopped it
            with suppress(Full):
                self._coming.put(encoded, timeout=1.0)
                return

    def _decoded(self, threads: ThreadPoolExecutor, written: Future[int]) -> Iterator[Decoded]:
        """All good images in their order, decoded ahead; the bad ones are handed on."""
        ahead: deque[Future[Decoded | Encoded]] = deque()
        numbers = iter(range(len(self.index)))
        most = 2 * self.teachers.asked.batch_size + self.workers
        while True:
            ahead.extend(threads.submit(self._decode, i) for i in islice(numbers, most - len(ahead)))
            if not ahead:
                return
            found = ahead.popleft().result()
            if isinstance(found, Decoded):
                yield found
                continue
            bad: Future[Encoded] = Future()
            bad.set_result(found)
            self._hand_on(bad, written)

    def _decode(self, i: int) -> Decoded | Encoded:
        key, where = self.index.keys[i], self.index.file.name
        name = f"{where}: sample '{key}'"
        wanted = [*IMAGE_SUFFIXES, *(["json"] if self.index.members(i).get("json", 0) <= LARGEST else [])]
        try:
            members = self.index.read(i, wanted)
            known = _known(members.pop("json", b"{}"))
            camera = read_intrinsics(known.get("intrinsics"), name)
            sample = decode_sample(key, members, where, False, self.teachers.needed)
            self.teachers.check_shape(sample.whole_size, name)
            prepared = self.teachers.prepare(sample.image, sample.whole_size, camera)
        except BadSample as error:
            return Encoded(key, fault=str(error))
        if sample.digest is not None:
            known[IMAGE_DIGEST] = digest_in_words(sample.digest)
        pixels = hashlib.blake2b(sample.image[::EVERY, ::EVERY].tobytes(), digest_size=16).digest()
        return Decoded(key, prepared, known, members if self.teachers.asked.copy_images else {}, pixels)

    def _encode(self, one: Decoded, label: Label) -> Encoded:
        name = f"{self.index.file.name}: sample '{one.key}'"
        if label.fault is not None:
            return Encoded(one.key, fault=f"{name}: {label.fault}")
        blank = np.zeros((*label.depth.shape, 3), np.uint8)
        sample = Sample(one.key, blank, label.depth, label.mask, space=self.teachers.space)
        try:
            members = encode_label(sample, self.teachers.codec, {**label.record, **one.known})
        except UserError as error:
            return Encoded(one.key, fault=f"{self.index.file.name}: {error}")
        depth = next(data for suffix, data in members.items() if suffix != "json")
        answer = hashlib.blake2b(depth, digest_size=16).digest()
        valid = label.depth.size if label.mask is None else int(label.mask.sum())
        return Encoded(one.key, {**one.members, **members}, one.pixels, answer, valid, label.depth.size)

    def _good(self) -> Iterator[Member]:
        """Labels for the tar, as they come; what is bad is counted."""
        while (future := self._coming.get()) is not None:
            one = future.result()
            fault = one.fault or self._fault(one)
            self.tick(1, int(fault is not None))
            if fault is None:
                self.valid, self.pixels = self.valid + one.valid, self.pixels + one.size
                yield one.key, one.members
            else:
                self._note(one.key, fault)
        where, labelled = self.index.file.name, len(self.index) - len(self.bad)
        if self.repeated and len(self.answers) == 1:
            raise UserError(f"{where}: the model answers all images with one map, which is no depth")
        if not labelled:
            raise UserError(
                f"{where}: none of {len(self.index)} images can be labelled: {next(iter(self.bad.values()))}"
            )

    def _fault(self, one: Encoded) -> str | None:
        """What is wrong with a label beside the others of its shard."""
        key, pixels = self.answers.setdefault(one.answer, (one.key, one.pixels))
        if pixels == one.pixels:
            return None
        self.repeated += 1
        return f"{self.index.file.name}: sample '{one.key}' has the label of '{key}', which is another image"

    def _note(self, key: str, fault: str) -> None:
        self.bad[key] = fault
        allowed = ceil(self.max_bad * len(self.index))
        if len(self.bad) > allowed:
            raise TooManyBadError(
                f"{len(self.bad)} of {len(self.index)} samples are bad, and max_bad={self.max_bad:g} allows "
                f"{allowed}; the last: {fault}"
            )


def _known(data: bytes) -> dict[str, Any]:
    """What of an image's json its label's keeps, too: its camera, and the data set that it is from."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return {}  # which only says that nothing is known
    if not isinstance(record, Mapping):
        return {}
    return {name: record[name] for name in KEPT if name in record}
