"""The verb `depthkd label`: depth of images in tar shards, predicted once by a teacher, as tars of labels."""

from depthkd.verbs.configs import Command
from depthkd.verbs.options import parsed

USAGE = """depthkd label --images URLS --out FOLDER --model RUN|FILE.onnx|FOLDER|HUB_ID [--part i/n] [options]
       writes a tar of labels for each tar of images; after an interruption the same command goes on"""


def main(command: Command) -> int:
    """Run `depthkd label`; returns the exit status: 1 if a shard could not be labelled."""
    from depthkd.verbs.label.label import label

    options = parsed("label", USAGE, label, command.arguments)
    return int(bool(label(**options.as_dict()).left_out))
