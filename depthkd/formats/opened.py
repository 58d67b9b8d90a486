"""Files that are read from a whole copy where nothing else is possible."""

from pathlib import Path

from depthkd.paths import cache_folder
from depthkd.storage.copies import CACHE_LIMIT, GIGABYTE, CopiedFile, Copies
from depthkd.storage.files import RemoteFile, StoredFile, stored


def opened(path: str, cache: Path | None = None) -> StoredFile:
    """The file of a path or a url. Where a server has no ranges, it is read from a whole copy, which lies
    where a source with `access: cache` looks for it.

    Args:
        path: of the shard, or its url.
        cache: a folder; None: the user's cache.
    """
    file = stored(path)
    if isinstance(file, RemoteFile):
        return CopiedFile(file, Copies((cache or cache_folder()) / "shards", CACHE_LIMIT * GIGABYTE))
    return file
