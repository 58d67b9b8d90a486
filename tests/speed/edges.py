"""Edge metrics against the scripts that papers use, both in two processes.

python -m tests.speed.edges

Theirs: scikit-image's Canny with SciPy's distance transform (PDBE), and Depth Pro's boundary F1 with
its relations computed anew at every threshold. Images are scenes of 480 x 640.
"""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median

import cv2
import numpy as np
import torch

from depthkd.datasets.scenes import Style, scenes
from depthkd.metrics.boundary import boundary_f1
from depthkd.metrics.edges import pseudo_boundary_errors
from tests.metrics.test_boundary import f1_oracle
from tests.metrics.test_edges import pdbe_oracle

PAIRS, REPEATS = 8, 3
Pair = tuple[np.ndarray, np.ndarray]


def pairs() -> list[Pair]:
    """True depth, and a blurred copy of it."""
    made = []
    for scene in scenes(0, PAIRS, Style.STUDIO, height=480, width=640):
        assert scene.sample.depth is not None
        depth = np.where(scene.sample.mask, scene.sample.depth, np.float32(80.0)).clip(0.1, 80.0)
        made.append((cv2.GaussianBlur(depth, (0, 0), 2.0), depth))
    return made


def ours_pdbe(pair: Pair) -> list[float]:
    return list(pseudo_boundary_errors(*pair).values())


def theirs_pdbe(pair: Pair) -> list[float]:
    return list(pdbe_oracle(*pair))


def ours_f1(pair: Pair) -> list[float]:
    return [boundary_f1(*pair)]


def theirs_f1(pair: Pair) -> list[float]:
    return [f1_oracle(*pair)]


def one_thread() -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def compare(
    name: str, ours: Callable[[Pair], list[float]], theirs: Callable[[Pair], list[float]], data: list[Pair]
) -> None:
    with ProcessPoolExecutor(2, get_context("fork"), one_thread) as pool:
        answers: dict[str, np.ndarray] = {}
        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(REPEATS + 1):
            for side, function in (("ours", ours), ("theirs", theirs)):
                start = time.perf_counter()
                answers[side] = np.array(list(pool.map(function, data)))
                times[side].append(time.perf_counter() - start)
    a, b = (median(times[side][1:]) / len(data) * 1e3 for side in ("theirs", "ours"))
    difference = np.abs(answers["ours"] - answers["theirs"]).max()
    print(f"{name}, 480 x 640, two processes: theirs {a:.1f} ms an image, ours {b:.1f} ms")
    print(f"  ratio {a / b:.2f}, largest difference {difference:.1e}")


def main() -> None:
    data = pairs()
    compare("PDBE", ours_pdbe, theirs_pdbe, data)
    compare("boundary F1", ours_f1, theirs_f1, data)


if __name__ == "__main__":
    main()
