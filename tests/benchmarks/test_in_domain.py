"""In-domain metric depth is scored as ZoeDepth's script does it, which Depth Anything's Table 4 is from."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from depthkd.batch import METRIC_DEPTH
from depthkd.benchmarks import KITTI, Hypersim, NYUv2, PublicBenchmark
from depthkd.evaluation.protocols import chosen
from depthkd.formats.sample import Sample
from depthkd.models import MetricBinsDepth

METRICS = ("delta1", "delta2", "delta3", "abs_rel", "rmse", "log10", "rmse_log", "sq_rel")


def owners_metrics(
    model: MetricBinsDepth, image: Any, truth: Any, low: float, high: float, kitti: bool
) -> dict[str, float]:
    """`evaluate.py` and `utils/misc.py` of ZoeDepth, step by step, in float64."""
    if kitti:
        top, left = truth.shape[0] - 352, int((truth.shape[1] - 1216) / 2)
        image, truth = (a[top : top + 352, left : left + 1216] for a in (image, truth))
    pixels = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        predictions = [model.predict_raw(pixels), model.predict_raw(pixels.flip(3)).flip(2)]
    mean = (0.5 * (predictions[0] + predictions[1]))[:, None]
    resized = F.interpolate(mean, truth.shape, mode="bilinear", align_corners=True)
    prediction = resized[0, 0].double().numpy().copy()
    prediction[prediction < low] = low
    prediction[prediction > high] = high
    rows, columns = truth.shape
    scored = np.zeros(truth.shape, bool)
    if kitti:
        scored[
            int(0.40810811 * rows) : int(0.99189189 * rows),
            int(0.03594771 * columns) : int(0.96405229 * columns),
        ] = True
    else:
        scored[45:471, 41:601] = True
    valid = scored & (truth > low) & (truth < high)
    t, p = truth[valid].astype(np.float64), prediction[valid]
    ratio = np.maximum(t / p, p / t)
    return {
        **{f"delta{k}": float((ratio < 1.25**k).mean()) for k in (1, 2, 3)},
        "abs_rel": float((np.abs(t - p) / t).mean()),
        "rmse": float(np.sqrt(((t - p) ** 2).mean())),
        "log10": float(np.abs(np.log10(t) - np.log10(p)).mean()),
        "rmse_log": float(np.sqrt(((np.log(t) - np.log(p)) ** 2).mean())),
        "sq_rel": float((((t - p) ** 2) / t).mean()),
    }


@pytest.mark.parametrize("kitti", [False, True])
def test_metrics_are_those_of_the_owners_script(kitti: bool) -> None:
    torch.manual_seed(0)
    high = 80.0 if kitti else 10.0
    model = MetricBinsDepth("tiny", image_size=(48, 64), bins=8, centers="normed", max_depth=1.2 * high)
    model.eval()
    rng = np.random.default_rng(0)
    size = (375, 1242) if kitti else (480, 640)
    truth = rng.uniform(0.2 * high, 1.1 * high, size).astype(np.float32)
    truth[rng.random(size) < 0.3] = 0
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    benchmark: PublicBenchmark = (
        KITTI("nowhere", crop="garg", protocol="metric", depth_range=(1e-3, 80.0))
        if kitti
        else NYUv2("nowhere", protocol="metric")
    )
    scored = benchmark.scored(Sample("a", image, truth, truth > 0, None, METRIC_DEPTH))
    (protocol,) = chosen(benchmark, ["metric"], {"flip": True})
    pixels = torch.from_numpy(scored.image.copy()).permute(2, 0, 1)[None].float() / 255
    depth = model.predict(pixels, protocol.resolution, protocol.scale, protocol.flip)
    assert scored.depth is not None and scored.mask is not None
    maps = (torch.from_numpy(m.copy())[None] for m in (scored.depth, scored.mask))
    found = protocol.score(depth, METRIC_DEPTH, next(maps), METRIC_DEPTH, next(maps))
    expected = owners_metrics(model, image, truth, 1e-3, high, kitti)
    for name in METRICS:
        if name in found:
            assert float(found[name]) == pytest.approx(expected[name], rel=2e-5, abs=2e-6), name
    assert {"delta1", "delta2", "delta3", "abs_rel", "rmse", "log10", "rmse_log"} <= found.keys()


def test_a_range_of_ones_own_takes_the_benchmarks_place() -> None:
    assert Hypersim("nowhere").protocol.max_depth == 65.0
    ranged = Hypersim("nowhere", depth_range=(1e-3, 20.0)).protocol
    assert (ranged.min_depth, ranged.max_depth) == (1e-3, 20.0)
    assert KITTI("nowhere", depth_range=(None, None)).protocol.max_depth is None
    with pytest.raises(ValueError, match="0 < min_depth < max_depth"):
        NYUv2("nowhere", depth_range=(5.0, 1.0))
