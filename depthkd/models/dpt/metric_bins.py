"""The metric-bins head of ZoeDepth (Bhat et al., arXiv 2302.12288, section 3.2): depth as a mean over bins.

Every pixel has centers of bins, in meters. A bottleneck map proposes them (seed bins), attractors at four
finer scales move them, and a log-binomial distribution says how much each counts. transformers has this head
in its ZoeDepthForDepthEstimation, whose neck doubles sizes and so cannot run on patches of 14 pixels; tensors
have its names here, and its weights load.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Centers = Float[Tensor, "batch bins height width"]
Features = Float[Tensor, "batch channels height width"]
Plane = Float[Tensor, "batch 1 height width"]

CentersType = Literal["softplus", "normed"]
Attraction = Literal["inv", "exp"]
Joining = Literal["mean", "sum"]

HIDDEN, SEED_HIDDEN = 128, 256  # channels of the two-layer perceptrons
FLOOR = 1e-3  # below widths of bins and points of attractors, which end in a ReLU
SHARE_FLOOR = 1e-4  # below the two parts of a share, and below probabilities
TINY = 1e-7  # inside Stirling's logarithms


def inverse_attractor(distance: Tensor, alpha: float, gamma: int) -> Tensor:
    """Section 3.2.1: d / (1 + alpha d^gamma), the move of a center at distance d from a point."""
    return distance / (1 + alpha * distance**gamma)


def exponential_attractor(distance: Tensor, alpha: float, gamma: int) -> Tensor:
    """Section 3.2.1: exp(-alpha |d|^gamma) d, the move of a center at distance d from a point."""
    return torch.exp(-alpha * distance.abs() ** gamma) * distance


ATTRACTORS = {"inv": inverse_attractor, "exp": exponential_attractor}


def normed_seed_centers(widths: Centers, nearest: float, farthest: float) -> Centers:
    """Middles of bins that fill the range: `widths` (0 or more) are their parts of it, up to a factor.

    Args:
        widths: of the bins; 1e-3 is added to each.
        nearest, farthest: the range, in meters.
    """
    parts = widths + FLOOR
    parts = parts / parts.sum(1, keepdim=True)
    edges = nearest + (farthest - nearest) * parts.cumsum(1)
    return edges - (farthest - nearest) * parts / 2


def attracted(
    centers: Centers,
    points: Float[Tensor, "batch points height width"],
    attraction: Attraction,
    alpha: float,
    gamma: int,
    joining: Joining,
) -> Centers:
    """Section 3.2.1: centers plus the mean (or the sum) over the points of their moves towards each.

    Args:
        centers, points: both in meters, or both normed.
        attraction, alpha, gamma: which move, see `inverse_attractor` and `exponential_attractor`.
        joining: "mean" or "sum".
    """
    moves = torch.zeros_like(centers)
    for point in torch.split(points, 1, dim=1):  # all at once would need points x bins maps
        moves = moves + ATTRACTORS[attraction](point - centers, alpha, gamma)
    return centers + (moves / points.shape[1] if joining == "mean" else moves)


def log_binomial_coefficients(count: int) -> Float[Tensor, " count"]:
    """log C(n, k), k = 0 to n = count - 1, by Stirling: n log n - k log k - (n - k) log(n - k)."""
    n = torch.tensor(count - 1 + TINY, dtype=torch.float64)
    k = torch.arange(count, dtype=torch.float64) + TINY
    return n * n.log() - k * k.log() - (n - k) * (n - k + TINY).log()


def log_binomial(probability: Plane, temperature: Plane, count: int) -> Centers:
    """Section 3.2.2: softmax over k of log(C(n, k) p^k (1 - p)^(n - k)) / t, for n = count - 1.

    Args:
        probability: p, raised to 1e-4.
        temperature: t; the smaller, the sharper.
        count: of the bins.
    """
    k = torch.arange(count, device=probability.device)[:, None, None]
    coefficients = log_binomial_coefficients(count).to(probability)[:, None, None]
    rest = (1 - probability).clamp(min=SHARE_FLOOR, max=1.0)
    p = probability.clamp(min=SHARE_FLOOR, max=1.0)
    logits = coefficients + k * p.log() + (count - 1 - k) * rest.log()
    return torch.softmax(logits / temperature, dim=1)


def share(parts: Float[Tensor, "batch 2 height width"]) -> Plane:
    """a / (a + b) of two maps that are 0 or more, each raised by 1e-4."""
    parts = parts + SHARE_FLOOR
    return parts[:, :1] / parts.sum(1, keepdim=True)


def resized(maps: Features, like: Tensor) -> Tensor:
    """Bilinearly, with aligned corners, to the height and width of other maps."""
    return F.interpolate(maps, like.shape[-2:], mode="bilinear", align_corners=True)


class PixelPerceptron(nn.Module):
    """Two layers over the channels of every pixel, with a ReLU between them."""

    def __init__(self, inner: int, hidden: int, outer: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, hidden, 1)
        self.conv2 = nn.Conv2d(hidden, outer, 1)

    def forward(self, maps: Features) -> Tensor:
        """Maps of `outer` channels."""
        found: Tensor = self.conv2(F.relu(self.conv1(maps)))
        return found


class ConditionalLogBinomial(nn.Module):
    """Section 3.2.2: the distribution over bins of every pixel, by its features and the bins' embedding.

    Args:
        inner: channels of features and embedding together.
        bins: how many.
        temperatures: the lowest and the highest.
    """

    def __init__(self, inner: int, bins: int, temperatures: tuple[float, float]) -> None:
        super().__init__()
        self.bins = bins
        self.temperatures = temperatures
        self.mlp = nn.Sequential(
            nn.Conv2d(inner, inner // 2, 1), nn.GELU(), nn.Conv2d(inner // 2, 4, 1), nn.Softplus()
        )

    def forward(self, features: Features) -> Centers:
        """How much each bin counts, 1 in all."""
        found = self.mlp(features)
        low, high = self.temperatures
        return log_binomial(share(found[:, :2]), low + (high - low) * share(found[:, 2:]), self.bins)


class MetricBinsHead(nn.Module):
    """Metric depth from a decoder's maps (section 3.2).

    Args:
        channels: of the decoder's maps.
        features: channels of the map at full size.
        bins: how many.
        embedding: channels of the bins' embedding.
        attractors: how many points each of the four scales has, the coarsest first.
        centers: "softplus", without an upper bound, or "normed", inside `depths`.
        attraction, alpha, gamma, joining: see `attracted`. ZoeDepth's configuration says alpha = 1000, which
            its code never hands on: its models have 300.
        depths: the range of normed centers, in meters.
        temperatures: of the distribution, the lowest and the highest.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        bins: int,
        embedding: int,
        attractors: tuple[int, int, int, int],
        centers: CentersType,
        attraction: Attraction,
        alpha: float,
        gamma: int,
        joining: Joining,
        depths: tuple[float, float],
        temperatures: tuple[float, float],
    ) -> None:
        super().__init__()
        self.centers = centers
        self.depths = depths
        self.attracts = attraction, alpha, gamma, joining
        self.conv2 = nn.Conv2d(channels, channels, 1)
        self.seed_bin_regressor = PixelPerceptron(channels, SEED_HIDDEN, bins)
        self.seed_projector = PixelPerceptron(channels, HIDDEN, embedding)
        self.projectors = nn.ModuleList(PixelPerceptron(channels, HIDDEN, embedding) for _ in attractors)
        each = 1 if centers == "softplus" else 2  # the second one of a normed point has no effect
        self.attractors = nn.ModuleList(PixelPerceptron(embedding, embedding, each * n) for n in attractors)
        self.conditional_log_binomial = ConditionalLogBinomial(features + 1 + embedding, bins, temperatures)

    def forward(
        self,
        full: Features,
        bottleneck: Float[Tensor, "batch narrow rows columns"],
        blocks: list[Tensor],
        relative: Plane,
    ) -> Plane:
        """Depth in meters, of the size of `full`.

        Args:
            full: the decoder's last map before the relative depth.
            bottleneck: the encoder's coarsest map, as the decoder takes it.
            blocks: the decoder's maps, the coarsest first.
            relative: the decoder's own answer, of the size of `full`.
        """
        hidden = self.conv2(bottleneck)
        centers, embedded = self._seeds(self.seed_bin_regressor(hidden)), self.seed_projector(hidden)
        for project, attract, block in zip(self.projectors, self.attractors, blocks, strict=True):
            before, embedded = embedded, project(block)
            points = self._points(attract(embedded + resized(before, embedded)))
            centers = attracted(resized(centers, embedded), points, *self.attracts)
        weights = self.conditional_log_binomial(torch.cat([full, relative, resized(embedded, full)], 1))
        depth: Tensor = (weights * resized(self._in_meters(centers), full)).sum(1, keepdim=True)
        return depth

    def _seeds(self, raw: Tensor) -> Tensor:
        if self.centers == "softplus":
            return F.softplus(raw)
        nearest, farthest = self.depths
        return (normed_seed_centers(raw.relu(), nearest, farthest) - nearest) / (farthest - nearest)

    def _points(self, raw: Tensor) -> Tensor:
        """Of normed ones, ZoeDepth's code takes the first number of two as it is, and so do its weights."""
        return F.softplus(raw) if self.centers == "softplus" else raw[:, ::2].relu() + FLOOR

    def _in_meters(self, centers: Tensor) -> Tensor:
        if self.centers == "softplus":
            return centers
        nearest, farthest = self.depths
        return (nearest + (farthest - nearest) * centers).sort(1).values.clamp(nearest, farthest)
