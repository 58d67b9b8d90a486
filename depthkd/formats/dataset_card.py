"""A data set's card, the README.md of its repository on the hub: the YAML at its head says which files belong
to which split.

Source: huggingface/datasets, docs/source/repository_structure.mdx and src/datasets/utils/metadata.py.
"""

import re
from collections.abc import Sequence
from typing import Any

from fsspec.utils import glob_translate

from depthkd.errors import UserError
from depthkd.formats.splits import TRAIN, Splits, splits_by_name
from depthkd.parsing import read_yaml
from depthkd.paths import there_are
from depthkd.storage.folders import Folder

CARD = "README.md"
FENCE = "---"
SHAPES = "it would be a pattern, a list of patterns, or a list such as [{split: train, path: 'data/*.tar'}]"


def front_matter(card: bytes, name: str) -> Any:
    """What the YAML at the head of a card holds; None where there is none.

    Raises:
        UserError: it is no valid YAML; `name` is the card's in the sentence.
    """
    first, *lines = [line.rstrip() for line in card.decode("utf-8-sig", "replace").splitlines()] or [""]
    if first != FENCE or FENCE not in lines:
        return None
    text = "\n".join(["", *lines[: lines.index(FENCE)]])  # so that a line's number is that in the card
    return read_yaml(text.encode(), name)


def card_splits(folder: Folder) -> Splits | None:
    """What the card of a folder says; None if it has none, or one that says nothing of splits.

    A split goes by its name in the subset (`config_name`) that is the default; if there are several subsets,
    each also as SUBSET/SPLIT.

    Raises:
        UserError: the card cannot be read, or the server does not list files.
    """
    card, name = folder.read(CARD), folder.path(CARD)
    if card is None:
        return None
    try:
        front = front_matter(card, name)
    except UserError:
        if b"configs:" in card:
            raise
        return None
    configs = front.get("configs") if isinstance(front, dict) else None
    if not configs:
        return None
    if not isinstance(configs, list) or not all(isinstance(c, dict) and "config_name" in c for c in configs):
        raise UserError(f"{name} has 'configs' that cannot be read: each would have a 'config_name'")
    shards: dict[str, list[str]] = {}
    empty: dict[str, str] = {}
    for config in configs:
        subset = str(config["config_name"])
        parts = _subset(folder, config, f"{name} has in '{subset}'")
        is_default = len(configs) == 1 or subset == "default" or config.get("default") is True
        for head in [""] * is_default + [f"{subset}/"] * (len(configs) > 1):
            shards |= {f"{head}{split}": tars for split, (tars, _) in parts.items()}
            empty |= {f"{head}{split}": pattern for split, (tars, pattern) in parts.items() if not tars}
    found = there_are(folder.files)
    why = {split: f"'{pattern}' in its {CARD} matches no tar{found}" for split, pattern in empty.items()}
    return Splits(f"its {CARD} has", shards, why)


def _subset(folder: Folder, config: dict[str, Any], name: str) -> dict[str, tuple[list[str], str]]:
    """The tars of each split of a subset, and the first of their patterns."""
    place = str(config.get("data_dir") or "").strip("/")
    base = f"{place}/" if place else ""
    below = [file.removeprefix(base) for file in folder.files if file.startswith(base)]
    tars = [file for file in below if file.endswith(".tar")]
    if config.get("data_files") is None:
        parts = splits_by_name(tars) or {TRAIN: []}
        return {split: ([base + tar for tar in part], f"{base}**") for split, part in parts.items()}
    return {
        split: ([base + tar for tar in _matching(patterns, tars, name)], base + patterns[0])
        for split, patterns in _patterns(config["data_files"], name).items()
    }


def _patterns(data_files: Any, name: str) -> dict[str, list[str]]:
    """Split -> patterns, of the forms that `data_files` may have."""
    entries = data_files if isinstance(data_files, list) else [data_files]
    if all(isinstance(entry, str) for entry in entries):
        entries = [{"split": TRAIN, "path": entries}]
    found = {}
    for entry in entries:
        paths = entry.get("path") if isinstance(entry, dict) and "split" in entry else None
        paths = [paths] if isinstance(paths, str) else paths
        if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
            raise UserError(f"{name} 'data_files' that cannot be read; {SHAPES}")
        found[str(entry["split"])] = paths
    return found


def _matching(patterns: Sequence[str], tars: Sequence[str], name: str) -> list[str]:
    found: dict[str, None] = {}
    for pattern in patterns:
        try:
            matches = re.compile(glob_translate(pattern.removeprefix("./"))).match
        except ValueError as error:
            raise UserError(f"{name} the pattern '{pattern}', whose ** is only part of a name") from error
        found |= dict.fromkeys(tar for tar in tars if matches(tar))
    return list(found)
