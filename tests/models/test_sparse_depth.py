"""Sparse depth on its way to a model: resized with the image, mirrored, cropped, and never interpolated."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from depthkd.batch import METRIC_DEPTH
from depthkd.benchmarks.crops import kb_cropped
from depthkd.errors import UserError
from depthkd.formats.sample import Sample
from depthkd.geometry import resize_sparse_depth
from depthkd.models.baselines import AlignedDepth, UnsharpMask
from depthkd.models.frozen import Frozen
from depthkd.models.inference import Inference, WrongPredictionError, infer_sample
from depthkd.models.model import DepthModel, DepthOutput
from tests.models.smallest import Level

CPU = torch.device("cpu")


class Asked(DepthModel):
    """Answers with the points that it is given, and notes what it was asked."""

    space, multiple, takes_sparse_depth = METRIC_DEPTH, 4, True
    caches = ("heard",)

    def __init__(self, takes_camera: bool = True) -> None:
        super().__init__()
        self.takes_camera = takes_camera
        self.heard: list[tuple[Any, ...]] = []

    def forward(self, image: Tensor) -> DepthOutput:
        return DepthOutput(torch.full_like(image[:, 0], 7.0))

    def predict_raw_with_sparse_depth(
        self, image: Tensor, sparse: Tensor, intrinsics: Tensor | None = None
    ) -> Tensor:
        self.heard.append((tuple(image.shape[-2:]), sparse, intrinsics))
        return sparse

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return self.parameters()


def points(height: int, width: int, count: int, seed: int = 0) -> Tensor:
    """Sparse depth of so many pixels; the same map for each seed."""
    draw = torch.Generator().manual_seed(seed)
    sparse = torch.zeros(height * width)
    sparse[torch.randperm(height * width, generator=draw)[:count]] = 1 + 9 * torch.rand(count, generator=draw)
    return sparse.reshape(1, height, width)


def resized_slowly(sparse: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Point by point, the nearest last."""
    height, width = sparse.shape
    found = np.zeros(size, sparse.dtype)
    for row, column in sorted(np.argwhere(sparse > 0).tolist(), key=lambda at: -sparse[at[0], at[1]]):
        y, x = (row + 0.5) / height * size[0], (column + 0.5) / width * size[1]
        found[int(np.floor(y + 1e-9)), int(np.floor(x + 1e-9))] = sparse[row, column]
    return found


@pytest.mark.parametrize("size", [(12, 20), (5, 7), (11, 30), (36, 60), (1, 1), (12, 7)])
def test_points_stay_points_at_another_size(size: tuple[int, int]) -> None:
    sparse = torch.cat([points(12, 20, 60, 1), points(12, 20, 3, 2), points(12, 20, 0)])
    found = resize_sparse_depth(sparse, size)
    assert found.shape == (3, *size) and found.dtype == sparse.dtype
    for one, whole in zip(found, sparse, strict=True):
        assert np.array_equal(one.numpy(), resized_slowly(whole.numpy(), size))
        assert set(one.flatten().tolist()) <= {0.0, *whole.flatten().tolist()}
    if size >= sparse.shape[1:]:
        assert torch.equal((found > 0).sum((1, 2)), (sparse > 0).sum((1, 2)))


def test_the_nearest_of_several_points_in_one_pixel_stays() -> None:
    sparse = torch.tensor([[[3.0, 2.0, 0.0, 0.0], [0.0, 5.0, 0.0, 4.0]]])
    assert resize_sparse_depth(sparse, (1, 2)).tolist() == [[[2.0, 4.0]]]
    twice = resize_sparse_depth(sparse, (4, 8))
    assert int((twice > 0).sum()) == 4 and float(twice[0, 1, 1]) == 3.0 and float(twice[0, 3, 3]) == 5.0


def test_a_model_is_given_the_points_at_the_size_at_which_it_runs() -> None:
    model, sparse = Asked(), points(13, 18, 30)
    camera = torch.tensor([[[10.0, 0, 9], [0, 10, 6], [0, 0, 1]]])
    model.infer(torch.rand(1, 3, 13, 18), 24, intrinsics=camera, sparse=sparse)
    size, given, intrinsics = model.heard[-1]
    assert size == (24, 32) and torch.equal(given, resize_sparse_depth(sparse, size))
    assert intrinsics is not None and float(intrinsics[0, 0, 0]) == pytest.approx(10 * 32 / 18)
    model.infer(torch.rand(1, 3, 12, 16), intrinsics=camera)  # no points
    assert len(model.heard) == 1
    deaf = Asked(takes_camera=False)
    deaf.infer(torch.rand(1, 3, 13, 18), 24, intrinsics=camera, sparse=sparse)
    assert deaf.heard[0][2] is None
    own = Asked()
    own.chooses_size = True
    own.infer(torch.rand(1, 3, 13, 18), 24, sparse=sparse)
    assert own.heard[0][0] == (13, 18) and torch.equal(own.heard[0][1], sparse)


def test_what_is_not_above_0_and_finite_was_not_measured() -> None:
    model, sparse = Asked(), torch.zeros(1, 4, 4, dtype=torch.float64)
    sparse[0, 0] = torch.tensor([torch.nan, torch.inf, -1.0, 2.0])
    found = model.infer(torch.rand(1, 3, 4, 4), sparse=sparse)
    assert found.dtype == torch.float32 and found[0, 0].tolist() == [0, 0, 0, 2]


def test_the_mirrored_image_has_mirrored_points() -> None:
    model, sparse = Asked(), points(8, 12, 20)
    found = model.infer(torch.rand(1, 3, 8, 12), flip=True, sparse=sparse)
    assert torch.equal(model.heard[1][1], sparse.flip(-1)) and torch.equal(found, sparse)


def test_sparse_depth_of_another_size_is_refused_and_others_ignore_it() -> None:
    image = torch.rand(1, 3, 8, 12)
    with pytest.raises(UserError, match=r"one map of each image's size, \[1, 8, 12\], not \[1, 8, 11\]"):
        Asked().predict(image, sparse=torch.zeros(1, 8, 11))
    assert torch.equal(Level(3.0).predict(image, sparse=torch.zeros(1, 8, 11)), Level(3.0).predict(image))


def test_models_that_stand_on_others_hand_the_points_on() -> None:
    image, sparse = torch.rand(1, 3, 8, 12), points(8, 12, 90) + 1
    whole = Asked(takes_camera=False)
    assert torch.equal(Frozen(lambda: whole)(image, sparse=sparse).depth, sparse)
    for model in (UnsharpMask(Asked(), amount=1e-9), AlignedDepth(Asked(), Asked())):
        assert model.takes_sparse_depth
        found, without = model.predict(image, sparse=sparse), model.predict(image)
        assert not torch.allclose(found, without)
    assert torch.allclose(UnsharpMask(Asked(), amount=1e-9).predict(image, sparse=sparse), sparse)
    assert not UnsharpMask(Level()).takes_sparse_depth
    assert Frozen(Level)(image, sparse=sparse).depth.unique().tolist() == [2.0]


def test_a_sample_brings_its_points_and_a_crop_cuts_them() -> None:
    sparse = points(376, 1241, 500)[0].numpy()
    image = np.zeros((376, 1241, 3), np.uint8)
    sample = kb_cropped(Sample("one", image, np.ones_like(sparse), sparse >= 0, sparse=sparse))
    assert sample.sparse is not None and np.array_equal(sample.sparse, sparse[24:, 12:1228])
    model = Asked()
    infer_sample(model, sample, Inference(), CPU)
    assert torch.equal(model.heard[0][1][0], torch.from_numpy(sample.sparse))
    sample.sparse = sample.sparse[:5]
    with pytest.raises(WrongPredictionError, match="one map of each image's size"):
        infer_sample(model, sample, Inference(), CPU)
    infer_sample(Level(), sample, Inference(), CPU)
