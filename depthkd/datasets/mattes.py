"""Photographs with alpha mattes instead of depth, for boundary recall: AM-2k, P3M-10k and DIS5K.

Depth Pro measures it on these three (arXiv 2410.02073, Table 2), and FiffDepth after it. Neither says
which images of AM-2k and P3M-10k; here they are the validation sets of the owners' code.
"""

from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from jaxtyping import Bool

from depthkd.datasets.dataset import ListedDataset
from depthkd.formats.images import decode_image
from depthkd.formats.sample import AnnotatedSample, BadSample

P3MPart = Literal["P3M-500-NP", "P3M-500-P"]
DISPart = Literal["DIS-VD", "DIS-TE1", "DIS-TE2", "DIS-TE3", "DIS-TE4", "DIS-TR"]

P3M_IMAGES: dict[P3MPart, str] = {"P3M-500-NP": "original_image", "P3M-500-P": "blurred_image"}
FOREGROUND = 0.1  # of the opacity, above which Depth Pro's script counts a pixel as foreground


def read_matte(data: bytes, size: tuple[int, ...], name: str) -> Bool[np.ndarray, "height width"]:
    """Where a matte shows the foreground: where its first channel is above a tenth of white.

    Args:
        data: the bytes of a PNG, gray or of several channels that are alike.
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


class MatteDataset(ListedDataset):
    """Images with mattes: `<part>/<images>/<name>.jpg` and `<part>/<mattes>/<name>.png`.

    The root's files say what the samples are; a name that has only one of the two counts as a sample
    with a missing file.

    Args:
        root: the folder, tar or zip that holds the files.
        split: a list of images, one path a line, of which the last three names count.
    """

    space = None
    part: str
    images: str
    mattes: str

    @cached_property
    def lines(self) -> list[list[str]]:
        """One image a line; names may have spaces."""
        return [["/".join(PurePosixPath(line.strip()).parts[-3:])] for line in self.listed()]

    def own_lines(self, split: str | None) -> list[str]:
        """See `ListedDataset.own_lines`.

        Raises:
            MissingFileError: the root holds no images or mattes of the part.
        """
        expected = [(self.part, self.images, ".jpg"), (self.part, self.mattes, ".png")]
        files = [PurePosixPath(name) for name in self.archive.names()]
        stems = {f.stem for f in files if (*f.parts[-3:-1], f.suffix) in expected and f.name[0] != "."}
        if not stems:
            raise self.nothing_here(f"{self.part}/{self.images}/*.jpg")
        return [f"{self.part}/{self.images}/{stem}.jpg" for stem in sorted(stems)]

    def paths(self, line: list[str]) -> list[str]:
        """See `ListedDataset.paths`."""
        image = PurePosixPath(line[0])
        return [line[0], str(image.parent.parent / self.mattes / f"{image.stem}.png")]

    def sample_of(self, line: list[str]) -> AnnotatedSample:
        """See `ListedDataset.sample_of`."""
        name, matte = self.paths(line)
        image = decode_image(self.archive.read(name), name)
        foreground = read_matte(self.archive.read(matte), image.shape[:2], matte)
        return AnnotatedSample(name, image, matte=foreground)


class AM2k(MatteDataset):
    """The 200 validation images of AM-2k: animals and their fur (Li et al. 2022)."""

    name = "am2k"
    title = "AM-2k"
    layout = "validation/original/*.jpg and validation/mask/*.png, as AM-2k has them"
    folders = ("", "AM-2k")
    places = ("am2k/AM-2k.zip", "AM-2k.zip", "am2k", "AM-2k")
    part = "validation"
    images = "original"
    mattes = "mask"


class P3M10k(MatteDataset):
    """500 portraits of P3M-10k (Li et al. 2021).

    Args:
        part: "P3M-500-NP" (faces as they are) or "P3M-500-P" (faces blurred).
        root, split: see `MatteDataset`.
    """

    name = "p3m10k"
    title = "P3M-10k"
    layout = (
        "validation/P3M-500-NP/{original_image/*.jpg,mask/*.png}, and for the other part "
        "validation/P3M-500-P/{blurred_image/*.jpg,mask/*.png}, as P3M-10k has them"
    )
    folders = ("", "validation", "P3M-10k/validation")
    places = ("p3m10k/P3M-10k.zip", "P3M-10k.zip", "p3m10k", "P3M-10k")
    mattes = "mask"

    def __init__(
        self, root: str | Path, split: str | Path | None = None, part: P3MPart = "P3M-500-NP"
    ) -> None:
        super().__init__(root, split)
        self.part, self.images = part, P3M_IMAGES[part]
        self.name = "p3m10k" if part == "P3M-500-NP" else "p3m10k_p"


class DIS5k(MatteDataset):
    """A part of DIS5K: objects with fine structures, in large photographs (Qin et al. 2022).

    DIS-VD has 470 images, DIS-TE1 to DIS-TE4 500 each, from simple to intricate, DIS-TR 3000. Their
    mattes are masks. Depth Pro measured on 200 images of all parts: the file dis5k_sample_list.txt in
    its repository, which can be given as `split`.

    Args:
        part: the folder.
        root, split: see `MatteDataset`.
    """

    name = "dis5k"
    title = "DIS5K"
    layout = "DIS-VD/im/*.jpg and DIS-VD/gt/*.png, and the other parts likewise, as DIS5K has them"
    folders = ("", "DIS5K")
    places = ("dis5k/DIS5K.zip", "DIS5K.zip", "dis5k", "DIS5K")
    images = "im"
    mattes = "gt"

    def __init__(
        self,
        root: str | Path,
        split: str | Path | None = None,
        part: DISPart = "DIS-VD",
    ) -> None:
        super().__init__(root, split)
        self.part = part
        self.name = "dis5k" if part == "DIS-VD" else f"dis5k_{part.removeprefix('DIS-').lower()}"
