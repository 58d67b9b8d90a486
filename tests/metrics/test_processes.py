"""Every metric in two processes with uneven batches: what one process finds over all images."""

import inspect
import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchmetrics import Metric

from depthkd import metrics
from depthkd.batch import Quantity
from tests.metrics.test_edges import steps
from tests.metrics.test_planarity import EVERYWHERE, FORWARD, INTRINSICS, plane

IMAGES = 5
SHARES = {0: [[0, 1, 2]], 1: [[3], [4]]}  # of the ranks, in batches; image 4 has no valid pixel
Images = list[int]
Arguments = tuple[Any, ...]


def depth_maps(images: Images) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    truth = torch.from_numpy(np.stack([steps(i) for i in images])).clamp(min=0.5)
    prediction = torch.from_numpy(np.stack([steps(i + 9) for i in images])).clamp(min=0.5)
    mask = truth.flip(1) > 3
    mask[torch.tensor(images) == 4] = False
    return prediction, truth, mask


def each(images: Images, one: Callable[[int], Arguments]) -> Iterator[Arguments]:
    return (one(image) for image in images)


def planes(image: int) -> Arguments:
    truth = plane(FORWARD, 3.0 + image)
    masks = EVERYWHERE[None] if image != 4 else np.zeros((0, *EVERYWHERE.shape), dtype=bool)
    normals = np.tile(FORWARD, (len(masks), 1))
    arrays = (1.1 * truth + 0.1 * truth**2, truth, EVERYWHERE, masks, normals, INTRINSICS)
    return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


def pairs(image: int) -> Arguments:
    rng = np.random.default_rng(image)
    first, second = torch.from_numpy(rng.integers(0, 60, (2, 3 * image, 2)))
    return torch.from_numpy(steps(image)), first, second, Quantity.DEPTH


def edges_of(images: Images) -> torch.Tensor:
    edges = torch.zeros(len(images), 60, 80, dtype=torch.bool)
    edges[torch.tensor(images) != 4, 30] = True
    return edges


DEPTH = {
    "AbsoluteRelativeError", "Delta1", "Delta2", "Delta3", "DeltaAccuracy", "DepthMetrics",
    "InverseMeanAbsoluteError", "InverseRootMeanSquaredError", "Log10Error", "MeanAbsoluteError",
    "RootMeanSquaredError", "RootMeanSquaredLogError",
    "ScaleInvariantLogError", "SquaredRelativeError", "WindowErrors",
}  # fmt: skip
CASES: dict[str, Callable[[Images], Iterator[Arguments]]] = {
    **dict.fromkeys(DEPTH, lambda images: iter([depth_maps(images)])),
    "BoundaryErrors": lambda images: iter([(depth_maps(images)[0], edges_of(images))]),
    "BoundaryF1": lambda images: iter([depth_maps(images)[:2]]),
    "BoundaryRecall": lambda images: iter([(depth_maps(images)[0], depth_maps(images)[1] < 5)]),
    "MeanOverImages": lambda images: iter([(metrics.depth_metrics(*depth_maps(images)),)]),
    "OutputMagnitude": lambda images: iter([depth_maps(images)[:1]]),
    "PairAccuracy": lambda images: each(images, pairs),
    "PlanarityErrors": lambda images: each(images, planes),
    "PseudoBoundaryErrors": lambda images: iter([depth_maps(images)[:2]]),
}


def new(name: str) -> Metric:
    more = (["silog", "delta1"],) if name == "MeanOverImages" else ()
    metric: Metric = getattr(metrics, name)(*more)
    return metric


def found(batches: list[Images]) -> dict[str, Any]:
    """What every metric computes from those batches, with those of the other ranks."""
    results = {}
    for name, arguments in CASES.items():
        metric = new(name)
        for images in batches:
            for one in arguments(images):
                metric.update(*one)
        results[name] = metric.compute()
    return results


def _rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(found(SHARES[rank]), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_every_class_is_covered() -> None:
    classes = {n for n in metrics.__all__ if inspect.isclass(getattr(metrics, n))}
    assert set(CASES) == {n for n in classes if issubclass(getattr(metrics, n), Metric)}


def test_two_processes_equal_one(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=_rank, args=(rank, tmp_path)) for rank in range(2)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        for rank in ranks:
            rank.start()
    for rank in ranks:
        rank.join(120)
        assert rank.exitcode == 0
    expected = found([list(range(IMAGES))])
    assert expected["DepthMetrics"]["skipped"] == expected["PlanarityErrors"]["skipped"] == 1
    for number in range(2):
        together = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        assert list(together) == list(expected)
        for name in expected:
            torch.testing.assert_close(together[name], expected[name], rtol=1e-9, atol=1e-12, msg=name)
