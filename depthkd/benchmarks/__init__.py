"""What models are tested on, one data set a file."""

from typing import TYPE_CHECKING

from depthkd.lazy import lazy_exports

if TYPE_CHECKING:
    from depthkd.benchmarks.benchmark import Benchmark, Protocol
    from depthkd.benchmarks.motorcycle import Motorcycle
    from depthkd.benchmarks.shards import ShardBenchmark

__all__ = ["Benchmark", "Motorcycle", "Protocol", "ShardBenchmark"]

__getattr__ = lazy_exports(
    __name__,
    {
        "Benchmark": "benchmark",
        "Motorcycle": "motorcycle",
        "Protocol": "benchmark",
        "ShardBenchmark": "shards",
    },
)
