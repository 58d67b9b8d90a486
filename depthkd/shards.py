"""The verb `depthkd shards`: pack files into tar shards, look into them, check them, generate scenes."""

import json
import math
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from depthkd.batch import DepthSpace
from depthkd.composition import Parser
from depthkd.errors import ExistingFileError, UserError
from depthkd.formats.depth import CODECS, Number
from depthkd.formats.images import IMAGE_SUFFIXES, image_size
from depthkd.formats.packing import Layout, Packer, RawDepth, find_pairs
from depthkd.formats.sample import BadSample
from depthkd.formats.samples import decode_label, decode_sample, encode_sample
from depthkd.formats.tar import TarIndex, index_tar
from depthkd.formats.whole_files import write_whole
from depthkd.formats.writing import Member, write_shards, write_tar
from depthkd.paths import expand_urls, user_path

MANIFEST = "scenes.json"
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
    codec: str = "png16",
    samples_per_shard: int = 1000,
    max_bad: Number = 0.01,
    overwrite: bool = False,
) -> Packed:
    """Write images, with their depth or without, into tar shards; image files are copied as they are.

    Args:
        images: files, folders, patterns such as 'photos/*.jpg' or 'frame-{000..240..10}.jpg', or
            @list.txt with one on each line.
        out: where to write, such as 'shards/photos-%06d.tar'; without a number, one tar.
        format: sa1b (images and a json), img2dataset (numbered, with txt and json), or labelled.
        depth: the depth files, .png of 8 or 16 bits or .npy, paired by name up to the first dot.
        space: what their values are, such as "metric depth" (stored in metres) or "scale disparity".
        scale: value = number * scale + offset, such as 0.001 for millimetres, or 1/256.
        offset: see scale.
        invalid: numbers in the files that mean "not measured", such as 0,65535.
        intrinsics: fx,fy,cx,cy of all images in pixels, top-left pixel's centre at (0, 0).
        codec: png16 (16 bits over each map's own range) or npy (exact).
        samples_per_shard: how many samples go into a tar.
        max_bad: the share of samples that may be broken, and are left out; beyond it, nothing is written.
        overwrite: replace tars of the same name.

    Raises:
        UserError, MissingFileError, ExistingFileError: one sentence on what does not fit.
    """
    if (format == "labelled") != (depth is not None):
        raise UserError(
            "--depth and --format labelled go together; without depth, choose sa1b or img2dataset"
        )
    if codec not in CODECS:
        raise UserError(f"codec '{codec}' does not exist; it would be one of {', '.join(CODECS)}")
    raw = None
    if depth is not None:
        if scale is None:
            raise UserError("--scale is missing: value = number * scale, such as 0.001 for millimetres")
        raw = RawDepth(DepthSpace.parse(space), _fraction(scale), offset, _numbers(invalid, "invalid"), codec)
    camera = None if intrinsics is None else _numbers(intrinsics, "intrinsics")
    if camera is not None and (len(camera) != 4 or min(camera[:2]) <= 0):
        raise UserError(f"intrinsics {intrinsics} would be fx,fy,cx,cy in pixels, fx and fy above 0")
    packer = Packer(find_pairs(images, depth), format, raw, camera, max_bad)
    if not packer.pairs.by_name:
        print("No names agree: images and depth files are paired in sorted order.")
    progress = tqdm(packer.samples(), total=len(packer), desc="pack", unit="sample", disable=None)
    paths = write_shards(iter(progress), out, samples_per_shard, overwrite)
    samples = len(packer) - len(packer.bad)
    if not samples:
        raise UserError(f"none of {len(packer)} samples can be used: {packer.bad[0]}")
    print(f"{samples} samples, {len(paths)} tars: {paths[0]} first")
    _print_bad(packer.bad, len(packer))
    return Packed(paths, samples, packer.bad)


def inspect(urls: str | list[str], samples: int = 200) -> list[dict[str, Any]]:
    """Print a line for each tar: samples, image sizes, members, depth space and range, bytes.

    Args:
        urls: tars, as for training: paths, folders, wildcards, {000000..000019}.
        samples: how many samples of a tar, evenly spaced, are opened for sizes and depth.
    """
    rows = [_look_into(index_tar(path, images=False), samples) for path in expand_urls(urls)]
    table = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())
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


def scenes(
    out: str,
    style: str = "studio",
    seed: int = 0,
    count: int = 600,
    height: int = 192,
    width: int = 256,
    format: Literal["labelled", "sa1b"] = "labelled",
    workers: int = 2,
    samples_per_shard: int = 200,
) -> list[Path]:
    """Generate procedural scenes into tar shards; the same settings give the same bytes.

    The folder appears when all is there. A run that was interrupted continues with the shard that it
    was at, and a folder that has these scenes already is left as it is.

    Args:
        out: the folder to make.
        style: how the scenes look, studio or film.
        seed: which scenes.
        count: how many.
        height: of the images, in pixels.
        width: of the images, in pixels.
        format: labelled (with metric depth and intrinsics), or sa1b (images only).
        workers: how many processes; 1 does it in this one.
        samples_per_shard: how many samples go into a tar.

    Raises:
        UserError: a setting is out of range.
        ExistingFileError: the folder has something else in it.
    """
    if min(count, samples_per_shard) < 1:
        raise UserError(f"count ({count}) and samples_per_shard ({samples_per_shard}) must be at least 1")
    settings = {
        "style": str(style),
        "seed": seed,
        "count": count,
        "height": height,
        "width": width,
        "format": format,
        "samples_per_shard": samples_per_shard,
    }
    folder = user_path(out)
    names = [f"{style}-{shard:06d}.tar" for shard in range(math.ceil(count / samples_per_shard))]
    if folder.is_dir() and any(folder.iterdir()):
        if _manifest(folder) != settings:
            raise ExistingFileError(
                f"{folder} holds other files or other scenes; remove it, or choose another --out"
            )
        print(f"{folder} has these {count} scenes already")
        return [folder / name for name in names]
    draft = folder.with_name(f"{folder.name}.partial")
    if draft.is_dir() and _manifest(draft) != settings:
        for file in draft.iterdir():
            file.unlink()
    draft.mkdir(parents=True, exist_ok=True)
    write_whole(draft / MANIFEST, json.dumps(settings, indent=2) + "\n")
    done = next((at for at, name in enumerate(names) if not (draft / name).exists()), len(names))
    generate = partial(_scene, str(style), seed, height, width, format)
    with ExitStack() as stack:
        todo = range(done * samples_per_shard, count)
        generated: Iterator[Member] = map(generate, todo)
        if min(workers, len(todo) // 64) > 1:  # a process takes as long to start as 64 scenes
            # spawned: forking this process, which may have threads, could hang
            spawn = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=spawn))
            generated = pool.map(generate, todo, chunksize=8)
        progress = tqdm(generated, total=count, initial=todo.start, desc="scenes", unit="scene", disable=None)
        members = iter(progress)  # one iterator for all tars: a progress bar closes with its first
        for name in names[done:]:
            write_tar(islice(members, samples_per_shard), draft / name)
    draft.replace(folder)
    print(f"{count} scenes, {len(names)} tars: {folder / names[0]} first")
    return [folder / name for name in names]


def main(arguments: list[str]) -> int:
    """Run `depthkd shards`; returns the exit status."""
    from jsonargparse import auto_cli

    verbs: dict[str, Any] = {"pack": pack, "inspect": inspect, "verify": verify, "scenes": scenes}
    positional = arguments[:1] in (["inspect"], ["verify"])  # as in: depthkd shards verify sa_000000.tar
    options: dict[str, Any] = {"prog": "depthkd shards", "as_positional": positional, "parser_class": Parser}
    result = auto_cli(verbs, args=arguments, **options)
    return 1 if arguments[:1] == ["verify"] and result else 0


def _scene(style: str, seed: int, height: int, width: int, format: str, index: int) -> Member:
    from depthkd.data.scenes import scene

    sample = scene(seed, index, style, height, width).sample
    if format == "sa1b":
        sample.depth = sample.mask = sample.space = sample.intrinsics = None
        about = {"image_id": index, "width": width, "height": height, "file_name": f"{sample.key}.jpg"}
        return sample.key, encode_sample(sample, extra={"image": about, "annotations": []})
    return sample.key, encode_sample(sample)


def _manifest(folder: Path) -> Any:
    try:
        return json.loads((folder / MANIFEST).read_text())
    except (FileNotFoundError, ValueError):
        return None


def _look_into(index: TarIndex, samples: int) -> dict[str, Any]:
    members = Counter(suffix for i in range(len(index)) for suffix in index.members(i))
    sizes, spaces, lows, highs = set(), set(), [], []
    for i in range(0, len(index), math.ceil(len(index) / samples)):
        name = f"{index.path}: sample '{index.keys[i]}'"
        contents = index.read(i, (*IMAGE_SUFFIXES, "json"))
        image = next((contents[suffix] for suffix in IMAGE_SUFFIXES if suffix in contents), None)
        if image is not None:
            sizes.add(image_size(image, name))
        try:
            about = json.loads(contents.get("json", b"{}"))["depth"]
            spaces.add(str(about["space"]))
            lows.append(float(about["range"][0]))
            highs.append(float(about["range"][1]))
        except (ValueError, KeyError, TypeError, IndexError):
            continue  # no labels, or broken ones, which `verify` tells about
    return {
        "tar": str(index.path),
        "samples": len(index),
        "bytes": index.stamp[0],
        "members": " ".join(f"{suffix}:{times}" for suffix, times in members.items()),
        "height x width": _span([f"{height}x{width}" for height, width in sorted(sizes)]),
        "space": " ".join(sorted(spaces)) or "-",
        "range": f"{min(lows):.4g}..{max(highs):.4g}" if lows else "-",
    }


def _span(words: list[str]) -> str:
    return "-" if not words else words[0] if len(words) == 1 else f"{words[0]}..{words[-1]}"


def _fault(index: TarIndex, i: int) -> str | None:
    """Why a sample cannot be used, if so. A tar has labels, or images, if any of its samples has."""
    labelled = not set(CODECS.values()).isdisjoint(index.suffixes)
    try:
        members = index.read(i)
        if labelled and set(IMAGE_SUFFIXES).isdisjoint(index.suffixes):
            decode_label(index.keys[i], members, str(index.path))
        else:
            decode_sample(index.keys[i], members, str(index.path), labelled)
    except BadSample as error:
        return str(error)
    return None


def _print_bad(bad: list[str], total: int) -> None:
    if bad:
        print(f"{len(bad)} of {total} are bad:")
    for sentence in bad[:SHOWN]:
        print(f"  {sentence}")
    if len(bad) > SHOWN:
        print(f"  and {len(bad) - SHOWN} more")


def _fraction(value: str | Number) -> float:
    try:
        return float(Fraction(str(value)))
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"scale '{value}' is not a number such as 0.001 or 1/256") from error


def _numbers(value: str | list[Number], name: str) -> list[Number]:
    try:
        return [float(word) for word in (value.split(",") if isinstance(value, str) else value)]
    except ValueError as error:
        raise UserError(f"{name} '{value}' is not a list of numbers such as 0,65535") from error
