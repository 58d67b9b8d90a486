"""`depthkd shards pack`: files -> tar shards."""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from depthkd.batch import DepthSpace
from depthkd.errors import UserError
from depthkd.formats.depth import CODECS, Number
from depthkd.formats.packing import Layout, Packer, RawDepth, find_pairs
from depthkd.formats.writing import write_shards
from depthkd.in_use import InUse
from depthkd.parsing import numbers
from depthkd.paths import user_path
from depthkd.verbs.shards.bad import print_bad


@dataclass(frozen=True)
class Packed:
    """What `pack` wrote: the tars, how many samples, and a sentence for each that was left out."""

    paths: list[Path]
    samples: int
    bad: list[str]


def pack(
    images: str | list[str],
    out: str,
    format: Layout = "sa1b",
    depth: str | list[str] | None = None,
    space: str = "metric depth",
    scale: str | Number | None = None,
    offset: Number = 0.0,
    invalid: str | list[Number] = "0",
    intrinsics: str | list[Number] | None = None,
    codec: str | None = None,
    samples_per_shard: int = 1000,
    max_bad: Number = 0.01,
    overwrite: bool = False,
    max_depth: Number | None = None,
    pair: Literal["name", "order"] = "name",
) -> Packed:
    """Write images, with their depth or without, into tar shards; image files are copied as they are.

    Args:
        images: files, folders (not their subfolders), patterns such as 'photos/*.jpg', 'photos/**' or
            'frame-{000..240..10}.jpg', or @list.txt with one on each line.
        out: where to write, such as 'shards/photos-%06d.tar'; without a number, one tar.
        format: sa1b (images and a json), img2dataset (numbered, with txt and json), or labelled.
        depth: the depth files, .png of 8 or 16 bits or .npy; each belongs to the image that agrees with it
            in the folders, words and numbers that tell files apart.
        space: what their values are, such as "metric depth" (stored in metres) or "scale disparity".
        scale: value = number * scale + offset, such as 0.001 for millimetres, or 1/256.
        offset: see scale.
        invalid: numbers in the files that mean "not measured", such as 0,65535.
        intrinsics: fx,fy,cx,cy of all images in pixels, top-left pixel's centre at (0, 0).
        codec: log16 (16 bits, relative error under 1e-4), png16 (16 bits, linear over each map's own
            range) or npy (exact); by default log16, and png16 for affine spaces.
        samples_per_shard: how many samples go into a tar.
        max_bad: the share of samples that may be broken, and are left out; beyond it, nothing is written.
        overwrite: replace tars of the same name.
        max_depth: values farther than this are not valid, such as a sky at 10000: metres in a metric space.
        pair: name, or order: the first image with the first depth file, and so on.

    Raises:
        UserError, MissingFileError, ExistingFileError: one sentence on what does not fit.
    """
    if (format == "labelled") != (depth is not None):
        raise UserError(
            "--depth and --format labelled go together; without depth, choose sa1b or img2dataset"
        )
    if codec is not None and codec not in CODECS:
        raise UserError(f"codec '{codec}' does not exist; it would be one of {', '.join(CODECS)}")
    raw = None
    if depth is not None:
        if scale is None:
            raise UserError("--scale is missing: value = number * scale, such as 0.001 for millimetres")
        excluded = numbers(invalid, "invalid")
        raw = RawDepth(DepthSpace.parse(space), _fraction(scale), offset, excluded, codec, max_depth)
    elif max_depth is not None or pair != "name":
        raise UserError("--max_depth and --pair are about depth files, and no --depth is given")
    if not 0 <= max_bad <= 1:
        raise UserError(f"max_bad is a share from 0 to 1, and not {max_bad:g}")
    camera = None if intrinsics is None else numbers(intrinsics, "intrinsics")
    if camera is not None and not (
        len(camera) == 4 and min(camera[:2]) > 0 and all(map(math.isfinite, camera))
    ):
        raise UserError(f"intrinsics {intrinsics} would be fx,fy,cx,cy in pixels, fx and fy above 0")
    pairs = find_pairs(images, depth, pair)
    if pair == "order":
        print(f"paired in order: {pairs.images[0]} with {pairs.depths[0]} first, ", end="")
        print(f"{pairs.images[-1]} with {pairs.depths[-1]} last")
    packer = Packer(pairs, format, raw, camera, max_bad)
    progress = tqdm(packer.samples(), total=len(packer), desc="pack", unit="sample", disable=None)
    pattern = user_path(out)
    writing = f"{pattern} is being packed by {{who}}: wait for it, or choose another --out"
    with InUse(pattern.with_name(f".{pattern.name}.in_use"), writing, pattern):
        paths = write_shards(iter(progress), str(pattern), samples_per_shard, overwrite)
    samples = len(packer) - len(packer.bad)
    if not samples:
        raise UserError(f"none of {len(packer)} samples can be used: {packer.bad[0]}")
    print(f"{samples} samples, {len(paths)} tars: {paths[0]} first")
    if packer.summary():
        print(packer.summary())
    print_bad(packer.bad, len(packer))
    return Packed(paths, samples, packer.bad)


def _fraction(value: str | Number) -> float:
    try:
        return float(Fraction(str(value)))
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"scale '{value}' is not a number such as 0.001 or 1/256") from error
