"""The files that a remote url stands for: with braces, with wildcards, or a folder's."""

from typing import Any

from braceexpand import braceexpand

from depthkd.errors import MissingFileError, UserError
from depthkd.storage.remote import asked, is_remote, shown

WILD = "*["


def remote_files(pattern: str, suffix: str) -> list[str]:
    """Urls of the files with a suffix that a pattern stands for, in order.

    Braces spell names, which are not looked for; `*` and `[...]` match names, and a url that ends with "/" is
    a folder, which stands for the files in it.

    Raises:
        MissingFileError: a pattern matches nothing, or a folder has no such file.
        UserError: a brace has no partner, or the server cannot be reached or does not list files.
    """
    try:
        spelled = list(braceexpand(pattern))
    except ValueError as error:
        raise UserError(f"'{shown(pattern)}' has a brace without its partner") from error
    return [url for one in spelled for url in _listed(one, suffix)]


def _listed(url: str, suffix: str) -> list[str]:
    wild = any(sign in url.partition("://")[2] for sign in WILD)
    if not wild and not url.endswith("/"):
        return [url]
    found = asked(url, "_glob", "glob", url if wild else f"{url}*.{suffix}")
    urls = sorted(_whole(url, path) for path in found)
    urls = [one for one in urls if one.endswith(f".{suffix}")] if not url.endswith(f".{suffix}") else urls
    if not urls:
        raise MissingFileError(f"'{shown(url)}' matches no .{suffix} file, or its server does not list them")
    return urls


def _whole(url: str, path: Any) -> str:
    """A path as a file system lists it, with its scheme."""
    return str(path) if is_remote(str(path)) else f"{url.partition('://')[0]}://{path}"
