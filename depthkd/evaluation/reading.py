"""Samples of a benchmark, read ahead of the model."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from depthkd.batch import DepthSpace
from depthkd.benchmarks.benchmark import Benchmark
from depthkd.errors import UserError
from depthkd.formats.sample import BadSample, Sample

AHEAD = 4  # samples decoded while the model runs


def truth_space(benchmark: Benchmark) -> DepthSpace:
    """The space of the benchmark's truth, from its first readable sample.

    Raises:
        UserError: no sample can be read.
    """
    reasons = []
    for _, sample in ahead(benchmark, range(len(benchmark))):
        if isinstance(sample, BadSample):
            reasons.append(str(sample))
        elif sample.space is not None:
            return sample.space
    why = f", the first: {reasons[0]}" if reasons else ""
    raise UserError(f"benchmark '{benchmark.name}': none of its {len(benchmark)} samples can be read{why}")


def ahead(benchmark: Benchmark, indices: Sequence[int]) -> Iterator[tuple[int, Sample | BadSample]]:
    """Samples in order, decoded by one thread (tar readers are not for several) a few ahead."""

    def read(index: int) -> Sample | BadSample:
        try:
            return benchmark.sample(index)
        except BadSample as error:
            return error

    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[Sample | BadSample]] = deque()
        try:
            for place, index in enumerate(indices):
                while len(waiting) <= AHEAD and place + len(waiting) < len(indices):
                    waiting.append(thread.submit(read, indices[place + len(waiting)]))
                yield index, waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
