"""Licenses of what is exported: those of its teachers and of what training began from bind it."""

import re
from collections.abc import Collection
from enum import IntEnum

from depthkd.errors import UserError

FREE = re.compile(
    r"apache-2\.0|mit(-0)?|bsd(-.*)?|0bsd|isc|zlib|unlicense|wtfpl|cc0-1\.0|cc-by-\d\.\d|pddl|odc-by|bsl-1\.0"
)
CONDITIONAL = re.compile(
    r"cc-by-sa-\d\.\d|(a|l)?gpl(-.*)?|mpl-2\.0|epl-.*|eupl-.*|(creativeml-|bigscience-)?openrail.*"
)
NON_COMMERCIAL = re.compile(r".*(-nc\b|non-?commercial|research|amlr).*")
UNKNOWN = "unknown"


class Terms(IntEnum):
    """What a license asks, each more than the one before; of a license that is not known, nobody can tell."""

    FREE = 0
    CONDITIONAL = 1
    NON_COMMERCIAL = 2
    NOT_KNOWN = 3


def terms(license: str) -> Terms:
    """What a license asks, by its identifier on the hub, such as "cc-by-nc-4.0"."""
    name = license.strip().lower()
    if NON_COMMERCIAL.fullmatch(name):
        return Terms.NON_COMMERCIAL
    if FREE.fullmatch(name):
        return Terms.FREE
    return Terms.CONDITIONAL if CONDITIONAL.fullmatch(name) else Terms.NOT_KNOWN


def split(licenses: str) -> set[str]:
    """The licenses that a model names, of several with commas between them."""
    return {name for name in (one.strip() for one in licenses.split(",")) if name}


def inherited(binding: Collection[str]) -> str:
    """The license of what came of weights and teachers under these: the one that asks the most, or several of
    those with commas between them; "unknown" where one of them is not known, or there is none."""
    if not binding:
        return UNKNOWN
    most = max(terms(one) for one in binding)
    return ", ".join(sorted(one for one in binding if terms(one) == most))


def chosen(asked: str | None, binding: Collection[str], holds_the_rights: bool) -> str:
    """The license that the card names.

    Args:
        asked: what the user asks for; None: what follows from the others.
        binding: the licenses of the teachers and of the weights that training began from.
        holds_the_rights: whether the user states to hold the rights that more than these permit takes.

    Raises:
        UserError: the license permits more than one of those, and the user does not state that.
    """
    if asked is None:
        return inherited(binding)
    if not asked.strip() or "\n" in asked:
        raise UserError(f"license would be an identifier such as apache-2.0 or cc-by-nc-4.0, not '{asked}'")
    if not permits(binding, asked) and not holds_the_rights:
        names = inherited(binding)
        raise UserError(
            f"license '{asked}' permits more than '{names}', under which a teacher or the weights that "
            "training began from stand: leave --license out, or state with --i_hold_the_rights that it is "
            "yours to give"
        )
    return asked


def permits(binding: Collection[str], asked: str) -> bool:
    """Whether what came of weights and teachers under some licenses may be given under another, which asks as
    much as each of them."""
    return all(_allows(one, asked) for named in binding for one in split(named))


def _allows(binding: str, asked: str) -> bool:
    """Whether what came of something under a license may be given under another."""
    needs = terms(binding)
    if asked.strip().lower() == binding.strip().lower():
        return True
    return needs != Terms.NOT_KNOWN and terms(asked) >= needs
