"""The file in which a tar's index is kept: tensors in the safetensors format, read without unpickling."""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from depthkd.errors import UserError
from depthkd.formats.tar_index import Keys, ShardFacts, TarIndex
from depthkd.formats.whole_files import whole_file
from depthkd.paths import cache_folder
from depthkd.storage.files import StoredFile
from depthkd.storage.remote import is_remote, sibling, small_file

SUFFIX = ".index"
VERSION = 3  # of the file's layout; depthkd 0.1 and 0.2 wrote 1 and 2, as JSON
WORD = "depthkd"  # under which the header holds them
FIRST_READ = 4096  # bytes, which mostly hold all of a header
LARGEST_HEADER = 1 << 28
KINDS = {
    "starts": np.uint32, "kinds": np.uint32, "offsets": np.uint64, "sizes": np.uint64,
    "key_ends": np.uint32, "key_bytes": np.uint8,
}  # fmt: skip
COLUMNS = list(KINDS)
DAMAGED = (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError)


def index_places(path: str, cache: Path | None) -> list[Path]:
    """Where on this machine the index of a tar may lie: beside it, then in the user's cache; or in `cache`
    alone. That of a remote tar lies in one of the two."""
    here = not is_remote(path)
    absolute = Path(path).resolve() if here else None
    identity = os.fsencode(absolute) if absolute else path.encode()
    name = f"{path.rpartition('/')[2]}-{hashlib.sha256(identity).hexdigest()[:16]}{SUFFIX}"
    if cache is not None:
        return [Path(cache) / name]
    return [*([absolute.with_name(absolute.name + SUFFIX)] if absolute else []), cache_folder() / name]


def kept_facts(file: StoredFile, cache: Path | None) -> ShardFacts | None:
    """The facts of a tar from the header of its index on this machine; None if there is none, or it is
    outdated or damaged."""
    for place in index_places(file.name, cache):
        with suppress(*DAMAGED), place.open("rb", buffering=0) as opened:
            facts = _facts(_header(opened.read(FIRST_READ), opened.fileno()))
            if facts.stamp == file.stamp:
                return facts
    return None


def kept_index(file: StoredFile, cache: Path | None) -> TarIndex | None:
    """The index of a tar from its file on this machine or, of a remote tar, beside it; None if there is none,
    or it is outdated or damaged."""
    for place in index_places(file.name, cache):
        with suppress(OSError):
            index = _parsed(place.read_bytes(), file)
            if index is not None:
                return index
    data = None if file.url is None else small_file(sibling(file.url, SUFFIX))
    index = None if data is None else _parsed(data, file, size_only=True)
    if index is not None:
        keep_index(index, cache)
    return index


def keep_index(index: TarIndex, cache: Path | None) -> None:
    """Write the index where the next one looks for it, if that is allowed somewhere; other processes see all
    of it or nothing."""
    from safetensors.numpy import save

    columns = (index.starts, index.kinds, index.offsets, index.sizes, index.keys.ends, index.keys.text)
    tensors = {name: column.astype(kind) for (name, kind), column in zip(KINDS.items(), columns, strict=True)}
    told = {
        "version": VERSION,
        "stamp": index.file.stamp,
        "samples": index.pictured,
        "digest": index.digest,
        "checksum": _checksum(tensors),
        "suffixes": index.suffixes,
    }
    data = save(tensors, {WORD: json.dumps(told)})
    for place in index_places(index.file.name, cache):
        try:
            with whole_file(place, several_writers=True, sync=False) as file:
                file.write(data)
            return
        except UserError:
            continue


def _parsed(data: bytes, file: StoredFile, size_only: bool = False) -> TarIndex | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        told = _header(data)
        facts = _facts(told)
        if facts.stamp[0] != file.stamp[0] or (facts.stamp != file.stamp and not size_only):
            return None
        tensors = load(data)
        if _checksum(tensors) != told["checksum"]:
            return None
        starts, kinds, offsets, sizes, ends = (tensors[name].astype(np.int64) for name in COLUMNS[:-1])
        keys = Keys(tensors["key_bytes"], np.concatenate([[0], ends])[: len(ends)], ends)
        suffixes = [str(suffix) for suffix in told["suffixes"]]
        index = TarIndex(file, keys, suffixes, starts, kinds, offsets, sizes, facts.digest, facts.samples)
        return index if _sound(index) else None
    except (*DAMAGED, SafetensorError):
        return None


def _header(data: bytes, file: int | None = None) -> dict[str, Any]:
    """What `write_index` told in the header; `data` is its beginning, and `file` where the rest is."""
    end = 8 + int.from_bytes(data[:8], "little")
    if end > len(data) and file is not None and end <= LARGEST_HEADER:
        data = os.pread(file, end, 0)
    return dict(json.loads(json.loads(data[8:end])["__metadata__"][WORD]))


def _facts(told: Mapping[str, Any]) -> ShardFacts:
    size, tag = told["stamp"]
    if told["version"] != VERSION or not isinstance(tag, int | str):
        raise ValueError("of another version")
    return ShardFacts((int(size), tag), int(told["samples"]), str(told["digest"]))


def _checksum(tensors: Mapping[str, np.ndarray]) -> int:
    checksum = 0
    for name in COLUMNS:
        checksum = zlib.crc32(tensors[name].tobytes(), checksum)
    return checksum


def _sound(index: TarIndex) -> bool:
    """Whether the parts of an index fit each other; a file in a shared folder may be anybody's."""
    starts, keys = index.starts, index.keys
    return bool(
        len(starts) == len(keys) + 1
        and len(index.kinds) == len(index.offsets) == len(index.sizes) == starts[-1]
        and (np.diff(starts) >= 0).all()
        and index.kinds.max(initial=-1) < len(index.suffixes)
        and (index.offsets + index.sizes <= index.file.stamp[0]).all()
        and (keys.starts <= keys.ends).all()
        and keys.ends.max(initial=0) <= len(keys.text)
        and 0 <= index.pictured <= len(keys)
    )
