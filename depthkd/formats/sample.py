"""One decoded sample, and the sentence for one that cannot be decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from depthkd.batch import DepthSpace
from depthkd.errors import UserError

END = 65536  # bytes


class BadSample(UserError):  # noqa: N818 - it is what it says: a sample, and bad
    """A sample that cannot be used; the sentence names the file, the sample and the reason.

    Attributes:
        kind: what of it is bad, in a word by which bad samples are counted.
    """

    kind = "sample"


@contextmanager
def bad_part(kind: str) -> Iterator[None]:
    """What is found bad in the block is of this kind, unless a smaller part has said so before."""
    try:
        yield
    except BadSample as error:
        if error.kind == BadSample.kind:
            error.kind = kind
        raise


@dataclass
class Sample:
    """An image with what is known about it, as arrays in memory.

    `depth` is in `space` (meters for metric depth), `mask` is true where it is valid, `intrinsics`
    are a 3x3 matrix in pixels with the center of the top-left pixel at (0, 0). `windows` are
    further views of parts of `image`, all of one size, and `boxes` says where each lies in it:
    (top, left, height, width) as fractions of the image. `digest` tells the image's file from others,
    and `data_set` is what papers call the public data set that it is of, where that is known. `decoded_from`
    is the height and width of the image's file, where it was decoded at a fraction of them. `sparse` is what
    models may be given beside the image: depth of its size, in meters, 0 where nothing was measured.
    """

    key: str
    image: UInt8[np.ndarray, "height width 3"]
    depth: Float32[np.ndarray, "height width"] | None = None
    mask: Bool[np.ndarray, "height width"] | None = None
    intrinsics: Float64[np.ndarray, "3 3"] | None = None
    space: DepthSpace | None = None
    windows: UInt8[np.ndarray, "count window_height window_width 3"] | None = None
    boxes: Float32[np.ndarray, "count 4"] | None = None
    digest: int | None = None
    data_set: str | None = None
    decoded_from: tuple[int, int] | None = None
    sparse: Float32[np.ndarray, "height width"] | None = None

    @property
    def whole_size(self) -> tuple[int, int]:
        """Height and width of the image as its file has them."""
        return self.decoded_from or (int(self.image.shape[0]), int(self.image.shape[1]))


def read_file(path: Path) -> bytes:
    """The bytes of a sample's file.

    Raises:
        BadSample: it cannot be read: it is gone, a link to nowhere, a folder, or not allowed.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadSample(f"{path} cannot be read: {error.strerror}") from error


def content_digest(data: bytes) -> int:
    """64 bits that tell an image's file from others: of its length and its first and last 64 KiB."""
    ends = data if len(data) <= 2 * END else data[:END] + data[-END:]
    return int.from_bytes(
        blake2b(ends, digest_size=8, salt=len(data).to_bytes(8, "little")).digest(), "little"
    )


@dataclass
class AnnotatedSample(Sample):
    """A benchmark's sample with what its annotators drew, for metrics that need more than depth.

    `edges` are depth discontinuities. `planes` are masks of flat parts, `normals` their unit normals
    in the axes of `metrics.planarity.back_project`. `pairs` are pairs of points as (row, column) in
    pixels of the image, the closer one first. `matte` is true on the foreground,
    where alpha is above 0.1.
    """

    edges: Bool[np.ndarray, "height width"] | None = None
    planes: Bool[np.ndarray, "planes height width"] | None = None
    normals: Float64[np.ndarray, "planes 3"] | None = None
    pairs: Int64[np.ndarray, "pairs 2 2"] | None = None
    matte: Bool[np.ndarray, "height width"] | None = None
