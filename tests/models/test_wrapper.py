"""A model that stands for another is that one in all respects."""

from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from depthkd.batch import METRIC_DEPTH, METRIC_DISPARITY
from depthkd.errors import UserError
from depthkd.models import DepthAnything, HuggingFaceDepth, Marigold
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.models.renamed import METHODS
from depthkd.models.wrapper import Wrapper, declared
from depthkd.resolution import Resolution
from depthkd.runs.student import TrainedDepth
from tests.models.smallest import Level, run


class Odd(DepthModel):
    """Unlike the base class in all that a model may override."""

    space, multiple, fixed_size = METRIC_DISPARITY, 3, (9, 12)
    chooses_size = resizes = keeps_head_fp32 = decodes_latents = takes_camera = takes_sparse_depth = True
    needs_sparse_depth = True
    longest, trained_at, preprocessing, max_depth = 40, (20, 30), "authors", 70.0
    default_resolution = Resolution("shorter", 7)
    license, source, training_sets, base_license = "mit", "odd", ("KITTI",), "mit"
    feature_channels, feature_family = 5, "odd"

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(1, 1), nn.Linear(1, 2)
        self.beside = Level()

    def forward(self, image: Tensor) -> DepthOutput:
        return DepthOutput(image[:, 0], torch.ones(len(image), 2, 5))

    def features(self, image: Tensor) -> Tensor:
        return torch.zeros(len(image), 3, 4)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return self.encoder.parameters()

    def head_parameters(self) -> Iterator[nn.Parameter]:
        return self.head.parameters()

    def rounded(self, height: int, width: int) -> tuple[int, int]:
        return height + 1, width + 2

    def resolve(self, asked: Resolution) -> Resolution:
        return asked.times(3.0)

    def runs_at(self, height: int, width: int, resolution: Any = None, scale: float = 1.0) -> tuple[int, int]:
        return height + resolution, round(width * scale)

    def fit_input(self, image: Tensor) -> Tensor:
        return image[..., 1:]

    def predict_raw(self, image: Tensor) -> Tensor:
        return image[:, 1]

    def predict_raw_with_camera(self, image: Tensor, intrinsics: Tensor) -> Tensor:
        return image[:, 1] * intrinsics[:, :1, :1]

    def predict_raw_with_sparse_depth(
        self, image: Tensor, sparse: Tensor, intrinsics: Tensor | None = None
    ) -> Tensor:
        assert intrinsics is not None
        return image[:, 1] * sparse + intrinsics[:, :1, :1]

    def resize_to(self, raw: Tensor, size: tuple[int, int]) -> Tensor:
        return raw + size[0]

    def infer(
        self,
        image: Tensor,
        resolution: int | None = None,
        scale: float = 1.0,
        flip: bool = False,
        intrinsics: Tensor | None = None,
        sparse: Tensor | None = None,
    ) -> Tensor:
        assert intrinsics is not None and sparse is not None
        return image[:, 2] * scale + (resolution or 0) + flip + intrinsics.sum() + sparse

    def predict(self, image: Tensor, *how: Any) -> Tensor:
        return 2 * self.infer(image, *how)

    def encode_decode_truth(self, depth: Tensor, mask: Tensor, space: Any) -> Tensor:
        return depth * 7

    def estimated_cameras(self, image: Tensor) -> Tensor:
        return image[:, 0, :3, :3]

    def companions(self) -> list[DepthModel]:
        return [self.beside]

    def files(self) -> list[Path]:
        return [Path(__file__)]

    def unwrapped(self) -> DepthModel:
        return self.beside

    def save_pretrained(self, folder: Path | str, image_size: int | None = None) -> None:
        Path(folder).write_text(str(image_size))


ASKED: dict[str, tuple[Any, ...]] = {
    "forward": (torch.rand(2, 3, 4, 5),),
    "features": (torch.rand(2, 3, 4, 5),),
    "rounded": (4, 5),
    "resolve": (Resolution("longer", 8),),
    "runs_at": (4, 5, 6, 7.0),
    "fit_input": (torch.rand(2, 3, 4, 5),),
    "predict_raw": (torch.rand(2, 3, 4, 5),),
    "predict_raw_with_camera": (torch.rand(2, 3, 4, 5), torch.rand(2, 3, 3)),
    "predict_raw_with_sparse_depth": (
        torch.rand(2, 3, 4, 5),
        torch.rand(2, 4, 5),
        torch.rand(2, 3, 3),
    ),
    "resize_to": (torch.rand(2, 4, 5), (4, 5)),
    "infer": (torch.rand(2, 3, 4, 5), 32, 2.0, True, torch.rand(2, 3, 3), torch.rand(2, 4, 5)),
    "predict": (torch.rand(2, 3, 4, 5), 32, 2.0, True, torch.rand(2, 3, 3), torch.rand(2, 4, 5)),
    "encode_decode_truth": (torch.rand(2, 4, 5), torch.ones(2, 4, 5, dtype=torch.bool), METRIC_DEPTH),
    "encoder_parameters": (),
    "head_parameters": (),
    "estimated_cameras": (torch.rand(2, 3, 4, 5),),
    "companions": (),
    "files": (),
    "unwrapped": (),
}


def said_of_models() -> list[tuple[str, Any]]:
    """What the base classes of all models have, public methods and properties among it."""
    bases = DepthModel.__mro__[: DepthModel.__mro__.index(nn.Module)]
    return [(name, value) for base in bases for name, value in vars(base).items() if name[0] != "_"]


def told(value: Any) -> Any:
    """A value with its tensors as lists, to be compared."""
    if isinstance(value, Tensor):
        return value.tolist()
    return [told(one) for one in value] if isinstance(value, list | tuple) else value


def test_it_has_all_that_models_declare_from_the_other() -> None:
    odd, wrapper = Odd(), Wrapper(Odd())
    assert {"space", "multiple", "keeps_head_fp32", "training_sets"} <= set(declared())
    for name in [*declared(), *(n for n, value in said_of_models() if isinstance(value, property))]:
        assert getattr(wrapper, name) == getattr(odd, name) != getattr(DepthModel, name, None), name


def test_it_answers_all_that_models_can_be_asked_as_the_other(tmp_path: Path) -> None:
    methods = {name for name, value in said_of_models() if isinstance(value, FunctionType)}
    assert methods - {"identity", "save_pretrained", *METHODS} == set(ASKED)
    odd = Odd()
    wrapper = Wrapper(odd)
    for name, arguments in ASKED.items():
        said, expected = (getattr(one, name)(*arguments) for one in (wrapper, odd))
        if isinstance(expected, Iterator):
            said, expected = list(said), list(expected)
        assert told(said) == told(expected), name
    wrapper.save_pretrained(tmp_path / "saved", 56)
    assert (tmp_path / "saved").read_text() == "56"


def test_a_trained_student_runs_at_the_size_of_its_network(tmp_path: Path) -> None:
    """Marigold pads where others round."""
    path = run(tmp_path / "run", "Marigold", size="tiny", longest=24)
    trained, image = TrainedDepth(path), torch.rand(1, 3, 20, 45)
    network = trained.unwrapped()
    assert isinstance(network, Marigold)
    assert trained.rounded(20, 45) == network.rounded(20, 45) != DepthModel.rounded(trained, 20, 45)
    assert torch.equal(trained.fit_input(image), network.fit_input(image))
    torch.manual_seed(0)
    answer = trained.infer(image)
    torch.manual_seed(0)
    assert torch.equal(answer, network.infer(image))


def test_models_that_have_no_folder_say_so(tmp_path: Path) -> None:
    for model in (Level(), Wrapper(Level())):
        kind = type(model.unwrapped()).__name__
        with pytest.raises(
            UserError, match=f"^{kind} cannot be saved as a folder: .*HuggingFaceDepth, MetricBinsDepth"
        ):
            model.save_pretrained(tmp_path / "none")
    trained = TrainedDepth(run(tmp_path / "run", "DepthAnything", size="tiny"))
    trained.save_pretrained(tmp_path / "saved", 64)
    image = torch.rand(1, 3, 32, 48)
    saved = HuggingFaceDepth(str(tmp_path / "saved"))
    assert torch.equal(saved.predict(image, "native"), trained.predict(image))
    assert saved.trained_at == (64, 64)
    assert not (tmp_path / "none").exists() and isinstance(trained.unwrapped(), DepthAnything)
