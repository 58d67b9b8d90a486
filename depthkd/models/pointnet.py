"""PointNet (Qi et al., arXiv 1612.00593): features of point clouds, in whatever order their points come."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor, nn

from depthkd.errors import MissingFileError, UserError
from depthkd.models.weights import misfit, read_weights
from depthkd.paths import user_path

Cloud = Float[Tensor, "batch points 3"]
LOCAL, WHOLE = 64, 1024  # channels of a point's features, and of a cloud's
RANDOM = "random"
FACTS = "pointnet"  # in a file's header: how it was made, as json; several entries would come in any order


class PointFeatures(NamedTuple):
    """What a PointNet sees in a cloud."""

    local: Float[Tensor, "batch points 64"]
    """Of each point alone, after the first two layers (and the feature transform)."""
    whole: Float[Tensor, "batch 1024"]
    """Of the cloud: the maximum over its points of the last layer."""


def shared_layers(*channels: int) -> nn.Sequential:
    """Linear layers that every point passes, each with batch normalization and a ReLU."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv1d(before, after, 1), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers)


class Alignment(nn.Module):
    """T-Net (section 4.2): a matrix for each cloud, by which points are multiplied; at first the identity.

    Args:
        channels: of the points: 3, or those of their features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.shared = shared_layers(channels, 64, 128, 1024)
        self.dense = nn.Sequential(
            *(nn.Linear(1024, 512), nn.BatchNorm1d(512), nn.ReLU()),
            *(nn.Linear(512, 256), nn.BatchNorm1d(256), nn.ReLU()),
        )
        self.matrix = nn.Linear(256, channels * channels)

    def forward(
        self, points: Float[Tensor, "batch channels points"]
    ) -> Float[Tensor, "batch channels channels"]:
        """Points -> the matrix."""
        hidden = self.dense(self.shared(points).amax(2))
        matrix: Tensor = self.matrix(hidden).view(-1, self.channels, self.channels)
        return matrix + torch.eye(self.channels, dtype=matrix.dtype, device=matrix.device)


class PointNet(nn.Module):
    """PointNet's classification network, whose features a distillation compares.

    Every point passes layers of 64, 64, 64, 128 and 1024 channels; the maximum over all points is the
    cloud's feature. `depthkd pointnet` trains one on clouds of the embedded scenes' shapes. It computes in
    float32, whatever a run's precision.

    Args:
        weights: a file that `depthkd pointnet` has written; or "random": as initialized by He et al.
            (arXiv 1502.01852), which keeps the size of activations from layer to layer.
        transforms: whether it has T-Nets, for points and for their features.
        classes: of shapes that it tells apart; 0: it has features alone. A file brings its own.
        seed: of random weights.

    Raises:
        MissingFileError: there is no such file.
        UserError: it holds other weights, or a PointNet that has T-Nets where this has none.
    """

    license: str = "apache-2.0"
    training_sets: tuple[str, ...] | None = ()

    def __init__(
        self, weights: str = RANDOM, transforms: bool = False, classes: int = 0, seed: int = 0
    ) -> None:
        super().__init__()
        tensors: dict[str, Tensor] = {}
        self.source = "a random PointNet"
        if weights != RANDOM:
            if not user_path(weights).exists():
                raise MissingFileError(
                    f"there is no PointNet '{weights}': `depthkd pointnet --out {weights}` makes one"
                )
            tensors, facts = read_weights(weights), read_facts(weights)
            classes = len(facts["classes"])
            self.source = f"a PointNet that tells {classes} shapes apart ({facts['digest'][:8]})"
            self.training_sets = ("depthkd's scenes",)
            if facts["settings"]["transforms"] != transforms:
                has = "none" if transforms else "some"
                raise UserError(
                    f"'{weights}' holds a PointNet with {has} of PointNet's transforms: set its argument "
                    f"`transforms: {str(not transforms).lower()}`"
                )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build(transforms, classes)
        if weights != RANDOM:
            self._load(tensors, weights)

    def _build(self, transforms: bool, classes: int) -> None:
        self.input_transform = Alignment(3) if transforms else None
        self.feature_transform = Alignment(LOCAL) if transforms else None
        self.local = shared_layers(3, 64, LOCAL)
        self.whole = shared_layers(LOCAL, 64, 128, WHOLE)
        self.head = None if classes == 0 else _head(classes)
        self.distance_from_rotation: Tensor | float = 0.0  # of the last feature transform: see Eq. 2
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.normal_(module.weight, std=math.sqrt(2 / module.weight[0].numel()))
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        for transform in (self.input_transform, self.feature_transform):
            if transform is not None:
                nn.init.zeros_(transform.matrix.weight)

    def _load(self, tensors: dict[str, Tensor], path: str) -> None:
        own = self.state_dict()
        if (wrong := misfit(tensors, own)) is not None:
            raise UserError(f"the tensors in '{path}' are not those of a PointNet: {wrong}")
        self.load_state_dict({name: tensors[name] for name in own})

    def features(self, points: Cloud) -> PointFeatures:
        """Features of the points and of the cloud; gradients reach the points."""
        with torch.autocast(points.device.type, enabled=False):
            hidden = points.float() if points.dtype.itemsize < 4 else points
            hidden = hidden.transpose(1, 2)
            if self.input_transform is not None:
                hidden = self.input_transform(hidden).transpose(1, 2) @ hidden
            hidden = self.local(hidden)
            if self.feature_transform is not None:
                matrix = self.feature_transform(hidden)
                self.distance_from_rotation = _distance_from_rotation(matrix)
                hidden = matrix.transpose(1, 2) @ hidden
            return PointFeatures(hidden.transpose(1, 2), self.whole(hidden).amax(2))

    def forward(self, points: Cloud) -> Float[Tensor, "batch classes"]:
        """Logits of the classes.

        Raises:
            ValueError: it has no classes.
        """
        if self.head is None:
            raise ValueError("this PointNet has features alone: build it with classes")
        logits: Tensor = self.head(self.features(points).whole)
        return logits


def _distance_from_rotation(matrix: Float[Tensor, "batch channels channels"]) -> Float[Tensor, ""]:
    """PointNet, Eq. 2: the squared Frobenius norm of I - A A^T, in the mean over the clouds."""
    identity = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    return (identity - matrix @ matrix.transpose(1, 2)).square().sum((1, 2)).mean()


def _head(classes: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(WHOLE, 512), nn.BatchNorm1d(512), nn.ReLU()),
        *(nn.Linear(512, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.3)),
        nn.Linear(256, classes),
    )


def read_facts(path: str | Path) -> dict[str, Any]:
    """What the header of a file of `depthkd pointnet` says: how it was made, and how well it tells.

    Raises:
        UserError: it is another file.
    """
    with safe_open(user_path(path), "pt") as file:  # `read_weights` has read it before
        header = dict(file.metadata() or {})
    if FACTS not in header:
        raise UserError(f"'{path}' is no file that `depthkd pointnet` has written; that makes one in minutes")
    facts: dict[str, Any] = json.loads(header[FACTS])
    return facts
