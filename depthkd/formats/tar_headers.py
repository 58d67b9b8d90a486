"""What a tar holds and where, by its headers alone (ustar, GNU and PAX)."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from depthkd.errors import UserError
from depthkd.storage.files import LocalFile, StoredFile
from depthkd.storage.remote import PIECE

BLOCK = 512
PAX_RECORD = re.compile(rb"(\d{1,9}) ([^=]+)=")
PLAIN = (b"0", b"\0", b"7")
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"(\xb5/\xfd")  # gzip, bzip2, xz, zstd

Read = Callable[[int, int], bytes]
"""The bytes at a position, as many as are asked for or as there are."""


class TarMember(NamedTuple):
    """A plain file in a tar."""

    name: str
    offset: int
    """Where its bytes begin."""
    size: int
    start: int
    """Where its first header begins."""

    @property
    def end(self) -> int:
        """Where the next member's first header begins."""
        return self.offset + _padded(self.size)


class DamagedTarError(UserError):
    """A tar that cannot be read to its end.

    Attributes:
        sound: how many bytes from its beginning are whole members.
        torn: the name of the member that is cut, where that is known.
    """

    sound = 0
    torn: str | None = None


def tar_members(file: StoredFile, levels: int = 0) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of every plain file in a tar; see `plain_files`.

    Args:
        file: the tar.
        levels: how deep tars in it stand for their own members, which are then called
            "inner.tar/member.jpg"; 0: a tar in it is a file as any other.

    Raises:
        DamagedTarError, UserError: as `plain_files`, of it or of a tar in it.
    """
    total = file.stamp[0]
    with _reads(file) as read:
        yield from _deep(read, file.name, total, levels)


def plain_files(file: StoredFile) -> Iterator[TarMember]:
    """Every plain file in a tar, in order; reads nothing but its headers.

    Raises:
        DamagedTarError: it is cut short, damaged, or no tar; what lies before that has been yielded.
        UserError: it cannot be opened, is compressed, or has a sparse file.
    """
    total = file.stamp[0]
    with _reads(file) as read:
        yield from _scan(read, file.name, total)


def sound_files(file: StoredFile) -> tuple[list[TarMember], DamagedTarError | None]:
    """The plain files of a tar as far as it can be read, and why it cannot be read on.

    Raises:
        UserError: as `plain_files`.
    """
    found: list[TarMember] = []
    try:
        found.extend(plain_files(file))  # what comes before an error stays
    except DamagedTarError as error:
        return found, error
    return found, None


@contextmanager
def _reads(file: StoredFile) -> Iterator[Read]:
    """How a file is read from one header to the next."""
    if isinstance(file, LocalFile):
        with file.opened() as descriptor:
            yield lambda position, size: os.pread(descriptor, size, position)
    else:
        yield _ReadAhead(file)


class _ReadAhead:
    """Reads of a remote file that go forwards: headers are near each other, and requests take long."""

    def __init__(self, file: StoredFile) -> None:
        self._file = file
        self._start, self._data = 0, b""

    def __call__(self, position: int, size: int) -> bytes:
        end = min(position + size, self._file.stamp[0])
        if not self._start <= position <= end <= self._start + len(self._data):
            ahead = max(end, min(position + PIECE, self._file.stamp[0]))
            self._start, (self._data,) = position, self._file.read([(position, ahead - position)])
        return self._data[position - self._start : end - self._start]


def _deep(read: Read, path: str, total: int, levels: int) -> Iterator[tuple[str, int, int]]:
    """The members of a tar, and in their place those of the tars among them."""
    for member in _scan(read, path, total):
        if not levels or not member.name.lower().endswith(".tar"):
            yield member.name, member.offset, member.size
            continue
        part = _part(read, member.offset, member.size)
        for own, start, length in _deep(part, f"{path}/{member.name}", member.size, levels - 1):
            yield f"{member.name}/{own}", member.offset + start, length


def _part(read: Read, start: int, total: int) -> Read:
    """Reads of a file that lies within another, and ends where it does."""
    return lambda position, size: read(start + position, max(0, min(size, total - position)))


def _scan(read: Read, path: str, total: int) -> Iterator[TarMember]:
    position, start, long_name = 0, 0, ""
    pax: dict[str, str] = {}
    cut_short = f"{path} is cut short: "
    try:
        while True:
            header = read(position, BLOCK)
            if position == 0 and len(header) < BLOCK:
                raise DamagedTarError(f"{path} is empty or not a tar: it has {total} bytes")
            if len(header) < BLOCK:
                raise DamagedTarError(
                    f"{cut_short}its end-of-archive mark is missing at byte {position}; copy it again"
                )
            if not header.strip(b"\0"):
                return
            _check(header, path, position)
            kind = header[156:157]
            try:
                size = int(pax["size"]) if "size" in pax and kind not in b"xgLK" else _number(header[124:136])
            except ValueError:
                size = -1
            if size < 0:
                raise DamagedTarError(
                    f"{path} is a broken tar: the size of the member at byte {position} is unreadable"
                )
            if kind in b"123456":  # links, folders and devices have no data
                size = 0
            position += BLOCK
            after = position + _padded(size)
            if after > total:
                error = DamagedTarError(
                    f"{cut_short}it has {total} bytes, but a member ends at {after}; copy it again"
                )
                error.torn = _full_name(header, pax, long_name) if kind in PLAIN else None
                raise error
            match kind:
                case b"L":
                    long_name = read(position, size).split(b"\0")[0].decode(errors="replace")
                case b"x":
                    pax = _pax(read(position, size), path)
                case b"K":
                    pass
                case b"g":
                    start = after if start == position - BLOCK else start  # it is of all members that follow
                case _:
                    if kind == b"S" or any(word.startswith("GNU.sparse") for word in pax):
                        raise UserError(
                            f"{path} holds a sparse file, which cannot be read by offset; repack it"
                        )
                    if kind in PLAIN:
                        yield TarMember(_full_name(header, pax, long_name), position, size, start)
                    long_name, pax, start = "", {}, after
            position = after
    except DamagedTarError as error:
        error.sound = start
        raise


def _check(header: bytes, path: str, position: int) -> None:
    try:
        expected = _number(header[148:156])
    except ValueError:
        expected = -1
    if sum(header) - sum(header[148:156]) + 8 * 32 == expected:
        return
    if header.startswith(COMPRESSED):
        raise UserError(f"{path} is compressed, and tars are read by offset: decompress it to a plain tar")
    if position == 0:
        raise DamagedTarError(f"{path} is not a tar")
    raise DamagedTarError(f"{path} is a broken tar: no valid header at byte {position}")


def _number(text: bytes) -> int:
    """A header's number: octal digits, or base 256 for what does not fit them (8 GiB and more)."""
    if text[0] == 0x80:
        return int.from_bytes(text[1:], "big")
    return int(text.split(b"\0")[0].strip() or b"0", 8)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _full_name(header: bytes, pax: Mapping[str, str], long_name: str) -> str:
    return (pax.get("path") or long_name or _name(header)).removeprefix("./")


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0")[0]
    if header[257:263] == b"ustar\0":  # GNU puts other things where POSIX has the prefix
        prefix = header[345:500].split(b"\0")[0]
        name = prefix + b"/" + name if prefix else name
    return name.decode(errors="replace")


def _pax(data: bytes, path: str) -> dict[str, str]:
    """Records "<length> <word>=<value>\\n" (POSIX.1-2001, pax interchange format)."""
    records, position = {}, 0
    while position < len(data):
        found = PAX_RECORD.match(data, position)
        length = int(found[1]) if found else 0
        if not found or position + length <= found.end():
            raise DamagedTarError(f"{path} is a broken tar: it has an unreadable PAX header")
        value = data[found.end() : position + length - 1]
        records[found[2].decode(errors="replace")] = value.decode(errors="replace")
        position += length
    return records


def is_header_of(header: bytes, base: str, size: int) -> bool:
    """Whether a member's header is whole and names a file of this base name and size.

    Names of 100 bytes and more stand in a header before it, and are not looked at.
    """
    try:
        sound = sum(header) - sum(header[148:156]) + 8 * 32 == _number(header[148:156])
        if len(header) != BLOCK or not sound or _number(header[124:136]) != size:
            return False
    except ValueError:
        return False
    name = header[:100].split(b"\0")[0]
    return len(name) == 100 or name.decode(errors="replace").rpartition("/")[2].lower() == base.lower()
