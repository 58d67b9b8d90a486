"""`depthkd configs`, which lists what depthkd carries; and how configs build on each other.

A config has a `base: other.yaml`, and several `--config` merge deeply.
jsonargparse replaces a whole mapping where a second YAML names it; here mappings merge key by key,
lists and values are replaced, `null` removes a mapping (a base's data source, say), and a changed
`class_path` drops the arguments of the old class.
`needs: {path: command}` names what must be there first, and the depthkd command that makes it.
"""

import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from depthkd.errors import MissingFileError, UserError
from depthkd.old_names import modern, modern_options
from depthkd.parsing import read_yaml
from depthkd.paths import user_path
from depthkd.verbs.options import parsed
from depthkd.verbs.shipped import CONFIGS, config_names, copied, find_config, shipped, summary

USAGE = "depthkd configs [WORD ...] [--show NAME] [--path NAME] [--copy slurm]"

Tree = dict[str, Any]
Needs = dict[str, str]


def merge(under: Tree, over: Tree) -> Tree:
    """`over` laid upon `under`, mapping by mapping."""
    if "class_path" in over and over["class_path"] != under.get("class_path"):
        return over
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if value is None and isinstance(below, dict):
            del merged[key]
            continue
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def load_config(path: Path, above: tuple[Path, ...] = ()) -> Tree:
    """A config with its chain of bases merged in; a base is relative to the file that names it, or one that
    depthkd carries, by its name (see `find_config`).

    Raises:
        MissingFileError: the file, or one that it builds on, does not exist.
        UserError: it is not YAML, not a mapping, or builds on itself.
    """
    if path.is_dir():
        raise UserError(f"the config {path} is a folder; it would be a YAML file")
    if not path.is_file():
        named = f", which {above[-1]} names as its base," if above else ""
        raise MissingFileError(f"the config {path}{named} does not exist")
    if path.resolve() in [p.resolve() for p in above]:
        raise UserError(f"the config {path} builds on itself, by way of {above[-1]}")
    tree = read_yaml(path.read_bytes(), f"the config {path}")
    if not isinstance(tree, dict):
        raise UserError(
            f"the config {path} holds {type(tree).__name__}, but it should hold keys such as 'model:'"
        )
    tree = dict(modern(tree))
    base = tree.pop("base", None)
    if base is None:
        return tree
    # again: a base may name the class of which this file sets old arguments
    return dict(modern(merge(load_config(_base(path, base), (*above, path)), tree)))


def _base(path: Path, base: str) -> Path:
    beside = path.parent / user_path(base)
    if beside.is_file():
        return beside
    try:
        return find_config(base)
    except UserError:
        return beside


@dataclass
class Command:
    """A command line whose configs have become one.

    Attributes:
        arguments: the line, with all configs as one text.
        name: of the run; None without a config.
        needs: path -> the command that makes it, for what must be there first.
        make: makes what is needed.
    """

    arguments: list[str]
    name: str | None = None
    needs: Needs = field(default_factory=dict)
    make: Callable[[Needs], None] = lambda needs: None


def compose(arguments: list[str]) -> Command:
    """All `--config FILE` of a command line as one, in the place of the first; and a run's name from them.

    The name is the last file's path under `configs/`, without its suffix. `needs` is ours and does
    not reach the parser.

    Raises:
        UserError, MissingFileError: see `load_config`.
    """
    tree: Tree = {}
    rest: list[str] = []
    last: Path | None = None
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag not in ("--config", "-c"):
            rest.append(word)
            continue
        value = value if equals else next(words, "")
        if not value:
            raise UserError(f"{flag} wants a file, or the name of a config, such as {flag} cross_context")
        last = find_config(value)
        tree = dict(modern(merge(tree, load_config(last))))
    rest = modern_options(rest, tree)
    if last is None:
        return Command(rest)
    needs = tree.pop("needs", None)
    needs = {} if needs is None else needs  # as an ablation says it, which needs less than its base
    if not isinstance(needs, dict) or not all(isinstance(v, str) for v in needs.values()):
        raise UserError(f"the config {last}: 'needs' maps each path to the command that makes it")
    for path, maker in needs.items():
        try:
            shlex.split(maker)
        except ValueError as error:
            raise UserError(
                f"the config {last}: what makes {path} in 'needs', `{maker}`, is no command line: {error}"
            ) from error
    return Command(["--config", yaml.safe_dump(tree, sort_keys=False), *rest], run_name(last), needs)


def run_name(config: Path) -> str:
    """What a run of this config is called: configs/tiny/cross_context.yaml -> tiny/cross_context."""
    parts = config.with_suffix("").parts
    if CONFIGS in parts:
        parts = parts[len(parts) - parts[::-1].index(CONFIGS) :]
        return "/".join(parts)
    return parts[-1]


def listed(words: list[str]) -> list[str]:
    """A line for each config that depthkd carries: its name, and what it is.

    Args:
        words: all of which a line must hold, in whatever case; none: every config.

    Raises:
        MissingFileError: depthkd carries no configs here.
        UserError: no line holds the words.
    """
    top = shipped(CONFIGS)
    if top is None:
        raise MissingFileError(
            "this copy of depthkd carries no configs: it lies neither in its repository "
            "nor was it installed from a wheel"
        )
    found = {name: summary(top / f"{name}.yaml") for name in config_names()}
    kept = {
        name: text
        for name, text in found.items()
        if all(w.lower() in f"{name} {text}".lower() for w in words)
    }
    if not kept:
        raise UserError(f"no config has '{' '.join(words)}' in its name or description")
    width = max(map(len, kept))
    return [f"{name:<{width}}  {text}" for name, text in kept.items()]


def configs(
    words: str | list[str] | None = None,
    show: str | None = None,
    path: str | None = None,
    copy: str | None = None,
    into: Path = Path(),
) -> None:
    """List the configs that depthkd carries, show one, or copy the scripts for SLURM.

    Args:
        words: list only configs with all of these in their name or description.
        show: print this config.
        path: print where this config lies.
        copy: copy a folder that depthkd carries, "slurm", "configs" or "replications".
        into: the folder to copy into.
    """
    if copy is not None:
        print(f"copied to {copied(copy, user_path(into))}")
    elif show is not None:
        print(find_config(show).read_text(encoding="utf-8"), end="")
    elif path is not None:
        print(find_config(path))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in listed([words] if isinstance(words, str) else words or []):
            print(line if width is None or len(line) <= width else f"{line[: width - 3]}...")


def main(command: Command) -> int:
    """Run `depthkd configs`; returns the exit status."""
    options = parsed("configs", USAGE, configs, command.arguments, "words")
    configs(**options.as_dict())
    return 0
