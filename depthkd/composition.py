"""Configs that build on each other: `base: other.yaml`, and several `--config` that merge deeply.

jsonargparse replaces a whole mapping where a second YAML names it; here mappings merge key by key,
lists and values are replaced, `null` removes a mapping (a base's data source, say), and a changed
`class_path` drops the arguments of the old class.
`needs: {path: command}` names what must be there first, and the depthkd command that makes it.
"""

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, Namespace

from depthkd.errors import MissingFileError, UserError, mistake_or_fault
from depthkd.paths import user_path

Tree = dict[str, Any]
ABSENT = "not set"
SHORT = 60  # characters of a setting's value in a sentence


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


def differences(before: Tree, after: Tree, above: str = "") -> list[str]:
    """Part of a sentence for each setting that differs between two configs, such as "trainer.max_steps was 6
    and is 9"."""
    changes = []
    for key in dict.fromkeys([*before, *after]):
        name, old, new = f"{above}{key}", before.get(key, ABSENT), after.get(key, ABSENT)
        if isinstance(old, dict) and isinstance(new, dict):
            changes += differences(old, new, f"{name}.")
        elif old != new:
            changes.append(f"{name} was {_in_short(old)} and is {_in_short(new)}")
    return changes


def _in_short(value: object) -> str:
    text = str(value)
    return text if len(text) <= SHORT else f"{text[: SHORT - 3]}..."


def load_config(path: Path, above: tuple[Path, ...] = ()) -> Tree:
    """A config with its chain of bases merged in; a base is relative to the file that names it.

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
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"the config {path} is no text; it would be a YAML file") from error
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f" at line {place.line + 1}" if place is not None else ""
        raise UserError(
            f"the config {path} is not valid YAML{line}: {getattr(error, 'problem', error)}"
        ) from error
    if not isinstance(tree, dict):
        raise UserError(
            f"the config {path} holds {type(tree).__name__}, but it should hold keys such as 'model:'"
        )
    base = tree.pop("base", None)
    if base is None:
        return tree
    return merge(load_config(path.parent / user_path(base), (*above, path)), tree)


@dataclass
class Command:
    """A command line whose configs have become one.

    Attributes:
        arguments: the line, with all configs as one text.
        name: of the run; None without a config.
        needs: path -> the command that makes it, for what must be there first.
    """

    arguments: list[str]
    name: str | None = None
    needs: dict[str, str] = field(default_factory=dict)


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
            raise UserError(f"{flag} wants a file, such as {flag} configs/cross_context.yaml")
        last = user_path(value)
        tree = merge(tree, load_config(last))
    if last is None:
        return Command(rest)
    needs = tree.pop("needs", {})
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
    if "configs" in parts:
        parts = parts[len(parts) - parts[::-1].index("configs") :]
        return "/".join(parts)
    return parts[-1]


# Of a union's types: none of these lines says more than the types themselves.
AROUND = re.compile(
    r"Parser key|Subtypes|Errors|Does not validate|Given value|Expected a path but|Problem with given|"
    r"Expected a <class '(str|NoneType|list)'>$"
)
WOULD_BE = "it would be "
IN_WORDS = (  # what jsonargparse says, and how we do
    (r"^Expected a <class 'int'>", "it would be a whole number"),
    (r"^Expected a <class 'float'>", "it would be a number"),
    (r"^Expected a <class 'bool'>", "it would be true or false"),
    (r"^Expected a <class 'dict'>", "it would be a mapping, such as {name: value}"),
    (r"^Expected a <class 'list'>", "it would be a list, such as [1, 2]"),
    (r"^Expected a <class 'str'>", "it would be a text"),
    (r"^Expected a typing\.Literal\[(.*)\]", r"it would be one of \1"),
    (r"^Expected a dot import path string: (.*)", r"'\1' is no class; it would be one by its import path"),
    (r"^Unable to load config '(.*)'", r"it would be a mapping of settings, not '\1'"),
    (r"^[Uu]nrecognized arguments: ([^-].*)", r"\1 would come before the first option"),
    (r"\.? Got value: (.*)", r", not \1"),
)


def innermost(message: str) -> str:
    """The keys that lead to a mistake and the line that says what it is."""
    keys = re.findall(r'(?:Parser key|Problem with given class_path) ["\']([^"\']+)["\']', message)
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    wanted = [line for line in lines if not AROUND.match(line)]
    where = " > ".join(dict.fromkeys(keys))
    told = [_in_words(line) for line in wanted or lines or [message]]
    what = told[0]
    if all(line.startswith(WOULD_BE) for line in told):  # the types of a union
        what = WOULD_BE + " or ".join(dict.fromkeys(line.removeprefix(WOULD_BE) for line in told))
    return f"{where}: {what}" if where and where not in what else what


def _in_words(line: str) -> str:
    for theirs, ours in IN_WORDS:
        line = re.sub(theirs, ours, line)
    return line


class Parser(ArgumentParser):
    """Raises the one sentence about a mistake, which the command line prints, instead of a page of types."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the innermost line of what jsonargparse found; a fault of ours as it is."""
        fault = None if ex is None else mistake_or_fault(ex)
        if fault is not None and not isinstance(fault, UserError):
            raise fault
        raise UserError(innermost(message)) from ex


def parsed(verb: str, usage: str, function: Callable[..., Any], arguments: list[str]) -> Namespace:
    """A verb's options, as its function takes them, from a command line with one composed `--config`.

    Args:
        verb: such as "test".
        usage: what `--help` begins with.
        function: whose parameters are the options.
        arguments: the command line without the verb.

    Raises:
        UserError: a user's mistake, as a sentence.
    """
    parser = Parser(prog=f"depthkd {verb}", description=usage)
    parser.add_argument("--config", action="config", help="a YAML file of the options below")
    parser.add_function_arguments(function)
    options: Namespace = parser.instantiate(parser.parse_args(arguments))
    del options["config"]
    return options


def numbers(value: str | Sequence[float], name: str) -> list[float]:
    """A list of numbers as users write it, 0,65535 or [0, 65535].

    Args:
        value: what they wrote.
        name: of the option.

    Raises:
        UserError: it is none.
    """
    try:
        return [float(word) for word in (value.split(",") if isinstance(value, str) else value)]
    except ValueError as error:
        raise UserError(f"{name} '{value}' is not a list of numbers such as 0,65535") from error
