"""Any ONNX depth network, as a teacher or a test subject."""

import json
import re
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

from depthkd.batch import AFFINE_DISPARITY, DepthSpace
from depthkd.errors import MissingFileError, UserError
from depthkd.models.model import DepthModel, DepthOutput, RawPrediction, Resized, resize_image
from depthkd.models.onnx_input import ONE, white_of
from depthkd.models.weights import sign_of
from depthkd.paths import user_path
from depthkd.shapes import Image

FAILURES = tuple(e for e in vars(reasons).values() if isinstance(e, type) and issubclass(e, Exception))
TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}
# Where a graph names the files that hold its tensors: a key, then a value with its length before it.
NUMBERS = "fiu"  # kinds of numpy, of which depth can be
LOCATION = re.compile(rb"\n\x08location\x12(?P<length>[\x01-\x7f])")
METADATA = "depthkd"  # the key of what a graph says of itself, as JSON
SILENT = 4  # onnxruntime's severity "fatal": what else it would print is in the error's sentence
SAME = 0.01  # of the map's range: by so much may an answer differ from the one given to the image alone


class OnnxDepth(DepthModel):
    """A depth network in onnxruntime, with one input of RGB images.

    The input is [batch, 3, height, width] or [batch, height, width, 3], of float32, float16 or bytes. It
    has no parameters and passes no gradients. It runs on the GPU when the image is there and onnxruntime
    has its CUDA provider, and on the CPU otherwise. A static batch size of N takes the images N at a
    time. A graph whose batch size seems free is asked its first batch image by image too, and if it then
    answers otherwise or cannot, as one with a size of 1 built in does, it gets single images for ever.
    Copies and pickles open the file anew.

    What `depthkd export` wrote says itself what it is, in the graph's metadata (`stated`): its space,
    multiple, license, data sets, and the size at which it runs. An argument overrides that.

    Args:
        path: the .onnx file; external data lies beside it.
        space: what its output means; affine disparity where None, and nothing is stated.
        input_range: the value of white in the network's input, 1.0 or 255.0; bytes are always up to 255.
            None: 255 where the graph's first nodes divide by about that, and 1 otherwise.
        mean: subtracted from RGB in [0, input_range], one value a channel; nothing where None.
        std: what that is then divided by; nothing where None.
        size: [height, width] at which it runs; where None the graph's own, if static, or else each
            image's, rounded to `multiple`.
        multiple: of the sides, in pixels, where the size is free; 1 where None, and nothing is stated.
        keep_aspect: at a fixed size, shrink the image into it and repeat its border pixels, rather
            than stretch it; the depth is then cropped to the image.
        output: the name of the depth output, [batch, height, width] or with one channel, or of a single
            image [height, width]; the graph's first where None.
        license: of the weights; "unknown" where None, and nothing is stated.
        threads: of onnxruntime on the CPU; as many as torch's where None.
        training_sets: the data sets that the network has learned from; not known where None.

    Raises:
        MissingFileError: there is no such file, or none with its external data.
        UserError: the file is no ONNX graph, or its inputs, outputs or size are others than said.
    """

    caches = ("_session", "_provider", "_batches")

    def __init__(
        self,
        path: str,
        space: str | None = None,
        input_range: float | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        size: Sequence[int] | None = None,
        multiple: int | None = None,
        keep_aspect: bool = False,
        output: str | None = None,
        license: str | None = None,
        threads: int | None = None,
        training_sets: list[str] | None = None,
    ) -> None:
        super().__init__()
        path = str(user_path(path))
        check_file(Path(path))
        self.path, self.source = path, path
        self.mean, self.std = mean or (0.0,) * 3, std or (1.0,) * 3
        self.keep_aspect, self.threads = keep_aspect, threads
        self._session: Any = None
        self._provider = ""
        self._batches: bool | None = (
            None  # whether it takes several images, of a free batch size; None: not known
        )
        session = self._open("CPUExecutionProvider")
        self.stated = stated_by(session, path)
        self._batches = True if self.stated else None
        self.space = DepthSpace.parse(space or self.stated.get("space") or str(AFFINE_DISPARITY))
        self.multiple = multiple or int(self.stated.get("multiple") or 1)
        self.license = license or str(self.stated.get("license") or "unknown")
        sets, at = training_sets or self.stated.get("training_sets"), self.stated.get("trained_at")
        self.training_sets = None if sets is None else tuple(sets)
        self.trained_at = None if at is None else (int(at[0]), int(at[1]))
        self.batch_size, self.fixed_size, self.channels_last = self._check_input(session.get_inputs(), size)
        if input_range is None:
            input_range = ONE if self.stated else white_of(Path(path), session.get_inputs()[0].name)
        self.input_range = input_range
        self.bytes = session.get_inputs()[0].type == "tensor(uint8)"
        if self.bytes and (mean or std):
            raise UserError(f"'{path}' takes bytes, which know no mean and std: leave them out")
        outputs = [o.name for o in session.get_outputs()]
        self.output = output or outputs[0]
        if self.output not in outputs:
            raise UserError(f"'{path}' has no output '{output}'; it has {', '.join(outputs)}")

    @property
    def assumed(self) -> str:
        """How a graph is read of which nobody says more than its path."""
        white = 255.0 if self.bytes else self.input_range
        why = ", by which it divides itself" if white != ONE and not self.bytes else ""
        return f"{AFFINE_DISPARITY} of RGB in [0, {white:g}]{why}"

    def files(self) -> list[Path]:
        """The graph, and its external data."""
        graph = Path(self.path)
        return [graph, *(graph.parent / name for name in external_data(graph))]

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> float32 depth, on the image's device, at the size of the graph's output.

        Raises:
            UserError: the graph cannot run at this size, or does not answer with one map an image.
        """
        inner = (0, 0)
        if self.keep_aspect and self.fixed_size is not None:
            image, inner = letterbox(image, self.fixed_size)
        else:
            image = self.fit_input(image)
        pixels = image.float() * (255.0 if self.bytes else self.input_range)
        mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        depth = self._run_all((pixels - mean) / std)
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

    def _run_all(self, pixels: Float[Tensor, "batch 3 height width"]) -> RawPrediction:
        """Any number of images, as many at a time as the graph takes."""
        if self.batch_size is None and self._batches is None and len(pixels) > 1:
            return self._try_batch(pixels)
        count = self.batch_size or (len(pixels) if self._batches else 1)
        return torch.cat([self._run(part) for part in torch.split(pixels, max(1, count))])

    def _try_batch(self, pixels: Float[Tensor, "batch 3 height width"]) -> RawPrediction:
        """The output for each image alone; and find out whether the graph takes several at a time.

        A batch size that is built in may end in an error, in one map, or in maps that mix the images.
        """
        together, refused = None, None
        try:
            together = self._run(pixels)
        except UserError as error:
            refused = error
        try:
            alone = torch.cat([self._run(part) for part in torch.split(pixels, 1)])
        except UserError as error:
            raise refused or error from error
        self._batches = False
        if together is not None and together.shape == alone.shape:
            largest = (together - alone).abs().max()
            self._batches = bool(largest <= SAME * (alone.max() - alone.min()))
        return alone

    def _run(self, pixels: Float[Tensor, "batch 3 height width"]) -> RawPrediction:
        on_gpu = pixels.is_cuda and "CUDAExecutionProvider" in reasons.get_available_providers()
        session = self._open("CUDAExecutionProvider" if on_gpu else "CPUExecutionProvider")
        entry = session.get_inputs()[0]
        wanted = len(pixels)
        if self.batch_size is not None and wanted < self.batch_size:
            pixels = torch.cat([pixels, pixels[-1:].expand(self.batch_size - wanted, -1, -1, -1)])
        array = (pixels.round().clamp(0, 255) if self.bytes else pixels).detach().cpu().numpy()
        array = (array.transpose(0, 2, 3, 1) if self.channels_last else array).astype(TYPES[entry.type])
        try:
            answer = session.run([self.output], {entry.name: np.ascontiguousarray(array)})[0]
        except FAILURES as error:
            shape = "x".join(str(n) for n in array.shape)
            free = "" if self.fixed_size else "; where its size is built in, give `size` or `multiple`"
            raise UserError(f"'{self.path}' cannot run on {shape}: {reason(error)}{free}") from error
        maps = maps_of(answer, len(array))
        if maps is None:
            others = [one.name for one in session.get_outputs() if one.name != self.output]
            advice = f"; `output` may name another one: {', '.join(others)}" if others else ""
            raise UserError(
                f"the output '{self.output}' of '{self.path}' {nature(answer)}; depth would be "
                f"[{len(array)}, height, width] or [{len(array)}, 1, height, width]{advice}"
            )
        return torch.from_numpy(maps[:wanted].astype(np.float32)).to(pixels.device)

    def _open(self, provider: str) -> Any:
        if self._session is None or self._provider != provider:
            options = reasons.SessionOptions()
            options.intra_op_num_threads = self.threads or torch.get_num_threads()
            options.log_severity_level = SILENT
            try:
                self._session = InferenceSession(self.path, options, providers=[provider])
            except FAILURES as error:
                absent = [file for file in self.files() if not file.is_file()]
                if absent:
                    raise MissingFileError(
                        f"'{self.path}' keeps weights in '{absent[0].name}', and there is no '{absent[0]}': "
                        "copy that file to there"
                    ) from error
                raise UserError(f"'{self.path}' is not an ONNX graph that runs: {reason(error)}") from error
            self._provider = provider
        return self._session

    def _check_input(
        self, inputs: Sequence[Any], size: Sequence[int] | None
    ) -> tuple[int | None, tuple[int, int] | None, bool]:
        """The graph's static batch size and the (height, width) to run at, each None where free; and whether
        the channels come last."""
        sides = inputs[0].shape if len(inputs) == 1 else []
        shape = [n if isinstance(n, int) and n > 0 else None for n in sides]
        last = len(shape) == 4 and shape[1] != 3 and shape[3] in (1, 2, 3, 4)
        if len(shape) != 4 or shape[3 if last else 1] not in (3, None):
            found = "; ".join(f"'{i.name}' {i.shape}" for i in inputs)
            raise UserError(
                f"'{self.path}' would have one input [batch, 3, height, width]; it has {found} (the 3 could "
                "come last, too)"
            )
        if inputs[0].type not in TYPES:
            raise UserError(
                f"the input of '{self.path}' is {inputs[0].type}; it would be float or float16, or uint8 for "
                "bytes"
            )
        batch, (height, width) = shape[0], shape[1:3] if last else shape[2:]
        static = None if height is None or width is None else (height, width)
        chosen = None if size is None else (int(size[0]), int(size[1]))
        if chosen is not None and static is not None and chosen != static:
            raise UserError(f"'{self.path}' runs at {list(static)} only; size is {list(chosen)}")
        return batch, chosen or static, last

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}


def stated_by(session: Any, path: str) -> dict[str, Any]:
    """What a graph that `depthkd export` wrote says of itself; empty for any other.

    Raises:
        UserError: it cannot be read.
    """
    text = session.get_modelmeta().custom_metadata_map.get(METADATA)
    try:
        values = json.loads(text or "{}")
    except ValueError as error:
        raise UserError(f"the metadata '{METADATA}' of '{path}' is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"the metadata '{METADATA}' of '{path}' would be a mapping, not {values}")
    return values


def check_file(path: Path) -> None:
    """Refuse what cannot be a graph.

    Raises:
        MissingFileError: it is not there.
        UserError: it is a folder, or plainly another kind of file.
    """
    if path.is_dir():
        inside = sorted(str(one) for one in path.glob("*.onnx"))
        such = f", such as '{inside[0]}'" if inside else ""
        raise UserError(f"'{path}' is a folder; it would be an ONNX file{such}")
    if not path.is_file():
        raise MissingFileError(f"there is no ONNX file '{path}'")
    if what := sign_of(path):
        raise UserError(f"'{path}' is not an ONNX graph that runs: it is {what}")


def external_data(graph: Path) -> list[str]:
    """The files that hold a graph's tensors, relative to its folder; none where it holds them itself."""
    content = graph.read_bytes()
    found = (content[m.end() : m.end() + ord(m["length"])] for m in LOCATION.finditer(content))
    return sorted({name.decode("utf-8", "replace") for name in found})


def maps_of(answer: Any, count: int) -> np.ndarray | None:
    """A graph's output as [count, height, width]; None where it is no map an image."""
    if not isinstance(answer, np.ndarray) or answer.dtype.kind not in NUMBERS:
        return None
    if answer.ndim == 2 and count == 1 and len(answer) > 1:
        answer = answer[None]
    elif answer.ndim == 3 and count == 1 and len(answer) > 1 and answer.shape[2] == 1:
        answer = answer[None, ..., 0]
    elif answer.ndim == 4 and answer.shape[1] == 1:
        answer = answer[:, 0]
    elif answer.ndim == 4 and answer.shape[3] == 1 and answer.shape[2] > 1:
        answer = answer[..., 0]
    return answer if answer.ndim == 3 and len(answer) == count and 0 not in answer.shape else None


def nature(answer: Any) -> str:
    """What is wrong with an output that is no map."""
    if not isinstance(answer, np.ndarray):
        return f"is a {type(answer).__name__}"
    if answer.dtype.kind not in NUMBERS:
        return f"holds no numbers, but {'truth values' if answer.dtype.kind == 'b' else 'text'}"
    return f"has shape {list(answer.shape)}"


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


def reason(error: Exception) -> str:
    """onnxruntime's message about an error, in one line, without its codes and its places in C++."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = (
        re.sub(r"(Status Message: )?/\S+\.(cc|h):\d+ .*?(was false\. |(?=\bStatus Message: )|$)", "", text)
        or text
    )
    return text.removesuffix("Please fix either the inputs/outputs or the model.").rstrip(". ")
