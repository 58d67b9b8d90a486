"""A file on another machine: its size and version, and ranges of its bytes, with patience for a network."""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit, urlunsplit

from depthkd.errors import MissingFileError, UserError
from depthkd.storage import hub
from depthkd.storage.failures import Failure, meaning, reason

SCHEMES = {
    "http": "fsspec[http]",
    "https": "fsspec[http]",
    "s3": "s3fs",
    "gs": "gcsfs",
    "hf": "huggingface_hub",
}
"""Schemes that are read, and the package that reads each."""
HUB = "hf"
TAGS = ("ETag", "etag", "generation")  # what http and the hub, S3, and Google call a file's version
ATTEMPTS = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0  # seconds between attempts, doubled from one to the next
PATIENCE = 20.0  # seconds without an answer, for a small piece
SLOWEST = 1 << 20  # bytes per second, below which a larger piece is given up and asked for again
PIECE = 8 << 20  # bytes of a stream that are asked for at a time

Result = TypeVar("Result")

_JITTER = random.SystemRandom()  # not the generator that a run's own choices come from
_systems: dict[tuple[int, str], Any] = {}


class DeniedError(UserError):
    """A remote file may not be read with the credentials that were found."""


class WholeFileError(UserError):
    """A server sends whole files where a part is asked for."""


class ChangedFileError(UserError):
    """A remote file is not the one that it was when the run began."""


@dataclass(frozen=True)
class Version:
    """What tells one content of a file from another: its size, and what its server calls it."""

    size: int
    tag: str = ""


def is_remote(path: str) -> bool:
    """Whether a path is a url that is read through fsspec."""
    scheme, separator, _ = path.partition("://")
    return bool(separator) and scheme.lower() in SCHEMES


def shown(url: str) -> str:
    """The url as it may stand in a log: without a password or a signature."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def sibling(url: str, ending: str = "", name: str | None = None) -> str:
    """The url of a file beside another: with another name, or with something at the end of its own."""
    parts = urlsplit(url)
    folder, _, own = parts.path.rpartition("/")
    return urlunsplit(parts._replace(path=f"{folder}/{own if name is None else name}{ending}"))


def small_file(url: str) -> bytes | None:
    """The whole of a small file; None if it is not there, or nobody may say whether it is.

    Raises:
        UserError: its server cannot be reached.
    """
    try:
        version = version_of(url)
        return read_range(url, 0, version.size, version)
    except (MissingFileError, DeniedError):
        return None


def version_of(url: str) -> Version:
    """The present version of a file.

    Raises:
        MissingFileError: there is none.
        UserError: it cannot be reached or read; the sentence says why.
    """
    told = _patiently(url, lambda: _call(url, "info", PATIENCE))
    if told.get("type") == "directory":
        raise MissingFileError(f"{shown(url)} is a folder; with / at its end, it stands for the tars in it")
    if told.get("size") is None:
        raise UserError(f"{shown(url)}: its server does not say how large it is, so that it cannot be read")
    tag = next((str(told[name]) for name in TAGS if told.get(name)), "")
    tag = tag or str(told.get("Last-Modified") or told.get("LastModified") or told.get("mtime") or "")
    return Version(int(told["size"]), tag)


def read_range(url: str, offset: int, size: int, version: Version) -> bytes:
    """`size` bytes from `offset` on, of this version of the file.

    Raises:
        ChangedFileError: the file is another one by now.
        MissingFileError: it is gone.
        WholeFileError: its server has no ranges.
        UserError: it cannot be reached or read; the sentence says why.
    """
    if not size:
        return b""

    def once() -> bytes:
        limit = PATIENCE + size / SLOWEST
        data: bytes = _call(url, "range", limit, offset, offset + size, version.tag)
        if len(data) != size:
            raise ConnectionError(f"{len(data)} of {size} bytes came")
        return data

    return _patiently(url, once)


def asked(url: str, method: str) -> Any:
    """What a method of the url's file system answers about it, after patience.

    Raises:
        MissingFileError, UserError: as `version_of`.
    """

    def once() -> Any:
        from fsspec.asyn import sync

        system = _system(url)
        if is_on_hub(url):
            return hub.ask(system, method, url)
        return sync(system.loop, getattr(system, f"_{method}"), url, timeout=hub.LISTING)

    return _patiently(url, once)


def is_on_hub(url: str) -> bool:
    """Whether a url is one of the Hugging Face hub."""
    return _scheme(url) == HUB


def is_repository(url: str) -> bool:
    """Whether a url is that of a whole repository on the hub.

    Raises:
        MissingFileError: there is no such repository.
        UserError: it cannot be reached, or the url is none of the hub.
    """
    return is_on_hub(url) and _patiently(url, lambda: hub.is_repository(_system(url), url))


def forget_listings() -> None:
    """Ask the hub anew for what lies in its folders, where that was asked once for all files of one."""
    _systems.pop((0, HUB), None)


def pieces(url: str, version: Version, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """All bytes from `start` on, in pieces with their offsets; where a server has no ranges, from 0 on, which
    may begin anew after a failure.

    Raises:
        UserError: as `read_range`.
    """
    try:
        for offset in range(start, version.size, PIECE):
            yield offset, read_range(url, offset, min(PIECE, version.size - offset), version)
    except WholeFileError:
        yield from _whole(url, version)


def _whole(url: str, version: Version) -> Iterator[tuple[int, bytes]]:
    from fsspec.asyn import sync

    loop = answer = None
    offset = 0

    def once() -> bytes:
        nonlocal loop, answer, offset
        try:
            if answer is None:
                request = _request(url, version.tag)
                loop = request.system.loop
                answer, offset = sync(loop, _http_get, request, timeout=PATIENCE), 0
            data: bytes = sync(loop, answer.content.read, PIECE, timeout=PATIENCE + PIECE / SLOWEST)
            if not data:
                raise ConnectionError(f"{offset} of {version.size} bytes came")
        except Exception:
            if answer is not None:
                answer.close()
            answer = None
            raise
        return data

    while offset < version.size:
        data = _patiently(url, once)
        yield offset, data
        offset += len(data)


def _patiently(url: str, once: Callable[[], Result]) -> Result:
    """Do something with a remote file, again after a pause where the network failed."""
    begun = time.monotonic()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return once()
        except UserError:
            raise
        except Exception as error:
            found = meaning(error)
            if found is Failure.OURS:
                raise
            if found is Failure.MISSING:
                raise MissingFileError(f"{shown(url)} is not there") from error
            if found is Failure.CHANGED:
                raise ChangedFileError(_changed(url)) from error
            if found is Failure.DENIED:
                raise DeniedError(
                    f"{shown(url)} may not be read ({reason(error)}); docs/data.md says where credentials "
                    "are looked for"
                ) from error
            if found is Failure.REFUSED or attempt == ATTEMPTS:
                tried = f"{attempt} attempts, over {time.monotonic() - begun:.0f} s"
                raise UserError(f"{shown(url)} could not be read in {tried}: {reason(error)}") from error
        time.sleep(min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE) * _JITTER.uniform(0.5, 1.0))
    raise AssertionError("the last attempt returns or raises")


def _call(url: str, what: str, limit: float, start: int = 0, end: int = 0, tag: str = "") -> Any:
    """One request; an answer that takes longer than `limit` seconds is a `TimeoutError`."""
    from fsspec.asyn import sync

    system = _system(url)
    scheme = _scheme(url)
    if what == "info" and scheme == HUB:
        return hub.info(system, url)
    if what == "info":
        system.invalidate_cache()  # or a file that has changed would look as it did
        return sync(system.loop, system._info, url, timeout=limit)
    if scheme == "s3" and _if_match(tag):
        return sync(system.loop, _s3_range, system, url, start, end, tag, timeout=limit)
    if scheme == HUB or scheme.startswith("http"):
        request = _request(url, tag)
        return sync(request.system.loop, _http_range, request, start, end, timeout=limit)
    return sync(system.loop, system._cat_file, url, start=start, end=end, timeout=limit)


def _if_match(tag: str) -> dict[str, str]:
    """The header with which a server refuses another content; none without an ETag for every byte."""
    return {"If-Match": tag} if tag.startswith('"') else {}


class _Request(NamedTuple):
    """How a file's bytes are asked for over HTTP."""

    url: str
    system: Any
    address: str
    headers: dict[str, str]
    tag: str = ""  # that the hub's answer has, if it has one; it sends bytes from elsewhere, without If-Match


def _request(url: str, tag: str) -> _Request:
    if not is_on_hub(url):
        return _Request(url, _system(url), url, _if_match(tag))
    address, headers = hub.address(_system(url), url)
    return _Request(url, _system(address), address, headers, tag if _if_match(tag) else "")


async def _http_get(request: _Request, part: str = "") -> Any:
    session = await request.system.set_session()
    headers = {"Accept-Encoding": "identity", **request.headers}  # what is packed again has other offsets
    headers |= {"Range": part} if part else {}
    answer = await session.get(request.system.encode_url(request.address), headers=headers)
    answer.raise_for_status()
    if request.tag and hub.etag([*answer.history, answer]) not in ("", request.tag):
        answer.close()
        raise ChangedFileError(_changed(request.url))
    return answer


async def _http_range(request: _Request, start: int, end: int) -> bytes:
    async with await _http_get(request, f"bytes={start}-{end - 1}") as answer:
        if answer.status != 206 and (start, end) != (0, answer.content_length):
            raise WholeFileError(
                f"{shown(request.url)}: its server sends whole files where a part is asked for; "
                "set access to cache"
            )
        body: bytes = await answer.read()
        return body


async def _s3_range(system: Any, url: str, start: int, end: int, tag: str) -> bytes:
    bucket, key, _ = system.split_path(url)
    asked = {"Range": f"bytes={start}-{end - 1}", "IfMatch": tag}
    answer = await system._call_s3("get_object", Bucket=bucket, Key=key, **asked)
    try:
        body: bytes = await answer["Body"].read()
    finally:
        answer["Body"].close()
    return body


def _changed(url: str) -> str:
    return f"{shown(url)} has changed since the run began"


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _system(url: str) -> Any:
    """The file system of a url's scheme: one a process, which a forked child does not take over. That of the
    hub is taken over, with what it knows: it has no threads.

    Raises:
        UserError: the package that reads the scheme is not installed.
    """
    import fsspec

    scheme = _scheme(url)
    key = 0 if scheme == HUB else os.getpid(), scheme
    if key not in _systems:
        options: dict[str, Any] = {"skip_instance_cache": True}
        options |= {"max_workers": 1} if scheme == HUB else {"use_listings_cache": False}
        if scheme.startswith("http"):  # a signature holds for a redirect's address as it was written
            options["client_kwargs"] = {"requote_redirect_url": False}
        try:
            _systems[key] = fsspec.filesystem(scheme, **options)
        except ImportError as error:
            raise UserError(
                f"{shown(url)}: {scheme}:// is read by {SCHEMES[scheme]}, which is not installed: "
                f"pip install {SCHEMES[scheme]}"
            ) from error
    return _systems[key]
