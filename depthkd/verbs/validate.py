"""`depthkd validate`: a config's validation, once, on a checkpoint."""

from depthkd.verbs.configs import Command
from depthkd.verbs.fit import run


def main(command: Command) -> int:
    """Run `depthkd validate`; returns the exit status."""
    return run("validate", command)
