"""One sample <-> the members of a shard that hold it.

A labelled sample `<key>` is `<key>.jpg` (or png, webp), `<key>.depth.png` or `<key>.depth.npy`,
optionally `<key>.mask.png` (0 = invalid) and `<key>.sky.png` (above 0 = infinitely far), and `<key>.json`:

    {"depth": {"space": "metric depth", "unit": "m", "codec": "log16", "range": [low, high]},
     "intrinsics": [fx, fy, cx, cy]}

The codecs are those of `depthkd.formats.depth`. Of an unlabelled sample (SA-1B, img2dataset) only the
image is read, and on request the intrinsics.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64

from depthkd.batch import Ambiguity, DepthSpace, Quantity
from depthkd.errors import UserError
from depthkd.formats.depth import CODECS, LossyError, check_round_trip, decode_depth, encode_depth
from depthkd.formats.images import (
    IMAGE_SUFFIXES,
    decode_gray_png,
    decode_image,
    encode_jpeg,
    encode_png,
    image_size,
    place_in_decoded,
)
from depthkd.formats.sample import BadSample, Sample, bad_part, content_digest
from depthkd.geometry import crop_intrinsics, resize_intrinsics
from depthkd.shapes import DepthArray, MaskArray

IMAGE_SIZE = "image_size"  # of a predicted label: height and width of the image that all of it covers
IMAGE_DIGEST = "image_digest"  # of a predicted label: `digest_in_words` of the image that it is of
SKY = "sky.png"  # member with the pixels that are infinitely far
ALL_VALID = 0.999  # share of the pixels that an interpolated one is made of


def unit_of(space: DepthSpace) -> str:
    """The unit that numbers of a space have: "m", "1/m", or "relative" where a factor is unknown."""
    if space.ambiguity is not Ambiguity.METRIC:
        return "relative"
    return "m" if space.quantity is Quantity.DEPTH else "1/m"


def default_codec(space: DepthSpace) -> str:
    """log16, which keeps relative errors small, where values are positive and known up to a factor; else
    png16: an affine map may be negative, and its zero means nothing."""
    return "log16" if space.invertible else "png16"


def encode_sample(
    sample: Sample, codec: str | None = None, image: str = "jpg", extra: Mapping[str, Any] | None = None
) -> dict[str, bytes]:
    """A sample as a shard's members, suffix -> bytes; `extra` is added to its json.

    The depth's mask goes into the codec. A sample without depth gets its image and a json.

    Raises:
        UserError: `codec` or `image` is unknown, the depth has no space or no valid pixel, or the codec
            would change it by more than matters (`LossyError`).
    """
    if image not in ("jpg", "png"):
        raise UserError(f"'{image}' is not an image format that shards are written in; take jpg or png")
    pixels = encode_jpeg(sample.image) if image == "jpg" else encode_png(sample.image)
    return {image: pixels, **encode_label(sample, codec, extra)}


def encode_label(
    sample: Sample, codec: str | None = None, extra: Mapping[str, Any] | None = None
) -> dict[str, bytes]:
    """All members of a sample but its image: the depth, if it has one, and the json.

    What is stored is read again and compared with what was given. Where the space allows inverses, values
    that have none are invalid. Depth that is infinite where the mask is false, the sky's, is kept apart
    from what was not measured, in a member of its own.

    Args:
        sample: with a depth and its space, or without.
        codec: how the depth is stored; None: `default_codec` of its space.
        extra: more for the json.

    Raises:
        UserError: as `encode_sample`.
    """
    members: dict[str, bytes] = {}
    record: dict[str, Any] = dict(extra or {})
    if sample.depth is not None:
        if sample.space is None:
            raise UserError(f"sample '{sample.key}' has depth without a space; give one, as 'metric depth'")
        codec = default_codec(sample.space) if codec is None else codec
        depth, mask = sample.depth, np.isfinite(sample.depth)
        mask = mask if sample.mask is None else mask & sample.mask
        if sample.space.invertible:
            mask = mask & (depth > 0)
        unit = unit_of(sample.space)
        try:
            suffix, data, meta = encode_depth(depth, mask, codec)
            decoded, _ = decode_depth(data, meta, f"sample '{sample.key}'")
            check_round_trip(depth, mask, decoded, codec, sample.space.invertible)
        except LossyError as error:
            raise LossyError(f"sample '{sample.key}': {error}", error.extreme) from error
        except UserError as error:
            raise UserError(f"sample '{sample.key}': {error}") from error
        members[suffix] = data
        sky = np.isposinf(depth) & ~(np.True_ if sample.mask is None else sample.mask)
        if sky.any() and sample.space.quantity is Quantity.DEPTH:
            members[SKY] = encode_png(np.where(sky, np.uint8(255), np.uint8(0)))
        record["depth"] = {"space": str(sample.space), "unit": unit, **meta}
    if sample.intrinsics is not None:
        camera = sample.intrinsics
        record["intrinsics"] = [float(camera[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2))]
    members["json"] = json.dumps(record).encode()
    return members


def decode_sample(
    key: str,
    members: Mapping[str, bytes],
    where: str,
    labelled: bool,
    shorter_side_at_least: int | Callable[[int, int], int | None] | None = None,
    cameras: bool = False,
    label: tuple[str, Mapping[str, bytes]] | None = None,
    sky: bool = False,
) -> Sample:
    """The sample `key` of the tar `where`, from its members (suffix -> bytes).

    Unlabelled, everything but the image (and the intrinsics, if `cameras`) is ignored, and a JPEG may
    be decoded at a fraction of its size (see `decode_image`; `shorter_side_at_least` may be a function of its
    height and width, and then the sample's `decoded_from` says those). Labelled, the image keeps its size,
    and depth of another size is brought to it (see `_resized`). Depth and json may come from another tar:
    `label` is its name and the members there. Depth is 0 where it is not valid; with `sky`, it is infinity
    where it is known to be infinite.

    Raises:
        BadSample: something is missing, broken or does not fit; the sentence names tar and key.
    """
    name = f"{where}: sample '{key}'"
    suffix = next((suffix for suffix in IMAGE_SUFFIXES if suffix in members), None)
    with bad_part("image"):
        if suffix is None:
            held = ", ".join(f".{suffix}" for suffix in members)
            expected = f"it would be one of .{', .'.join(IMAGE_SUFFIXES)}"
            raise BadSample(f"{name} has no image among {held}; {expected}")
        data, smallest = members[suffix], None if labelled else shorter_side_at_least
        part, whole = f"{name}, its .{suffix},", None
        if callable(smallest):
            whole = image_size(data, part)
            smallest = smallest(*whole)
        image = decode_image(data, part, shorter_side_at_least=smallest)
    if not labelled:
        camera = _camera(members, name, data, image.shape[:2]) if cameras else None
        return Sample(key, image, intrinsics=camera, digest=content_digest(data), decoded_from=whole)
    if label is not None:
        where, members = label
        name = f"{where}: sample '{key}'"
    record = _record(members, name)
    with bad_part("label"):
        depth, mask, space = _decode_label(members, record, name)
        if record.get(IMAGE_DIGEST, own := digest_in_words(content_digest(data))) != own:
            raise BadSample(
                f"{name} is the label of another image than '{key}' is now: label that tar of images again"
            )
        size = int(image.shape[0]), int(image.shape[1])
        covers = record.get(IMAGE_SIZE) == list(size)
        depth, mask = _resized(depth, mask, size, "teacher" in record, name, covers)
        if not sky:
            depth = np.where(mask, depth, np.float32(0))
    return Sample(
        key,
        image,
        depth,
        mask,
        read_intrinsics(record.get("intrinsics"), name),
        space,
        digest=content_digest(data),
        data_set=_data_set(record),
    )


def _resized(
    depth: DepthArray, mask: MaskArray, size: tuple[int, int], predicted: bool, name: str, whole: bool
) -> tuple[Float32[np.ndarray, "tall wide"], Bool[np.ndarray, "tall wide"]]:
    """Depth at the size of its image, whose shape must be its own up to a pixel; a `whole` label says that it
    is of all of an image of that size, whatever sides its network takes.

    A network's prediction is interpolated, as models bring theirs to an image's size; measured depth takes
    the nearest pixel, because there is nothing between an object and what is behind it.
    """
    (height, width), (tall, wide) = depth.shape, size
    if (height, width) == size:
        return depth, mask
    if not whole and abs(height * wide - width * tall) > max(tall, wide):
        raise BadSample(
            f"{name} has an image of {wide} x {tall} and depth of {width} x {height}, of another shape"
        )
    nearest = cv2.resize(depth, (wide, tall), interpolation=cv2.INTER_NEAREST_EXACT)
    valid = cv2.resize(mask.view(np.uint8), (wide, tall), interpolation=cv2.INTER_NEAREST_EXACT)
    if predicted:
        between = cv2.resize(depth, (wide, tall), interpolation=cv2.INTER_LINEAR)
        inside = cv2.resize(mask.astype(np.float32), (wide, tall), interpolation=cv2.INTER_LINEAR)
        nearest = np.where(inside > ALL_VALID, between, nearest)
    return np.asarray(nearest, np.float32), np.asarray(valid.view(np.bool_))


def is_failed_download(members: Mapping[str, bytes]) -> bool:
    """Whether a sample without an image is what a downloader keeps of one that it could not get: a json with
    a `status` such as "failed_to_download"."""
    try:
        status = json.loads(members["json"])["status"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return str(status).startswith("failed_to_")


def decode_label(
    key: str, members: Mapping[str, bytes], where: str
) -> tuple[DepthArray, MaskArray, DepthSpace, dict[str, Any]]:
    """Depth, mask, space and json of a sample, with or without its image; as `decode_sample`.

    Raises:
        BadSample: something is missing, broken or does not fit; the sentence names tar and key.
    """
    name = f"{where}: sample '{key}'"
    record = _record(members, name)
    depth, mask, space = _decode_label(members, record, name)
    return np.where(mask, depth, np.float32(0)), mask, space, record


def digest_in_words(digest: int) -> str:
    """A `content_digest` as a label's json holds it."""
    return f"{digest:016x}"


def _data_set(record: Mapping[str, Any]) -> str | None:
    """The public data set that a sample was packed from, where its json says so."""
    source = record.get("source")
    found = source.get("data_set") if isinstance(source, dict) else None
    return found if isinstance(found, str) else None


@bad_part("json")
def _record(members: Mapping[str, bytes], name: str) -> dict[str, Any]:
    if "json" not in members:
        raise BadSample(f"{name} has no .json, which says what its depth means")
    try:
        record = json.loads(members["json"])
    except (ValueError, RecursionError) as error:
        raise BadSample(f"{name} has a broken .json: {error}") from error
    if not isinstance(record, dict):
        raise BadSample(f"{name} has a .json that is not a mapping")
    return record


def _decode_label(
    members: Mapping[str, bytes], record: dict[str, Any], name: str
) -> tuple[DepthArray, MaskArray, DepthSpace]:
    meta = record.get("depth")
    if not isinstance(meta, dict):
        raise BadSample(f"{name} has no 'depth' mapping in its .json; it would give space, unit and codec")
    space = _space(meta, name)
    suffix = CODECS.get(str(meta.get("codec")))
    if suffix is None:
        raise BadSample(
            f"{name} has depth codec {json.dumps(meta.get('codec'))}; it would be one of {', '.join(CODECS)}"
        )
    if suffix not in members:
        raise BadSample(f"{name} has no .{suffix}, which its .json promises")
    depth, mask = decode_depth(members[suffix], meta, f"{name}, its .{suffix},")
    if "mask.png" in members:
        extra = decode_gray_png(members["mask.png"], f"{name}, its .mask.png,")
        if extra.shape != depth.shape:
            raise BadSample(f"{name} has a mask of shape {extra.shape} and depth of shape {depth.shape}")
        mask = mask & (extra > 0)
    if space.invertible:
        mask = mask & (depth > 0)  # 0 would have no inverse
    if not mask.any():
        raise BadSample(f"{name} has no valid depth")
    depth = np.where(mask, depth, np.float32(0))
    if SKY in members:
        sky = decode_gray_png(members[SKY], f"{name}, its .{SKY},") > 0
        if sky.shape != depth.shape:
            raise BadSample(f"{name} has a sky of shape {sky.shape} and depth of shape {depth.shape}")
        depth[sky & ~mask] = np.inf
    return depth, mask, space


def _camera(
    members: Mapping[str, bytes], name: str, data: bytes, decoded: tuple[int, ...]
) -> Float64[np.ndarray, "3 3"] | None:
    """The json's intrinsics, where it has some, for an image that may have been decoded at a fraction."""
    if "json" not in members:
        return None
    camera = read_intrinsics(_record(members, name).get("intrinsics"), name)
    if camera is None:
        return None
    factor, (top, left) = place_in_decoded(data, name, decoded)
    smaller = resize_intrinsics(torch.from_numpy(camera), 1 / factor, 1 / factor)
    return np.asarray(crop_intrinsics(smaller, -top, -left).numpy())


def _space(meta: dict[str, Any], name: str) -> DepthSpace:
    try:
        space = DepthSpace.parse(str(meta.get("space")))
    except UserError as error:
        raise BadSample(f"{name}: {error}") from error
    if meta.get("unit") != unit_of(space):
        raise BadSample(
            f"{name} has unit {json.dumps(meta.get('unit'))}; '{space}' is stored in \"{unit_of(space)}\""
        )
    return space


@bad_part("json")
def read_intrinsics(value: Any, name: str) -> Float64[np.ndarray, "3 3"] | None:
    """A sample's [fx, fy, cx, cy] as a matrix; None of None.

    Raises:
        BadSample: they are no such numbers; the sentence begins with `name`.
    """
    if value is None:
        return None
    numbers = value if isinstance(value, list) else []
    if (
        len(numbers) != 4
        or not all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
        or min(numbers[:2]) <= 0
    ):
        raise BadSample(
            f"{name} has intrinsics {json.dumps(value)}; they would be [fx, fy, cx, cy] in pixels"
        )
    fx, fy, cx, cy = numbers
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)
