"""Alignment and all per-pixel metrics against NumPy that does the same image by image.

python -m tests.benchmarks.metrics

Theirs, in two processes: lstsq on the valid pixels, and the formulas as they are written, in float64
and in float32. Ours: one batch, on two threads. Images are 480 x 640, an affine disparity against metric
depth of which a sixth is invalid, under the protocol "marigold".
"""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median

import numpy as np
import torch

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.benchmarks import Protocol
from tests.metrics.test_depth import numpy_figures

IMAGES, REPEATS = 8, 15
MARIGOLD = Protocol.named("marigold", max_depth=10.0)
Maps = tuple[np.ndarray, np.ndarray, np.ndarray]


def images(count: int = IMAGES, height: int = 480, width: int = 640) -> list[Maps]:
    """Predicted disparity, true depth of a room with noise, and a mask with holes, edges and specks."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width] / (height, width)[0]
    made = []
    for i in range(count):
        depth = 2 + 5 * rows + np.sin(9 * columns + i) + rng.normal(0, 0.05, rows.shape)
        disparity = 20 / depth * np.exp(rng.normal(0, 0.08, rows.shape)) + 3
        mask = (rng.random(rows.shape) > 0.04) & ((rows - 0.5) ** 2 + (columns - 0.3) ** 2 > 0.03)
        mask[: height // 30] = mask[-(height // 30) :] = False
        depth[~mask] = 0.0
        made.append((disparity.astype(np.float32), depth.astype(np.float32), mask))
    return made


def theirs(maps: Maps, dtype: type[np.floating] = np.float64) -> list[float]:
    """Marigold's evaluation of one image."""
    prediction, truth, mask = maps
    valid = mask & (truth > 1e-3) & (truth < 10.0)
    fitted = valid & (prediction != 0)
    columns = np.stack([prediction[fitted], np.ones(fitted.sum())], 1).astype(dtype)
    scale, shift = np.linalg.lstsq(columns, 1 / truth[fitted].astype(dtype), rcond=None)[0]
    disparity = np.maximum(prediction[valid].astype(dtype) * scale + shift, 1e-3)
    return list(numpy_figures(np.clip(1 / disparity, 1e-3, 10.0), truth[valid].astype(dtype)).values())


def theirs_float32(maps: Maps) -> list[float]:
    return theirs(maps, np.float32)


def ours(batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    return MARIGOLD.score(batch[0], AFFINE_DISPARITY, batch[1], METRIC_DEPTH, batch[2])


def measured() -> tuple[dict[str, float], float]:
    """Milliseconds an image of each side, and the largest difference from float64, relative above 1."""
    data = images()
    batch = [torch.from_numpy(np.stack(maps)) for maps in zip(*data, strict=True)]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    with ProcessPoolExecutor(2, get_context("fork"), torch.set_num_threads, (1,)) as pool:
        sides: dict[str, Callable[[], object]] = {
            "float64": lambda: list(pool.map(theirs, data)),
            "float32": lambda: list(pool.map(theirs_float32, data)),
            "ours": lambda: ours(batch),
        }
        times: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(REPEATS + 2):
            for side, work in sides.items():
                start = time.perf_counter()
                work()
                times[side].append((time.perf_counter() - start) / len(data) * 1e3)
        expected = np.array(list(pool.map(theirs, data)))
    found = torch.stack(list(ours(batch).values()), 1).double().numpy()
    torch.set_num_threads(threads)
    difference = np.abs(found - expected) / np.maximum(np.abs(expected), 1.0)
    return {side: median(values[2:]) for side, values in times.items()}, float(difference.max())


def main() -> None:
    times, difference = measured()
    print("alignment and all metrics, 480 x 640, NumPy in two processes, ours on two threads:")
    print("  " + ", ".join(f"{side} {milliseconds:.1f} ms an image" for side, milliseconds in times.items()))
    ratios = (f"{times[side] / times['ours']:.2f} times NumPy's {side}" for side in ("float64", "float32"))
    print(f"  {', '.join(ratios)}, largest difference {difference:.1e}")


if __name__ == "__main__":
    main()
