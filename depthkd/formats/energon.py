"""Energon's data sets: a folder with `.nv-meta`, whose split.yaml says which tars each split has, and which
tars and samples none has.

Source: NVIDIA/Megatron-Energon 7.4, docs/source/basic/data_prep.md ("Dataset Format on Disk") and
src/megatron/energon/flavors/webdataset/metadata.py. Samples are read by their suffixes, whatever
`dataset.yaml` makes of them, and tars are indexed anew: the tables of `index.sqlite` may change.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from braceexpand import braceexpand

from depthkd.errors import MissingFileError, UserError
from depthkd.formats.splits import Splits
from depthkd.parsing import read_yaml
from depthkd.storage.folders import Folder

META = ".nv-meta"
ABOUT = f"{META}/dataset.yaml"
SPLITS = ("split.yaml", "split.json")
TAR = ".tar"


def energon_splits(folder: Folder) -> Splits | None:
    """What the `.nv-meta` of a folder says; None if there is none.

    Raises:
        UserError: it cannot be read, or excludes what is not there.
        MissingFileError: it does not say what the splits have.
    """
    about = folder.read(ABOUT)
    settings = {} if about is None else read_yaml(about, folder.path(ABOUT))
    own = settings.get("split_config") if isinstance(settings, dict) else None
    names = [f"{META}/{name}" for name in ((own,) if own else SPLITS)]
    for name in names:
        data = folder.read(name)
        if data is not None:
            return _read(folder, name, data)
    if about is None:
        return None
    raise MissingFileError(
        f"{folder.path(names[0])} is not there; it says which tars each split has, and `energon prepare` "
        "writes it"
    )


def _read(folder: Folder, name: str, data: bytes) -> Splits:
    file = folder.path(name)
    tree = read_yaml(data, file)
    parts = tree.get("split_parts") if isinstance(tree, dict) else None
    if not isinstance(parts, dict) or not all(_are_names(part) for part in parts.values()):
        raise UserError(
            f"{file} has no 'split_parts' that can be read; it would be a mapping such as "
            "{train: ['shards/shard_{000..009}.tar'], val: []}"
        )
    exclude = tree.get("exclude")
    if not _are_names(exclude):
        raise UserError(
            f"{file} has an 'exclude' that cannot be read; it would be a list such as "
            "[shards/shard_004.tar, shards/shard_001.tar/000032]"
        )
    named = {str(split): _spelled(part, file) for split, part in parts.items()}
    known = {shard for part in named.values() for shard in part}
    whole, samples = set(), defaultdict(set)
    for item in _spelled(exclude, file):
        stem, of_sample, key = item.partition(f"{TAR}/")
        shard = f"{stem}{TAR}" if of_sample else item
        if shard not in known and not folder.has(shard):
            raise UserError(f"{file} excludes '{item}', but {folder.name} has no tar '{shard}'")
        if of_sample:
            samples[shard].add(key)
        else:
            whole.add(shard)
    shards = {split: [shard for shard in part if shard not in whole] for split, part in named.items()}
    return Splits(
        f"{name} has",
        shards,
        {split: f"{name} {'excludes all' if named[split] else 'lists none'}" for split in shards},
        {shard: frozenset(keys) for shard, keys in samples.items()},
        listed=file,
    )


def _are_names(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def _spelled(names: Iterable[str] | None, file: str) -> list[str]:
    found: list[str] = []
    for name in names or ():
        try:
            found += braceexpand(name)
        except ValueError as error:
            raise UserError(f"{file} has '{name}', with a brace without its partner") from error
    return found
