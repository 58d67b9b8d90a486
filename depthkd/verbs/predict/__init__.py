"""The verb `depthkd predict`: depth of photographs, shards and videos in the formats that people use."""

import re

from depthkd.verbs.configs import Command
from depthkd.verbs.options import parsed
from depthkd.verbs.predict.making import Predictions
from depthkd.verbs.predict.run import predict

USAGE = (
    "depthkd predict PHOTO|FOLDER|VIDEO|SHARD.tar ... [--model RUN|FILE.onnx|FOLDER|HUB_ID] "
    "[--formats npy npz png16 exr png side ply glb mesh tum video] [options]"
)

__all__ = ["Predictions", "main", "predict"]


def main(command: Command) -> int:
    """Run `depthkd predict`; returns the exit status: 1 if an image or a file was left out, or the model
    says nothing of one.

    Raises:
        UserError, MissingFileError: a user's mistake, as a sentence.
    """
    words = [re.sub(r"^--format(?==|$)", "--formats", word) for word in command.arguments]
    options = parsed("predict", USAGE, predict, words, "images", ("formats",))
    made = predict(**options.as_dict())
    return 1 if made.left_out or made.empty or made.unwritten else 0
