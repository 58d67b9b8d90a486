"""Public benchmarks of depth completion, whose sensors have measured the sparse depth that models are given.

Any other benchmark of metric depth is one with a pattern: see `CompletionBenchmark`.
"""

from pathlib import Path
from typing import Any

from depthkd import datasets
from depthkd.benchmarks.crops import cropped, kb_cropped
from depthkd.benchmarks.protocol import COMPLETION, Protocol
from depthkd.benchmarks.public_benchmark import PublicBenchmark
from depthkd.datasets.dataset import ListedDataset
from depthkd.datasets.eth3d_sfm import Part
from depthkd.errors import UserError
from depthkd.formats.sample import Sample
from depthkd.metrics.catalogue import MetricSet


class MeasuredPoints(PublicBenchmark):
    """Images with sparse depth: nothing is fitted, and predictions are not clipped.

    Args:
        root, protocol, settings: see `PublicBenchmark`.
    """

    metrics = (MetricSet.DEPTH, MetricSet.COMPLETION)
    own_resolution = "native"
    max_depth: float | None = None

    def __init__(self, root: str | Path, protocol: str | Protocol = COMPLETION, **settings: Any) -> None:
        super().__init__(root, protocol=protocol, **settings)


class KITTICompletion(MeasuredPoints):
    """KITTI's 1,000 selected images of 352 x 1216 with LiDAR's scans; in mm and 1/km, all depths.

    Args:
        lines: how many of the LiDAR's 64 lines models are given: 64, 32, 16 or 8, as in OMNI-DC's protocol.
        top_crop: rows that are cut off at the top, where LiDAR measures nothing; OMNI-DC cuts 96.
        root, settings: see `PublicBenchmark`; the 6,852 images of the split "val" are cut to 352 x 1216,
            bottom and center.

    Raises:
        UserError: there cannot be so many lines or rows.
    """

    name = "kitti_completion"
    kind = datasets.KITTICompletion
    units = "mm"

    def __init__(self, root: str | Path, lines: int = 64, top_crop: int = 0, **settings: Any) -> None:
        self.lines, self.top_crop = lines, top_crop
        self.pattern = f"lidar, {lines} lines"
        super().__init__(root, **settings)
        if not 0 <= top_crop < 352:
            raise UserError(f"benchmark '{self.name}': top_crop would be 0 to 351 rows, not {top_crop}")

    def open(self, root: str | Path, split: str | Path | None) -> ListedDataset:
        """See `PublicBenchmark.open`."""
        return datasets.KITTICompletion(root, split, self.lines)

    def scored(self, sample: Sample) -> Sample:
        """See `PublicBenchmark.scored`."""
        sample = kb_cropped(sample)
        height, width = (int(side) for side in sample.image.shape[:2])
        return cropped(sample, self.top_crop, 0, height - self.top_crop, width)


class VOID(MeasuredPoints):
    """VOID's 800 indoor images with points of visual-inertial odometry, in mm and 1/km; .2 to 5 m.

    Args:
        root, settings: see `PublicBenchmark`; `split` is "1500", "500" or "150", the number of points.
    """

    name = "void"
    kind = datasets.VOID
    units = "mm"
    min_depth = 0.2
    max_depth = 5.0

    def __init__(self, root: str | Path, split: str | Path | None = None, **settings: Any) -> None:
        super().__init__(root, split=split, **settings)
        known = self.dataset.default_split if split is None else split
        number = f"{known} " if known in self.dataset.splits else ""
        self.pattern = f"{number}points of visual-inertial odometry"


class ETH3DSfM(MeasuredPoints):
    """ETH3D's 11 scenes with points of structure from motion, an eighth of its size, the middle 480 x 640.

    Args:
        part: "all", "indoor" or "outdoor".
        height, width: of the truth, which its files do not say.
        root, settings: see `PublicBenchmark`.
    """

    name = "eth3d_sfm"
    kind = datasets.ETH3DSfM
    min_depth = 1e-5
    pattern = "points of structure from motion"

    def __init__(
        self, root: str | Path, part: Part = "all", height: int = 4032, width: int = 6048, **settings: Any
    ) -> None:
        self.part, self.size = part, (height, width)
        super().__init__(root, **settings)

    def open(self, root: str | Path, split: str | Path | None) -> ListedDataset:
        """See `PublicBenchmark.open`."""
        return datasets.ETH3DSfM(root, split, *self.size, part=self.part)
