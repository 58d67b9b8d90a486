"""The paths that a user writes, read in one place: on the command line, in a config, from Python."""

import re
from collections.abc import Collection, Sequence
from glob import glob
from pathlib import Path

from braceexpand import braceexpand

from depthkd.errors import MissingFileError, UserError

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
REMOTE = ("http", "https", "ftp", "s3", "gs", "gcs", "az", "abfs", "hdfs", "hf", "ssh", "sftp")


def user_path(text: str | Path) -> Path:
    """A path as its user means it: `~` is the home folder, and a leading file:// is left out.

    A shell leaves `~` alone behind an equals sign (`--out=~/results`) and in quotes.

    Raises:
        UserError: it names a scheme that is not a path of this machine, such as https:// or pipe:, or
            there is no user of the name behind the `~`.
    """
    plain = str(text).removeprefix("file://")
    scheme = SCHEME.match(plain)
    if scheme and scheme[1].lower() == "pipe":
        raise UserError(f"'{text}' would run a program; depthkd reads from files only")
    if scheme and scheme[1].lower() in REMOTE:
        raise UserError(
            f"'{text}' is remote, and depthkd opens local files only: copy it to a local folder first"
        )
    if scheme:
        raise UserError(f"'{text}' has the unknown scheme '{scheme[1]}:'; give a path, or file:// and a path")
    try:
        return Path(plain).expanduser()
    except RuntimeError as error:
        raise UserError(f"'{text}' begins with the home of a user that this machine does not know") from error


def local_or_hub(source: str) -> str:
    """A hub id as it is; a path as `user_path` reads it. One that begins with `~` is no hub id."""
    return str(user_path(source)) if source.startswith(("~", "file://")) else source


def expand_urls(urls: str | Path | Sequence[str | Path]) -> list[str]:
    """Paths of the shards that patterns stand for, each pattern's in order.

    A pattern is a path, possibly with braces ({000000..000019}), wildcards, or a leading file:// or
    ~, or a folder, which stands for the tars in it.

    Raises:
        UserError: a scheme is remote or unknown, or runs a program (pipe:).
        MissingFileError: a pattern stands for nothing, or a path in it does not exist.
    """
    paths = expand_paths(urls, ("tar",))
    if not paths:
        raise UserError("no urls are given; name at least one tar")
    return paths


def expand_paths(patterns: str | Path | Sequence[str | Path], suffixes: Collection[str]) -> list[str]:
    """As `expand_urls`, but a folder stands for the files in it that have one of `suffixes`."""
    several = [patterns] if isinstance(patterns, str | Path) else patterns
    return [path for pattern in several for path in _expand(str(pattern), suffixes)]


def _expand(pattern: str, suffixes: Collection[str]) -> list[str]:
    plain = str(user_path(pattern))
    paths = []
    for path in braceexpand(plain) if "{" in plain else [plain]:
        if Path(path).is_dir():
            files = sorted(Path(path).iterdir())
            found = [str(file) for file in files if file.suffix[1:].lower() in suffixes]
        else:
            found = [path] if Path(path).exists() else sorted(glob(path, recursive=True))  # noqa: PTH207
        if not found:
            within = "" if path == pattern else f" (from '{pattern}')"
            raise MissingFileError(f"'{path}'{within} matches no .{' or .'.join(suffixes)} file")
        paths += found
    return paths
