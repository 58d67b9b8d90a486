"""The pictures of which depth is wanted: photographs, samples of tar shards, frames of videos."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from depthkd.errors import MissingFileError, UserError
from depthkd.formats.depth import Number
from depthkd.formats.images import IMAGE_SUFFIXES, RGB, decode_image, image_exif
from depthkd.formats.sample import BadSample, read_file
from depthkd.formats.shard_samples import decode_sample
from depthkd.formats.tar import index_tar
from depthkd.paths import expand_paths, is_tar, user_path
from depthkd.shapes import DepthArray
from depthkd.verbs.predict.cameras import Camera, Cameras
from depthkd.verbs.predict.forms import MADE_BY, is_ours
from depthkd.verbs.predict.measured import Measured, Pair
from depthkd.verbs.predict.video import UNKNOWN_RATE, VIDEO_SUFFIXES, Sampling, Video

OTHERWISE = (*VIDEO_SUFFIXES, "tar")  # what a folder stands for that has no photographs

Done = Callable[[str, str], bool]
"""Whether all that is wanted of a picture is there, by its name and its stamp."""


@dataclass(frozen=True)
class Picture:
    """One image.

    Attributes:
        name: of what is made of it, below the folder of results and without a suffix.
        title: what sentences call it.
        stamp: what changes where the picture does.
        image: RGB.
        camera: which took it.
        time: in seconds, of a frame.
        sparse: depth that was measured at some of its pixels, in meters, 0 elsewhere.
    """

    name: str
    title: str
    stamp: str
    image: RGB
    camera: Camera
    time: float | None = None
    sparse: DepthArray | None = None


class Source(ABC):
    """Pictures that belong together, and the folder of their results; "" is that of all results."""

    name = ""
    video: Video | None = None

    @property
    @abstractmethod
    def count(self) -> int | None:
        """How many there are, as far as that is known."""

    @abstractmethod
    def pictures(self, done: Done, cameras: Cameras) -> Iterator[Picture | BadSample | str]:
        """Each picture; why it cannot be read; or the name of one that is done, and is not read."""

    @abstractmethod
    def paths(self) -> list[Path]:
        """The files that must not be overwritten."""


class Photographs(Source):
    """Image files, each with its name, and the depth that was measured beside them."""

    def __init__(self, files: list[tuple[Path, str]], measured: Measured | None = None) -> None:
        self.files, self.measured = files, measured

    @property
    def count(self) -> int | None:
        """See `Source`."""
        return len(self.files)

    def paths(self) -> list[Path]:
        """See `Source`."""
        measured = [] if self.measured is None else list(self.measured.files.values())
        return [*(path for path, _ in self.files), *measured]

    def pictures(self, done: Done, cameras: Cameras) -> Iterator[Picture | BadSample | str]:
        """See `Source`."""
        for path, name in self.files:
            try:
                stamp = stamp_of(path)
                if self.measured is not None:
                    stamp += f" {stamp_of(self.measured.files[path])}"
                if done(name, stamp):
                    yield name
                    continue
                data = read_file(path)
                image = decode_image(data, str(path))
                exif = image_exif(data, str(path))
                sparse = None if self.measured is None else self.measured.read(path, image)
            except BadSample as error:
                yield error
                continue
            yield Picture(name, str(path), stamp, image, cameras.of(*_size(image), exif=exif), None, sparse)


class Shard(Source):
    """The samples of a tar, which may know their cameras."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.index = index_tar(path)

    @property
    def count(self) -> int | None:
        """See `Source`."""
        return len(self.index)

    def paths(self) -> list[Path]:
        """See `Source`."""
        return [self.path]

    def pictures(self, done: Done, cameras: Cameras) -> Iterator[Picture | BadSample | str]:
        """See `Source`."""
        for i, key in enumerate(self.index.keys):
            name, stamp = f"{self.name}/{below(key)}", f"{self.index.file.stamp} {key}"
            if done(name, stamp):
                yield name
                continue
            title = f"{self.path}: sample '{key}'"
            try:
                members = self.index.read(i, (*IMAGE_SUFFIXES, "json"))
                sample = decode_sample(key, members, str(self.path), False, cameras=True)
                exif = next(image_exif(members[s], title) for s in IMAGE_SUFFIXES if s in members)
            except BadSample as error:
                yield error
                continue
            camera = cameras.of(*_size(sample.image), packed=sample.intrinsics, exif=exif)
            yield Picture(name, title, stamp, sample.image, camera)


class Frames(Source):
    """The frames of a video that are wanted."""

    def __init__(self, video: Video, name: str) -> None:
        self.video: Video = video
        self.name = name

    @property
    def stamp(self) -> str:
        """What changes where the video does, or what is wanted of it."""
        return f"{stamp_of(self.video.path)} {self.video.sampling}"

    @property
    def count(self) -> int | None:
        """See `Source`."""
        return self.video.wanted

    def paths(self) -> list[Path]:
        """See `Source`."""
        return [self.video.path]

    def pictures(self, done: Done, cameras: Cameras) -> Iterator[Picture | BadSample | str]:
        """See `Source`."""
        stamp = self.stamp
        for found in self.video.frames(lambda number: done(f"{self.name}/{number:06}", stamp)):
            if isinstance(found, BadSample):
                yield found
                continue
            name = f"{self.name}/{found.number:06}"
            if found.image is None:
                yield name
                continue
            title = f"{self.video.path}: frame {found.number}"
            camera = cameras.of(*_size(found.image))
            yield Picture(name, title, stamp, found.image, camera, found.time)


def find_sources(
    images: str | Sequence[str],
    out: Path,
    sampling: Sampling,
    sparse: str | Sequence[str] | None = None,
    sparse_scale: Number = 1.0,
    pair: Pair = "name",
) -> tuple[list[Source], list[str]]:
    """What patterns stand for, and a sentence for each video or shard that cannot be read.

    Args:
        images: files, folders or patterns.
        out: the folder of results, for sentences.
        sampling: which frames of videos are wanted.
        sparse, sparse_scale, pair: files of depth measured beside photographs; see `Measured`.

    Raises:
        UserError: measured depth cannot be paired with photographs, two would have results of one name, or
            there are only pictures that we made.
        MissingFileError: a pattern stands for nothing.
    """
    paths = _expanded([images] if isinstance(images, str) else images)
    videos = [path for path in paths if path.suffix[1:].lower() in VIDEO_SUFFIXES]
    tars = [path for path in paths if is_tar(path.name)]
    photographs = _photographs([path for path in paths if path not in {*videos, *tars}], images, paths)
    measured = None
    if sparse is not None:
        if tars or videos:
            raise UserError(f"sparse depth belongs to photographs, and {(*tars, *videos)[0]} is none")
        measured = Measured(sparse, sparse_scale, pair, photographs)
        photographs = list(measured.files)
    everything = [*photographs, *tars, *videos]
    names = dict(zip(everything, _names(everything, out), strict=True))
    found, bad = list[Source](), list[str]()
    if photographs:
        found.append(Photographs([(path, names[path]) for path in photographs], measured))
    for path in (*tars, *videos):
        try:
            found.append(_opened(path, names[path], sampling))
        except UserError as error:
            if len(paths) == 1:
                raise
            bad.append(str(error))
    return found, bad


def _opened(path: Path, name: str, sampling: Sampling) -> Source:
    if is_tar(path.name):
        return Shard(path, name)
    video = Video(path, sampling)
    if not video.says_rate:
        print(f"{path} does not say how many frames a second it has: {UNKNOWN_RATE:g} are assumed")
    return Frames(video, name)


def _size(image: RGB) -> tuple[int, int]:
    return int(image.shape[0]), int(image.shape[1])


def _expanded(patterns: Sequence[str]) -> list[Path]:
    """The files of all patterns; a folder that has them in subfolders alone stands for those."""
    found: list[str] = []
    for pattern in patterns:
        folder = None if pattern.startswith("@") else user_path(pattern)
        if folder is not None and folder.is_dir() and not _has_some(folder):
            deep = f"{escape(str(folder))}/**"
            below_it = expand_paths(deep, IMAGE_SUFFIXES, otherwise=OTHERWISE)
            print(f"{folder} has none itself: what its subfolders hold is taken, {len(below_it)} in all")
            found += below_it
        else:
            found += expand_paths(pattern, IMAGE_SUFFIXES, otherwise=OTHERWISE)
    places = Counter(os.path.abspath(path) for path in found)  # noqa: PTH100 - a link is a file of its own
    if places and (most := places.most_common(1)[0])[1] > 1:
        raise UserError(f"{most[0]} is given {most[1]} times")
    return [Path(path) for path in found]


def _has_some(folder: Path) -> bool:
    """Whether a folder itself holds what could be predicted, or has no subfolder that might."""
    try:
        expand_paths(escape(str(folder)) + "/*.*", (*IMAGE_SUFFIXES, *OTHERWISE))
    except MissingFileError:
        return not any(entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir())
    return True


def _photographs(paths: list[Path], images: object, everything: list[Path]) -> list[Path]:
    """Image files, without pictures that `predict` made."""
    photographs = [path for path in paths if not _made_by_us(path)]
    if paths and not photographs and len(everything) == len(paths):
        raise UserError(f"{images} has no photographs, only pictures that `{MADE_BY}` made")
    if len(photographs) < len(paths):
        print(f"left alone: {len(paths) - len(photographs)} pictures of an earlier prediction")
    return photographs


def _made_by_us(path: Path) -> bool:
    if path.suffix.lower() != ".png" or not path.is_file():
        return False
    with path.open("rb") as file:
        return is_ours(file.read(256))


def _names(paths: Sequence[Path], out: Path) -> list[str]:
    """A name for each: the stem; where those are not unique, all keep their folders; where that is not
    enough, those that are left keep their suffix too.

    Raises:
        UserError: two would have one name even so.
    """
    names = [path.stem for path in paths]
    if _repeated(names):
        names = [
            "-".join([*(p for p in path.parent.parts if p != ".."), path.stem]).strip("/-") for path in paths
        ]
    if twice := _repeated(names):
        names = [
            f"{name}-{path.suffix[1:]}" if name.casefold() in twice else name
            for name, path in zip(names, paths, strict=True)
        ]
    if twice := _repeated(names):
        repeated = next(name for name in names if name.casefold() in twice)
        raise UserError(f"two images would both be called '{repeated}' below {out}; predict one at a time")
    return names


def _repeated(names: Sequence[str]) -> set[str]:
    """Those that occur twice, whatever case they are written in."""
    return {name for name, count in Counter(name.casefold() for name in names).items() if count > 1}


def below(key: str) -> str:
    """A sample's key as a path that stays below its folder."""
    return "/".join(part for part in key.split("/") if part not in ("", ".", ".."))


def stamp_of(path: Path) -> str:
    """What tells a file from what stood there before: its place, its size and its time.

    Raises:
        BadSample: it cannot be read.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise BadSample(f"{path} cannot be read: {error.strerror}") from error
    return f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}"
