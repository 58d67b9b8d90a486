"""Which depth file belongs to which image, by what tells files apart: folders, words and numbers.

A path is cut into words and numbers, below the folder that all files share:

    sceneA/rgb/frame_0003.color.png    ->  scene a | frame 3
    sceneA/depth/frame_0003.depth.npy  ->  scene a | frame 3

Words that say what kind of file it is, such as "rgb", "depth" or "groundtruth" (`ROLE`), do not count, and
neither does what all files of one list have in their paths and none of the other, unless both lists have
such words. What is left must be the same for an image and its depth, and different for any two images. So
usual layouts need no description, and a layout that is not understood is refused.
"""

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import pairwise, takewhile
from pathlib import Path

from depthkd.errors import UserError

LETTERS = {"c", "i", "l"}, {"d", "z"}  # in a file's name beside other words: color, image, left; depth, z
SPLITS = {"train", "training", "val", "validation", "test", "testing", "eval"}
NOT_DEPTH = {"mask", "masks", "valid", "validity", "confidence", "conf", "normal", "normals"}

ROLE = re.compile(  # also joined, as in "depthmaps"
    r"""(?: rgba?|rgbd|bgr | colou?rs? | images?|imgs?|im | photos?|pictures?|pics? | frames | preview
        | tonemap(?:ped)? | final | data | dataset | raw
        | depths?|dmaps?|maps?|zbuffer | disparit(?:y|ies)|disps? | inverse|inv | ground|truth|gt | geometry
        | met(?:er|re)s|metric|mm|cm | planar?|plane | labels? | targets? | predictions?|preds?|pd | filled
        | proj(?:ected)? | annotated | dense|sparse | complet(?:ed|ion) | aligned|registered | rectified
        | undistorted | render(?:s|ed)? | lidar|velodyne|kinect|stereo|tof|sensor | wide|lowres|highres
        | npy|png|jpe?g|exr )+""",
    re.VERBOSE,
)
TOKEN = re.compile(r"\d+|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")
TYPES = re.compile(  # of the numbers in a file
    r"(?:u?int|float)?\d+bits?|(?:u?int|float)(?:8|16|32|64)|hdf5|(?<![^\W_])h5(?![^\W_])", re.IGNORECASE
)
DEPTH = re.compile(r".*depth.*|disp(?:s|arity|arities)?|dmaps?|zbuffer")
TIME = re.compile(r"[1-9]\d{8,}")  # seconds since 1970, or finer
Tokens = tuple[str, ...]
Name = tuple[Tokens, ...]
"""What each folder, and at last the file's name, says."""


def without_shared(images: Sequence[Path], maps: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The two lists without the files that both patterns match: one named like depth is depth.

    Raises:
        UserError: nothing is left of a list.
    """
    shared = {_absolute(path) for path in images} & {_absolute(path) for path in maps}
    if not shared:
        return list(images), list(maps)
    depth = {path for path in shared if any(DEPTH.fullmatch(t.lower()) for t in TOKEN.findall(path.stem))}
    pictures = [path for path in images if _absolute(path) not in depth]
    rest = [path for path in maps if _absolute(path) not in shared - depth]
    if not pictures or not rest:
        both = next(path for path in images if _absolute(path) in shared)
        raise UserError(
            f"{both} is given as an image and as a depth file: give patterns that tell them apart, such as "
            "'scan/*.color.png' and 'scan/*.depth.png'"
        )
    return pictures, rest


def partners(images: Sequence[Path], maps: Sequence[Path]) -> list[Path]:
    """The depth file of each image, in the images' order.

    Raises:
        UserError: an image has no partner, or more than one candidate, or a depth file has none; the
            sentence names it. Or all names agree, but for words that differ as two scenes would.
    """
    names = _names([*images, *maps])
    of_images, of_maps = names[: len(images)], names[len(images) :]
    own, others = _constant(of_images, of_maps), _constant(of_maps, of_images)
    bare, rest = [_without(name, own) for name in of_images], [_without(name, others) for name in of_maps]
    identities, candidates = _flat(bare), _by_identity(maps, _flat(rest))
    strange = _strange(own, others, of_images[0], LETTERS[0])
    stranger = _strange(others, own, of_maps[0], LETTERS[1])
    if not candidates.keys() >= set(identities):
        fewer, folders = _less_folders(bare, rest)
        less, others_folders = _less_folders(rest, bare)
        found_by = _by_identity(maps, _flat(less))
        if found_by.keys() >= set(_flat(fewer)):
            identities, candidates = _flat(fewer), found_by
            strange, stranger = strange | folders, stranger | others_folders
    _check(images, identities, candidates)
    found = [candidates[identity][0] for identity in identities]
    if strange and stranger:
        raise UserError(
            f"{images[0]} and {found[0]} agree in their numbers, but '{_part(images[0], strange)}' is in the "
            f"path of every image and '{_part(found[0], stranger)}' in that of every depth file, as if these "
            "were two scenes: rename one, or give --pair order if they belong together"
        )
    return found


def in_order(images: Sequence[Path], maps: Sequence[Path]) -> list[Path]:
    """The depth file of each image, where both are listed in the same order.

    Raises:
        UserError: there are not as many of each.
    """
    if len(maps) != len(images):
        raise UserError(
            f"{len(images)} images and {len(maps)} depth files cannot be paired in order: "
            "give as many of each"
        )
    return list(maps)


def _check(
    images: Sequence[Path], identities: Sequence[Tokens], candidates: Mapping[Tokens, Sequence[Path]]
) -> None:
    lone = [path for path, identity in zip(images, identities, strict=True) if identity not in candidates]
    if lone:
        raise UserError(_alone(lone, images, "depth files", next(iter(candidates.values()))[0]))
    first: dict[Tokens, Path] = {}
    for path, identity in zip(images, identities, strict=True):
        several = candidates[identity]
        if len(several) > 1:
            raise UserError(
                f"{path} has {len(several)} candidates for its depth, {several[0]} and {several[1]}: give a "
                "pattern of depth files that matches one of them"
            )
        if identity in first:
            raise UserError(
                f"{first[identity]} and {path} would both get the depth {several[0]}: give a "
                "pattern of images that matches one of them"
            )
        first[identity] = path
    unused = [path for identity, paths in candidates.items() if identity not in first for path in paths]
    if unused:
        raise UserError(
            _alone(unused, [path for paths in candidates.values() for path in paths], "images", images[0])
        )


def _alone(lone: Sequence[Path], own: Sequence[Path], others: str, other: Path) -> str:
    """That some of `own` have no partner among the others, one of which is `other`."""
    told = f"; {len(lone)} of {len(own)} have none" if len(lone) > 1 else ""
    why = (
        "an image and its depth agree in the folders, words and numbers that tell files apart; --pair order "
        "pairs two lists as they stand"
    )
    if len(lone) == len(own) and TIME.search(lone[0].stem) and TIME.search(other.stem):
        why = (
            "names that are times differ between cameras; write the pairs into two lists (TUM's associate.py "
            "finds them) and give those, @rgb.txt and @depth.txt, with --pair order"
        )
    return f"{lone[0]} has no partner among the {others}, such as {other}{told}: {why}"


def _names(paths: Sequence[Path]) -> list[Name]:
    """What each path says below the folders that all are in."""
    parts = [(*path.parent.parts, path.stem) for path in map(_absolute, paths)]
    folders = zip(*(name[:-1] for name in parts), strict=False)
    shared = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, folders))
    read = {part: _tokens(part) for part in {part for name in parts for part in name[shared:]}}
    names = []
    for name in parts:
        steps = [read[part] for part in name[shared:] if read[part]]
        # 2011_09_26/2011_09_26_drive_0001: such a folder says nothing. A lone number does, as of a camera
        kept = [
            one
            for one, following in pairwise(steps)
            if following[: len(one)] != one or (len(one) == 1 and one[0].isdecimal())
        ]
        names.append((*kept, *steps[-1:]))
    return names


def _tokens(part: str) -> Tokens:
    """Words in lower case and numbers without leading zeros; roles are left out."""
    found: list[str] = []
    for token in TOKEN.findall(TYPES.sub("", unicodedata.normalize("NFC", part))):
        if token.isdecimal():
            found.append(str(int(token)))
        elif not ROLE.fullmatch(token.lower()):
            found.append(token.lower())
    return tuple(found)


def _constant(own: Sequence[Name], other: Sequence[Name]) -> set[str]:
    """Words that all names of a list have and no name of the other."""
    shared = set.intersection(*({word for step in name for word in step} for name in own))
    return {
        word for word in shared.difference(*(step for name in other for step in name)) if not word.isdecimal()
    }


def _less_folders(own: Sequence[Name], other: Sequence[Name]) -> tuple[list[Name], set[str]]:
    """The names without the folders that are in all of them and in none of the other list, and what these
    folders say; unless the other list has such folders too, which would contradict them."""

    def folders(names: Sequence[Name], others: Sequence[Name]) -> set[Tokens]:
        shared = set(names[0][:-1]).intersection(*(name[:-1] for name in names))
        return shared.difference(*(name[:-1] for name in others))

    mine = folders(own, other)
    if not mine or folders(other, own):
        return list(own), set()
    less = [(*(step for step in name[:-1] if step not in mine), *name[-1:]) for name in own]
    return less, {token for step in mine for token in step}


def _flat(names: Sequence[Name]) -> list[Tokens]:
    return [tuple(token for step in name for token in step) for name in names]


def _by_identity(maps: Sequence[Path], identities: Sequence[Tokens]) -> dict[Tokens, list[Path]]:
    """Depth files by what their names say; masks and normals beside a depth file are left out."""
    found: dict[Tokens, list[Path]] = {}
    for path, identity in zip(maps, identities, strict=True):
        found.setdefault(identity, []).append(path)
    for identity in list(found):
        bare = tuple(token for token in identity if token not in NOT_DEPTH)
        if bare != identity and bare in found:
            del found[identity]
    return found


def _without(name: Name, words: set[str]) -> Name:
    steps = (tuple(token for token in step if token not in words) for step in name)
    return tuple(step for step in steps if step)


def _strange(own: set[str], other: set[str], name: Name, letters: set[str]) -> set[str]:
    """Of words that only one list has, those that may be names of scenes. "train" is one beside "test", or
    with more in the folder's name; a letter is none at the end of a file's name."""
    in_folders = {word for step in name[:-1] for word in step}
    beside = letters - in_folders if len(name[-1:] and name[-1]) > 1 else set()
    splits = set() if other & SPLITS else {word for word in SPLITS if (word,) in name}
    return own - splits - beside


def _part(path: Path, words: set[str]) -> str:
    """The innermost folder, or else the name, in which a path has most of `words`."""
    parts = (*reversed(_absolute(path).parent.parts), path.stem)
    return max(parts, key=lambda part: len(words.intersection(_tokens(part))))


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - a link's own place counts, not where it leads
