"""Every metric class says in a MetricCollection what it says alone, whatever the first images are."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torchmetrics import Metric, MetricCollection

from depthkd import metrics
from tests.metrics.test_processes import CASES, depth_maps, edges_of, new, pairs, planes

WITHOUT_TRUTH = 4  # the image of `test_processes` that nothing can be said of
ALL: dict[str, Callable[[], Metric]] = {name: partial(new, name) for name in CASES} | {
    "DeltaAccuracy, low": lambda: metrics.DeltaAccuracy(1.05),
    "DeltaAccuracy, high": lambda: metrics.DeltaAccuracy(1.1),
    "MeanOverImages, abs_rel": lambda: metrics.MeanOverImages(["abs_rel"]),
    "MeanOverImages, rmse": lambda: metrics.MeanOverImages(["rmse"]),
    "BoundaryErrors, paper": lambda: metrics.BoundaryErrors("paper"),
    "WindowErrors, halves": lambda: metrics.WindowErrors((2,)),
}
OF_ONE_IMAGE = {
    "PairAccuracy": (pairs, ("prediction", "first", "second", "quantity")),
    "PlanarityErrors": (planes, ("prediction", "target", "valid", "planes", "normals", "intrinsics")),
}


def batch(images: list[int], **others: torch.Tensor) -> dict[str, Any]:
    """What all classes of batches take; each picks its own by name."""
    prediction, target, mask = depth_maps(images)
    maps = {"prediction": prediction, "target": target, "mask": mask} | others
    scores = metrics.depth_metrics(**maps)
    return maps | {"edges": edges_of(images), "foreground": maps["target"] < 5, "scores": scores}


FLAT = torch.ones(1, 60, 80)
FIRST = {
    "without truth": batch([WITHOUT_TRUTH]),
    "perfect": batch([0], prediction=depth_maps([0])[1]),
    "flat": batch([0], prediction=FLAT, target=FLAT, mask=FLAT > 0),
    "any": batch([1]),
}


@pytest.mark.parametrize("first", FIRST)
def test_every_class_is_itself_in_a_collection(first: str) -> None:
    alone = {name: make() for name, make in ALL.items() if name not in OF_ONE_IMAGE}
    collection = MetricCollection({name: ALL[name]() for name in alone})
    for given in (FIRST[first], batch([2, 3]), batch([0])):
        collection.update(**given)
        for metric in alone.values():
            metric.update(**metric._filter_kwargs(**given))
    for name, metric in collection.items():
        torch.testing.assert_close(metric.compute(), alone[name].compute(), equal_nan=True, msg=name)
    together = collection.compute()
    for name in ("AbsoluteRelativeError", "Delta1", "Delta2", "DeltaAccuracy, low", "Log10Error"):
        assert together[name] == alone[name].compute(), name


@pytest.mark.parametrize("first", [WITHOUT_TRUTH, 0, 1])
@pytest.mark.parametrize("name", OF_ONE_IMAGE)
def test_classes_of_single_images_are_themselves_too(name: str, first: int) -> None:
    arguments, keys = OF_ONE_IMAGE[name]
    collection, alone = MetricCollection({"a": new(name), "b": new(name)}), new(name)
    for image in (first, 2, 3):
        collection.update(**dict(zip(keys, arguments(image), strict=True)))
        alone.update(*arguments(image))
    for metric in collection.values():
        torch.testing.assert_close(metric.compute(), alone.compute(), equal_nan=True)


def test_equal_metrics_share_their_work_and_forward_reset_and_clone_are_right() -> None:
    collection = MetricCollection({"a": metrics.Delta1(), "b": metrics.Delta1(), "c": metrics.Delta2()})
    maps = {name: value for name, value in batch([2, 3]).items() if name in ("prediction", "target", "mask")}
    now = collection(**maps)
    assert now["a"] == now["b"] != now["c"]
    collection.reset()
    collection.update(**maps)
    torch.testing.assert_close(collection.compute(), now)
    assert sorted(map(sorted, collection.compute_groups.values())) == [["a", "b"], ["c"]]
    torch.testing.assert_close(collection.clone(prefix="x_").compute()["x_c"], now["c"])
