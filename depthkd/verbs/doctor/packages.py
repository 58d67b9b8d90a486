"""Whether the packages that depthkd needs are there, in versions that it works with."""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from packaging.requirements import Requirement

from depthkd.verbs.doctor.findings import Finding, ok, problem, warning
from depthkd.verbs.shipped import PACKAGE

BAD = {  # package -> versions, and what is wrong with them
    "lightning": ({"2.6.2", "2.6.3"}, "a malicious release, which steals credentials: change them all"),
    "pytorch-lightning": (
        {"2.6.2", "2.6.3"},
        "a malicious release, which steals credentials: change them all",
    ),
}
LOCK = PACKAGE.parent / "requirements.lock"  # of a repository
PINNED = re.compile(r"^([\w.-]+)==([^\s;\\]+)", re.MULTILINE)
NAMED = 6  # packages that a row names


def look(config: dict[str, Any]) -> Iterator[Finding]:
    """Findings about packages."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield ok("Python", f"{python} at {sys.executable}")
    try:
        needed = requires("depthkd") or []
    except PackageNotFoundError:
        yield warning(
            "packages",
            "depthkd is a folder that was not installed, so what it needs is not known",
            "`make setup` in the repository, or pip install",
        )
        needed = []
    yield from bounds(needed)
    yield from known_bad()
    yield from together()
    if LOCK.is_file():
        yield from lock(LOCK.read_text(encoding="utf-8"))


def bounds(needed: list[str]) -> Iterator[Finding]:
    """Whether each package that is needed is installed, in a version that is allowed."""
    wrong = 0
    wanted = [Requirement(line) for line in needed]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    for one in wanted:
        found = installed(one.name)
        if found is None or not one.specifier.contains(found, prereleases=True):
            wrong += 1
            state = "is not installed" if found is None else f"is {found}, but {one.specifier} is needed"
            yield problem("packages", f"{one.name} {state}", f"pip install '{one.name}{one.specifier}'")
    if wanted and not wrong:
        yield ok("packages", f"all {len(wanted)} that depthkd needs are there, in versions that it allows")


def known_bad() -> Iterator[Finding]:
    """Versions that nobody should have."""
    for name, (versions, reason) in BAD.items():
        found = installed(name)
        if found in versions:
            yield problem("packages", f"{name} {found} is {reason}", f"pip install --upgrade {name}")


def together() -> Iterator[Finding]:
    """Whether torchvision is of the same build as torch: otherwise most libraries cannot be imported."""
    try:
        yield ok("torchvision", str(import_module("torchvision").__version__))
    except (ImportError, RuntimeError) as error:
        yield problem(
            "torchvision",
            f"it cannot be imported beside torch {installed('torch')}: {str(error).splitlines()[0]}",
            "install torch and torchvision together, from one index (docs/install.md)",
        )


def lock(text: str) -> Iterator[Finding]:
    """Which packages have other versions than the lock, with which depthkd was tested."""
    pinned: dict[str, list[str]] = {}  # several where they depend on Python's version
    for name, then in PINNED.findall(text):
        pinned.setdefault(name, []).append(then)
    others = {name: now for name, then in pinned.items() if (now := installed(name)) not in (None, *then)}
    if not others:
        yield ok("lock", "every installed package has the version of requirements.lock")
        return
    first = list(others.items())[:NAMED]
    named = ", ".join(f"{name} {now} ({' or '.join(pinned[name])})" for name, now in first)
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    yield warning(
        "lock",
        f"{len(others)} packages have other versions than requirements.lock: {named}{more}",
        "nothing, if that is meant (a V100's torch); `make setup` restores the lock's",
    )


def installed(package: str) -> str | None:
    """The version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
