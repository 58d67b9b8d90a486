"""The verb `depthkd label`: depth of images in tar shards, predicted once by a teacher, as tars of labels."""

from depthkd.verbs.configs import Command
from depthkd.verbs.options import parsed

USAGE = (
    "depthkd label --images URLS --out FOLDER [--model RUN|FILE.onnx|FOLDER|HUB_ID] [options] writes a tar "
    "of labels for each tar of images, and goes on after an interruption. `depthkd label --merge FOLDER "
    "--images URLS` proves that each image has one label or is listed as bad, and prints the parts that are "
    "missing. `depthkd label --audit FOLDER [--images URLS]` draws random labels, and prints what is odd."
)


def main(command: Command) -> int:
    """Run `depthkd label`; returns the exit status: 1 if a shard could not be labelled, if `--merge` found
    that something is missing, or `--audit` that something is wrong."""
    asked = {word.partition("=")[0] for word in command.arguments}
    if "--merge" in asked:
        from depthkd.verbs.label.whole import merge

        options = parsed("label", USAGE, merge, command.arguments)
        return int(bool(merge(**options.as_dict()).faults))
    if "--audit" in asked:
        from depthkd.verbs.label.audit import audit

        options = parsed("label", USAGE, audit, command.arguments)
        return int(bool(audit(**options.as_dict()).faults))
    from depthkd.verbs.label.label import label

    options = parsed("label", USAGE, label, command.arguments)
    return int(bool(label(**options.as_dict()).left_out))
