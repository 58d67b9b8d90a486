import torch

from depthkd.batch import Quantity
from depthkd.metrics.ordinal import PairAccuracy, closer_is_first


def test_larger_disparity_and_smaller_depth_are_closer_and_ties_are_wrong() -> None:
    values = torch.tensor([[1.0, 2.0, 2.0], [3.0, 0.5, 9.0]])
    first, second = torch.tensor([[0, 1], [1, 2], [0, 1]]), torch.tensor([[0, 0], [1, 0], [0, 2]])
    assert closer_is_first(values, first, second, Quantity.DISPARITY).tolist() == [True, True, False]
    assert closer_is_first(values, first, second, Quantity.DEPTH).tolist() == [False, False, False]


def test_the_mean_is_over_pairs_not_over_images() -> None:
    metric = PairAccuracy()
    values = torch.arange(6.0).view(2, 3)
    metric.update(values, torch.tensor([[1, 2]]), torch.tensor([[0, 0]]), Quantity.DISPARITY)
    wrong = torch.tensor([[0, 0]] * 3)
    metric.update(values, wrong, torch.tensor([[1, 1]] * 3), Quantity.DISPARITY)
    assert metric.compute() == 0.25
