"""Predicted depth as a PNG of 16 bits that says itself how it is read back.

Its text chunk `depthkd` is JSON: the space, the unit, and the codec with its range (`depthkd.formats.depth`),

    log16:  value = low * (high / low) ** ((code - 1) / 65534), where values are above 0 and known up to a
            factor; off by under 1e-4 of the value
    png16:  value = low + (code - 1) * (high - low) / 65534, where they have no fixed zero; off by under 1e-4
            of the map's range

and the code 0 is a pixel without depth. The chunk `Formula` says the same in words, for other readers.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from depthkd.batch import DepthSpace
from depthkd.formats.depth import check_round_trip, decode_depth, encode_depth
from depthkd.formats.images import open_image
from depthkd.formats.sample import BadSample
from depthkd.formats.shard_samples import default_codec, unit_of
from depthkd.shapes import DepthArray, MaskArray

TEXT = "depthkd"  # the chunk's keyword
HEAD = 33  # bytes of a PNG's signature and first chunk
LINEAR_FORMULA = "value = {low!r} + (code - 1) * {step!r}; code 0: no depth"
LOG_FORMULA = "value = {low!r} * {ratio!r} ** ((code - 1) / 65534); code 0: no depth"


def encode_depth_png(depth: DepthArray, space: DepthSpace, software: str) -> tuple[bytes, dict[str, Any]]:
    """A prediction as a PNG, and what its text says.

    Pixels that are not finite, and those that are not above 0 where that has no meaning, have no depth.

    Args:
        depth: the map.
        space: what its numbers mean.
        software: what made it, which stands first in the file.

    Raises:
        UserError: no pixel has depth, or the range is so wide (beyond 1 to 4.9e5) that 16 bits would
            change values by more than 1e-4 of themselves (`LossyError`).
    """
    valid = np.isfinite(depth)
    if space.invertible:
        valid &= depth > 0
    codec = default_codec(space)
    _, data, meta = encode_depth(depth, valid, codec)
    if space.invertible:
        check_round_trip(depth, valid, decode_depth(data, meta, "the PNG")[0], codec, relative=True)
    low, high = meta["range"]
    formula = LOG_FORMULA if space.invertible else LINEAR_FORMULA
    record = {"space": str(space), "unit": unit_of(space), **meta}
    texts = {
        "Software": software,
        TEXT: json.dumps(record),
        "Formula": formula.format(low=low, ratio=high / low if low else 1.0, step=(high - low) / 65534),
    }
    return with_text(data, texts), record


def decode_depth_png(data: bytes, name: str) -> tuple[DepthArray, MaskArray, DepthSpace]:
    """What `encode_depth_png` encoded: the map, where it has depth (elsewhere it is 0), and its space.

    Raises:
        BadSample: it is another PNG, or damaged.
    """
    text = open_image(data, name).info.get(TEXT)
    try:
        record = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise BadSample(
            f"{name} has no text '{TEXT}', which would say what its numbers mean; `depthkd predict "
            "--formats png16` writes it"
        )
    depth, mask = decode_depth(data, record, name)
    return depth, mask, DepthSpace.parse(str(record.get("space")))


def with_text(png: bytes, texts: Mapping[str, str]) -> bytes:
    """A PNG with text chunks before its pixels."""
    chunks = []
    for keyword, text in texts.items():
        body = b"tEXt" + keyword.encode("latin-1") + b"\0" + text.encode("latin-1")
        chunks.append(struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)))
    return b"".join([png[:HEAD], *chunks, png[HEAD:]])
