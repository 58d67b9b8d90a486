"""The files that a remote url stands for: with braces, with wildcards, a folder's or a repository's."""

from collections.abc import Callable
from typing import Any

from braceexpand import braceexpand

from depthkd.errors import MissingFileError, UserError
from depthkd.storage.remote import asked, forget_listings, is_remote, is_repository, shown

WILD = "*["

FolderReader = Callable[[str], list[str] | None]
"""Path or url of a folder -> the files that it stands for; None: those in it."""


def remote_files(pattern: str, suffix: str, read_folder: FolderReader) -> list[str]:
    """Urls of the files with a suffix that a pattern stands for, in order.

    Braces spell names, which are not looked for; `*` and `[...]` match names. A url that ends with "/" is a
    folder and stands for what `read_folder` says, and so does a whole repository on the hub.

    Raises:
        MissingFileError: a pattern matches nothing, or a folder has no such file.
        UserError: a brace has no partner, or the server cannot be reached or does not list files.
    """
    try:
        spelled = list(braceexpand(pattern))
    except ValueError as error:
        raise UserError(f"'{shown(pattern)}' has a brace without its partner") from error
    forget_listings()
    return [url for one in spelled for url in _listed(one, suffix, read_folder)]


def files_below(url: str) -> list[str]:
    """Urls of all files below a folder, in order; none where there is no such folder.

    Raises:
        UserError: the server cannot be reached or does not list files.
    """
    return sorted(with_scheme(url, path) for path in asked(url, "find"))


def _listed(url: str, suffix: str, read_folder: FolderReader) -> list[str]:
    place = url.partition("://")[2]
    if not place.strip("/"):
        raise UserError(f"'{url}' names no file or folder")
    if any(sign in place for sign in WILD):
        found = asked(url, "glob")
    elif not is_repository(url) and not url.endswith("/"):
        return [url]
    elif (named := read_folder(url)) is not None:
        return named
    else:
        found = asked(f"{url}*.{suffix}", "glob")
    urls = sorted(with_scheme(url, path) for path in found)
    urls = [one for one in urls if one.endswith(f".{suffix}")] if not url.endswith(f".{suffix}") else urls
    if not urls:
        raise MissingFileError(f"'{shown(url)}' matches no .{suffix} file, or its server does not list them")
    return urls


def with_scheme(url: str, path: Any) -> str:
    """A path as the file system of a url lists it, as a url."""
    return str(path) if is_remote(str(path)) else f"{url.partition('://')[0]}://{path}"
