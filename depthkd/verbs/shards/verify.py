"""`depthkd shards verify`: every sample is decoded, and those that cannot be used are named."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from depthkd.errors import UserError
from depthkd.formats.depth import CODECS, too_coarse
from depthkd.formats.images import IMAGE_SUFFIXES
from depthkd.formats.sample import BadSample
from depthkd.formats.shard_samples import decode_label, decode_sample, is_failed_download
from depthkd.formats.shard_urls import find_shards
from depthkd.formats.splits import ALL
from depthkd.formats.tar_index import TarIndex
from depthkd.verbs.shards.bad import print_bad
from depthkd.verbs.shards.opened import opened


def verify(urls: str | list[str], workers: int = 2, split: str | None = None) -> list[str]:
    """Decode every sample, and print a sentence for each that cannot be used; then the exit status is 1. What
    downloaders keep of failed downloads is counted, and no fault.

    Args:
        urls: tars, as for training: paths, folders, wildcards, {000000..000019}.
        split: of a folder or repository that tells its splits; all of them, where none is named.
        workers: how many threads decode.
    """
    bad: list[str] = []
    total = failed = 0
    shards = find_shards(urls, split, ALL)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for path in shards.paths:
            try:
                index = shards.index(path, images=False, opened=opened)
            except UserError as error:
                bad.append(str(error))
                total += 1
                continue
            samples = [i for i in range(len(index)) if not _is_failed_download(index, i)]
            total += len(samples)
            failed += len(index) - len(samples)
            found = pool.map(partial(_fault, index), samples)
            progress = tqdm(found, total=len(samples), desc=Path(path).name, unit="sample", disable=None)
            bad += [sentence for sentence in progress if sentence]
    more = f"; {failed} more are downloads that failed" if failed else ""
    print(f"{total - len(bad)} of {total} samples are good{more}")
    print_bad(bad, total)
    return bad


def _is_failed_download(index: TarIndex, i: int) -> bool:
    if not index.members(i).keys().isdisjoint(IMAGE_SUFFIXES):
        return False
    try:
        return is_failed_download(index.read(i, ("json",)))
    except BadSample:
        return False  # which `_fault` tells about


def _fault(index: TarIndex, i: int) -> str | None:
    """Why a sample cannot be used, if so. A tar has labels, or images, if any of its samples has."""
    labelled = not set(CODECS.values()).isdisjoint(index.suffixes)
    try:
        members = index.read(i)
        if labelled and set(IMAGE_SUFFIXES).isdisjoint(index.suffixes):
            depth, mask, space, _ = decode_label(index.keys[i], members, index.file.name)
        else:
            sample = decode_sample(index.keys[i], members, index.file.name, labelled)
            if sample.depth is None or sample.mask is None or sample.space is None:
                return None
            depth, mask, space = sample.depth, sample.mask, sample.space
    except BadSample as error:
        return str(error)
    coarse = too_coarse(depth, mask, json.loads(members["json"])["depth"]) if space.invertible else None
    return coarse and f"{index.file.name}: sample '{index.keys[i]}' {coarse}"
