"""`depthkd shards inspect`: what tars hold, a line each, histograms of their depth, and a contact sheet."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from depthkd.batch import DepthSpace
from depthkd.errors import UserError
from depthkd.formats.depth import CODECS
from depthkd.formats.images import IMAGE_SUFFIXES, image_size
from depthkd.formats.opened import opened
from depthkd.formats.sample import BadSample
from depthkd.formats.shard_samples import decode_label, decode_sample
from depthkd.formats.shard_urls import find_shards
from depthkd.formats.splits import ALL
from depthkd.formats.tar import unread
from depthkd.formats.tar_index import TarIndex
from depthkd.paths import user_path
from depthkd.report.contact_sheet import MOST, Thumbnail, contact_sheet
from depthkd.report.depth_histogram import DepthHistogram
from depthkd.report.picks import spread
from depthkd.verbs.shards.bad import print_bad

MAPS = 256  # of all tars together, that are decoded for histograms
PICTURES = (".png", ".jpg", ".jpeg")
PATIENCE = 2  # seconds before progress is shown

Row = dict[str, Any]
IndexOf = Callable[[str], TarIndex]


class Place(NamedTuple):
    """A sample that was opened: its tar, its number there, and whether it has an image and a label."""

    tar: str
    number: int
    pictured: bool
    labelled: bool


def inspect(
    urls: str | list[str], samples: int = 200, sheet: Path | None = None, split: str | None = None
) -> list[Row]:
    """Print a line for each tar: samples, bytes, members, codec, image sizes, depth space and range; below
    them, quantiles and a histogram of depth.

    A tar that cannot be read, or has broken samples among those that are opened, has a mark in its line and
    a sentence below the table; then the exit status is 1.

    Args:
        urls: tars, as for training: paths, folders, wildcards, {000000..000019}.
        samples: how many samples of a tar, evenly spaced, are opened for sizes and depth.
        sheet: a picture to write, such as sheet.png or sheet.jpg: some of these samples, each image beside
            its depth, above the histograms.
        split: of a folder or repository that tells its splits; all of them, where none is named.

    Returns:
        a mapping for each line; its "faults" holds the sentences.
    """
    target = None if sheet is None else _picture(sheet)
    shards = find_shards(urls, split, ALL)
    index_of = partial(shards.index, images=False, opened=opened)
    progress = tqdm(shards.paths, "inspect", unit="shard", delay=PATIENCE, disable=None)
    looked = [_look_into(path, index_of, max(1, samples)) for path in progress]
    rows = {str(row["tar"]): row for row, _ in looked}
    places = [place for _, found in looked for place in found]
    histograms = _histograms(places, index_of, rows)
    thumbnails = [] if target is None else _thumbnails(places, index_of, rows)
    _print_table([*rows.values()])
    for histogram in histograms:
        print(f"{histogram.sentence()}\n  {histogram.line()}")
    if target is not None and thumbnails:
        contact_sheet(thumbnails, histograms, target)
        print(f"{len(thumbnails)} samples on {target}")
    elif target is not None:
        print(f"{target} is not written: no sample can be shown")
    print_bad([fault for row in rows.values() for fault in row["faults"]])
    return [*rows.values()]


def _print_table(rows: Sequence[Row]) -> None:
    marks = ["" if not row["faults"] else f"{len(row['faults'])} bad" for row in rows]
    words = [[*map(str, row.values())][:-1] for row in rows]
    table = [list(rows[0]), *([*line, mark] for line, mark in zip(words, marks, strict=True))]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())


def _look_into(path: str, index_of: IndexOf, samples: int) -> tuple[Row, list[Place]]:
    """The line of a tar, and the samples that were opened for it."""
    try:
        index = index_of(path)
    except UserError as error:
        size = Path(path).stat().st_size if Path(path).is_file() else "-"
        nothing = {"members": "-", "codec": "", "height x width": "-", "space": "-", "range": "-"}
        return {"tar": path, "samples": "-", "bytes": size, **nothing, "faults": [str(error)]}, []
    members = Counter(suffix for i in range(len(index)) for suffix in index.members(i))
    faults, sizes, labels, places = [], set(), [], []
    if members.keys().isdisjoint({*IMAGE_SUFFIXES, *CODECS.values()}):
        faults.append(f"{path} holds no sample with an image or a depth map: {unread(index)}")
    for i in range(0, len(index), math.ceil(len(index) / samples)):
        try:
            contents = index.read(i, (*IMAGE_SUFFIXES, "json"))
            image = next((contents[suffix] for suffix in IMAGE_SUFFIXES if suffix in contents), None)
            if image is not None:
                sizes.add(image_size(image, f"{path}: sample '{index.keys[i]}'"))
        except BadSample as error:
            faults.append(str(error))
            continue
        label = _label(contents)
        labels += [] if label is None else [label]
        places.append(Place(path, i, image is not None, label is not None))
    codecs, spaces, lows, highs = zip(*labels, strict=True) if labels else ((), (), (), ())
    row = {
        "tar": path,
        "samples": len(index),
        "bytes": index.file.stamp[0],
        "members": " ".join(f"{suffix}:{times}" for suffix, times in members.items()),
        "codec": " ".join(sorted({*codecs})),
        "height x width": _span([f"{height}x{width}" for height, width in sorted(sizes)]),
        "space": " ".join(sorted({*spaces})) or "-",
        "range": f"{min(lows):.4g}..{max(highs):.4g}" if lows else "-",
        "faults": faults,
    }
    return row, places


def _label(contents: Mapping[str, bytes]) -> tuple[str, str, float, float] | None:
    """Codec, space and range by a sample's json; None: it has no label, or `verify` tells what of it is
    broken."""
    try:
        about = json.loads(contents.get("json", b"{}"))["depth"]
        low, high = about["range"]
        return str(about["codec"]), str(about["space"]), float(low), float(high)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def _histograms(places: Sequence[Place], index_of: IndexOf, rows: Mapping[str, Row]) -> list[DepthHistogram]:
    """One for each space, of some of the labels that were opened."""
    found: dict[DepthSpace, list[DepthHistogram]] = defaultdict(list)
    chosen = spread([place for place in places if place.labelled], MAPS)
    for place, key, members in _members(chosen, index_of, rows):
        with _noted(rows[place.tar]):
            depth, mask, space, _ = decode_label(key, members, place.tar)
            found[space].append(DepthHistogram.of(depth, mask, space))
    return [DepthHistogram.together(histograms) for histograms in found.values()]


def _thumbnails(places: Sequence[Place], index_of: IndexOf, rows: Mapping[str, Row]) -> list[Thumbnail]:
    """Some of the samples that were opened, as a sheet shows them."""
    shown = []
    chosen = spread([place for place in places if place.pictured or place.labelled], MOST)
    for place, key, members in _members(chosen, index_of, rows):
        with _noted(rows[place.tar]):
            if place.pictured:
                sample = decode_sample(key, members, place.tar, place.labelled)
                image, depth, mask, space = sample.image, sample.depth, sample.mask, sample.space
            else:
                image, (depth, mask, space, _) = None, decode_label(key, members, place.tar)
            label = None if depth is None or mask is None or space is None else (depth, mask, space)
            shown.append(Thumbnail.of(key, image, label))
    return shown


def _members(
    places: Sequence[Place], index_of: IndexOf, rows: Mapping[str, Row]
) -> Iterator[tuple[Place, str, dict[str, bytes]]]:
    """Each sample with its key and members; one that cannot be read is a fault of its tar."""
    progress = tqdm(places, "depth", unit="sample", delay=PATIENCE, disable=None)
    for tar, those in groupby(progress, lambda place: place.tar):
        index = index_of(tar)
        for place in those:
            with _noted(rows[tar]):
                yield place, index.keys[place.number], index.read(place.number)


@contextmanager
def _noted(row: Row) -> Iterator[None]:
    """A bad sample is a fault of its tar."""
    try:
        yield
    except BadSample as error:
        if str(error) not in row["faults"]:
            row["faults"].append(str(error))


def _picture(path: Path) -> Path:
    """Where a sheet goes.

    Raises:
        UserError: it is no name of a picture.
    """
    target = user_path(path)
    if target.suffix.lower() not in PICTURES:
        raise UserError(f"sheet '{path}' would end in {' or '.join(PICTURES)}, and be written as such")
    return target


def _span(words: list[str]) -> str:
    return "-" if not words else words[0] if len(words) == 1 else f"{words[0]}..{words[-1]}"
