"""Bad samples, moved out of a tar into another."""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from stat import S_IMODE

from depthkd.errors import UserError
from depthkd.formats.index_files import index_places
from depthkd.formats.tar import keys_and_suffixes
from depthkd.formats.tar_headers import BLOCK, sound_files
from depthkd.formats.whole_files import whole_file, write_whole
from depthkd.storage.files import LocalFile, close_files

REST, REASONS = ".rest", ".jsonl"
END = bytes(2 * BLOCK)  # the mark at the end of a tar
PIECE = 8 << 20  # bytes that are copied at a time

Span = tuple[int, int]
"""From a byte of a file to before another."""


class NotMovedError(UserError):
    """A tar whose bad samples stay where they are; the sentence says why."""


def move_bad(
    file: LocalFile,
    bad: Mapping[str, str],
    fault: UserError | None,
    folder: Path,
    failed: Collection[str] = (),
) -> bool:
    """Move a tar's bad samples, byte for byte, into a tar of the same name in another folder.

    All else stays as it is and in its order, in a new tar that takes the old one's place when it is whole and
    what it lacks is on the disk. A damaged tar ends where it cannot be read on; all that lies behind goes
    into `<name>.rest`. `<name>.jsonl` gets a line on each sample, and one on the damage. An interruption
    leaves the old tar, or the new one; the same call then does it again.

    Args:
        file: the tar, as it was when its samples were decoded.
        bad: key -> why, of each bad sample.
        fault: why the tar cannot be used, or not to its end.
        folder: where what is bad goes.
        failed: keys of what is no sample, but left of a failed download.

    Returns:
        whether it has good samples. Without any, all of it goes into the folder, and the old tar is still
        there.

    Raises:
        NotMovedError: the tar has changed, or the folder holds another file of its name.
        UserError: something cannot be written.
    """
    path = file.path
    check_free(folder, path)
    members, damage = sound_files(file)
    sound = file.stamp[0] if damage is None else damage.sound
    keys = [part and part[0] for part in keys_and_suffixes([member.name for member in members])]
    moved = [(member.start, member.end) for member, key in zip(members, keys, strict=True) if key in bad]
    if no_good := {*keys} <= {None, *bad, *failed}:
        moved = [(0, sound)] if sound else []
    if moved:
        _put(folder / path.name, file, moved, END)
    if damage is not None:
        _put(folder / f"{path.name}{REST}", file, [(sound, file.stamp[0])])
    _put_reasons(folder, path, bad, fault)
    if no_good:
        return False
    place = path.resolve()
    with whole_file(place) as new:
        os.fchmod(new.fileno(), S_IMODE(place.stat().st_mode))
        for piece in chain(_pieces(file, _between(moved, sound)), [] if damage is None else [END]):
            new.write(piece)
        _check_unchanged(file)
    close_files()
    return True


def remove_moved(file: LocalFile) -> None:
    """Remove a tar all of which was moved, and its index; a link to it goes first, so that an interruption
    leaves no link to nothing.

    Raises:
        NotMovedError: it has changed since.
    """
    _check_unchanged(file)
    for path in (file.path, file.path.resolve(), *index_places(file.name, None)):
        path.unlink(missing_ok=True)


def check_free(folder: Path, path: Path) -> None:
    """Check that a folder holds nothing of another tar that has the same name.

    Raises:
        NotMovedError: it does, or nobody can say.
    """
    reasons = folder / f"{path.name}{REASONS}"
    try:
        first, _, _ = reasons.read_text().partition("\n")
        other = json.loads(first)["tar"]
    except (FileNotFoundError, NotADirectoryError):
        return
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise NotMovedError(f"{reasons} does not say which tar it is about: name another folder") from error
    if other != str(path.absolute()):
        raise NotMovedError(f"{folder} holds bad samples of {other}: name another folder for those of {path}")


def _put(path: Path, file: LocalFile, spans: Sequence[Span], end: bytes = b"") -> None:
    """Write parts of a file; an interrupted call may have done so."""
    if os.path.lexists(path):
        if not (path.is_file() and _holds(path, chain(_pieces(file, spans), [end]))):
            raise NotMovedError(f"{path} is there already, of an earlier quarantine: name another folder")
        return
    with whole_file(path) as copy:
        for piece in chain(_pieces(file, spans), [end]):
            copy.write(piece)


def _put_reasons(folder: Path, path: Path, bad: Mapping[str, str], fault: UserError | None) -> None:
    reasons = folder / f"{path.name}{REASONS}"
    lines = reasons.read_text().splitlines() if reasons.exists() else []
    found: list[tuple[str | None, str]] = [*bad.items()]
    found += [] if fault is None else [(None, str(fault))]
    tar = str(path.absolute())
    lines += [json.dumps({"tar": tar, "sample": key, "reason": reason}) for key, reason in found]
    write_whole(reasons, "".join(f"{line}\n" for line in dict.fromkeys(lines)))


def _holds(path: Path, pieces: Iterator[bytes]) -> bool:
    with path.open("rb") as file:
        return all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)


def _pieces(file: LocalFile, spans: Sequence[Span]) -> Iterator[bytes]:
    _check_unchanged(file)
    with file.opened() as descriptor:
        for start, stop in spans:
            for offset in range(start, stop, PIECE):
                piece = os.pread(descriptor, min(PIECE, stop - offset), offset)
                if len(piece) < min(PIECE, stop - offset):
                    raise _changed(file)
                yield piece


def _between(spans: Sequence[Span], end: int) -> list[Span]:
    """What lies between spans, and before `end`."""
    starts, stops = [0, *(stop for _, stop in spans)], [*(start for start, _ in spans), end]
    return [(start, stop) for start, stop in zip(starts, stops, strict=True) if start < stop]


def _check_unchanged(file: LocalFile) -> None:
    if LocalFile(file.path).stamp != file.stamp:
        raise _changed(file)


def _changed(file: LocalFile) -> NotMovedError:
    return NotMovedError(f"{file.name} has changed since its samples were decoded: verify it again")
