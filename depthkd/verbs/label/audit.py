"""`depthkd label --audit`: some labels of a folder, drawn beside their images, and what is odd about them."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np
from tqdm import tqdm

from depthkd.batch import DepthSpace
from depthkd.errors import UserError
from depthkd.formats.images import IMAGE_SUFFIXES, RGB
from depthkd.formats.opened import opened
from depthkd.formats.sample import BadSample
from depthkd.formats.shard_samples import decode_label, decode_sample
from depthkd.formats.shard_set import name_of
from depthkd.formats.shard_urls import find_shards
from depthkd.formats.splits import ALL
from depthkd.formats.tar import index_tar
from depthkd.formats.tar_index import TarIndex
from depthkd.paths import user_path
from depthkd.report.contact_sheet import MOST, Thumbnail, contact_sheet
from depthkd.report.depth_histogram import DepthHistogram
from depthkd.shapes import DepthArray, MaskArray
from depthkd.verbs.shards.bad import print_listed
from depthkd.verbs.shards.inspect import PICTURES

CLIPPED = 0.5  # share of a label's pixels at one end of its range, from which on it counts as clipped
MANY = 0.05  # share of labels that may be clipped
QUANTILES = (0.05, 0.5, 0.95)


@dataclass
class Audit:
    """What was found in some labels.

    Attributes:
        labels: how many were read.
        kinds: how many are constant, clipped, repeated, not finite or cannot be read.
        faults: a sentence for each that must not be, and for too many clipped ones.
        ranges: low and high of each.
    """

    labels: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    ranges: list[tuple[float, float]] = field(default_factory=list)

    def add(self, name: str, key: str, depth: DepthArray, mask: MaskArray, answers: dict[bytes, str]) -> None:
        """Note a label."""
        values = depth[mask]
        low, high = float(values.min()), float(values.max())
        self.ranges.append((low, high))
        if low == high:
            self.fault("constant", f"{name}: sample '{key}' is {low:g} everywhere")
            return
        if max((values == low).mean(), (values == high).mean()) > CLIPPED:
            self.kinds["clipped"] += 1
        other = answers.setdefault(blake2b(depth.tobytes(), digest_size=16).digest(), key)
        if other != key:
            self.fault("repeated", f"{name}: sample '{key}' has the label of '{other}'")

    def fault(self, kind: str, sentence: str) -> None:
        """Note what must not be."""
        self.kinds[kind] += 1
        self.faults.append(sentence)


def audit(
    audit: Path,
    images: str | list[str] | None = None,
    samples: int = 256,
    sheet: Path | None = None,
    split: str | None = None,
    seed: int = 0,
) -> Audit:
    """Read random labels of a folder; print what is odd about them, and draw some.

    Args:
        audit: the folder of labels.
        images: the tars of their images, to draw beside them.
        samples: how many labels are read.
        sheet: the picture to write; by default audit.png in the folder.
        split: of the images, as it was given for the labels.
        seed: of the choice.

    Returns:
        what was found.

    Raises:
        UserError, MissingFileError: there are no labels, or the sheet is no picture.
    """
    folder = user_path(audit)
    target = folder / "audit.png" if sheet is None else user_path(sheet)
    if target.suffix.lower() not in PICTURES:
        raise UserError(f"sheet '{sheet}' would end in {' or '.join(PICTURES)}, and be written as such")
    tars = {name_of(path): path for path in find_shards(str(folder), None, ALL).paths}
    pictures = None if images is None else _pictures(images, split)
    found = Audit()
    thumbnails: list[Thumbnail] = []
    histograms: dict[DepthSpace, list[DepthHistogram]] = defaultdict(list)
    answers: dict[bytes, str] = {}
    for index, i in tqdm(_chosen(tars, samples, seed, found), "audit", samples, unit="label", disable=None):
        key, name = index.keys[i], index.file.name
        found.labels += 1
        try:
            members = index.read(i)
            depth, mask, space, _ = decode_label(key, members, name)
        except BadSample as error:
            found.fault("unreadable or not finite", str(error))
            continue
        found.add(name, key, depth, mask, answers)
        histograms[space].append(DepthHistogram.of(depth, mask, space))
        if len(thumbnails) < MOST:
            image = _image(Path(name).name, key, members, pictures)
            thumbnails.append(Thumbnail.of(key, image, (depth, mask, space)))
    _conclude(found, histograms)
    if thumbnails:
        together = [DepthHistogram.together(those) for those in histograms.values()]
        contact_sheet(thumbnails, together, target)
        print(f"{len(thumbnails)} labels on {target}")
    print_listed(f"{len(found.faults)} faults", found.faults)
    return found


def _chosen(tars: Mapping[str, str], samples: int, seed: int, found: Audit) -> Iterator[tuple[TarIndex, int]]:
    """Random labels, without any twice, tar by tar in random order."""
    rng = np.random.default_rng(seed)
    names, left = [*tars], samples
    for turn, place in enumerate(rng.permutation(len(names))):
        try:
            index = index_tar(tars[names[place]], images=False)
        except UserError as error:
            found.fault("unreadable or not finite", str(error))
            continue
        wanted = min(len(index), -(-left // (len(names) - turn)))
        left -= wanted
        for i in rng.choice(len(index), wanted, replace=False):
            yield index, int(i)


def _conclude(found: Audit, histograms: Mapping[DepthSpace, list[DepthHistogram]]) -> None:
    """Print shares and quantiles."""
    count = max(1, found.labels)
    kinds = ("constant", "clipped", "repeated", "unreadable or not finite")
    print(f"{found.labels} labels: " + ", ".join(f"{found.kinds[kind] / count:.1%} {kind}" for kind in kinds))
    if found.ranges:
        ends = np.quantile(np.array(found.ranges), QUANTILES, axis=0)
        for name, values in zip(("smallest", "largest"), ends.T, strict=True):
            told = ", ".join(f"{q:.0%} {value:.4g}" for q, value in zip(QUANTILES, values, strict=True))
            print(f"  a label's {name} value, quantiles: {told}")
    for those in histograms.values():
        together = DepthHistogram.together(those)
        print(f"{together.sentence()}\n  {together.line()}")
    if found.kinds["clipped"] > MANY * count:
        found.faults.append(
            f"{found.kinds['clipped']} of {found.labels} labels are clipped: more than {CLIPPED:.0%} of "
            f"their pixels are at one end of their range, and {MANY:.0%} of labels may be so"
        )
    if len(histograms) > 1:
        found.faults.append(f"the labels are of {len(histograms)} spaces: {', '.join(map(str, histograms))}")


class _Pictures:
    """Tars of images by name, each with the places of its keys, opened when they are asked for."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        self.paths = paths
        self.opened: dict[str, tuple[TarIndex, dict[str, int]]] = {}

    def __call__(self, tar: str, key: str) -> tuple[str, dict[str, bytes]] | None:
        if tar not in self.paths:
            return None
        if tar not in self.opened:
            index = index_tar(opened(self.paths[tar]))
            self.opened = {tar: (index, {key: i for i, key in enumerate(index.keys)})}
        index, places = self.opened[tar]
        return (index.file.name, index.read(places[key], IMAGE_SUFFIXES)) if key in places else None


def _pictures(images: str | list[str], split: str | None) -> _Pictures:
    return _Pictures({name_of(path): path for path in find_shards(images, split, ALL).paths})


def _image(tar: str, key: str, members: Mapping[str, bytes], pictures: _Pictures | None) -> RGB | None:
    """The image of a label: beside it, or from the tar of images."""
    with suppress(UserError):
        found = (tar, members) if pictures is None else pictures(tar, key)
        if found is not None and not set(IMAGE_SUFFIXES).isdisjoint(found[1]):
            return decode_sample(key, found[1], found[0], False).image
    return None
