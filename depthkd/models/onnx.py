"""Any ONNX depth network, as a teacher or a test subject."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from onnxruntime.capi import onnxruntime_pybind11_state as reasons
from onnxruntime.capi.onnxruntime_inference_collection import InferenceSession
from torch import Tensor, nn

from depthkd.batch import DepthSpace
from depthkd.errors import MissingFileError, UserError
from depthkd.models.model import Answer, DepthModel, DepthOutput, Image, Resized, resize_image

FAILURES = (
    reasons.Fail,
    reasons.EPFail,
    reasons.InvalidArgument,
    reasons.InvalidGraph,
    reasons.InvalidProtobuf,
    reasons.NotImplemented,
    reasons.RuntimeException,
)
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxDepth(DepthModel):
    """A depth network in onnxruntime: one RGB input [batch, 3, height, width], float32 or float16.

    It has no parameters and passes no gradients. It runs on the GPU when the image is there and
    onnxruntime has its CUDA provider, and on the CPU otherwise. A static batch size of N takes the
    images N at a time. Copies and pickles open the file anew.

    Args:
        path: the .onnx file.
        space: what its output means.
        input_range: the value of white in the network's input, 1.0 or 255.0.
        mean: subtracted from RGB in [0, input_range], one value a channel; nothing where None.
        std: what that is then divided by; nothing where None.
        size: [height, width] at which it runs; where None the graph's own, if static, or else each
            image's, rounded to `multiple`.
        multiple: of the sides, in pixels, where the size is free.
        keep_aspect: at a fixed size, shrink the image into it and repeat its border pixels, rather
            than stretch it; the depth is then cropped to the image.
        output: the name of the depth output, [batch, height, width] or with one channel; the
            graph's first where None.
        licence: of the weights.
        threads: of onnxruntime on the CPU; as many as torch's where None.
        training_sets: the data sets that the network has learned from; not known where None.

    Raises:
        MissingFileError: there is no such file.
        UserError: the file is no ONNX graph, or its inputs, outputs or size are others than said.
    """

    assumed = "affine disparity of RGB in [0, 1]"  # by the defaults below

    def __init__(
        self,
        path: str,
        space: str = "affine disparity",
        input_range: float = 1.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        size: Sequence[int] | None = None,
        multiple: int = 1,
        keep_aspect: bool = False,
        output: str | None = None,
        licence: str = "unknown",
        threads: int | None = None,
        training_sets: list[str] | None = None,
    ) -> None:
        super().__init__()
        path = str(Path(path).expanduser())
        if not Path(path).is_file():
            raise MissingFileError(f"there is no ONNX file '{path}'")
        self.path, self.source, self.licence = path, path, licence
        self.training_sets = None if training_sets is None else tuple(training_sets)
        self.space = DepthSpace.parse(space)
        self.input_range, self.mean, self.std = input_range, mean or (0.0,) * 3, std or (1.0,) * 3
        self.multiple, self.keep_aspect, self.threads = multiple, keep_aspect, threads
        self._session: Any = None
        self._provider = ""
        session = self._open("CPUExecutionProvider")
        self.batch_size, self.fixed_size = self._check_input(session.get_inputs(), size)
        outputs = [o.name for o in session.get_outputs()]
        self.output = output or outputs[0]
        if self.output not in outputs:
            raise UserError(f"'{path}' has no output '{output}'; it has {', '.join(outputs)}")

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> float32 depth, on the image's device, at the size that the graph answers.

        Raises:
            UserError: the graph cannot run at this size, or does not answer with one map an image.
        """
        inner = (0, 0)
        if self.keep_aspect and self.fixed_size is not None:
            image, inner = letterbox(image, self.fixed_size)
        else:
            image = self.fit_input(image)
        pixels = image.float() * self.input_range
        mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        count = self.batch_size or max(1, len(image))
        depth = torch.cat([self._run(part) for part in torch.split((pixels - mean) / std, count)])
        if inner != (0, 0):
            # The graph may answer at a fraction of its input's size.
            rows, columns = (
                max(1, round(size * used / whole))
                for size, used, whole in zip(depth.shape[-2:], inner, image.shape[-2:], strict=True)
            )
            depth = depth[:, :rows, :columns]
        return DepthOutput(depth)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """None: nothing here can be trained."""
        return iter(())

    def _run(self, pixels: Float[Tensor, "batch 3 height width"]) -> Answer:
        on_gpu = pixels.is_cuda and "CUDAExecutionProvider" in reasons.get_available_providers()
        session = self._open("CUDAExecutionProvider" if on_gpu else "CPUExecutionProvider")
        entry = session.get_inputs()[0]
        wanted = len(pixels)
        if self.batch_size is not None and wanted < self.batch_size:
            pixels = torch.cat([pixels, pixels[-1:].expand(self.batch_size - wanted, -1, -1, -1)])
        array = pixels.detach().cpu().numpy().astype(TYPES[entry.type])
        try:
            answer = session.run([self.output], {entry.name: array})[0]
        except FAILURES as error:
            shape = "x".join(str(n) for n in array.shape)
            raise UserError(f"'{self.path}' cannot run on {shape}: {_first_line(error)}") from error
        if answer.ndim == 4 and answer.shape[1] == 1:
            answer = answer[:, 0]
        if answer.ndim != 3 or len(answer) != len(array):
            raise UserError(
                f"the output '{self.output}' of '{self.path}' has shape {list(answer.shape)}; depth would be "
                f"[{len(array)}, height, width] or [{len(array)}, 1, height, width]"
            )
        return torch.from_numpy(answer[:wanted].astype(np.float32)).to(pixels.device)

    def _open(self, provider: str) -> Any:
        if self._session is None or self._provider != provider:
            options = reasons.SessionOptions()
            options.intra_op_num_threads = self.threads or torch.get_num_threads()
            try:
                self._session = InferenceSession(self.path, options, providers=[provider])
            except FAILURES as error:
                raise UserError(
                    f"'{self.path}' is not an ONNX graph that runs: {_first_line(error)}"
                ) from error
            self._provider = provider
        return self._session

    def _check_input(
        self, inputs: Sequence[Any], size: Sequence[int] | None
    ) -> tuple[int | None, tuple[int, int] | None]:
        """The graph's static batch size and the (height, width) to run at, each None where free."""
        shape = inputs[0].shape if len(inputs) == 1 else []
        if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
            found = "; ".join(f"'{i.name}' {i.shape}" for i in inputs)
            raise UserError(f"'{self.path}' would have one input [batch, 3, height, width]; it has {found}")
        if inputs[0].type not in TYPES:
            raise UserError(f"the input of '{self.path}' is {inputs[0].type}; it would be float or float16")
        batch, _, height, width = shape
        static = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        chosen = None if size is None else (int(size[0]), int(size[1]))
        if chosen is not None and static is not None and chosen != static:
            raise UserError(f"'{self.path}' runs at {list(static)} only; size is {list(chosen)}")
        return (batch if isinstance(batch, int) else None), chosen or static

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}


def letterbox(image: Image, size: tuple[int, int]) -> tuple[Resized, tuple[int, int]]:
    """The image shrunk into (height, width) with its last rows and columns repeated to fill it.

    Returns the filled image, and the height and width of the part that is the image.
    """
    scale = min(size[0] / image.shape[-2], size[1] / image.shape[-1])
    height, width = (
        min(limit, max(1, round(n * scale))) for n, limit in zip(image.shape[-2:], size, strict=True)
    )
    shrunk = resize_image(image, (height, width))
    return F.pad(shrunk, (0, size[1] - width, 0, size[0] - height), mode="replicate"), (height, width)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
