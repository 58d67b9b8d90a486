"""What models are tested on, one data set a file."""

from typing import TYPE_CHECKING

from depthkd.lazy import lazy_exports

if TYPE_CHECKING:
    from depthkd.benchmarks.benchmark import Benchmark, Protocol
    from depthkd.benchmarks.booster import Booster
    from depthkd.benchmarks.da2k import DA2K
    from depthkd.benchmarks.diode import DIODE
    from depthkd.benchmarks.eth3d import ETH3D
    from depthkd.benchmarks.hypersim import Hypersim
    from depthkd.benchmarks.ibims import IBims1
    from depthkd.benchmarks.kitti import KITTI
    from depthkd.benchmarks.mattes import AM2k, DIS5k, P3M10k
    from depthkd.benchmarks.motorcycle import Motorcycle
    from depthkd.benchmarks.nuscenes import NuScenes
    from depthkd.benchmarks.nyu import NYUv2
    from depthkd.benchmarks.scannet import ScanNet
    from depthkd.benchmarks.shards import ShardBenchmark
    from depthkd.benchmarks.sintel import Sintel
    from depthkd.benchmarks.spring import Spring
    from depthkd.benchmarks.unrealstereo4k import UnrealStereo4K
    from depthkd.benchmarks.vkitti import VirtualKITTI2

__all__ = [
    "DA2K",
    "DIODE",
    "ETH3D",
    "KITTI",
    "AM2k",
    "Benchmark",
    "Booster",
    "DIS5k",
    "Hypersim",
    "IBims1",
    "Motorcycle",
    "NYUv2",
    "NuScenes",
    "P3M10k",
    "Protocol",
    "ScanNet",
    "ShardBenchmark",
    "Sintel",
    "Spring",
    "UnrealStereo4K",
    "VirtualKITTI2",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "AM2k": "mattes",
        "Benchmark": "benchmark",
        "Booster": "booster",
        "DA2K": "da2k",
        "DIODE": "diode",
        "DIS5k": "mattes",
        "ETH3D": "eth3d",
        "Hypersim": "hypersim",
        "IBims1": "ibims",
        "KITTI": "kitti",
        "Motorcycle": "motorcycle",
        "NYUv2": "nyu",
        "NuScenes": "nuscenes",
        "P3M10k": "mattes",
        "Protocol": "benchmark",
        "ScanNet": "scannet",
        "ShardBenchmark": "shards",
        "Sintel": "sintel",
        "Spring": "spring",
        "UnrealStereo4K": "unrealstereo4k",
        "VirtualKITTI2": "vkitti",
    },
)
