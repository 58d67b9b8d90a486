"""Which shards of a folder belong to which split."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from depthkd.errors import MissingFileError, UserError

ALL = "all"  # stands for every split
TRAIN, VALIDATION, TEST = "train", "validation", "test"
WORDS = {  # as huggingface/datasets has them in src/datasets/data_files.py, and the next two
    TRAIN: "train|training",
    VALIDATION: "validation|valid|dev|val",
    TEST: "test|testing|eval|evaluation",
}
BETWEEN = "[-._ 0-9]"  # what may stand around such a word
NUMBERED = re.compile(r"data/([^/]+)-\d{5}-of-\d{5}[^/]*")


@dataclass(frozen=True)
class Splits:
    """What a folder has in each split.

    Attributes:
        told: what says so, for a sentence that goes on with their names: "its README.md has".
        shards: split -> names of its tars, in order, relative to the folder.
        why_empty: of a split without tars, the end of a sentence that says so.
        excluded: name of a tar -> keys of its samples that belong to no split.
        listed: what a sentence calls the file that names every tar; None: names are matched.
    """

    told: str
    shards: Mapping[str, list[str]]
    why_empty: Mapping[str, str] = field(default_factory=dict)
    excluded: Mapping[str, frozenset[str]] = field(default_factory=dict)
    listed: str | None = None

    def of(self, split: str, folder: str) -> list[str]:
        """The tars of a split, or of all; `folder` is what a sentence calls theirs.

        Raises:
            UserError: there is no such split.
            MissingFileError: it has no tars.
        """
        if split != ALL and split not in self.shards:
            names = ", ".join(f"'{name}'" for name in self.shards) or "none"
            raise UserError(f"{folder} has no split '{split}'; {self.told} {names}")
        splits = self.shards if split == ALL else [split]
        tars = list(dict.fromkeys(name for one in splits for name in self.shards[one]))
        if not tars:
            why = next((self.why_empty[one] for one in splits if one in self.why_empty), f"{self.told} none")
            raise MissingFileError(f"split '{split}' of {folder} has no tars: {why}")
        return tars


def splits_by_name(tars: Sequence[str]) -> dict[str, list[str]]:
    """Splits of tars by their names, as the `datasets` library tells those of a repository: by numbered names
    in `data` ("data/train-00000-of-00010.tar"), by words in the names of folders, by words in the names of
    files; where none of these is met, all tars are for training.

    Args:
        tars: their names, relative to a folder.

    Returns:
        split -> its tars; a split without any is not there.
    """
    numbered: dict[str, list[str]] = {}
    for name in tars:
        if found := NUMBERED.fullmatch(name):
            numbered.setdefault(found[1], []).append(name)
    if numbered:
        return dict(sorted(numbered.items(), key=lambda part: (_place(part[0]), part[0])))
    for says in (_folder_says, _file_says):
        parts = {split: [name for name in tars if says(name, words)] for split, words in WORDS.items()}
        if any(parts.values()):
            return {split: names for split, names in parts.items() if names}
    return {TRAIN: list(tars)} if tars else {}


def _place(split: str) -> int:
    return list(WORDS).index(split) if split in WORDS else len(WORDS)


def _folder_says(name: str, words: str) -> bool:
    return any(re.search(f"(?:^|{BETWEEN})(?:{words})(?:{BETWEEN}|$)", part) for part in name.split("/")[:-1])


def _file_says(name: str, words: str) -> bool:
    return re.search(f"(?:^|{BETWEEN})(?:{words}){BETWEEN}", name.rpartition("/")[2]) is not None
