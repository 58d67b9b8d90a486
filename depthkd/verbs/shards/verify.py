"""`depthkd shards verify`: every sample is decoded, and what cannot be used is named, or moved away."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from tqdm import tqdm

from depthkd.errors import UserError
from depthkd.formats.depth import CODECS, too_coarse
from depthkd.formats.images import IMAGE_SUFFIXES
from depthkd.formats.opened import opened
from depthkd.formats.sample import BadSample
from depthkd.formats.shard_samples import decode_label, decode_sample, is_failed_download
from depthkd.formats.shard_urls import Shards, find_shards
from depthkd.formats.splits import ALL
from depthkd.formats.tar import NoSampleError, index_sound_part
from depthkd.formats.tar_headers import DamagedTarError
from depthkd.formats.tar_index import TarIndex
from depthkd.paths import user_path
from depthkd.verbs.shards.bad import CheckedTar, print_bad
from depthkd.verbs.shards.quarantine import quarantining


def verify(
    urls: str | list[str], workers: int = 2, quarantine: str | Path | None = None, split: str | None = None
) -> list[str]:
    """Decode every sample, and print a sentence for each that cannot be used; then the exit status is 1. What
    downloaders keep of failed downloads is counted, and no fault.

    With a quarantine, each tar that has bad samples is written anew without them, and they are moved. What
    cannot be moved is named, and the exit status is 1 only then.

    Args:
        urls: tars, as for training: paths, folders, wildcards, {000000..000019}.
        split: of a folder or repository that tells its splits; all of them, where none is named.
        workers: how many threads decode.
        quarantine: the folder for what is bad: a tar of the same name with the bad samples, NAME.tar.jsonl
            with a line on why for each, and NAME.tar.rest with what cannot be read of a damaged tar.

    Returns:
        a sentence for each bad sample; with a quarantine, for each tar that is bad and was left as it is.

    Raises:
        UserError: the quarantine's folder, or that of a tar, cannot be written or is in use; or a tar is on
            another machine.
    """
    shards = find_shards(urls, split, ALL)
    bad: list[str] = []
    total = failed = 0
    folder = nullcontext() if quarantine is None else quarantining(user_path(quarantine), shards)
    threads = ThreadPoolExecutor(max(1, workers))
    several = None if len(shards.paths) > 1 else True
    try:
        with folder as moving:
            for path in tqdm(shards.paths, "verify", unit="shard", disable=several):
                tar = _check(shards, path, threads)
                total += tar.samples + (tar.fault is not None)
                failed += len(tar.failed)
                bad += tar.sentences
                if moving is not None:
                    moving.add(tar)
            more = f"; {failed} more are downloads that failed" if failed else ""
            print(f"{total - len(bad)} of {total} samples are good{more}")
            print_bad(bad, total)
    finally:
        threads.shutdown(cancel_futures=True)
    return bad if moving is None else moving.left


def _check(shards: Shards, path: str, threads: ThreadPoolExecutor) -> CheckedTar:
    """Decode the samples of a tar, as far as it can be read."""
    file = opened(path)
    fault: UserError | None = None
    cut: str | None = None
    try:
        index = shards.index(path, images=False, opened=lambda _: file)
    except DamagedTarError as error:
        index, cut = index_sound_part(file)
        fault = error
        try:
            index = index.without(shards.excluded.get(path, ()))
        except UserError as lacking:  # which lies behind the damage
            fault = UserError(f"{error}; {lacking}")
    except UserError as error:
        return CheckedTar(file, fault=error)
    samples = [i for i in range(len(index)) if not _is_failed_download(index, i)]
    found = threads.map(partial(_fault, index), samples)
    progress = tqdm(found, Path(path).name, len(samples), leave=False, unit="sample", disable=None)
    bad = {index.keys[i]: sentence for i, sentence in zip(samples, progress, strict=True) if sentence}
    if cut is not None and cut in index.keys:
        bad[cut] = f"{file.name}: sample '{cut}' is cut short"
    failed = {*index.keys}.difference(index.keys[i] for i in samples)
    if failed and not samples and fault is None:
        fault = NoSampleError(
            f"{file.name} holds no image: it has failed downloads alone, {len(failed)} of them"
        )
    return CheckedTar(file, len(samples), bad, fault, failed)


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
