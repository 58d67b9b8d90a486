"""All speed measurements, one after another: `make bench`."""

from tests.benchmarks import normalization, scenes, stream

for measurement in (normalization, scenes, stream):
    measurement.main()
