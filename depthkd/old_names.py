"""Keys and class paths of version 0.1 in configs, run folders and checkpoints, read as todays."""

from collections.abc import Mapping
from typing import Any

ARGUMENTS = {"initialise": "initialize", "licence": "license"}
CLASSES = {"ColourPerturbation": "ColorPerturbation"}  # the last part of a class path
OF_CLAIMS, OF_REPLICATIONS = {"figure": "metric"}, {"figures": "metrics"}


def modern(tree: Any) -> Any:
    """A config with today's keys, where they are depthkd's own."""
    if isinstance(tree, list):
        return [modern(item) for item in tree]
    if not isinstance(tree, Mapping):
        return tree
    found = {key: modern(value) for key, value in tree.items()}
    path = found.get("class_path")
    if isinstance(path, str) and path.startswith("depthkd."):
        package, _, name = path.rpartition(".")
        found["class_path"] = f"{package}.{CLASSES.get(name, name)}"
        if isinstance(found.get("init_args"), dict):
            found["init_args"] = _renamed(found["init_args"], ARGUMENTS)
    if isinstance(found.get("claims"), list):
        claims = found["claims"]
        found["claims"] = [_renamed(c, OF_CLAIMS) if isinstance(c, dict) else c for c in claims]
        found = _renamed(found, OF_REPLICATIONS) if "rows" in found else found
    return found


def modern_option(word: str) -> str:
    """An option such as --model.init_args.student.init_args.licence with today's names."""
    option, equals, value = word.partition("=")
    if not option.startswith("--"):
        return word
    above, dot, last = option.rpartition(".")
    return f"{above}{dot}{ARGUMENTS.get(last, last) if dot else last}{equals}{value}"


def modern_teacher(teacher: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of a teacher."""
    return _renamed(teacher, ARGUMENTS)


def _renamed(tree: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in tree.items()}
