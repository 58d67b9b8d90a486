"""`depthkd label`: every shard, or one part of them, one after another."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from tqdm import tqdm

from depthkd.cluster.precision import Precision, choose_precision, local_capabilities
from depthkd.cluster.processors import processors, use_processors
from depthkd.errors import UserError
from depthkd.formats.depth import Number
from depthkd.formats.opened import opened
from depthkd.formats.shard_set import name_of, survey
from depthkd.formats.shard_urls import Shards, find_shards
from depthkd.formats.splits import ALL
from depthkd.models.dpt.packaged_weights import EMBEDDED
from depthkd.models.frozen import HALF, Frozen
from depthkd.models.inference import device_of
from depthkd.models.model import DepthModel
from depthkd.paths import user_path
from depthkd.runs.named_models import named_model
from depthkd.storage.remote import is_remote
from depthkd.verbs.label.manifest import is_done, read_manifest
from depthkd.verbs.label.shard import ShardLabeller
from depthkd.verbs.label.teachers import Asked, Teachers
from depthkd.verbs.label.views import Kind, View
from depthkd.verbs.label.whole import begin, write_list
from depthkd.verbs.shards.bad import print_listed

MOST_WORKERS = 8


@dataclass(frozen=True)
class Labelled:
    """What `label` made.

    Attributes:
        paths: the tars of labels that are whole, those of an earlier call among them.
        labels: how many labels this call has written.
        bad: a sentence for each image that it left out.
        left_out: a sentence for each shard that cannot be read.
    """

    paths: list[Path]
    labels: int
    bad: list[str]
    left_out: list[str]


def label(
    images: str | list[str],
    out: str | Path,
    model: str | DepthModel = EMBEDDED,
    metric: str | DepthModel | None = None,
    part: str | None = None,
    view: Kind = "whole",
    window: Number = 0.5,
    overlap: Number = 0.5,
    resolution: int | str | None = None,
    batch_size: int = 16,
    flip: bool = False,
    device: str = "auto",
    precision: Precision = "auto",
    codec: str | None = None,
    farthest: Number = 1000.0,
    copy_images: bool = False,
    scaled_decoding: bool = True,
    max_bad: Number = 0.01,
    overwrite: bool = False,
    split: str | None = None,
    workers: int | None = None,
    seed: int = 0,
) -> Labelled:
    """Write a tar of labels of the same name for each tar of images, and NAME.tar.json beside it, which says
    what it was made of. What is done stays: after an interruption, `kill -9` included, the same command goes
    on, to the same bytes.

    A label keeps the size of the network's output; `labels` of a source in training reads it. An image that
    is broken, or whose prediction is not finite or constant, has none, and the manifest says why.

    Args:
        images: tars, as for training: paths, folders, wildcards, {000000..000019}, urls.
        out: the folder for tars of labels.
        model: the teacher: a run folder, one of its checkpoints, an .onnx file, a folder or hub id of
            transformers, or any DepthModel; "embedded" is the one that depthkd carries.
        metric: a second teacher, of metric depth. The first one's map gets the scale and shift with which it
            agrees with this one's at most pixels (least absolute errors), and labels are in meters.
        part: i/n, such as 3/64: every n-th shard from the i-th on. All parts together are all shards, in
            whatever order and on whatever machines they run.
        view: whole, or windows: the image is also predicted in overlapping windows at the same size, which
            are fitted to the whole's prediction and blended; labels are so much larger.
        window: the sides of a window, as a share of the image's.
        overlap: the least share of a window that the next one covers as well.
        resolution: the size at which the models run: the shorter side in pixels; "longer 756", the longer
            side; "native", the image's own size. None: a size of each model's own.
        batch_size: how many images run at a time; those of one size, of one shard.
        flip: average with the mirrored image's depth.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1".
        precision: 32-true, bf16-mixed or 16-mixed; auto: the fastest that the device computes natively. The
            head stays in float32.
        codec: how labels are stored (see docs/data.md); by default log16_blosc where depth is known up to a
            factor, else linear16_blosc.
        farthest: with `metric`, meters beyond which a pixel is not valid, as one that the fit puts nowhere.
        copy_images: whether the images' files lie beside their labels, which makes labelled shards of them.
        scaled_decoding: whether JPEGs of at least four times the size at which the models run are decoded at
            1/2, 1/4 or 1/8 of their size.
        max_bad: the share of a shard's images that may be without a label; one always may, unless it is 0.
        overwrite: whether tars of other labels may be replaced.
        split: of a folder or repository that tells its splits; all of them, where none is named.
        workers: threads that decode, and that encode.
        seed: of models that draw noise; every batch's draws begin anew from it.

    Returns:
        what was made.

    Raises:
        UserError, MissingFileError: one sentence on what does not fit.
    """
    asked = Asked(
        View(view, window, overlap), "own" if resolution is None else str(resolution), batch_size,
        flip, codec, farthest, seed, copy_images, scaled_decoding,
    )  # fmt: skip
    if not 0 <= max_bad <= 1:
        raise UserError(f"max_bad is a share of a shard's images, from 0 to 1, not {max_bad:g}")
    if workers is not None and workers < 1:
        raise UserError(f"workers must be at least 1, not {workers}")
    out = user_path(out)
    shards = find_shards(images, split, ALL)
    _check_places(shards.paths, out)
    mine = part_of(shards.paths, part)
    place = device_of(device)
    teachers = Teachers(
        frozen(model, place, precision),
        None if metric is None else frozen(metric, place, precision),
        asked,
        place,
    )
    count = workers or max(1, min(MOST_WORKERS, processors() - 1))
    made = label_shards(ShardLabeller(teachers, out, max_bad, count), shards, mine, overwrite)
    manifests = [read_manifest(tar) for tar in made.paths]
    if part is None and not made.left_out:
        write_list(out, [found for found in manifests if found is not None])
    return made


def label_shards(labeller: ShardLabeller, shards: Shards, mine: Sequence[str], overwrite: bool) -> Labelled:
    """Label some shards, but for those that are done.

    Raises:
        UserError: a shard holds other labels, or too many of its images are bad.
    """
    known = survey(mine, max_bad=len(mine), excluded=shards.excluded, opened=opened)
    settings, out = labeller.teachers.settings(), labeller.out
    todo: list[tuple[str, int]] = []
    done: list[int] = []
    for path, samples, digest in zip(known.paths, known.counts, known.digests, strict=True):
        if is_done(out / name_of(path), digest, settings, overwrite):
            done.append(samples)
        else:
            todo.append((path, samples))
    start, bad, labels, model_seconds = perf_counter(), list[str](), 0, 0.0
    total = sum(done) + sum(samples for _, samples in todo)
    counts: Counter[str] = Counter()
    with tqdm(initial=sum(done), total=total, desc="label", unit="image", disable=None) as progress:

        def tick(samples: int, faults: int) -> None:
            counts["bad"] += faults
            if faults:
                progress.set_postfix(bad=counts["bad"], refresh=False)
            progress.update(samples)

        if todo:
            begin(out)
        for path, _ in todo:
            index = shards.index(path, opened=opened)
            made = labeller(index, name_of(path), tick)
            labels += made.manifest.labelled
            bad += made.manifest.bad.values()
            model_seconds += made.model_seconds
    seconds = perf_counter() - start
    print_listed(f"{len(bad)} images have no label", bad)
    print_listed(f"{len(known.bad)} shards cannot be read", known.bad)
    earlier = f", beside {len(done)} that were done" if done else ""
    print(f"{labels} labels, {labeller.teachers.space}, in {len(todo)} shards{earlier}: {out}")
    if todo:
        rate = (labels + len(bad)) / seconds
        print(f"{rate:.3g} images/s; the models ran {model_seconds / seconds:.0%} of {seconds:.1f} s")
    return Labelled([out / name_of(path) for path in known.paths], labels, bad, known.bad)


def part_of(paths: Sequence[str], part: str | None) -> list[str]:
    """Every n-th of some shards, from the i-th on, for the part "i/n"; all of them for None.

    Raises:
        UserError: it is no part.
    """
    if part is None:
        return list(paths)
    first, slash, count = part.partition("/")
    if not (slash and first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise UserError(f"part would be i/n with i from 1 to n, such as 3/64, not '{part}'")
    return list(paths[int(first) - 1 :: int(count)])


def frozen(model: str | DepthModel, device: torch.device, precision: str) -> Frozen:
    """A teacher on its device; "auto" settles its precision."""
    if precision == "auto":
        precision = choose_precision(local_capabilities())[0] if device.type == "cuda" else "32-true"
    half = HALF.get({"16": "16-mixed", "bf16": "bf16-mixed"}.get(precision, precision))
    factory = named_model(model).load if isinstance(model, str) else lambda: model
    teacher = Frozen(factory, device, autocast=half)
    use_processors(teacher.model, device)
    return teacher


def _check_places(paths: Sequence[str], out: Path) -> None:
    """Check that each tar of images has a name of its own, and that labels do not replace one."""
    first: dict[str, str] = {}
    for path in paths:
        name = name_of(path)
        if first.setdefault(name, path) != path:
            raise UserError(
                f"{first[name]} and {path} have one name, by which their labels would be looked for: label "
                "one folder at a time"
            )
        if not is_remote(path) and Path(path).resolve() == (out / name).resolve():
            raise UserError(f"{path} is itself in {out}: choose another folder for the labels")
