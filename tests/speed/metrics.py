"""Alignment and all per-pixel metrics against NumPy that does the same image by image.

python -m tests.speed.metrics

Theirs: lstsq on the valid pixels, and the formulas as they are written (one ratio for all accuracies, and
each error from both maps), in float64 and in float32, image by image in two processes; and in float64 with
one logarithm for all formulas that want it, too. Ours: `Protocol.score` on batches of four, in two
processes and in one. Images are 480 x 640, an affine disparity against metric depth of
which a sixth is invalid, under the protocol "marigold".
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median

import numpy as np
import torch

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.benchmarks import Protocol
from tests.metrics.written_out import THRESHOLDS, numpy_metrics

IMAGES, BATCH, REPEATS = 32, 4, 9
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


def fitted_pixels(maps: Maps, dtype: type[np.floating] = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true depth of one image's valid pixels, as Marigold's evaluation aligns them."""
    prediction, truth, mask = maps
    valid = mask & (truth > 1e-3) & (truth < 10.0)
    fitted = valid & (prediction != 0)
    columns = np.stack([prediction[fitted], np.ones(fitted.sum())], 1).astype(dtype)
    scale, shift = np.linalg.lstsq(columns, 1 / truth[fitted].astype(dtype), rcond=None)[0]
    disparity = np.maximum(prediction[valid].astype(dtype) * scale + shift, 1e-3)
    return np.clip(1 / disparity, 1e-3, 10.0), truth[valid].astype(dtype)


def as_written(p: np.ndarray, t: np.ndarray) -> list[float]:
    """As in the evaluation scripts that papers share: one line a metric."""
    ratio = np.maximum(p / t, t / p)
    return [
        np.mean(np.abs(p - t) / t),
        np.mean((p - t) ** 2 / t),
        np.sqrt(np.mean((p - t) ** 2)),
        np.sqrt(np.mean((np.log(p) - np.log(t)) ** 2)),
        np.mean(np.abs(np.log10(p) - np.log10(t))),
        100 * np.std(np.log(p) - np.log(t)),
        np.sqrt(np.mean((1 / p - 1 / t) ** 2)),
        *(np.mean(ratio < threshold) for threshold in THRESHOLDS.values()),
    ]


def theirs(maps: Maps, dtype: type[np.floating] = np.float64) -> list[float]:
    return as_written(*fitted_pixels(maps, dtype))


def theirs_with_one_logarithm(maps: Maps) -> list[float]:
    return list(numpy_metrics(*fitted_pixels(maps)).values())


def ours(batch: Sequence[torch.Tensor]) -> np.ndarray:
    prediction, truth, mask = batch
    scores = MARIGOLD.score(prediction, AFFINE_DISPARITY, truth, METRIC_DEPTH, mask)
    return torch.stack(list(scores.values()), 1).double().numpy()


DATA: list[Maps] = []  # the processes are forked, and have it too
BATCHES: list[list[torch.Tensor]] = []


def theirs_in_process(index: int) -> list[float]:
    return theirs(DATA[index])


def theirs_in_process_with_one_logarithm(index: int) -> list[float]:
    return theirs_with_one_logarithm(DATA[index])


def theirs_in_process_float32(index: int) -> list[float]:
    return theirs(DATA[index], np.float32)


def ours_in_process(index: int) -> np.ndarray:
    return ours(BATCHES[index])


def measured() -> tuple[dict[str, float], float]:
    """Milliseconds an image of each side, and the largest difference from float64, relative above 1."""
    DATA[:] = images()
    BATCHES[:] = [
        [torch.from_numpy(np.stack(maps)) for maps in zip(*DATA[i : i + BATCH], strict=True)]
        for i in range(0, IMAGES, BATCH)
    ]
    with ProcessPoolExecutor(2, get_context("fork"), torch.set_num_threads, (1,)) as pool:
        sides: dict[str, Callable[[], object]] = {
            "NumPy in float64": lambda: list(pool.map(theirs_in_process, range(IMAGES))),
            "NumPy in float32": lambda: list(pool.map(theirs_in_process_float32, range(IMAGES))),
            "NumPy in float64 with one logarithm": lambda: list(
                pool.map(theirs_in_process_with_one_logarithm, range(IMAGES))
            ),
            "ours in two processes": lambda: list(pool.map(ours_in_process, range(len(BATCHES)))),
            "ours in one process": lambda: [ours(batch) for batch in BATCHES],
        }
        times: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(REPEATS + 2):
            for side, work in sides.items():
                start = time.perf_counter()
                work()
                times[side].append((time.perf_counter() - start) / IMAGES * 1e3)
        expected = np.array(list(pool.map(theirs_in_process, range(IMAGES))))
    found = np.concatenate([ours(batch) for batch in BATCHES])
    difference = np.abs(found - expected) / np.maximum(np.abs(expected), 1.0)
    return {side: median(values[2:]) for side, values in times.items()}, float(difference.max())


def main() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    times, difference = measured()
    torch.set_num_threads(threads)
    print("alignment and all metrics, 480 x 640:")
    print("  " + ", ".join(f"{side} {milliseconds:.1f} ms an image" for side, milliseconds in times.items()))
    numpy64, numpy32, shared, processes, one = times.values()
    for name, ours_took in (("in two processes", processes), ("in one process", one)):
        print(
            f"  ratio {name} {numpy64 / ours_took:.2f} (to float32 {numpy32 / ours_took:.2f}, to one shared "
            f"logarithm {shared / ours_took:.2f})"
        )
    print(f"  largest difference {difference:.1e}")


if __name__ == "__main__":
    main()
