"""What depthkd carries beside its code: configs, replications and scripts for SLURM, found by name.

They lie at the top of the repository, and in an installed package in `depthkd/_shipped`.
"""

import re
import shutil
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from depthkd.errors import ExistingFileError, MissingFileError, UserError
from depthkd.paths import user_path

CONFIGS, REPLICATIONS, SLURM = FOLDERS = ("configs", "replications", "slurm")
PACKAGE = Path(__file__).parent.parent
NEAR = 3  # names that a sentence about a mistyped one offers


def shipped(folder: str) -> Path | None:
    """Where a folder that depthkd carries lies; None where the package was copied without it."""
    places = (PACKAGE / "_shipped" / folder, PACKAGE.parent / folder)
    return next((place for place in places if place.is_dir()), None)


def config_names(folder: str = CONFIGS) -> Iterator[str]:
    """Names of the configs that depthkd carries: `tiny/teacher` is configs/tiny/teacher.yaml. Those in no
    folder come first, and the papers' many ablations last."""
    top = shipped(folder)
    if top is not None:
        names = (path.relative_to(top).with_suffix("").as_posix() for path in top.rglob("*.yaml"))
        yield from sorted(names, key=lambda name: (name.startswith("ablations/"), "/" in name, name))


def find_config(named: str | Path, folder: str = CONFIGS) -> Path:
    """The file that a user names: one of theirs by its path, or one that depthkd carries, by its name or by
    its path in the repository, from whatever folder.

    Args:
        named: such as mine.yaml, fiff, tiny/completion or configs/fiff.yaml.
        folder: CONFIGS, or REPLICATIONS.

    Raises:
        MissingFileError: there is none; the sentence offers names that are near.
        UserError: it is a folder.
    """
    path = user_path(named)
    if path.is_file():
        return path
    name = path.as_posix().removeprefix("./").removeprefix(f"{folder}/").removesuffix(".yaml")
    top = shipped(folder)
    found = None if top is None or path.is_absolute() else top / f"{name}.yaml"
    if found is not None and ".." not in found.parts and found.is_file():
        return found
    what = folder.removesuffix("s")
    if path.is_dir():
        raise UserError(f"the {what} {path} is a folder; it would be a YAML file")
    raise MissingFileError(f"the {what} {path} does not exist{_near(name, folder)}")


def _near(name: str, folder: str) -> str:
    """The end of a sentence about a name that there is not: those that resemble it."""
    names = list(config_names(folder))
    last = name.rpartition("/")[2]
    near = [one for one in names if one.rpartition("/")[2] == last or one.startswith(f"{name}/")]
    near = list(dict.fromkeys([*near, *get_close_matches(name, names, NEAR)]))
    if near:
        return f"; depthkd carries {', '.join(near[:NEAR])}{' and others' if len(near) > NEAR else ''}"
    return "; `depthkd configs` lists those that depthkd carries" if folder == CONFIGS and names else ""


def summary(config: Path) -> str:
    """The first sentence of a config's comment, in one line."""
    lines = config.read_text(encoding="utf-8").splitlines()
    comment = []
    for line in lines:
        if not line.startswith("#") or line.startswith("# Cost:"):
            break
        comment.append(line.removeprefix("#").strip())
    first = re.match(r".*?[^.A-Z]\.(?=\s+[A-Z]|\s*$)", " ".join(comment))
    return first[0] if first else " ".join(comment)


def copied(folder: str, into: Path) -> Path:
    """Copy a folder that depthkd carries; returns where it is then.

    Raises:
        UserError: there is no such folder.
        ExistingFileError: one of its name is there already.
    """
    source = shipped(folder) if folder in FOLDERS else None
    if source is None:
        raise UserError(f"'{folder}' is nothing to copy; it would be one of {', '.join(FOLDERS)}")
    target = into / folder
    if target.exists():
        raise ExistingFileError(f"{target} exists already: it would be copied there; say another --into")
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target
