"""Samples -> tar shards that are either whole or not there."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, count, islice
from pathlib import Path
from typing import BinaryIO

from depthkd.errors import ExistingFileError, UserError
from depthkd.formats.index_files import SUFFIX
from depthkd.formats.whole_files import draft_file, draft_of, whole_file, writing
from depthkd.paths import user_path

NUMBER = re.compile(r"%0?\d*d")
Member = tuple[str, Mapping[str, bytes]]
"""A sample's key, and its members: suffix -> bytes."""


def write_tar(samples: Iterable[Member], path: Path) -> int:
    """Write one tar, under another name until it is whole; the same samples give the same bytes.

    Returns:
        how many samples are in it.
    """
    with whole_file(path) as file:
        return _write(samples, file)


def write_shards(
    samples: Iterator[Member], pattern: str, samples_per_shard: int = 1000, overwrite: bool = False
) -> list[Path]:
    """Write samples into tars named by a pattern such as "photos-%06d.tar"; without "%d", into one.

    They get their names when the last one is whole, so that a run that fails leaves nothing
    new, and what it would have replaced is still there.

    Raises:
        UserError: the pattern is not one, `samples_per_shard` is not positive, or a tar cannot be written.
        ExistingFileError: there are such tars already, and `overwrite` is false.
    """
    if samples_per_shard < 1:
        raise UserError(f"samples_per_shard must be at least 1, not {samples_per_shard}")
    existing = _existing(pattern)
    if existing and not overwrite:
        raise ExistingFileError(
            f"{existing[0]} exists already; --overwrite true replaces it, or choose another name"
        )
    numbered = NUMBER.search(pattern) is not None
    paths: list[Path] = []
    try:
        for number in count():
            first = next(samples, None)
            if first is None:
                break
            paths.append(_numbered(pattern, number))
            rest = islice(samples, samples_per_shard - 1) if numbered else samples
            with draft_file(paths[-1], draft_of(paths[-1])) as file:
                _write(chain([first], rest), file)
        for path in paths:
            with writing(path):
                draft_of(path).replace(path)
    finally:
        for path in paths:
            with suppress(OSError):
                draft_of(path).unlink()
    for path in set(existing) - set(paths) if paths else ():
        path.unlink()
        path.with_name(path.name + SUFFIX).unlink(missing_ok=True)
    return paths


def _existing(pattern: str) -> list[Path]:
    path = user_path(pattern)
    if path.suffix != ".tar" or len(NUMBER.findall(path.name)) > 1 or NUMBER.search(str(path.parent)):
        raise UserError(f"'{pattern}' is no pattern for shards; it would be like 'shards/photos-%06d.tar'")
    if not path.parent.is_dir():
        return []
    name = re.compile(r"\d+".join(re.escape(part) for part in NUMBER.split(path.name)))
    return sorted(file for file in path.parent.iterdir() if name.fullmatch(file.name))


def _numbered(pattern: str, number: int) -> Path:
    return user_path(NUMBER.sub(lambda found: found[0] % number, pattern))


def _write(samples: Iterable[Member], file: BinaryIO) -> int:
    from webdataset.writer import TarWriter  # seconds to import

    written = 0
    with TarWriter(file, encoder=False, mtime=0, format="GNU_FORMAT") as tar:
        for key, members in samples:
            tar.write({"__key__": key, **members})
            written += 1
    return written
