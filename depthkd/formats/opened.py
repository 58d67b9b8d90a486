"""Files as they are opened where ranges alone may not do."""

from pathlib import Path

from depthkd.paths import cache_folder
from depthkd.storage.copies import CACHE_LIMIT, GIGABYTE, CopiedFile, Copies
from depthkd.storage.files import RemoteFile, StoredFile, stored


def opened(path: str, cache: Path | None = None, limit: float = CACHE_LIMIT) -> StoredFile:
    """The file of a path or a url. One on another machine is read from its whole copy, where there is one or
    where the server has no ranges.

    Args:
        path: of the shard, or its url.
        cache: the folder whose `shards` holds the copies; None: the user's cache.
        limit: gigabytes of all copies.
    """
    file = stored(path)
    if isinstance(file, RemoteFile):
        return CopiedFile(file, Copies((cache or cache_folder()) / "shards", limit * GIGABYTE))
    return file
