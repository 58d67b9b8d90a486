"""Photographs with alpha mattes instead of depth, for boundary recall: AM-2k, P3M-10k and DIS5K.

Depth Pro measures it on these three (arXiv 2410.02073, Table 2), and FiffDepth after it. Neither says
which images of AM-2k and P3M-10k; here they are the validation sets of the owners' code.
"""

from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from depthkd.alignment import Fit
from depthkd.batch import Quantity
from depthkd.benchmarks.benchmark import Protocol
from depthkd.benchmarks.files import ListedBenchmark
from depthkd.errors import MissingFileError
from depthkd.formats.images import decode_image
from depthkd.formats.sample import AnnotatedSample, BadSample
from depthkd.metrics.catalogue import MetricSet

RAW = Protocol(
    "mattes", Fit.NONE, None, Quantity.DEPTH, min_depth=None, max_depth=None, stand_in="raw"
)  # no truth, so nothing to fit to
P3M_IMAGES = {"P3M-500-NP": "original_image", "P3M-500-P": "blurred_image"}
FOREGROUND = 0.1  # of the opacity, above which Depth Pro's script counts a pixel as foreground


def read_matte(data: bytes, size: tuple[int, ...], name: str) -> Bool[np.ndarray, "height width"]:
    """Where a matte shows the foreground: where its first channel is above a tenth of white.

    Args:
        data: the bytes of a PNG, grey or of several channels that are alike.
        size: the image's height and width.
        name: the matte's file.

    Raises:
        BadSample: it is broken, has another size than the image, or is foreground nowhere or everywhere.
    """
    alpha = decode_image(data, name)[..., 0]
    if alpha.shape != size:
        raise BadSample(
            f"{name} has {alpha.shape[0]} x {alpha.shape[1]} pixels, but its image {size[0]} x {size[1]}"
        )
    foreground: Bool[np.ndarray, "height width"] = alpha > FOREGROUND * 255
    if foreground.all() or not foreground.any():
        where = "everywhere" if foreground.any() else "nowhere"
        raise BadSample(
            f"{name} is foreground (alpha above {FOREGROUND:g}) {where}; a matte needs both, or it has no "
            "boundary"
        )
    return foreground


class MatteBenchmark(ListedBenchmark):
    """Images with mattes: `<part>/<images>/<name>.jpg` and `<part>/<mattes>/<name>.png`.

    The root's files say what the samples are; a name that has only one of the two counts as a sample
    with a missing file. Models run at a shorter side of 518 px, at which Depth Anything runs unless told
    otherwise; those with a size or a longest side of their own keep it.

    Args:
        root: the folder, tar or zip that holds the files.
        split: a list of images, one path a line, of which the last three names count.
        resolution, limit: see `ListedBenchmark`.
    """

    figures = (MetricSet.MATTE,)
    min_depth = None
    max_depth = None
    own_resolution = "518 or own"
    part: str
    images: str
    mattes: str

    def __init__(
        self,
        root: str | Path,
        split: str | Path | None = None,
        resolution: int | str | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(root, split, RAW, resolution, limit)

    @cached_property
    def lines(self) -> list[list[str]]:
        """One image a line; names may have spaces."""
        return [["/".join(PurePosixPath(line.strip()).parts[-3:])] for line in self.listed()]

    def listed(self) -> list[str]:
        """See `ListedBenchmark.listed`.

        Raises:
            MissingFileError: the root holds no images or mattes of the part.
        """
        if self.split is not None:
            return super().listed()
        expected = [(self.part, self.images, ".jpg"), (self.part, self.mattes, ".png")]
        files = [PurePosixPath(name) for name in self.archive.names()]
        stems = {f.stem for f in files if (*f.parts[-3:-1], f.suffix) in expected and f.name[0] != "."}
        if not stems:
            raise MissingFileError(
                f"benchmark '{self.name}': {self.root} has no {self.part}/{self.images}/*.jpg; it would hold "
                f"{self.layout}"
            )
        return [f"{self.part}/{self.images}/{stem}.jpg" for stem in sorted(stems)]

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedBenchmark.paths`."""
        image = PurePosixPath(line[0])
        return [line[0], str(image.parent.parent / self.mattes / f"{image.stem}.png")]

    def sample_of(self, line: list[str]) -> AnnotatedSample:
        """See `ListedBenchmark.sample_of`."""
        name, matte = self.paths(line)
        image = decode_image(self.archive.read(name), name)
        foreground = read_matte(self.archive.read(matte), image.shape[:2], matte)
        return AnnotatedSample(name, image, matte=foreground)


class AM2k(MatteBenchmark):
    """The 200 validation images of AM-2k: animals and their fur (Li et al. 2022)."""

    name = "am2k"
    data_set = "AM-2k"
    layout = "validation/original/*.jpg and validation/mask/*.png, as AM-2k has them"
    folders = ("", "AM-2k")
    part = "validation"
    images = "original"
    mattes = "mask"


class P3M10k(MatteBenchmark):
    """500 portraits of P3M-10k (Li et al. 2021).

    Args:
        part: "P3M-500-NP" (faces as they are) or "P3M-500-P" (faces blurred).
        root, settings: see `MatteBenchmark`.
    """

    name = "p3m10k"
    data_set = "P3M-10k"
    layout = (
        "validation/P3M-500-NP/{original_image/*.jpg,mask/*.png}, and for the other part "
        "validation/P3M-500-P/{blurred_image/*.jpg,mask/*.png}, as P3M-10k has them"
    )
    folders = ("", "validation", "P3M-10k/validation")
    mattes = "mask"

    def __init__(
        self, root: str | Path, part: Literal["P3M-500-NP", "P3M-500-P"] = "P3M-500-NP", **settings: Any
    ) -> None:
        super().__init__(root, **settings)
        self.part, self.images = part, P3M_IMAGES[part]
        self.name = "p3m10k" if part == "P3M-500-NP" else "p3m10k_p"


class DIS5k(MatteBenchmark):
    """A part of DIS5K: objects with fine structures, in large photographs (Qin et al. 2022).

    DIS-VD has 470 images, DIS-TE1 to DIS-TE4 500 each, from simple to intricate, DIS-TR 3000. Their
    mattes are masks. Depth Pro measured on 200 images of all parts: the file dis5k_sample_list.txt in
    its repository, which can be given as `split`.

    Args:
        part: the folder.
        root, settings: see `MatteBenchmark`.
    """

    name = "dis5k"
    data_set = "DIS5K"
    layout = "DIS-VD/im/*.jpg and DIS-VD/gt/*.png, and the other parts likewise, as DIS5K has them"
    folders = ("", "DIS5K")
    images = "im"
    mattes = "gt"

    def __init__(
        self,
        root: str | Path,
        part: Literal["DIS-VD", "DIS-TE1", "DIS-TE2", "DIS-TE3", "DIS-TE4", "DIS-TR"] = "DIS-VD",
        **settings: Any,
    ) -> None:
        super().__init__(root, **settings)
        self.part = part
        self.name = "dis5k" if part == "DIS-VD" else f"dis5k_{part.removeprefix('DIS-').lower()}"
