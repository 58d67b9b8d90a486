"""The verb `depthkd shards`: pack files into tar shards, look into them, check them, generate scenes."""

import json
import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from depthkd.batch import DepthSpace
from depthkd.composition import Parser, numbers
from depthkd.errors import UserError
from depthkd.formats.depth import CODECS, Number, too_coarse
from depthkd.formats.images import IMAGE_SUFFIXES, image_size
from depthkd.formats.packing import Layout, Packer, RawDepth, find_pairs
from depthkd.formats.sample import BadSample
from depthkd.formats.samples import decode_label, decode_sample
from depthkd.formats.tar import TarIndex, index_tar, unread
from depthkd.formats.writing import write_shards
from depthkd.in_use import InUse
from depthkd.paths import expand_urls, user_path
from depthkd.scene_shards import scenes

SHOWN = 20  # bad samples that are printed one by one


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
    _print_bad(packer.bad, len(packer))
    return Packed(paths, samples, packer.bad)


def inspect(urls: str | list[str], samples: int = 200) -> list[dict[str, Any]]:
    """Print a line for each tar: samples, bytes, members, codec, image sizes, depth space and range.

    A tar that cannot be read, or has broken samples among those that are opened, has a mark in its line and
    a sentence below the table; then the exit status is 1.

    Args:
        urls: tars, as for training: paths, folders, wildcards, {000000..000019}.
        samples: how many samples of a tar, evenly spaced, are opened for sizes and depth.

    Returns:
        a mapping for each line; its "faults" holds the sentences.
    """
    rows = [_look_into(path, max(1, samples)) for path in expand_urls(urls)]
    marks = ["" if not row["faults"] else f"{len(row['faults'])} bad" for row in rows]
    words = [[*map(str, row.values())][:-1] for row in rows]
    table = [list(rows[0]), *([*line, mark] for line, mark in zip(words, marks, strict=True))]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())
    _print_bad([fault for row in rows for fault in row["faults"]])
    return rows


def verify(urls: str | list[str], workers: int = 2) -> list[str]:
    """Decode every sample, and print a sentence for each that cannot be used; then the exit status is 1.

    Args:
        urls: tars, as for training: paths, folders, wildcards, {000000..000019}.
        workers: how many threads decode.
    """
    bad: list[str] = []
    total = 0
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for path in expand_urls(urls):
            try:
                index = index_tar(path, images=False)
            except UserError as error:
                bad.append(str(error))
                total += 1
                continue
            total += len(index)
            found = pool.map(partial(_fault, index), range(len(index)))
            progress = tqdm(found, total=len(index), desc=Path(path).name, unit="sample", disable=None)
            bad += [sentence for sentence in progress if sentence]
    print(f"{total - len(bad)} of {total} samples are good")
    _print_bad(bad, total)
    return bad


def main(arguments: list[str]) -> int:
    """Run `depthkd shards`; returns the exit status."""
    from jsonargparse import auto_cli

    verbs: dict[str, Any] = {"pack": pack, "inspect": inspect, "verify": verify, "scenes": scenes}
    positional = arguments[:1] in (["inspect"], ["verify"])  # as in: depthkd shards verify sa_000000.tar
    options: dict[str, Any] = {"prog": "depthkd shards", "as_positional": positional, "parser_class": Parser}
    result = auto_cli(verbs, args=_gathered(arguments), **options)
    if arguments[:1] == ["inspect"]:
        return int(any(row["faults"] for row in result))
    return int(arguments[:1] == ["verify"] and bool(result))


def _gathered(arguments: list[str]) -> list[str]:
    """The command line with what a shell made of one pattern, several words, as one list of them."""
    gathered: list[str | list[str]] = []
    for word in arguments:
        if gathered and isinstance(gathered[-1], list) and not word.startswith("-"):
            gathered[-1].append(word)
            continue
        gathered.append(word)
        if word in ("inspect", "verify", "--images", "--depth"):
            gathered.append([])
    several = (words if isinstance(words, str) or len(words) != 1 else words[0] for words in gathered)
    return [words if isinstance(words, str) else json.dumps(words) for words in several if words != []]


def _look_into(path: str, samples: int) -> dict[str, Any]:
    try:
        index = index_tar(path, images=False)
    except UserError as error:
        size = Path(path).stat().st_size if Path(path).is_file() else "-"
        nothing = {"members": "-", "codec": "", "height x width": "-", "space": "-", "range": "-"}
        return {"tar": path, "samples": "-", "bytes": size, **nothing, "faults": [str(error)]}
    members = Counter(suffix for i in range(len(index)) for suffix in index.members(i))
    faults, sizes, labels = [], set(), []
    if members.keys().isdisjoint({*IMAGE_SUFFIXES, *CODECS.values()}):
        faults.append(f"{path} holds no sample with an image or a depth map: {unread(index)}")
    for i in range(0, len(index), math.ceil(len(index) / samples)):
        name = f"{path}: sample '{index.keys[i]}'"
        try:
            contents = index.read(i, (*IMAGE_SUFFIXES, "json"))
            image = next((contents[suffix] for suffix in IMAGE_SUFFIXES if suffix in contents), None)
            if image is not None:
                sizes.add(image_size(image, name))
        except BadSample as error:
            faults.append(str(error))
            continue
        try:
            about = json.loads(contents.get("json", b"{}"))["depth"]
            low, high = about["range"]
            labels.append((str(about["codec"]), str(about["space"]), float(low), float(high)))
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            continue  # no labels, or broken ones, which `verify` tells about
    codecs, spaces, lows, highs = zip(*labels, strict=True) if labels else ((), (), (), ())
    return {
        "tar": path,
        "samples": len(index),
        "bytes": index.stamp[0],
        "members": " ".join(f"{suffix}:{times}" for suffix, times in members.items()),
        "codec": " ".join(sorted({*codecs})),
        "height x width": _span([f"{height}x{width}" for height, width in sorted(sizes)]),
        "space": " ".join(sorted({*spaces})) or "-",
        "range": f"{min(lows):.4g}..{max(highs):.4g}" if lows else "-",
        "faults": faults,
    }


def _span(words: list[str]) -> str:
    return "-" if not words else words[0] if len(words) == 1 else f"{words[0]}..{words[-1]}"


def _fault(index: TarIndex, i: int) -> str | None:
    """Why a sample cannot be used, if so. A tar has labels, or images, if any of its samples has."""
    labelled = not set(CODECS.values()).isdisjoint(index.suffixes)
    try:
        members = index.read(i)
        if labelled and set(IMAGE_SUFFIXES).isdisjoint(index.suffixes):
            depth, mask, space, _ = decode_label(index.keys[i], members, str(index.path))
        else:
            sample = decode_sample(index.keys[i], members, str(index.path), labelled)
            if sample.depth is None or sample.mask is None or sample.space is None:
                return None
            depth, mask, space = sample.depth, sample.mask, sample.space
    except BadSample as error:
        return str(error)
    coarse = too_coarse(depth, mask, json.loads(members["json"])["depth"]) if space.invertible else None
    return coarse and f"{index.path}: sample '{index.keys[i]}' {coarse}"


def _print_bad(bad: list[str], total: int | None = None) -> None:
    if bad:
        print(f"{len(bad)}{'' if total is None else f' of {total}'} are bad:")
    for sentence in bad[:SHOWN]:
        print(f"  {sentence}")
    if len(bad) > SHOWN:
        print(f"  and {len(bad) - SHOWN} more")


def _fraction(value: str | Number) -> float:
    try:
        return float(Fraction(str(value)))
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"scale '{value}' is not a number such as 0.001 or 1/256") from error
