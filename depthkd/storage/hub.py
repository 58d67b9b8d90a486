"""The Hugging Face hub: what its file system says of a repository, and where the bytes of a file are."""

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Any, TypeVar

from depthkd.errors import UserError

LISTING = 120.0  # seconds for a list of thousands of files

Result = TypeVar("Result")

_locks: dict[int, Lock] = {}  # by process: a fork may happen while a thread holds one


def ask(system: Any, method: str, url: str) -> Any:
    """What a method of the hub's file system answers; one call at a time, as each may list a folder that the
    others need too.

    Args:
        system: a `HfFileSystem`, which has no time limit of its own.
        method: its name.
        url: what it is asked about.

    Raises:
        UserError: the url names no repository.
        TimeoutError: nothing has come for two minutes.
        OSError, and what huggingface_hub raises: there is no such file, or the hub cannot be reached.
    """

    def once() -> Any:
        try:
            system.resolve_path(url)
        except json.JSONDecodeError:
            raise
        except (ValueError, NotImplementedError) as error:
            raise UserError(
                f"{url} names no repository ({' '.join(str(error).split())}); it would be "
                "hf://datasets/ORGANIZATION/NAME"
            ) from error
        return getattr(system, method)(url)

    with _locks.setdefault(os.getpid(), Lock()):
        return within(LISTING, once)


def is_repository(system: Any, url: str) -> bool:
    """Whether a url is that of a whole repository, and not of something in it.

    Raises:
        As `ask`.
    """
    found = ask(system, "resolve_path", url)
    return not (
        found.path_in_repo if hasattr(found, "path_in_repo") else found.path
    )  # a bucket has the latter


def info(system: Any, url: str) -> dict[str, Any]:
    """Size and type of a file, and its ETag: SHA-256 where large files are kept, git's hash elsewhere.

    Raises:
        As `ask`.
    """
    told: dict[str, Any] = ask(system, "info", url)
    digest = (told.get("lfs") or {}).get("sha256") or told.get("blob_id")
    return {**told, "ETag": f'"{digest}"'} if digest else told


def address(system: Any, url: str) -> tuple[str, dict[str, str]]:
    """Where a file's bytes are asked for, and the headers that this takes.

    Raises:
        As `ask`.
    """
    from huggingface_hub.utils import build_hf_headers

    return str(ask(system, "url", url)), build_hf_headers()


def etag(answers: Iterable[Any]) -> str:
    """The ETag of the file that the hub has sent, as `info` has it; "" where no answer says it.

    Args:
        answers: the redirects to where the bytes lie, which has ETags of its own, and the last answer.
    """
    first, *others = answers
    linked = [answer.headers.get("X-Linked-Etag") for answer in (first, *others)]
    own = None if others else first.headers.get("ETag")
    found = next((tag for tag in (*linked, own) if tag), "")
    return str(found).removeprefix("W/")


def within(limit: float, function: Callable[[], Result]) -> Result:
    """What a function returns; after `limit` seconds a TimeoutError, while it may wait on for nobody."""
    result: Future[Result] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:  # is raised where the result is awaited
            result.set_exception(error)

    Thread(target=run, daemon=True).start()
    return result.result(limit)
