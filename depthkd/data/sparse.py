"""Sparse depth for training, drawn from dense depth: a mixture of the patterns that sensors leave."""

from dataclasses import replace

import numpy as np

from depthkd.batch import METRIC_DEPTH
from depthkd.data.augmentation import SameSize
from depthkd.errors import UserError
from depthkd.formats.sample import BadSample, Sample
from depthkd.sparse_depth import parse_pattern

PATTERNS = {
    "10 to 2000 points": 8.0,
    "5 % outliers, 10 to 2000 points": 2.0,
    "lidar 64": 1.0,
    "lidar 32": 1.0,
    "lidar 16": 1.0,
    "lidar 8": 1.0,
    "orb": 1.0,
    "sift": 1.0,
    "1/8 resolution": 1.0,
    "1/16 resolution": 1.0,
    "1 hole, 100 to 2000 points": 1.0,
    "nearest 70 %, 100 to 2000 points": 1.0,
}


class SparsePoints(SameSize):
    """Sparse depth of a sample from its metric depth, by a pattern that is drawn for each sample.

    It is the last of composed transforms. What is drawn depends on the stream's seed, the sample's position
    and its key alone.

    Args:
        patterns: name of a pattern (see `depthkd.sparse_depth.parse_pattern`) -> how often it is drawn,
            beside the others. None: random points for half of the samples, some of them with outliers; lines
            of LiDARs, corners, low resolutions, holes and what is near for the others.
        max_depth: the largest depth that is measured, in meters: a benchmark's, whose points are where its
            truth counts; None: any.

    Raises:
        UserError: a pattern is none, a frequency is below 0, or none is above, or `max_depth` is not above 0.
    """

    def __init__(
        self, patterns: dict[str, float | int] | None = None, max_depth: float | int | None = None
    ) -> None:
        named = PATTERNS if patterns is None else patterns
        self.patterns = [parse_pattern(name) for name in named]
        shares = np.array(list(named.values()), np.float64)
        if not len(shares) or not (np.isfinite(shares) & (shares >= 0)).all() or not shares.sum() > 0:
            raise UserError(
                "patterns would be names with how often each is drawn, 0 or more and not 0 for all, not "
                f"{named}"
            )
        if max_depth is not None and not max_depth > 0:
            raise UserError(f"SparsePoints' max_depth must be above 0 m, not {max_depth:g}")
        self.shares = shares / shares.sum()
        self.farthest = np.inf if max_depth is None else max_depth

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample with sparse depth.

        Raises:
            BadSample: its depth is not metric.
        """
        if sample.depth is None or sample.space != METRIC_DEPTH:
            raise BadSample(
                f"sample '{sample.key}' has {sample.space or 'no depth'}; points are measured of "
                f"{METRIC_DEPTH}"
            )
        mask = np.isfinite(sample.depth) if sample.mask is None else sample.mask
        pattern = self.patterns[int(rng.choice(len(self.patterns), p=self.shares))]
        mask = mask & (sample.depth <= self.farthest)
        sparse = pattern(sample.depth, mask, sample.image, sample.intrinsics, rng)
        return replace(sample, sparse=sparse)
