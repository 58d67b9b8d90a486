"""The folder of proposed pairs: what of it is done, and the data set of DA-2K's layout that comes of it."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from depthkd.datasets.da2k import ANNOTATIONS
from depthkd.datasets.pair_decisions import Pairs
from depthkd.errors import ExistingFileError
from depthkd.formats.whole_files import write_whole
from depthkd.in_use import InUse
from depthkd.models.weights import read_json_file
from depthkd.runs.folder import LOCK

MADE_BY = "made_by.json"
IMAGES, RECORDS = "images", "proposed"


class PairsFolder:
    """What `depthkd pairs` writes where.

    `proposed/` has a record of every image that is done, with its pairs, if it has any; the images that have
    are copied to `images/<scenario>/`, so that the folder is one that `DA2K` reads, and can be passed on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.made_by = path / MADE_BY
        self.annotations = path / ANNOTATIONS
        self.page = path / "annotate.html"
        busy = f"{path} is being written by {{who}}: wait for it, or choose another --out"
        self.in_use = InUse(path / LOCK, busy)

    def claim(self, made_by: dict[str, Any]) -> None:
        """Note what pairs are proposed by.

        Raises:
            ExistingFileError: the folder has pairs that were proposed by something else, or decisions.
        """
        if self.made_by.is_file():
            before, made_by = read_json_file(self.made_by), json.loads(_json(made_by))
            parts = [f"{part}.{key}" for part in made_by for key in made_by[part]]
            parts += [f"{part}.{key}" for part in before for key in before[part]]
            other = [p for p in dict.fromkeys(parts) if _part(before, p) != _part(made_by, p)]
            if other:
                raise ExistingFileError(
                    f"{self.path} has pairs that were proposed with another {other[0]} "
                    f"({_part(before, other[0])}, now {_part(made_by, other[0])}): choose another --out"
                )
        elif self.annotations.is_file():
            raise ExistingFileError(f"{self.annotations} is not of `depthkd pairs`: choose another --out")
        if self.annotations.is_file():
            pairs = [pair for pairs in read_json_file(self.annotations).values() for pair in pairs]
            if any(pair["closer_point"] for pair in pairs):
                raise ExistingFileError(
                    f"{self.annotations} has decisions of annotators, which would be lost: choose another "
                    "--out"
                )
        write_whole(self.made_by, _json(made_by))

    def record(self, name: str) -> Path:
        """Where it says that an image is done; `name` is its scenario and its file's name."""
        return self.path / RECORDS / f"{name}.json"

    def done(self, name: str, digest: int) -> bool:
        """Whether an image of this digest is done."""
        path = self.record(name)
        if not path.is_file():
            return False
        record = read_json_file(path)
        copied = not record["pairs"] or (self.path / IMAGES / name).is_file()
        return copied and bool(record["digest"] == digest)

    def save(self, name: str, data: bytes, record: dict[str, Any]) -> None:
        """Copy an image, if it has pairs, and then say that it is done."""
        if record["pairs"]:
            write_whole(self.path / IMAGES / name, data)
        write_whole(self.record(name), _json(record))

    def records(self) -> dict[str, dict[str, Any]]:
        """Path of an image -> its record, for those with pairs, in order."""
        place = self.path / RECORDS
        found = {path.relative_to(place).with_suffix("").as_posix(): path for path in place.glob("*/*.json")}
        records = {f"{IMAGES}/{name}": read_json_file(found[name]) for name in sorted(found)}
        return {image: record for image, record in records.items() if record["pairs"]}

    def tag(self) -> str:
        """What tells its pairs from those that were proposed otherwise."""
        return sha256(self.made_by.read_bytes()).hexdigest()[:16]

    def write_annotations(self, pairs: Pairs) -> None:
        """Write annotations.json, a pair a line."""
        lines = {image: ",\n  ".join(_line(pair) for pair in its) for image, its in pairs.items()}
        images = ",\n ".join(f"{_line(image)}: [\n  {its}\n ]" for image, its in lines.items())
        write_whole(self.annotations, f"{{\n {images}\n}}\n")


def _part(made_by: Mapping[str, Any], dotted: str) -> Any:
    section, _, key = dotted.partition(".")
    return made_by.get(section, {}).get(key)


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _json(values: Any) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"
