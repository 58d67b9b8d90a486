"""All speed measurements, one after another: `make bench`."""

from tests.speed import codecs, edges, families, metrics, normalization, scenes, sharpdepth, stream

for measurement in (normalization, metrics, edges, scenes, codecs, stream, families, sharpdepth):
    measurement.main()
