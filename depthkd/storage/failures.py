"""What a network's error means, whichever library raised it."""

from collections.abc import Iterator
from enum import Enum
from json import JSONDecodeError


class Failure(Enum):
    """What to do about an error."""

    AGAIN = "again"  # it may well go away
    MISSING = "missing"
    DENIED = "denied"
    CHANGED = "changed"
    REFUSED = "refused"  # the server knows what was asked, and says no
    OURS = "ours"  # nothing of a network


STATUSES = {401: Failure.DENIED, 403: Failure.DENIED, 404: Failure.MISSING, 410: Failure.MISSING,
            408: Failure.AGAIN, 425: Failure.AGAIN, 429: Failure.AGAIN, 412: Failure.CHANGED}  # fmt: skip
NETWORKS = ("aiohttp", "aiobotocore", "botocore", "httpx", "httpx2", "httpcore", "httpcore2", "requests",
            "urllib3", "gcsfs")  # fmt: skip
OFFLINE = "OfflineModeIsEnabled"  # the hub's word for HF_HUB_OFFLINE
DENIED = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "GatedRepoError")


def meaning(error: BaseException) -> Failure:
    """What an error of a file system means; libraries hide the cause of one behind another."""
    chain = list(_behind(error))
    for one in chain:
        status = status_of(one)
        if status is not None:
            return STATUSES.get(status, Failure.AGAIN if status >= 500 else Failure.REFUSED)
        if type(one).__name__ in DENIED or isinstance(one, PermissionError):
            return Failure.DENIED
        if type(one).__name__ == OFFLINE:
            return Failure.REFUSED
    for one in chain:
        if isinstance(one, TimeoutError | ConnectionError | JSONDecodeError) or _of_a_network(one):
            return Failure.AGAIN  # no JSON comes where a proxy's page does
    if any(isinstance(one, FileNotFoundError) for one in chain):
        return Failure.MISSING
    return Failure.AGAIN if any(isinstance(one, OSError) for one in chain) else Failure.OURS


def status_of(error: BaseException) -> int | None:
    """The status that a server answered with, where an error has one."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        found = getattr(response, "status_code", None) or getattr(error, "status", None)
    if type(error).__module__.startswith("gcsfs"):
        found = found or getattr(error, "code", None)
    return found if isinstance(found, int) and 400 <= found < 600 else None


def reason(error: BaseException) -> str:
    """The last cause in a few words, for a sentence."""
    *_, last = _behind(error)
    words = " ".join(str(last).split())
    return f"{type(last).__name__}{f': {words}' if words else ''}"[:200]


def _of_a_network(error: BaseException) -> bool:
    return any(kind.__module__.split(".")[0] in NETWORKS for kind in type(error).__mro__)


def _behind(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
