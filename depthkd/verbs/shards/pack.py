"""`depthkd shards pack`: a data set, or a folder of images, -> tar shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from inspect import signature
from pathlib import Path
from typing import Literal

from depthkd.datasets.by_name import named_dataset
from depthkd.datasets.dataset import Dataset, ListedDataset
from depthkd.datasets.folder import FolderDataset
from depthkd.datasets.packed_shards import Packing, pack_shards
from depthkd.datasets.packing import Layout, Packer
from depthkd.errors import UserError
from depthkd.formats.depth import CODECS, Number
from depthkd.in_use import InUse
from depthkd.parsing import numbers
from depthkd.paths import user_path
from depthkd.verbs.shards.bad import print_bad
from depthkd.verbs.shards.quarantine import quarantine_lock


@dataclass(frozen=True)
class Packed:
    """What `pack` wrote: the tars, how many samples, and a sentence for each that was left out."""

    paths: list[Path]
    samples: int
    bad: list[str]


def pack(
    images: str | list[str] | None = None,
    out: str | None = None,
    format: Layout | None = None,
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
    dataset: str | Dataset | None = None,
    root: str | None = None,
    split: str | None = None,
    workers: int | None = None,
) -> Packed:
    """Write a data set, or images with their depth or without, into tar shards; images that are files of
    their own are copied as they are. After an interruption the same command goes on where it was.

    Args:
        images: files, folders (not their subfolders), patterns such as 'photos/*.jpg', 'photos/**' or
            'frame-{000..240..10}.jpg', or @list.txt with one on each line; a tar, also one of tars, or the
            folder of an LMDB stands for the images in it.
        out: where to write, such as 'shards/photos-%06d.tar'; without a number, one tar.
        format: labelled (with depth), sa1b (images and a json) or img2dataset (numbered, with txt and json);
            by default labelled where there is depth, and sa1b where there is none.
        depth: the depth files, .png of 8 or 16 bits or .npy; each belongs to the image that agrees with it
            in the folders, words and numbers that tell files apart.
        space: what their values are, such as "metric depth" (stored in meters) or "scale disparity".
        scale: value = number * scale + offset, such as 0.001 for millimeters, or 1/256.
        offset: see scale.
        invalid: numbers in the files that mean "not measured", such as 0,65535.
        intrinsics: fx,fy,cx,cy of all images in pixels, top-left pixel's center at (0, 0); or a CSV with the
            columns image, fx, fy, cx and cy, or a JSON {image: [fx, fy, cx, cy]}, where a folder stands for
            the images in it; or a pattern of such files, such as '*/intrinsics.json' with {fx, fy, cx, cy}.
        codec: log16 (16 bits, relative error under 1e-4), png16 (16 bits, linear over each map's own
            range), log16_blosc and linear16_blosc (the same, smaller and faster for maps without holes) or
            npy (exact); by default log16, and png16 for affine spaces.
        samples_per_shard: how many samples go into a tar.
        max_bad: the share of samples that may be broken, and are left out; beyond it, nothing is written.
        overwrite: replace tars of the same name.
        max_depth: values farther than this are not valid, such as a sky at 10000: meters in a metric space.
        pair: name, or order: the first image with the first depth file, and so on.
        dataset: instead of images and depth, a data set that depthkd reads, such as hypersim, or photographs,
            which scikit-image carries; or the class of one.
        root: the folder, tar or zip with the data set.
        split: of the data set, such as train; or a file with a list of its samples.
        workers: how many processes pack; by default as many as there are processors.

    Raises:
        UserError, MissingFileError, ExistingFileError: one sentence on what does not fit.
    """
    if codec is not None and codec not in CODECS:
        raise UserError(f"codec '{codec}' does not exist; it would be one of {', '.join(CODECS)}")
    if not 0 <= max_bad <= 1:
        raise UserError(f"max_bad is a share from 0 to 1, and not {max_bad:g}")
    if out is None:
        raise UserError("--out is missing: where the tars go, such as shards/photos-%06d.tar")
    if dataset is None:
        if root is not None or split is not None:
            raise UserError("--root and --split are of a data set, and no --dataset is given")
        found: Dataset = _folder(images, depth, space, scale, offset, invalid, intrinsics, max_depth, pair)
    else:
        _refuse_given(
            images=images, depth=depth, space=space, scale=scale, offset=offset, invalid=invalid,
            intrinsics=intrinsics, max_depth=max_depth, pair=pair,
        )  # fmt: skip
        found = _named(dataset, root, split)
    if not len(found):
        raise UserError(f"data set '{found.name}' has no samples here; --split chooses others")
    layout: Layout = format or ("sa1b" if found.space is None else "labelled")
    if (layout == "labelled") != (found.space is not None):
        raise UserError("--format labelled needs depth, and the others have none; leave --format out")
    packer = Packer(found, layout, codec)
    _check_missing(found, len(found) * max_bad)
    pattern = user_path(out)
    settings = {
        "layout": layout, "codec": codec, "dataset": type(found).__qualname__, "images": images,
        "depth": depth, "space": space, "scale": scale, "offset": offset, "invalid": invalid,
        "intrinsics": intrinsics, "max_depth": max_depth, "pair": pair, "root": root, "split": split,
    }  # fmt: skip
    packing = Packing(packer, str(pattern), samples_per_shard, max_bad, settings)
    writing = f"{pattern} is being packed by {{who}}: wait for it, or choose another --out"
    with InUse(pattern.with_name(f".{pattern.name}.in_use"), writing, pattern):
        quarantine_lock(pattern.parent).check()
        paths, shard = pack_shards(packing, overwrite, workers)
    print(f"{shard.samples} samples, {len(paths)} tars: {paths[0]} first")
    if shard.summary(found.space):
        print(shard.summary(found.space))
    print_bad(shard.bad, len(found))
    return Packed(paths, shard.samples, shard.bad)


def _refuse_given(**options: object) -> None:
    """Refuse what describes --images beside --dataset."""
    defaults = signature(pack).parameters
    given = [f"--{name}" for name, value in options.items() if value != defaults[name].default]
    if given:
        raise UserError(f"--dataset knows its own files: leave out {' and '.join(given)}")


def _folder(
    images: str | list[str] | None,
    depth: str | list[str] | None,
    space: str,
    scale: str | Number | None,
    offset: Number,
    invalid: str | list[Number],
    intrinsics: str | list[Number] | None,
    max_depth: Number | None,
    pair: Literal["name", "order"],
) -> FolderDataset:
    """The images, and what they have beside them."""
    if images is None:
        raise UserError("nothing is given to pack: --images, or --dataset with its --root")
    if depth is not None and scale is None:
        raise UserError("--scale is missing: value = number * scale, such as 0.001 for millimeters")
    if depth is None and (max_depth is not None or pair != "name"):
        raise UserError("--max_depth and --pair are about depth files, and no --depth is given")
    folder = FolderDataset(
        images, depth, space, 1.0 if scale is None else _fraction(scale), offset, numbers(invalid, "invalid"),
        max_depth, _intrinsics(intrinsics), pair,
    )  # fmt: skip
    if pair == "order":
        print(f"paired in order: {folder.images[0]} with {folder.depths[0]} first, ", end="")
        print(f"{folder.images[-1]} with {folder.depths[-1]} last")
    return folder


def _named(dataset: str | Dataset, root: str | None, split: str | None) -> Dataset:
    """The data set of a name, below a root; or one that was built from its class."""
    if isinstance(dataset, Dataset):
        if root is not None or split is not None:
            raise UserError("--root and --split of a --dataset with a class are its init_args")
        return dataset
    return named_dataset(dataset, root, split)


def _check_missing(dataset: Dataset, allowed: Number) -> None:
    """See, before anything is decoded, that enough of the files are there."""
    missing = dataset.missing()
    if len(missing) > max(1, allowed):
        would, splits = "", ""
        if isinstance(dataset, ListedDataset):
            would = f"; it would hold {dataset.layout}"
            splits = f"{', '.join(dataset.splits)}, or " if dataset.splits else ""
        raise UserError(
            f"data set '{dataset.name}': files of {len(missing)} of {len(dataset)} samples are missing, such "
            f"as {missing[0]}{would}; --split takes {splits}a list of those that are there"
        )


def _intrinsics(value: str | Sequence[Number] | None) -> str | list[float] | None:
    """Numbers, or the path of a file."""
    if value is None or (isinstance(value, str) and value.lower().endswith((".csv", ".json"))):
        return value
    try:
        return numbers(value, "intrinsics")
    except UserError as error:
        raise UserError(f"intrinsics '{value}' would be fx,fy,cx,cy or a .csv or .json file") from error


def _fraction(value: str | Number) -> float:
    try:
        return float(Fraction(str(value)))
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"scale '{value}' is not a number such as 0.001 or 1/256") from error
