"""Depth maps as OpenEXR images of float32, which compositing programs open."""

import io

from depthkd.errors import UserError
from depthkd.shapes import DepthArray

CHANNEL = "Y"  # of images of one channel, which all readers know


def encode_exr(depth: DepthArray, comment: str) -> bytes:
    """A map as a ZIP-compressed OpenEXR image of one channel; every number stays as it is, infinite ones too.

    Args:
        depth: the map.
        comment: what stands in its header as `comments`.

    Raises:
        UserError: the package that writes it is not installed.
    """
    try:
        import OpenEXR
    except ImportError as error:
        raise UserError(
            "exr is written by OpenEXR, which is not installed: pip install 'depthkd[exr]'"
        ) from error
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, "comments": comment}
    file = io.BytesIO()
    OpenEXR.File(header, {CHANNEL: depth}).write(file)
    return file.getvalue()
