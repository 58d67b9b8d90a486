"""A file on another machine: its size and version, and ranges of its bytes, with patience for a network."""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from depthkd.errors import MissingFileError, UserError
from depthkd.storage.failures import Failure, meaning, reason

SCHEMES = {
    "http": "fsspec[http]",
    "https": "fsspec[http]",
    "s3": "s3fs",
    "gs": "gcsfs",
    "hf": "huggingface_hub",
}
"""Schemes that are read, and the package that reads each."""
TAGS = ("ETag", "etag", "generation", "blob_id")  # what http, S3, Google and the hub call a file's version
ATTEMPTS = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0  # seconds between attempts, doubled from one to the next
PATIENCE = 20.0  # seconds without an answer, for a small piece
SLOWEST = 1 << 20  # bytes per second, below which a larger piece is given up and asked for again
LISTING = 120.0  # seconds for a list of thousands of files
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


def asked(url: str, coroutine: str, method: str, *arguments: Any) -> Any:
    """What a method of the url's file system answers, after patience.

    Raises:
        MissingFileError, UserError: as `version_of`.
    """

    def once() -> Any:
        from fsspec.asyn import sync

        system = _system(url)
        if system.async_impl:
            return sync(system.loop, getattr(system, coroutine), *arguments, timeout=LISTING)
        return getattr(system, method)(*arguments)

    return _patiently(url, once)


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

    system = _system(url)
    answer: Any = None
    offset = 0

    def once() -> bytes:
        nonlocal answer, offset
        try:
            if answer is None:
                headers = _if_match(version.tag)
                answer, offset = sync(system.loop, _http_get, system, url, headers, timeout=PATIENCE), 0
            data: bytes = sync(system.loop, answer.content.read, PIECE, timeout=PATIENCE + PIECE / SLOWEST)
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
                raise ChangedFileError(f"{shown(url)} has changed since the run began") from error
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
    if not system.async_impl:
        return system.info(url) if what == "info" else system.cat_file(url, start, end)
    if what == "info":
        system.invalidate_cache()  # or a file that has changed would look as it did
        return sync(system.loop, system._info, url, timeout=limit)
    scheme = url.partition("://")[0].lower()
    if scheme == "s3" and _if_match(tag):
        return sync(system.loop, _s3_range, system, url, start, end, tag, timeout=limit)
    if scheme.startswith("http"):
        return sync(system.loop, _http_range, system, url, start, end, _if_match(tag), timeout=limit)
    return sync(system.loop, system._cat_file, url, start=start, end=end, timeout=limit)


def _if_match(tag: str) -> dict[str, str]:
    """The header with which a server refuses another content; none without an ETag for every byte."""
    return {"If-Match": tag} if tag.startswith('"') else {}


async def _http_get(system: Any, url: str, headers: dict[str, str]) -> Any:
    session = await system.set_session()
    identity = {"Accept-Encoding": "identity"}  # what is packed again has other offsets
    answer = await session.get(system.encode_url(url), headers={**identity, **headers})
    answer.raise_for_status()
    return answer


async def _http_range(system: Any, url: str, start: int, end: int, headers: dict[str, str]) -> bytes:
    async with await _http_get(system, url, {**headers, "Range": f"bytes={start}-{end - 1}"}) as answer:
        if answer.status != 206 and (start, end) != (0, answer.content_length):
            raise WholeFileError(
                f"{shown(url)}: its server sends whole files where a part is asked for; set access to cache"
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


def _system(url: str) -> Any:
    """The file system of a url's scheme: one a process, which a forked child does not take over.

    Raises:
        UserError: the package that reads the scheme is not installed.
    """
    import fsspec

    scheme = url.partition("://")[0].lower()
    key = os.getpid(), scheme
    if key not in _systems:
        options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        try:
            _systems[key] = fsspec.filesystem(scheme, **options)
        except ImportError as error:
            raise UserError(
                f"{shown(url)}: {scheme}:// is read by {SCHEMES[scheme]}, which is not installed: "
                f"pip install {SCHEMES[scheme]}"
            ) from error
    return _systems[key]
