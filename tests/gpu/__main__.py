"""Check depthkd on this machine's GPU and measure it there; on a CPU the same at tiny size.

python -m tests.gpu --out gpu-report
"""

import argparse
import math
import sys
from functools import partial
from pathlib import Path

import torch

from tests.gpu import fits, numbers, speed, steps
from tests.gpu.parts import Part, Place, run_parts
from tests.gpu.report import Report, machine

PARTS = (
    Part("losses", numbers.normalizations, 60, short=True),
    Part("metrics", numbers.metrics, 30, short=True),
    Part("host waits", numbers.host_waits, 30, short=True),
    Part("teachers in half precision", numbers.half_teachers, 30, short=True),
    *(Part(f"fit {name}", partial(fits.twin, method=name), 90) for name in fits.TWINS),
    Part("resume", fits.resume, 60),
    Part("an ONNX teacher", fits.onnx_teacher, 40),
    Part("two ranks on one device", fits.two_ranks, 110),
    Part("a run's steps", fits.watched, 40),
    Part("matrix rate", speed.matrix_rate, 20, short=True),
    Part("normalization", speed.normalization, 40, short=True),
    Part("step of CrossContextDistill", partial(steps.cross_context, batch=1), 60),
    Part("step of CrossContextDistill, 8 images", partial(steps.cross_context, batch=8), 60),
    Part("step of AssistantGuided", steps.assistant, 60),
    Part("step of FiffDepth", steps.fiffdepth, 60),
    Part("step of SharpDepth", steps.sharpdepth_step, 60),
    Part("inference", speed.inference, 90),
)


ON_A_GPU = 360.0  # seconds for everything; a CPU takes what it takes


def main(out: Path, names: list[str], short: bool = False) -> int:
    """Run parts; the exit status is 1 if one is not as it should be."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    parts = [part for part in PARTS if (not names or part.name in names) and (part.short or not short)]
    if unknown := set(names) - {part.name for part in PARTS}:
        print(f"tests.gpu: there is no part '{unknown.pop()}'; there are {', '.join(p.name for p in PARTS)}")
        return 2
    report = Report(out, machine())
    seconds = math.inf if device.type == "cpu" else ON_A_GPU
    try:
        run_parts(parts, Place(device, (out / "work").absolute()), report, seconds)
    except KeyboardInterrupt:
        print(
            f"\ntests.gpu: interrupted; {len(report.parts)} of {len(parts)} parts are in {out / 'report.md'}"
        )
        return 130
    print(f"{out / 'report.md'}: {len(report.failed)} rows are not as they should be")
    return 1 if report.failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu-report"))
    parser.add_argument("--short", action="store_true", help="the few parts that `make test` runs")
    parser.add_argument("names", nargs="*", help="parts; all where none is named")
    options = parser.parse_args()
    sys.exit(main(options.out, options.names, options.short))
