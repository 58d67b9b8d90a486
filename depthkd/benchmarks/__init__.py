"""What models are tested on, one data set a file."""

from typing import TYPE_CHECKING

from depthkd.lazy import lazy_exports

if TYPE_CHECKING:
    from depthkd.benchmarks.benchmark import Benchmark, Protocol
    from depthkd.benchmarks.diode import DIODE
    from depthkd.benchmarks.eth3d import ETH3D
    from depthkd.benchmarks.kitti import KITTI
    from depthkd.benchmarks.motorcycle import Motorcycle
    from depthkd.benchmarks.nyu import NYUv2
    from depthkd.benchmarks.scannet import ScanNet
    from depthkd.benchmarks.shards import ShardBenchmark
    from depthkd.benchmarks.sintel import Sintel

__all__ = [
    "DIODE",
    "ETH3D",
    "KITTI",
    "Benchmark",
    "Motorcycle",
    "NYUv2",
    "Protocol",
    "ScanNet",
    "ShardBenchmark",
    "Sintel",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Benchmark": "benchmark",
        "DIODE": "diode",
        "ETH3D": "eth3d",
        "KITTI": "kitti",
        "Motorcycle": "motorcycle",
        "NYUv2": "nyu",
        "Protocol": "benchmark",
        "ScanNet": "scannet",
        "ShardBenchmark": "shards",
        "Sintel": "sintel",
    },
)
