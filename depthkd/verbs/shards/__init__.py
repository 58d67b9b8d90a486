"""The verb `depthkd shards`, a file for each thing that it does."""

from importlib import import_module
from typing import Any

from depthkd.verbs.configs import Command
from depthkd.verbs.options import chosen, parsed

KINDS = {
    "pack": "write images, with depth or without, into tar shards",
    "index": "find out where each sample lies, ahead of a run on thousands of tars",
    "inspect": "print what tars hold, a line each, and draw some of their samples",
    "verify": "decode every sample, and name those that cannot be used, or move them away",
    "scenes": "generate procedural scenes into tar shards",
}
WORDS = {
    "index": "urls",
    "inspect": "urls",
    "verify": "urls",
}  # the parameter that words without an option are for
SEVERAL = ("images", "depth")  # what a shell makes of their patterns are several words


def main(command: Command) -> int:
    """Run `depthkd shards`; returns the exit status: 1 if `index`, `inspect` or `verify` found a fault."""
    kind, arguments = chosen("shards", KINDS, command.arguments)
    if kind is None:
        return 0
    function: Any = getattr(import_module(f"depthkd.verbs.shards.{kind}"), kind)
    options = parsed(f"shards {kind}", KINDS[kind], function, arguments, WORDS.get(kind), SEVERAL)
    result = function(**options.as_dict())
    if kind == "inspect":
        return int(any(row["faults"] for row in result))
    return int(kind in ("index", "verify") and bool(result))
