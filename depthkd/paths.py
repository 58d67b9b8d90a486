"""The paths that a user writes, read in one place: on the command line, in a config, from Python."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from glob import escape, glob, has_magic
from itertools import islice
from pathlib import Path

from braceexpand import braceexpand

from depthkd.errors import MissingFileError, UserError
from depthkd.storage.listing import FolderReader, remote_files
from depthkd.storage.remote import SCHEMES, is_remote

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
REMOTE = ("http", "https", "ftp", "s3", "gs", "gcs", "az", "abfs", "hdfs", "hf", "ssh", "sftp")
OTHER_IMAGES = frozenset(  # which depthkd cannot decode
    "heic heif avif tif tiff exr hdr gif bmp jp2 jxl psd tga ppm pnm pgm "  # noqa: SIM905
    "dng cr2 cr3 crw nef nrw arw sr2 orf rw2 raf pef srw".split()
)
COMPRESSED_TARS = re.compile(r"\.(?:tgz|tbz2?|txz|tar\.(?:gz|bz2|xz|zst|lz4))$", re.IGNORECASE)
LOOKED_AT = 100_000  # files below a folder, to say what it holds


def user_path(text: str | Path) -> Path:
    """A path as its user means it: `~` is the home folder, and a leading file:// is left out.

    A shell leaves `~` alone behind an equals sign (`--out=~/results`) and in quotes.

    Raises:
        UserError: it is empty, names a scheme that is not a path of this machine, such as https:// or pipe:,
            or there is no user of the name behind the `~`.
    """
    plain = str(text).removeprefix("file://")
    if not plain:
        raise UserError("a path is empty; the working folder would be '.'")
    scheme = SCHEME.match(plain)
    if scheme and scheme[1].lower() == "pipe":
        raise UserError(f"'{text}' would run a program; depthkd reads from files only")
    if scheme and scheme[1].lower() in REMOTE:
        raise UserError(
            f"'{text}' is remote: shards are read from {', '.join(f'{name}://' for name in SCHEMES)}, and "
            "all else from a local folder: copy it there first"
        )
    if scheme:
        raise UserError(f"'{text}' has the unknown scheme '{scheme[1]}:'; give a path, or file:// and a path")
    try:
        return Path(plain).expanduser()
    except RuntimeError as error:
        raise UserError(f"'{text}' begins with the home of a user that this machine does not know") from error


def cache_folder() -> Path:
    """Where what can be made again is kept: $DEPTHKD_CACHE, or ~/.cache/depthkd."""
    return user_path(os.environ.get("DEPTHKD_CACHE") or "~/.cache/depthkd")


def local_or_hub(source: str) -> str:
    """A hub id as it is; a path as `user_path` reads it. One that begins with `~` is no hub id."""
    return str(user_path(source)) if source.startswith(("~", "file://")) else source


def expand_paths(
    patterns: str | Path | Sequence[str | Path],
    suffixes: Collection[str],
    read_folder: FolderReader | None = None,
    otherwise: Collection[str] = (),
) -> list[str]:
    """Paths of the files that patterns stand for, each pattern's in order.

    A pattern is

    - a path, possibly with a leading file:// or ~;
    - a folder, which stands for the files in it that have one of `suffixes`, but not for those in its
      subfolders, nor for hidden ones;
    - with braces, {000000..000019} or {a,b}, all that they spell, each of which must exist;
    - with wildcards, what they match: folders stand for their files, and files of other suffixes are passed
      over, unless the pattern itself ends in that suffix; ** crosses folders;
    - @list.txt, a file with a pattern on each line; blank lines and those that begin with # are passed over.
      Relative paths in it begin at the working folder.

    With `read_folder`, urls stand for files on other machines (see `remote_files`), and it is asked first for
    what a folder stands for, except for those that ** crosses. A folder or pattern that stands for no file
    with one of `suffixes` stands for those with one of `otherwise`.

    Photographs of formats that depthkd cannot read (HEIC, TIFF, raw) and compressed tars are not passed over
    where no file of the same name in a readable format lies beside: whoever opens one says what it is.

    Raises:
        UserError: a scheme is remote or unknown, or runs a program (pipe:); a list cannot be read; a folder
            is named like a file; a path is given twice.
        MissingFileError: a pattern stands for nothing, or a path in it does not exist; the sentence says
            what is there instead.
    """
    several = [patterns] if isinstance(patterns, str | Path) else patterns
    paths = [path for pattern in several for path in _expand(str(pattern), suffixes, read_folder, otherwise)]
    places = [path if read_folder and is_remote(path) else os.path.abspath(path) for path in paths]  # noqa: PTH100 - a link is a file of its own
    place, times = Counter(places).most_common(1)[0] if places else ("", 0)
    if times > 1:
        raise UserError(f"{paths[places.index(place)]} is given {times} times")
    return paths


def is_image_of_other_format(name: str) -> bool:
    """Whether a file is named like a photograph that depthkd cannot read: HEIC, TIFF, camera raw."""
    return _suffix(name) in OTHER_IMAGES


def is_tar(name: str) -> bool:
    """Whether a file is named like a tar, or like a compressed one, which depthkd cannot read."""
    return _suffix(name) == "tar" or COMPRESSED_TARS.search(name) is not None


def there_are(files: Sequence[str]) -> str:
    """How many files there are of which suffix, as the end of a sentence."""
    return _counted(Counter(map(_suffix, files))) or "; no files are listed there"


def _expand(
    pattern: str, suffixes: Collection[str], read_folder: FolderReader | None, otherwise: Collection[str]
) -> list[str]:
    if not pattern.startswith("@") or os.path.lexists(pattern):
        return _spelled(pattern, suffixes, read_folder, otherwise)
    file = user_path(pattern[1:])
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no list {file}") from error
    except OSError as error:
        raise UserError(f"the list {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"the list {file} is no text; it would have a path on each line") from error
    entries = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    entries = [(number, line) for number, line in entries if line and not line.startswith("#")]
    if not entries:
        raise UserError(f"the list {file} names nothing; it would have a path on each line")
    return [
        path
        for number, line in entries
        for path in _spelled(line, suffixes, read_folder, otherwise, f" (line {number} of {file})")
    ]


def _spelled(
    pattern: str,
    suffixes: Collection[str],
    read_folder: FolderReader | None,
    otherwise: Collection[str],
    within: str = "",
) -> list[str]:
    """The files of a pattern that may have braces; `within` says where the pattern stands."""
    if read_folder and is_remote(pattern):
        return [url for suffix in suffixes for url in remote_files(pattern, suffix, read_folder)]
    plain = str(user_path(pattern))
    if "{" not in plain or os.path.lexists(plain):
        return _matched(plain, suffixes, read_folder, otherwise, within)
    try:
        spelled = braceexpand(plain)
    except ValueError as error:
        raise UserError(f"'{pattern}'{within} has a brace without its partner") from error
    found = []
    for path in spelled:
        place = within or (f" (from '{pattern}')" if path != plain else "")
        found += _matched(str(user_path(path)), suffixes, read_folder, otherwise, place)
    return found


def _matched(
    path: str,
    suffixes: Collection[str],
    read_folder: FolderReader | None,
    otherwise: Collection[str],
    within: str,
) -> list[str]:
    """The files of a path, or of a pattern with wildcards."""
    if _is_folder(path):
        matches = [path]
        found = _in_folder(path, suffixes, read_folder)
    elif os.path.lexists(path):
        return [path]
    else:
        matches = sorted(glob(path, recursive=True)) if has_magic(path) else []  # noqa: PTH207
        found = _of_matches(path, matches, suffixes, None if "**" in path else read_folder)
    if not found and otherwise:
        return _matched(path, (*suffixes, *otherwise), read_folder, (), within)
    if not found:
        named = f"'{path}'{within} matches no .{' or .'.join(suffixes)} file"
        raise MissingFileError(f"{named}{_instead(path, matches, suffixes)}")
    return found


def _of_matches(
    pattern: str, matches: list[str], suffixes: Collection[str], read_folder: FolderReader | None
) -> list[str]:
    files = [match for match in matches if not _is_folder(match)]
    ending = _suffix(pattern)
    taken = set(files if ending and not has_magic(ending) else wanted(files, suffixes))
    found = []
    for match in matches:
        if match in taken:
            found.append(match)
        elif _is_folder(match):
            _refuse_folder(match, suffixes)
            found += _in_folder(match, suffixes, read_folder)
    return list(dict.fromkeys(found))  # ** matches a folder and also what is in it


def _in_folder(folder: str, suffixes: Collection[str], read_folder: FolderReader | None) -> list[str]:
    if read_folder and (named := read_folder(folder)) is not None:
        return named
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read: {error.strerror}") from error
    files = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            _refuse_folder(entry.path, suffixes)
        else:
            files.append(entry.path)
    return wanted(files, suffixes)


def wanted(files: Sequence[str], suffixes: Collection[str]) -> list[str]:
    """Those that have one of the suffixes, and those of their kind that cannot be read and have no partner
    that can (photo.heic beside photo.jpg, shard.tar.gz beside shard.tar)."""

    def unreadable(file: str) -> bool:
        compressed = "tar" in suffixes and COMPRESSED_TARS.search(file) is not None
        return compressed or ("jpg" in suffixes and _suffix(file) in OTHER_IMAGES)

    alone = {_stem(file) for file in files if unreadable(file)}
    if alone:
        alone.difference_update(_stem(file) for file in files if _suffix(file) in suffixes)
    return [
        file for file in files if _suffix(file) in suffixes or (unreadable(file) and _stem(file) in alone)
    ]


def _refuse_folder(path: str, suffixes: Collection[str]) -> None:
    if _suffix(path) in suffixes:
        raise UserError(f"{path} is a folder, though it is named like a .{_suffix(path)} file: rename it")


def _instead(path: str, matches: list[str], suffixes: Collection[str]) -> str:
    """What lies where no file with one of the suffixes was found: other files, or folders with such files."""
    folders = [match for match in matches if _is_folder(match)]
    kinds = Counter(_suffix(match) for match in matches if match not in folders)
    below = 0
    for folder, place, name in islice(_visible_files(folders), LOOKED_AT):
        if place == folder:
            kinds[_suffix(name)] += 1
        else:
            below += _suffix(name) in suffixes
    if below:
        anywhere = f"{escape(path)}/**" if path in folders else f"{path}/**"
        return f"; subfolders hold {below}: '{anywhere}', in quotes, stands for them"
    return _counted(kinds)


def _counted(kinds: Counter[str]) -> str:
    most = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
    words = [f"{count} .{kind}" if kind else f"{count} without a suffix" for kind, count in most[:3]]
    return f"; there are {', '.join(words)}{' and others' if len(most) > 3 else ''}" if words else ""


def _visible_files(folders: list[str]) -> Iterator[tuple[str, str, str]]:
    """Every file below some folders, as ** finds them: the folder, the one that the file is in, its name."""
    for top in folders:
        for place, inner, files in os.walk(top):
            inner[:] = [name for name in inner if not name.startswith(".")]
            yield from ((top, place, name) for name in files if not name.startswith("."))


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1][1:].lower()  # noqa: PTH122 - a tenth of a Path's time, for millions


def _stem(path: str) -> str:
    return COMPRESSED_TARS.sub("", path) if COMPRESSED_TARS.search(path) else str(Path(path).with_suffix(""))


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - which has no exception for what may not be looked at
