"""Running time of the model families at 512 x 512, as FiffDepth's Table 3 compares them.

python -m tests.speed.families

Random weights of the true size, one image a time, float32 on a CPU and half precision on a GPU. What
runs the UNet more than once is worked out from the time of its parts.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import DepthProConfig, DepthProForDepthEstimation

from depthkd.models.dpt.depth_anything import DepthAnything
from depthkd.models.latent_diffusion.fiffdepth import FiffDepth

SIDE = 512
PAPER = {  # seconds on a Titan RTX (Table 3)
    "Marigold (50 steps x 10 members)": 103.0,
    "Marigold LCM (4 steps x 5 members)": 1.7,
    "Depth Pro": 0.23,
    "FiffDepth": 0.09,
    "DepthAnything large": 0.04,
}


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The median, after one run to get warm."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def depth_pro() -> torch.nn.Module:
    """Depth Pro as published, which resizes to 1536 x 1536 itself."""
    make: Any = DepthProConfig
    return DepthProForDepthEstimation(make(use_fov_model=True))


@torch.inference_mode()
def main(repeats: int = 3) -> None:
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    name = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    image = torch.rand(1, 3, SIDE, SIDE, device=device)
    times: dict[str, float] = {}
    with torch.autocast(device.type, torch.float16, enabled=cuda):
        for size in ("small", "base", "large"):
            network = DepthAnything(size).to(device).eval()
            times[f"DepthAnything {size}"] = seconds(lambda n=network: n.predict(image), repeats)
            del network
            gc.collect()
        fiff = FiffDepth(size="large").to(device).eval()
        times["FiffDepth"] = seconds(lambda: fiff.predict(image), repeats)
        latent = fiff.encode(image)
        encode = seconds(lambda: fiff.encode(image), repeats)
        unet = seconds(lambda: fiff.denoise(latent, 0), repeats)
        decode = seconds(lambda: fiff.decode(latent), repeats)
        for label, steps, members in (("Marigold", 50, 10), ("Marigold LCM", 4, 5)):
            key = f"{label} ({steps} steps x {members} members)"
            times[key] = encode + members * (steps * unet + decode)
        del fiff
        gc.collect()
        if cuda:  # minutes an image on a few cores
            network = depth_pro().to(device).eval()
            large = torch.rand(1, 3, 1536, 1536, device=device)
            times["Depth Pro"] = seconds(lambda: network(large), repeats)
    base = times["DepthAnything large"]
    print(
        f"seconds for one {SIDE} x {SIDE} image on {name}; ratio to DepthAnything large; the paper's ratio:"
    )
    for key, value in sorted(times.items(), key=lambda item: item[1]):
        paper = f"{PAPER[key] / PAPER['DepthAnything large']:8.1f}" if key in PAPER else "       -"
        print(f"  {key:<36}{value:10.3f} s{value / base:9.2f}{paper}")
    print(f"  parts of FiffDepth: encoder {encode:.3f} s, UNet {unet:.3f} s, decoder {decode:.3f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    main(parser.parse_args().repeats)
