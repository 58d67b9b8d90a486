"""The shards that urls stand for: tars, folders of them, Energon's data sets, repositories on the hub."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from depthkd.errors import MissingFileError, UserError
from depthkd.formats.dataset_card import card_splits
from depthkd.formats.energon import energon_splits
from depthkd.formats.splits import TRAIN, Splits, splits_by_name
from depthkd.formats.tar import index_tar
from depthkd.formats.tar_index import TarIndex
from depthkd.paths import expand_paths, there_are
from depthkd.storage.files import StoredFile, stored
from depthkd.storage.folders import Folder
from depthkd.storage.remote import is_repository


@dataclass(frozen=True)
class Shards:
    """Shards, and what is left out of them.

    Attributes:
        paths: paths or urls of the tars, in order.
        excluded: path -> keys of the samples that are left out of it, where there are any.
        listed: path -> the file of a data set that names it, and would then name what is not there.
    """

    paths: list[str]
    excluded: dict[str, frozenset[str]]
    listed: dict[str, str]

    def index(
        self,
        path: str,
        cache: Path | None = None,
        images: bool = True,
        opened: Callable[[str], StoredFile] = stored,
    ) -> TarIndex:
        """The index of one of the tars, `opened` in some way, without what is left out; as `index_tar`."""
        return index_tar(opened(path), cache, images, self.excluded.get(path, frozenset()))


def find_shards(
    urls: str | Path | Sequence[str | Path], split: str | None = None, default: str = TRAIN
) -> Shards:
    """The shards that urls stand for, in order; see `expand_paths`, and for those on other machines
    `remote_files`.

    A folder that tells its splits stands for the tars of one of them: Energon's `.nv-meta` tells them, a
    README.md with `configs`, or else, in a repository on the hub, the names of the tars. So does any folder
    where a split is asked for.

    Args:
        urls: a pattern, or several.
        split: the name of a split, or "all"; None: `default`, and all tars in a folder that tells no splits.
        default: as `split`.

    Raises:
        UserError: a scheme is unknown, or runs a program (pipe:); a path is given twice; a server cannot be
            reached; what tells the splits cannot be read; there is no such split, or there are no splits.
        MissingFileError: a pattern stands for nothing, or a path in it does not exist.
    """
    excluded: dict[str, frozenset[str]] = {}
    listed: dict[str, str] = {}
    of_splits: set[str] = set()

    def read_folder(place: str) -> list[str] | None:
        folder = Folder(place)
        splits = energon_splits(folder) or card_splits(folder)
        if splits is None and (split is not None or is_repository(place)):
            splits = _by_name(folder)
        if splits is None:
            return None
        names = splits.of(split or default, folder.name)
        if not folder.remote and (missing := [name for name in names if not folder.has(name)]):
            raise MissingFileError(f"{folder.path(missing[0])} is not there, but {splits.told} it")
        excluded.update(
            {folder.path(name): splits.excluded[name] for name in names if name in splits.excluded}
        )
        of_splits.update(folder.path(name) for name in names)
        if splits.listed is not None:
            listed.update({folder.path(name): splits.listed for name in names})
        return [folder.path(name) for name in names]

    paths = expand_paths(urls, ("tar",), read_folder)
    if not paths:
        raise UserError("no urls are given; name at least one tar")
    others = [path for path in paths if path not in of_splits]
    if split is not None and others:
        raise UserError(
            f"split '{split}' is looked for in folders and repositories, and {others[0]} is named itself: "
            "leave split out, or name its folder"
        )
    return Shards(paths, excluded, listed)


def _by_name(folder: Folder) -> Splits:
    tars = [name for name in folder.files if name.endswith(".tar")]
    if not tars:
        raise MissingFileError(f"{folder.name} has no .tar file{there_are(folder.files)}")
    return Splits("by the names of its tars, it has", splits_by_name(tars))
