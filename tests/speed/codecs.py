"""`python -m tests.speed.codecs`: size, error and speed of the depth codecs, in one process and one thread.

The maps are the embedded teacher's predictions of scikit-image's photographs, at 480 pixels and brought up
to 1,440, and the measured depth of the Middlebury motorcycle; `--maps` adds a folder of .npy files.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from depthkd.data.transforms import resize_image
from depthkd.datasets.motorcycle import Motorcycle
from depthkd.datasets.photographs import Photographs
from depthkd.formats.depth import CODECS, LINEAR, LOGARITHMIC, decode_depth, encode_depth
from depthkd.models import Embedded

ROUNDS = 7
Maps = dict[str, tuple[list[np.ndarray], tuple[str, ...]]]


def maps(folder: Path | None) -> Maps:
    """Name -> maps, NaN where invalid, and the codecs that suit them."""
    teacher = Embedded().eval()
    low, high = [], []
    photographs = Photographs()
    with torch.inference_mode():
        for index in range(len(photographs)):
            image = resize_image(photographs.sample(index).image, (480, 480))
            raw = teacher.predict_raw(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
            low.append(teacher.resize_to(raw, (480, 480))[0].numpy())
            high.append(teacher.resize_to(raw, (1440, 1440))[0].numpy())
    truth = Motorcycle().sample(0)
    measured = np.where(truth.mask, truth.depth, np.float32(np.nan))
    found: Maps = {
        "predicted, 480 x 480": (low, LINEAR),
        "the same at 1440 x 1440": (high, LINEAR),
        "measured, 741 x 500": ([measured], LOGARITHMIC),
    }
    for path in sorted(folder.glob("*.npy")) if folder else ():
        depth = np.load(path, allow_pickle=False).astype(np.float32)
        found[path.stem] = ([depth], LINEAR if np.nanmin(depth) <= 0 else LOGARITHMIC)
    return found


def seconds(call: Callable[[], Any]) -> float:
    """Processor time, median."""
    call()
    taken = []
    for _ in range(ROUNDS):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return median(taken)


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=Path, default=None)
    folder = parser.parse_args().maps
    print("| maps | codec | worst error | bits/pixel | written, MPix/s | read, MPix/s |")
    print("|---|---|---|---|---|---|")
    for name, (those, codecs) in maps(folder).items():
        for codec in sorted({*codecs, "npy"}, key=list(CODECS).index):
            bits = written = read = worst = 0.0
            for depth in those:
                _, data, meta = encode_depth(depth, None, codec)
                decoded, mask = decode_depth(data, meta, name)
                values = depth[mask].astype(np.float64)
                of_what = np.ptp(values) if codecs is LINEAR else values
                worst = max(worst, float((np.abs(decoded[mask] - values) / of_what).max()))
                bits += 8 * len(data)
                written += seconds(partial(encode_depth, depth, None, codec))
                read += seconds(partial(decode_depth, data, meta, name))
            pixels = sum(depth.size for depth in those)
            of = "of the range" if codecs is LINEAR else "of the value"
            print(
                f"| {name} | `{codec}` | {worst:.1e} {of} | {bits / pixels:.1f} | "
                f"{pixels / written / 1e6:.0f} | {pixels / read / 1e6:.0f} |"
            )


if __name__ == "__main__":
    main()
