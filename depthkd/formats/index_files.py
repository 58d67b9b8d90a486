"""The file in which a tar's index is kept: tensors in the safetensors format, read without unpickling."""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from depthkd.errors import UserError
from depthkd.formats.tar_index import Keys, ShardFacts, Stamp, TarIndex
from depthkd.formats.whole_files import whole_file
from depthkd.paths import user_path

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


def index_places(path: Path, cache: Path | None) -> list[Path]:
    """Where the index of a tar may lie: beside it, then in the user's cache; or in `cache` alone."""
    absolute = path.resolve()
    name = f"{path.name}-{hashlib.sha256(os.fsencode(absolute)).hexdigest()[:16]}{SUFFIX}"
    if cache is not None:
        return [Path(cache) / name]
    folder = user_path(os.environ.get("DEPTHKD_CACHE") or "~/.cache/depthkd")
    return [absolute.with_name(path.name + SUFFIX), folder / name]


def read_facts(place: Path, stamp: Stamp) -> ShardFacts | None:
    """The facts of an index file, from its header alone; None if it is missing, outdated or damaged."""
    try:
        with place.open("rb", buffering=0) as file:
            return _facts(_header(file.read(FIRST_READ), file.fileno()), stamp)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_index(place: Path, path: Path, stamp: Stamp) -> TarIndex | None:
    """The index of the tar `path` from its file; None if that is missing, outdated or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = place.read_bytes()
        told = _header(data)
        facts = _facts(told, stamp)
        if facts is None:
            return None
        tensors = load(data)
        if _checksum(tensors) != told["checksum"]:
            return None
        starts, kinds, offsets, sizes, ends = (tensors[name].astype(np.int64) for name in COLUMNS[:-1])
        keys = Keys(tensors["key_bytes"], np.concatenate([[0], ends])[: len(ends)], ends)
        suffixes = [str(suffix) for suffix in told["suffixes"]]
        index = TarIndex(
            path, keys, suffixes, starts, kinds, offsets, sizes, stamp, facts.digest, facts.samples
        )
        return index if _sound(index) else None
    except (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError, SafetensorError):
        return None


def write_index(index: TarIndex, place: Path) -> bool:
    """Write the file so that other processes see all of it or nothing; false where that is not allowed."""
    from safetensors.numpy import save

    columns = (index.starts, index.kinds, index.offsets, index.sizes, index.keys.ends, index.keys.text)
    tensors = {name: column.astype(kind) for (name, kind), column in zip(KINDS.items(), columns, strict=True)}
    told = {
        "version": VERSION,
        "stamp": index.stamp,
        "samples": index.pictured,
        "digest": index.digest,
        "checksum": _checksum(tensors),
        "suffixes": index.suffixes,
    }
    try:
        with whole_file(place, several_writers=True, sync=False) as file:
            file.write(save(tensors, {WORD: json.dumps(told)}))
    except UserError:
        return False
    return True


def _header(data: bytes, file: int | None = None) -> dict[str, Any]:
    """What `write_index` told in the header; `data` is its beginning, and `file` where the rest is."""
    end = 8 + int.from_bytes(data[:8], "little")
    if end > len(data) and file is not None and end <= LARGEST_HEADER:
        data = os.pread(file, end, 0)
    return dict(json.loads(json.loads(data[8:end])["__metadata__"][WORD]))


def _facts(told: Mapping[str, Any], stamp: Stamp) -> ShardFacts | None:
    if told["version"] != VERSION or tuple(told["stamp"]) != stamp:
        return None
    return ShardFacts(stamp, int(told["samples"]), str(told["digest"]))


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
        and (index.offsets + index.sizes <= index.stamp[0]).all()
        and (keys.starts <= keys.ends).all()
        and keys.ends.max(initial=0) <= len(keys.text)
        and 0 <= index.pictured <= len(keys)
    )
