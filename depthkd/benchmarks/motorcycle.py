"""One photograph with measured depth, which needs no download."""

from depthkd import datasets
from depthkd.benchmarks.benchmark import Benchmark
from depthkd.benchmarks.protocol import Protocol
from depthkd.formats.sample import Sample


class Motorcycle(Benchmark):
    """One real image, offline: scikit-image's Middlebury motorcycle, 500 x 741 pixels, 2.1 to 5.0 m deep."""

    name = "motorcycle"

    def __init__(self, protocol: str | Protocol = "marigold") -> None:
        self.dataset = datasets.Motorcycle()
        self.data_set = self.dataset.title
        self.protocol = Protocol.named(protocol, min_depth=1e-3, max_depth=10.0)

    def __len__(self) -> int:
        return len(self.dataset)

    def sample(self, index: int) -> Sample:
        """The left image with its metric depth."""
        return self.dataset.sample(index)
