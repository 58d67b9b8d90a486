"""All speed measurements, one after another: `make bench`."""

from tests.speed import edges, families, metrics, normalization, scenes, sharpdepth, stream

for measurement in (normalization, metrics, edges, scenes, stream, families, sharpdepth):
    measurement.main()
