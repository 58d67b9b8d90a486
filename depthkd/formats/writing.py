"""Samples -> tar shards that are either whole or not there."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from depthkd.errors import UserError
from depthkd.formats.whole_files import whole_file
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
        return write_samples(samples, file)


def existing_shards(pattern: str) -> list[Path]:
    """The tars that a pattern such as "photos-%06d.tar" names, as far as they are there.

    Raises:
        UserError: it is no such pattern.
    """
    path = user_path(pattern)
    if path.suffix != ".tar" or len(NUMBER.findall(path.name)) > 1 or NUMBER.search(str(path.parent)):
        raise UserError(f"'{pattern}' is no pattern for shards; it would be like 'shards/photos-%06d.tar'")
    if not path.parent.is_dir():
        return []
    name = re.compile(r"\d+".join(re.escape(part) for part in NUMBER.split(path.name)))
    return sorted(file for file in path.parent.iterdir() if name.fullmatch(file.name))


def is_numbered(pattern: str) -> bool:
    """Whether a pattern stands for several tars."""
    return NUMBER.search(pattern) is not None


def numbered(pattern: str, number: int) -> Path:
    """One of the tars of a pattern; without a number in it, the only one."""
    return user_path(NUMBER.sub(lambda found: found[0] % number, pattern))


def write_samples(samples: Iterable[Member], file: Any) -> int:
    """Write the samples of one tar into a file that is open for bytes; the same samples give the same bytes.

    Returns:
        how many they are.
    """
    from webdataset.writer import TarWriter  # seconds to import

    written = 0
    with TarWriter(file, encoder=False, mtime=0, format="GNU_FORMAT") as tar:
        for key, members in samples:
            tar.write({"__key__": key, **members})
            written += 1
    return written
