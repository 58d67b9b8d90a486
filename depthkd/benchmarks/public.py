"""Public benchmarks, one row each: how papers score a data set.

Where a comment names a paper, the range or the size is from its evaluation; the others are Marigold's.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from depthkd import datasets
from depthkd.alignment import Fit
from depthkd.batch import Quantity
from depthkd.benchmarks.benchmark import Unmeasured
from depthkd.benchmarks.crops import NYU_EIGEN, Crop, kb_cropped, masked, nlspn_sized, scored_crop
from depthkd.benchmarks.protocol import Protocol
from depthkd.benchmarks.public_benchmark import PublicBenchmark, clamped_at
from depthkd.datasets.dataset import ListedDataset
from depthkd.datasets.diode import Part
from depthkd.datasets.mattes import DISPart, P3MPart
from depthkd.datasets.virtual_kitti_2 import SKY
from depthkd.formats.sample import Sample
from depthkd.metrics.catalogue import MetricSet

FARTHEST = 200.0  # m: SharpDepth draws the truth of rendered data in to it
RAW = Protocol(
    "mattes", Fit.NONE, None, Quantity.DEPTH, min_depth=None, max_depth=None, stand_in="raw"
)  # no truth, so nothing to fit to


class NYUv2(PublicBenchmark):
    """654 indoor images, scored in Eigen's crop; 1e-3 to 10 m.

    Args:
        truth: "raw" is what Kinect measured, which papers score; "filled" its inpainting, which papers on
            depth completion score.
        crop: "eigen", or "nlspn", the 228 x 304 px of papers on depth completion (see `nlspn_sized`), of
            which all are scored.
        root, settings: see `PublicBenchmark`.
    """

    name = "nyuv2"
    kind = datasets.NYUv2
    own_resolution = "native"

    def __init__(
        self,
        root: str | Path,
        truth: Literal["raw", "filled"] = "raw",
        crop: Literal["eigen", "nlspn"] = "eigen",
        **settings: Any,
    ) -> None:
        self.truth, self.crop = truth, crop
        super().__init__(root, **settings)

    def open(self, root: str | Path, split: str | Path | None) -> ListedDataset:
        """See `PublicBenchmark.open`."""
        return datasets.NYUv2(root, split, self.truth)

    def scored(self, sample: Sample) -> Sample:
        """See `PublicBenchmark.scored`."""
        if self.crop == "nlspn":
            return nlspn_sized(sample, self.truth == "filled")
        crop = np.zeros(sample.image.shape[:2], bool)
        crop[NYU_EIGEN] = True
        return masked(sample, crop)


class KITTI(PublicBenchmark):
    """652 street images of Eigen's split; 1e-5 to 80 m.

    Args:
        crop: which pixels are scored: "eigen" (Marigold), "garg", or "none".
        kb_crop: whether image and truth are cut to 352 x 1216 first, as most papers do.
        root, settings: see `PublicBenchmark`.
    """

    name = "kitti"
    kind: ClassVar[type[ListedDataset]] = datasets.KITTI
    min_depth = 1e-5
    max_depth = 80.0
    own_resolution = "native"

    def __init__(self, root: str | Path, crop: Crop = "eigen", kb_crop: bool = True, **settings: Any) -> None:
        super().__init__(root, **settings)
        self.crop = crop
        self.kb_crop = kb_crop

    def scored(self, sample: Sample) -> Sample:
        """See `PublicBenchmark.scored`."""
        sample = kb_cropped(sample) if self.kb_crop else sample
        return masked(sample, scored_crop(sample.image.shape[:2], self.crop))


class VirtualKITTI2(KITTI):
    """The 5,364 rendered images that Marigold validates on, cropped as KITTI's; 1e-5 to 80 m.

    The sky is drawn in at its files' 655.35 m, so that the whole map has edges.

    Args:
        root, crop, kb_crop, settings: see `KITTI`.
    """

    name = "vkitti2"
    kind = datasets.VirtualKITTI2
    metrics = (MetricSet.DEPTH, MetricSet.EDGES)

    def scored(self, sample: Sample) -> Sample:
        """See `PublicBenchmark.scored`."""
        sample = super().scored(sample)
        assert sample.depth is not None
        return replace(sample, depth=np.minimum(sample.depth, np.float32(SKY)))


class ETH3D(PublicBenchmark):
    """454 laser-scanned images; no upper bound. Models run at a longer side of 756 px, 504 x 756, and the fit
    sees at most 1024 px a side.

    Args:
        height, width: of the truth, which its files do not say.
        root, settings: see `PublicBenchmark`.
    """

    name = "eth3d"
    kind = datasets.ETH3D
    min_depth = 1e-5
    max_depth = None
    own_resolution = "longer 756"
    fit_side = 1024

    def __init__(self, root: str | Path, height: int = 4032, width: int = 6048, **settings: Any) -> None:
        self.size = height, width
        super().__init__(root, **settings)

    def open(self, root: str | Path, split: str | Path | None) -> ListedDataset:
        """See `PublicBenchmark.open`."""
        return datasets.ETH3D(root, split, *self.size)


class ScanNet(PublicBenchmark):
    """800 images of the validation scenes, as Marigold drew them; 1e-3 to 10 m."""

    name = "scannet"
    kind = datasets.ScanNet
    own_resolution = "native"


class DIODE(PublicBenchmark):
    """771 laser-scanned images with masks of their own.

    Models run at a longer side of 640 px, 480 x 640. The range of .6 to 350 m clips predictions and leaves
    no pixel out. Papers print "DIODE" for the indoor part and for all of it (AbsRel .07 and .26 for one
    model), so say which.

    Args:
        part: "all", "indoor" or "outdoor".
        root, settings: see `PublicBenchmark`.
    """

    name = "diode"
    kind = datasets.DIODE
    min_depth = 0.6
    max_depth = 350.0
    own_resolution = "longer 640"
    clip_only = True

    def __init__(self, root: str | Path, part: Part = "all", **settings: Any) -> None:
        self.part = part
        super().__init__(root, **settings)
        self.name = self.dataset.name

    def open(self, root: str | Path, split: str | Path | None) -> ListedDataset:
        """See `PublicBenchmark.open`."""
        return datasets.DIODE(root, split, self.part)


class DIODEIndoor(DIODE):
    """The 325 indoor images alone, by a name of their own below a root of benchmarks.

    Args:
        root, settings: see `DIODE`.
    """

    name = "diode_indoor"

    def __init__(self, root: str | Path, **settings: Any) -> None:
        super().__init__(root, part="indoor", **settings)


class Sintel(PublicBenchmark):
    """1,064 frames of the final pass; 1e-3 to 200 m, as SharpDepth scores it; others stop at 70 or 80 m.

    Metrics of edges see all depths, also those beyond 200 m, because SharpDepth cuts Spring's and
    UnrealStereo4K's truth there, but not Sintel's.
    """

    name = "sintel"
    kind = datasets.Sintel
    metrics = (MetricSet.DEPTH, MetricSet.EDGES)
    max_depth = 200.0
    edges_beyond_range = True


class IBims1(PublicBenchmark):
    """100 indoor images with annotated edges and planes; .005 to 25 m, as UniDepth has it; others stop at 10.

    Args:
        max_depth: the end of the valid range, in meters; None: no end.
        unmeasured: see `Benchmark`; Depth Pro's script knows no mask, so that holes have edges.
        root, settings: see `PublicBenchmark`.
    """

    name = "ibims1"
    kind = datasets.IBims1
    metrics = (MetricSet.DEPTH, MetricSet.EDGES, MetricSet.ANNOTATED_EDGES, MetricSet.PLANES)
    min_depth = 0.005

    def __init__(
        self,
        root: str | Path,
        max_depth: float | None = 25.0,
        unmeasured: Unmeasured = "zero",
        **settings: Any,
    ) -> None:
        self.max_depth = max_depth
        self.unmeasured = unmeasured
        super().__init__(root, **settings)


class Spring(PublicBenchmark):
    """1,015 rendered frames; 1e-5 to 200 m, as SharpDepth scores it.

    What is farther than 200 m, the sky among it, is drawn in to 200 m, so that the whole map has edges; the
    range leaves it out of metrics per pixel.
    """

    name = "spring"
    kind: ClassVar[type[ListedDataset]] = datasets.Spring
    metrics = (MetricSet.DEPTH, MetricSet.EDGES)
    min_depth = 1e-5
    max_depth = FARTHEST

    def scored(self, sample: Sample) -> Sample:
        """See `PublicBenchmark.scored`."""
        return clamped_at(sample, FARTHEST)


class UnrealStereo4K(Spring):
    """200 rendered images; 1e-5 to 200 m, as SharpDepth scores it. Depth beyond is drawn in as Spring's."""

    name = "unrealstereo4k"
    kind = datasets.UnrealStereo4K


class Booster(PublicBenchmark):
    """456 images of rooms with mirrors and glass, at a quarter of their size; up to 10 m.

    Args:
        factor: by which image and truth are shrunk.
        root, settings: see `PublicBenchmark`.
    """

    name = "booster"
    kind = datasets.Booster

    def __init__(self, root: str | Path, factor: int = 4, **settings: Any) -> None:
        self.factor = factor
        super().__init__(root, **settings)

    def open(self, root: str | Path, split: str | Path | None) -> ListedDataset:
        """See `PublicBenchmark.open`."""
        return datasets.Booster(root, split, self.factor)


class NuScenes(PublicBenchmark):
    """1,000 street images with LiDAR's depth, spread evenly over all that the root has; .05 to 80 m.

    Which images SharpDepth's 1,000 are is not known.
    """

    name = "nuscenes"
    kind = datasets.NuScenes
    samples_scored = 1000
    min_depth = 0.05
    max_depth = 80.0


class Hypersim(PublicBenchmark):
    """Rendered rooms: the owners' validation images, or all that Marigold's tar holds; 1e-5 to 65 m."""

    name = "hypersim"
    kind = datasets.Hypersim
    metrics = (MetricSet.DEPTH, MetricSet.EDGES)
    unmeasured: Unmeasured = "nearest"
    min_depth = 1e-5
    max_depth = 65.0
    own_resolution = "native"


class DA2K(PublicBenchmark):
    """About 2,000 pairs of points in 1,000 images, without depth.

    The share of pairs that come out in the right order needs no fit: of its protocol only the size
    at which models run matters: a shorter side of 518 px, at which Depth Anything runs unless told
    otherwise; models with a size or a longest side of their own keep it.

    Args:
        root, protocol, settings: see `PublicBenchmark`.
    """

    name = "da2k"
    kind = datasets.DA2K
    metrics = (MetricSet.PAIRS,)
    min_depth = None
    max_depth = None
    own_resolution = "518 or own"

    def __init__(
        self, root: str | Path, protocol: str | Protocol = "depth_anything", **settings: Any
    ) -> None:
        super().__init__(root, protocol=protocol, **settings)


class MatteBenchmark(PublicBenchmark):
    """Photographs with alpha mattes: models run at a shorter side of 518 px; those with a size or a longest
    side of their own keep it.

    Args:
        root, split, resolution, limit: see `PublicBenchmark`.
    """

    metrics = (MetricSet.MATTE,)
    min_depth = None
    max_depth = None
    own_resolution = "518 or own"

    def __init__(
        self,
        root: str | Path,
        split: str | Path | None = None,
        resolution: int | str | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(root, split, RAW, resolution, limit)
        self.name = self.dataset.name


class AM2k(MatteBenchmark):
    """200 animals and their fur."""

    name = "am2k"
    kind = datasets.AM2k


class P3M10k(MatteBenchmark):
    """500 portraits.

    Args:
        part: "P3M-500-NP" (faces as they are) or "P3M-500-P" (faces blurred).
        root, settings: see `MatteBenchmark`.
    """

    name = "p3m10k"
    kind = datasets.P3M10k

    def __init__(self, root: str | Path, part: P3MPart = "P3M-500-NP", **settings: Any) -> None:
        self.part = part
        super().__init__(root, **settings)

    def open(self, root: str | Path, split: str | Path | None) -> ListedDataset:
        """See `PublicBenchmark.open`."""
        return datasets.P3M10k(root, split, self.part)


class DIS5k(MatteBenchmark):
    """A part of DIS5K: objects with fine structures.

    Args:
        part: the folder: DIS-VD has 470 images, DIS-TE1 to DIS-TE4 500 each.
        root, settings: see `MatteBenchmark`.
    """

    name = "dis5k"
    kind = datasets.DIS5k

    def __init__(self, root: str | Path, part: DISPart = "DIS-VD", **settings: Any) -> None:
        self.part = part
        super().__init__(root, **settings)

    def open(self, root: str | Path, split: str | Path | None) -> ListedDataset:
        """See `PublicBenchmark.open`."""
        return datasets.DIS5k(root, split, self.part)
