"""Where each sample of a tar lies, and reads by offset."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from depthkd.errors import UserError
from depthkd.formats.images import IMAGE_SUFFIXES
from depthkd.formats.sample import BadSample, bad_part
from depthkd.formats.tar_headers import BLOCK, is_header_of
from depthkd.storage.files import GoneError, Stamp, StoredFile


@dataclass(frozen=True)
class ShardFacts:
    """What is known of a tar without its index: `samples` counts those that have an image."""

    stamp: Stamp
    samples: int
    digest: str


class Keys(Sequence[str]):
    """Samples' keys, side by side in one array: eleven million strings would take a gigabyte."""

    def __init__(
        self,
        text: UInt8[np.ndarray, " bytes"],
        starts: Int64[np.ndarray, " keys"],
        ends: Int64[np.ndarray, " keys"],
    ) -> None:
        self.text = text
        self.starts = starts
        self.ends = ends

    @classmethod
    def of(cls, keys: Sequence[str]) -> "Keys":
        """Those of a list."""
        encoded = [key.encode() for key in keys]
        ends = np.cumsum([len(key) for key in encoded], dtype=np.int64)
        text = np.frombuffer(b"".join(encoded), np.uint8)
        return cls(text, np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)], ends)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Keys": ...
    def __getitem__(self, index: int | slice) -> "str | Keys":
        if isinstance(index, slice):
            return Keys(self.text, self.starts[index], self.ends[index])
        return self.text[self.starts[index] : self.ends[index]].tobytes().decode(errors="replace")

    def chosen(self, places: Int64[np.ndarray, " some"]) -> "Keys":
        """The keys at some places."""
        return Keys(self.text, self.starts[places], self.ends[places])


@dataclass
class TarIndex:
    """Where each sample of a tar lies; it holds no open file, and may cross to other processes.

    A sample is the members whose names agree up to the first dot of their base name. That is its
    key, without folders, unless two folders of this tar have the same base name: then all keys keep
    their folder. Members that begin with a dot are left out, and so are samples without an image.
    """

    file: StoredFile
    keys: Keys
    suffixes: list[str]
    """Every suffix that occurs, such as "jpg" or "depth.png"."""
    starts: Int64[np.ndarray, " samples_and_one"] = field(repr=False)
    """Sample i has the members starts[i] to starts[i + 1]."""
    kinds: Int64[np.ndarray, " members"] = field(repr=False)
    """Of each member: the place of its suffix in `suffixes`."""
    offsets: Int64[np.ndarray, " members"] = field(repr=False)
    """Of each member: where its bytes begin."""
    sizes: Int64[np.ndarray, " members"] = field(repr=False)
    """Of each member: how many bytes it has."""
    digest: str
    """64 bits, in hexadecimal, of the samples' keys and their members' suffixes and sizes, in order: what
    tells the tar's content from others without reading it. A member that changes and keeps its number of
    bytes is not noticed; another name or time of the tar is the same content."""

    pictured: int
    """How many of the samples have an image."""

    def __len__(self) -> int:
        return len(self.keys)

    def with_images(self) -> "TarIndex":
        """The index of the samples that have an image."""
        if self.pictured == len(self):
            return self
        return self._chosen(self._has_image())

    def without(self, excluded: Collection[str]) -> "TarIndex":
        """The index of the other samples, with a digest of its own.

        Args:
            excluded: keys; their folders count if those of the tar's own keys do.

        Raises:
            UserError: one is not there.
        """
        if not excluded:
            return self
        places = {key: i for i, key in enumerate(self.keys)}
        kept = np.ones(len(self), bool)
        for key in excluded:
            place = places.get(key.removeprefix("./"), places.get(key.rpartition("/")[2]))
            if place is None:
                raise UserError(f"{self.file.name} has no sample '{key}', which is excluded")
            kept[place] = False
        told = f"{self.digest} without {np.flatnonzero(~kept).tolist()}"
        digest = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
        pictured = int((kept & self._has_image()).sum())
        return replace(self._chosen(kept), digest=digest, pictured=pictured)

    def _has_image(self) -> Bool[np.ndarray, " samples"]:
        images = [place for place, suffix in enumerate(self.suffixes) if suffix in IMAGE_SUFFIXES]
        samples = np.repeat(np.arange(len(self)), np.diff(self.starts))  # of each member
        found = np.zeros(len(self), bool)
        found[samples[np.isin(self.kinds, images)]] = True
        return found

    def _chosen(self, kept: Bool[np.ndarray, " samples"]) -> "TarIndex":
        sizes = np.diff(self.starts)
        members = np.repeat(kept, sizes)
        return replace(
            self,
            keys=self.keys.chosen(np.flatnonzero(kept)),
            starts=np.cumsum([0, *sizes[kept]], dtype=np.int64),
            kinds=self.kinds[members],
            offsets=self.offsets[members],
            sizes=self.sizes[members],
        )

    def members(self, i: int) -> dict[str, int]:
        """Suffix -> bytes of sample i."""
        its = slice(self.starts[i], self.starts[i + 1])
        kinds, sizes = self.kinds[its].tolist(), self.sizes[its].tolist()
        return {self.suffixes[kind]: size for kind, size in zip(kinds, sizes, strict=True)}

    @bad_part("shard")
    def read(self, i: int, only: Collection[str] | None = None) -> dict[str, bytes]:
        """Suffix -> bytes of sample i, of all its members or of those with a suffix in `only`.

        Of a remote tar the members' headers are read too, and compared: its index may be of another version.

        Raises:
            BadSample: the tar has become shorter than it was when it was indexed, or is another one.
        """
        chosen = []
        for m in range(self.starts[i], self.starts[i + 1]):
            suffix = self.suffixes[self.kinds[m]]
            if only is None or suffix in only:
                chosen.append((int(self.offsets[m]), int(self.sizes[m]), suffix))
        chosen.sort()
        before = BLOCK if self.file.remote else 0
        try:
            found = self.file.read([(offset - before, size + before) for offset, size, _ in chosen])
        except GoneError as error:
            raise BadSample(f"{self.file.name}: sample '{self.keys[i]}' {error}") from error
        members = {}
        for (_, size, suffix), data in zip(chosen, found, strict=True):
            if before and not is_header_of(data[:BLOCK], f"{self.keys[i].rpartition('/')[2]}.{suffix}", size):
                raise BadSample(
                    f"{self.file.name}: sample '{self.keys[i]}' is not where its index says, so that this is "
                    "of another tar; index it again"
                )
            members[suffix] = data[before:]
        return members
