"""Keys and class paths of version 0.1 in configs, run folders and checkpoints, read as today's."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

ARGUMENTS = {"initialise": "initialize", "licence": "license"}
CLASSES = {"ColourPerturbation": "ColorPerturbation"}  # the last part of a class path
OF_CLAIMS, OF_REPLICATIONS = {"figure": "metric"}, {"figures": "metrics"}


def modern(tree: Any) -> Any:
    """A config with today's keys, where they are depthkd's own."""
    if isinstance(tree, list):
        return [modern(item) for item in tree]
    if isinstance(tree, str):
        return _class(tree)
    if not isinstance(tree, Mapping):
        return tree
    found = {key: modern(value) for key, value in tree.items()}
    if "class_path" in found and _is_ours(found["class_path"]) and isinstance(found.get("init_args"), dict):
        found["init_args"] = _renamed(found["init_args"], ARGUMENTS)
    if isinstance(found.get("claims"), list):
        found["claims"] = [_renamed(c, OF_CLAIMS) if isinstance(c, dict) else c for c in found["claims"]]
    return _renamed(found, OF_REPLICATIONS) if "rows" in found else found


def modern_options(words: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """Options such as --model.init_args.student.init_args.licence, and their values, with today's names.

    Args:
        words: of a command line.
        config: its configs, which say of which class the arguments are that options set.
    """
    values: dict[str, str] = {}

    def renamed(option: str) -> str:
        above, dot, last = option.rpartition(".")
        of_class = above.removesuffix(".init_args")
        path = values.get(of_class) or _class_path(config, of_class)
        return f"{above}.{ARGUMENTS[last]}" if dot and last in ARGUMENTS and _is_ours(path) else option

    def value(option: str, text: str) -> str:
        now = values[option.removesuffix(".class_path")] = _value(text, option.rpartition(".")[2].lstrip("-"))
        return now

    found, option = [], ""
    for word in words:
        if not word.startswith("--"):
            found.append(value(option, word))
            option = ""
            continue
        option, equals, text = word.partition("=")
        found.append(f"{renamed(option)}={value(option, text)}" if equals else renamed(option))
        option = "" if equals else option
    return found


def modern_teacher(teacher: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of a teacher."""
    return _renamed(teacher, ARGUMENTS)


def _value(text: str, key: str) -> str:
    """An option's value: a mapping or a list in YAML, a class path, or anything else, which stays."""
    if text[:1] not in ("{", "["):
        return _class(text)
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    now = modern({key: tree})
    return text if now == {key: tree} else yaml.safe_dump(next(iter(now.values())), default_flow_style=True)


def _class(path: str) -> str:
    """A class path with today's name of the class; any other text as it is."""
    package, dot, name = path.rpartition(".")
    return f"{package}{dot}{CLASSES[name]}" if name in CLASSES and _is_ours(path) else path


def _is_ours(path: object) -> bool:
    """Whether a class path is of a class of depthkd, or may be: a bare name, or none."""
    return path is None or (isinstance(path, str) and ("." not in path or path.startswith("depthkd.")))


def _class_path(config: Mapping[str, Any], option: str) -> str | None:
    """The class path in a config where an option's name leads."""
    tree: Any = config
    for key in option.lstrip("-").split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    path = tree.get("class_path") if isinstance(tree, Mapping) else tree
    return path if isinstance(path, str) else None


def _renamed(tree: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in tree.items()}
