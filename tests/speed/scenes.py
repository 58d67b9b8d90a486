"""Images a second of the embedded scenes: `OMP_NUM_THREADS=1 python -m tests.speed.scenes`."""

import time

import cv2

from depthkd.datasets.scenes import Style, scenes

COUNT = 60


def main() -> None:
    cv2.setNumThreads(1)
    for style in Style:
        for _ in scenes(0, 2, style):
            pass
        wall, processor = time.perf_counter(), time.process_time()
        for _ in scenes(1, COUNT, style):
            pass
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(f"{style}: {COUNT / wall:.1f} images/s, {COUNT / processor:.1f} per second of processor time")


if __name__ == "__main__":
    main()
