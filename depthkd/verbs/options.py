"""One parser for all verbs: a function's parameters are its verb's options."""

import json
from collections.abc import Callable, Collection, Mapping
from inspect import signature
from typing import Any

from jsonargparse import Namespace

from depthkd.errors import UserError
from depthkd.parsing import Parser

HELP = ("-h", "--help")


def parsed(
    verb: str,
    usage: str,
    function: Callable[..., Any],
    arguments: list[str],
    words: str | None = None,
    several: Collection[str] = (),
) -> Namespace:
    """A verb's options, as its function takes them, from a command line with one composed `--config`.

    Args:
        verb: such as "test".
        usage: what `--help` begins with.
        function: a function, or a class, whose parameters are the options.
        arguments: the command line without the verb.
        words: the parameter that the words before the first option are for; None: there are none.
        several: parameters that take several words, as a shell makes them of one pattern.

    Raises:
        UserError: a user's mistake, as a sentence.
    """
    config, first, rest = leading(arguments)
    if words is not None and first:
        rest = [f"--{words}", *first, *rest]
    elif first:
        rest = [*first, *rest]
    parser = Parser(prog=f"depthkd {verb}", description=usage)
    parser.add_argument("--config", action="config", help="a YAML file of the options below")
    if isinstance(function, type):
        parser.add_class_arguments(function)
    else:
        parser.add_function_arguments(function)
    lists = {*several, *([] if words is None else [words])}
    rest = _flags_set(rest, function)
    options: Namespace = parser.instantiate(parser.parse_args([*config, *_gathered(rest, lists)]))
    del options["config"]
    return options


def leading(arguments: list[str]) -> tuple[list[str], list[str], list[str]]:
    """The parts of a command line: the composed `--config`, the words before the first option, the rest."""
    config = arguments[:2] if arguments[:1] == ["--config"] else []
    words = arguments[len(config) :]
    count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return config, words[:count], words[count:]


def chosen(verb: str, kinds: Mapping[str, str], arguments: list[str]) -> tuple[str | None, list[str]]:
    """Which of its kinds a verb is asked for, and the rest of the command line; None: for help, which is
    printed.

    Args:
        verb: such as "shards".
        kinds: name -> what it does, in words.
        arguments: the command line without the verb.

    Raises:
        UserError: the first word is none of them.
    """
    config, words, rest = leading(arguments)
    if words and words[0] in kinds:
        return words[0], [*config, *words[1:], *rest]
    if not words and (not rest or rest[0] in HELP):
        print(f"usage: depthkd {verb} KIND [options]   (depthkd {verb} KIND --help says more)\n")
        print("\n".join(f"  {name:<10}{what}" for name, what in kinds.items()))
        return None, []
    raise UserError(f"'{(words or rest)[0]}' is no kind of {verb}; it would be one of {', '.join(kinds)}")


def _flags_set(arguments: list[str], function: Callable[..., Any]) -> list[str]:
    """The command line with `true` behind every option of yes or no that no value follows."""
    parameters = signature(function).parameters.values()
    flags = {f"--{p.name}" for p in parameters if p.annotation in (bool, bool | None)}
    following = [*arguments, "--"][1:]
    pairs = zip(arguments, following, strict=True)
    return [w for word, after in pairs for w in ([word, "true"] if _is_bare(word, after, flags) else [word])]


def _is_bare(word: str, after: str, flags: Collection[str]) -> bool:
    return word in flags and after.startswith("--")


def _gathered(arguments: list[str], lists: Collection[str]) -> list[str]:
    """The command line with several words of one option as one list of them."""
    gathered: list[str | list[str]] = []
    for word in arguments:
        if gathered and isinstance(gathered[-1], list) and not word.startswith("-"):
            gathered[-1].append(word)
            continue
        gathered.append(word)
        if word.removeprefix("--") in lists:
            gathered.append([])
    several = (words if isinstance(words, str) or len(words) != 1 else words[0] for words in gathered)
    return [words if isinstance(words, str) else json.dumps(words) for words in several if words != []]
