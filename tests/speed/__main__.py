"""All speed measurements, one after another: `make bench`."""

from tests.speed import codecs, edges, families, metrics, normalization, scenes, sharpdepth, stream, trimmed

for measurement in (normalization, trimmed, metrics, edges, scenes, codecs, stream, families, sharpdepth):
    measurement.main()
