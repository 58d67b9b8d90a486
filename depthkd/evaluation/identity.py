"""What tells one benchmark's data from another's."""

from functools import cached_property
from typing import Any

from depthkd.benchmarks.benchmark import Benchmark
from depthkd.datasets.dataset import Dataset
from depthkd.evaluation.reading import ahead
from depthkd.formats.sample import BadSample
from depthkd.models.identity import DIGITS, Description, plain_text


def benchmark_fingerprint(benchmark: Benchmark) -> str:
    """What tells one benchmark from another: settings, length, and the first, middle and last sample.

    The protocol is not part of it: kept predictions are scored under others, too.
    """
    count = len(benchmark)
    description = Description()
    description.text(type(benchmark).__qualname__, count)
    _describe(description, benchmark)
    for _, sample in ahead(benchmark, sorted({0, count // 2, count - 1} & set(range(count)))):
        description.value(str(sample) if isinstance(sample, BadSample) else vars(sample))
    return description.digest()[:DIGITS]


def _describe(description: Description, thing: Benchmark | Dataset) -> None:
    """The settings of a benchmark, and of the data set or the benchmark that it is made of."""
    description.mapping(_settings(thing))
    for value in vars(thing).values():
        if isinstance(value, Benchmark | Dataset):
            description.text(type(value).__qualname__)
            _describe(description, value)


def _settings(thing: Benchmark | Dataset) -> dict[str, Any]:
    """The plain attributes that were given, and not those that are computed on first use."""
    kind = type(thing)
    found = {k: v for k, v in vars(thing).items() if k != "protocol" and plain_text(v)}
    return {k: v for k, v in found.items() if not isinstance(getattr(kind, k, None), cached_property)}
