"""What a parser found wrong, in one sentence; and values as users write them."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser

from depthkd.errors import UserError, mistake_or_fault

# Lines of jsonargparse's report on a union that say no more than that each type was tried.
AROUND = re.compile(
    r"Parser key|Subtypes|Errors|Does not validate|Given value|Expected a path but|Problem with given|"
    r"Expected a <class '(str|NoneType|list)'>$"
)
UNKNOWN = re.compile(r"[Uu]nrecognized arguments: (--[^\s=]+)")
OPTION = re.compile(r"--(?!.*\.help$)[\w.]+")  # not what adds to a list, nor what explains a class
LIKE = 0.75  # of 1: by so much must they be alike
MOST = 3  # options that a sentence offers
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
    types = [line for line in lines if line.startswith("Expected a <class") and "NoneType" not in line]
    wanted = [line for line in lines if not AROUND.match(line)] or types
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
        raise UserError(innermost(message) + self._near(message)) from ex

    def _near(self, message: str) -> str:
        """The end of a sentence about an option that there is not: those that resemble it."""
        word = UNKNOWN.match(message)
        known = [name for name in self._option_string_actions if OPTION.fullmatch(name)]
        near = [] if word is None else get_close_matches(word[1], known, MOST, LIKE)
        return f"; near are {', '.join(near)}" if near else ""


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


def read_yaml(data: bytes, name: str) -> Any:
    """What a YAML file holds; only plain values are built.

    Args:
        data: its bytes.
        name: of the file, as a sentence begins.

    Raises:
        UserError: it is no text, or no valid YAML.
    """
    try:
        return yaml.safe_load(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is no text; it would be a YAML file") from error
    except (yaml.YAMLError, RecursionError) as error:
        place = getattr(error, "problem_mark", None)
        line = f" at line {place.line + 1}" if place is not None else ""
        raise UserError(f"{name} is not valid YAML{line}: {getattr(error, 'problem', error)}") from error
