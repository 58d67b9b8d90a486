"""`depthkd shards inspect`: what tars hold, a line each."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from depthkd.errors import UserError
from depthkd.formats.depth import CODECS
from depthkd.formats.images import IMAGE_SUFFIXES, image_size
from depthkd.formats.sample import BadSample
from depthkd.formats.shard_urls import Shards, find_shards
from depthkd.formats.splits import ALL
from depthkd.formats.tar import unread
from depthkd.verbs.shards.bad import print_bad
from depthkd.verbs.shards.opened import opened


def inspect(urls: str | list[str], samples: int = 200, split: str | None = None) -> list[dict[str, Any]]:
    """Print a line for each tar: samples, bytes, members, codec, image sizes, depth space and range.

    A tar that cannot be read, or has broken samples among those that are opened, has a mark in its line and
    a sentence below the table; then the exit status is 1.

    Args:
        urls: tars, as for training: paths, folders, wildcards, {000000..000019}.
        split: of a folder or repository that tells its splits; all of them, where none is named.
        samples: how many samples of a tar, evenly spaced, are opened for sizes and depth.

    Returns:
        a mapping for each line; its "faults" holds the sentences.
    """
    shards = find_shards(urls, split, ALL)
    rows = [_look_into(shards, path, max(1, samples)) for path in shards.paths]
    marks = ["" if not row["faults"] else f"{len(row['faults'])} bad" for row in rows]
    words = [[*map(str, row.values())][:-1] for row in rows]
    table = [list(rows[0]), *([*line, mark] for line, mark in zip(words, marks, strict=True))]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())
    print_bad([fault for row in rows for fault in row["faults"]])
    return rows


def _look_into(shards: Shards, path: str, samples: int) -> dict[str, Any]:
    try:
        index = shards.index(path, images=False, opened=opened)
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
        "bytes": index.file.stamp[0],
        "members": " ".join(f"{suffix}:{times}" for suffix, times in members.items()),
        "codec": " ".join(sorted({*codecs})),
        "height x width": _span([f"{height}x{width}" for height, width in sorted(sizes)]),
        "space": " ".join(sorted({*spaces})) or "-",
        "range": f"{min(lows):.4g}..{max(highs):.4g}" if lows else "-",
        "faults": faults,
    }


def _span(words: list[str]) -> str:
    return "-" if not words else words[0] if len(words) == 1 else f"{words[0]}..{words[-1]}"
