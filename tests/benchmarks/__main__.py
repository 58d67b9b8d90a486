"""All speed measurements, one after another: `make bench`."""

from tests.benchmarks import edges, normalization, scenes, stream

for measurement in (normalization, edges, scenes, stream):
    measurement.main()
