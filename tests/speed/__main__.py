"""All speed measurements, one after another: `make bench`."""

from tests.speed import (
    codecs,
    edges,
    families,
    label,
    metrics,
    normalization,
    scenes,
    sharpdepth,
    stream,
    trimmed,
)

MEASUREMENTS = (
    normalization,
    trimmed,
    metrics,
    edges,
    scenes,
    codecs,
    stream,
    label,
    families,
    sharpdepth,
)

for measurement in MEASUREMENTS:
    measurement.main()
