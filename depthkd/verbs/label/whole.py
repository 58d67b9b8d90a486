"""Whether a folder of labels is whole: `labels.json` says so, and `depthkd label --merge` proves it."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from tqdm import tqdm

from depthkd.errors import MissingFileError, UserError
from depthkd.formats.opened import opened
from depthkd.formats.shard_set import ShardSet, add_to_manifests, facts_of, name_of, survey
from depthkd.formats.shard_urls import Shards, find_shards
from depthkd.formats.splits import ALL
from depthkd.formats.tar import index_tar
from depthkd.formats.tar_index import ShardFacts
from depthkd.formats.whole_files import whole_file
from depthkd.paths import user_path
from depthkd.verbs.label.manifest import VERSION, Manifest, manifest_of, read_manifest
from depthkd.verbs.shards.bad import print_listed

WHOLE = "labels.json"  # in a folder of labels
THREADS = 4  # which read and digest tars
SHOWN_PARTS = 20


@dataclass(frozen=True)
class Checked:
    """What `merge` found.

    Attributes:
        labelled: how many images have a label.
        bad: how many are listed as bad.
        faults: a sentence for each shard that is not whole.
        missing: numbers of those shards, from 1 on.
    """

    labelled: int
    bad: int
    faults: list[str]
    missing: list[int]


def merge(merge: Path, images: str | list[str], split: str | None = None, workers: int = THREADS) -> Checked:
    """Prove that a folder of labels is whole: each image has one label, or is listed as bad, and each tar has
    the bytes that it was made with. Then write `labels.json`, which says so, and index the tars.

    Args:
        merge: the folder of labels.
        images: the tars of images, as they were given for the labels.
        split: as it was given for the labels.
        workers: how many tars are read at a time.

    Returns:
        what was found.

    Raises:
        UserError, MissingFileError: the images cannot be found, or there is no such folder.
    """
    out = user_path(merge)
    if not out.is_dir():
        raise MissingFileError(f"there is no folder {out}; it would hold labels")
    shards = find_shards(images, split, ALL)
    known = survey(shards.paths, max_bad=len(shards.paths), excluded=shards.excluded, opened=opened)
    manifests = {path: read_manifest(out / name_of(path)) for path in known.paths}
    first = next((found for found in manifests.values() if found is not None), None)
    check = partial(_fault, shards, out, first)
    jobs = [(path, digest, manifests[path]) for path, digest in zip(known.paths, known.digests, strict=True)]
    with ThreadPoolExecutor(max(1, workers)) as threads:
        found = threads.map(lambda job: check(*job), jobs)
        faults = [*tqdm(found, "merge", len(jobs), unit="shard", disable=None)]
    by_path = {path: fault for path, fault in zip(known.paths, faults, strict=True) if fault is not None}
    missing = [i for i, path in enumerate(shards.paths, 1) if path in by_path or path not in manifests]
    good = [found for path, found in manifests.items() if found is not None and path not in by_path]
    checked = Checked(
        sum(one.labelled for one in good),
        sum(len(one.bad) for one in good),
        [*by_path.values(), *known.bad],
        missing,
    )
    _tell(checked, len(shards.paths), out)
    if checked.faults:
        begin(out)
    else:
        _index(out, known)
        write_list(out, good)
    return checked


def write_list(out: Path, manifests: Sequence[Manifest]) -> None:
    """Write that a folder of labels is whole, and what it holds."""
    shards = {
        one.tar: {"samples": one.samples, "bad": len(one.bad), "size": one.size, "sha256": one.sha256}
        for one in manifests
    }
    total = {
        "version": VERSION,
        "whole": True,
        "settings": dict(manifests[0].settings),
        "shards": len(manifests),
        "samples": sum(one.samples for one in manifests),
        "labelled": sum(one.labelled for one in manifests),
        "bad": sum(len(one.bad) for one in manifests),
    }
    _write(out, {**total, "tars": shards})


def begin(out: Path) -> None:
    """Write that a folder of labels is not whole; so it stays until `write_list` is called."""
    _write(out, {"version": VERSION, "whole": False})


def not_whole(folder: Path) -> str | None:
    """Of a folder of labels, what is missing; None: nothing, or it is another folder.

    The tars are there with the bytes that they should have; that they hold what they should is for `merge`.
    """
    try:
        record = json.loads((folder / WHOLE).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("whole"), bool):
        return None
    if not record["whole"]:
        return "is not labelled to its end"
    for name, told in record["tars"].items():
        tar = folder / name
        if not tar.is_file() or tar.stat().st_size != told["size"]:
            return f"lacks {name}, or has another one"
    return None


def _write(out: Path, record: Mapping[str, Any]) -> None:
    with whole_file(out / WHOLE, several_writers=True) as file:
        file.write((json.dumps(record, indent=1) + "\n").encode())


def _fault(
    shards: Shards, out: Path, first: Manifest | None, path: str, digest: str, manifest: Manifest | None
) -> str | None:
    """Why a tar of labels is not what it should be."""
    tar = out / name_of(path)
    if manifest is None:
        told = "no labels" if not tar.exists() else f"no {manifest_of(tar).name} beside its labels"
        return f"{path} has {told}"
    if manifest.images != digest:
        return f"{tar} holds labels of other images than {path} has now"
    if first is not None and manifest.settings != first.settings:
        return f"{tar} holds labels of another model, or with other settings, than {first.tar}"
    if (damage := manifest.damage(tar)) is not None:
        return damage
    wanted = set(shards.index(path, opened=opened).keys)
    try:
        labelled = set(index_tar(tar, images=False).keys)
    except UserError as error:
        return str(error)
    both, neither = labelled & manifest.bad.keys(), wanted - labelled - manifest.bad.keys()
    others = (labelled | manifest.bad.keys()) - wanted
    for keys, what in ((both, "a label and is bad"), (neither, "no label"), (others, "a label and no image")):
        if keys:
            return f"{tar}: sample '{min(keys)}' has {what}, one of {len(keys)}"
    return None


def _tell(checked: Checked, count: int, out: Path) -> None:
    print_listed(f"{len(checked.faults)} of {count} shards are not whole", checked.faults)
    if checked.missing:
        parts = [f"{i}/{count}" for i in checked.missing[:SHOWN_PARTS]]
        more = len(checked.missing) - len(parts)
        print(f"label them with --part {', '.join(parts)}{f', and {more} more' * bool(more)}")
        print(f"as an array: PARTS={count} sbatch --array={array(checked.missing)} slurm/label.sbatch ...")
    done = count - len(checked.faults)
    print(f"{done} of {count} shards are whole, {checked.labelled} labels, {checked.bad} bad images: {out}")


def array(numbers: Sequence[int]) -> str:
    """Numbers in order as `sbatch --array` takes them: 1-3,7."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _index(out: Path, known: ShardSet) -> None:
    """Write the tars' manifest of facts, with which a training opens them at once."""
    facts = {str(out / name_of(path)): facts_of(str(out / name_of(path))) for path in known.paths}
    with suppress(UserError):
        add_to_manifests({path: one for path, one in facts.items() if isinstance(one, ShardFacts)})
