"""Videos: frames of a file, and a video of depth in colors beside them, by OpenCV."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from depthkd.batch import DepthSpace
from depthkd.errors import UserError
from depthkd.formats.images import RGB
from depthkd.formats.sample import BadSample
from depthkd.formats.whole_files import writing
from depthkd.report.pictures import colors, limits, nearness
from depthkd.shapes import DepthArray

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # OpenCV reads it when it opens its first video
VIDEO_SUFFIXES = ("mp4", "mov", "avi", "mkv", "webm", "m4v")
CODEC = "vp09"  # which OpenCV's wheels can write, and browsers and VLC show
WIDEST = 3840  # px, of what is written
MEMORY = 0.9  # of a color scale's ends, from frame to frame, so that colors do not flicker
UNKNOWN_RATE = 30.0  # frames a second, of a file that does not say
CUT_SHORT = 0.05  # share of the frames that a file may have fewer than it says


@dataclass(frozen=True)
class Sampling:
    """Which frames are wanted: every n-th, or so many a second.

    Raises:
        UserError: both are given, or one cannot be.
    """

    every: int | None = None
    fps: float | int | None = None

    def __post_init__(self) -> None:
        if self.every is not None and self.fps is not None:
            raise UserError("every and fps both choose frames of a video: give one of them")
        if self.every is not None and self.every < 1:
            raise UserError(f"every counts frames and would be 1 or more, not {self.every}")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise UserError(f"fps would be frames a second, above 0, not {self.fps}")

    def rate(self, of_file: float | int) -> float:
        """Frames a second of what is chosen."""
        if self.fps is not None:
            return float(min(self.fps, of_file))
        return of_file / (self.every or 1)

    def wants(self, number: int, of_file: float | int) -> bool:
        """Whether a frame is chosen, by its number."""
        if self.fps is None:
            return number % (self.every or 1) == 0
        step = _fraction(self.rate(of_file)) / _fraction(of_file)
        return number == 0 or math.floor(number * step) > math.floor((number - 1) * step)


def _fraction(rate: float | int) -> Fraction:
    return Fraction(rate).limit_denominator(10**6)


@dataclass(frozen=True)
class Frame:
    """A frame's number, its time in seconds, and its image; None where that is not wanted."""

    number: int
    time: float
    image: RGB | None


class Video:
    """A video file.

    Args:
        path: of the file.
        sampling: which of its frames are wanted.

    Raises:
        BadSample: OpenCV cannot read it.
    """

    def __init__(self, path: Path, sampling: Sampling) -> None:
        self.path, self.sampling = path, sampling
        if not path.is_file():
            raise BadSample(
                f"{path} cannot be read: {'it is a folder' if path.is_dir() else 'it is not there'}"
            )
        file = self._open()
        rate, count = file.get(cv2.CAP_PROP_FPS), file.get(cv2.CAP_PROP_FRAME_COUNT)
        file.release()
        self.says_rate = 0 < rate < 1000
        self.file_rate = float(rate) if self.says_rate else UNKNOWN_RATE
        self.count = int(count) if 0 < count < 1e9 else None

    @property
    def rate(self) -> float:
        """Frames a second of those that are wanted."""
        return self.sampling.rate(self.file_rate)

    @property
    def wanted(self) -> int | None:
        """How many frames are wanted, as far as the file says how many it has."""
        if self.count is None:
            return None
        return sum(self.sampling.wants(number, self.file_rate) for number in range(self.count))

    def frames(self, done: Callable[[int], bool]) -> Iterator[Frame | BadSample]:
        """The frames that are wanted, in order; and, where the file breaks off, a sentence at the end.

        Args:
            done: whether a frame's image is not wanted, by its number.
        """
        file, number = self._open(), 0
        try:
            while file.grab():
                if self.sampling.wants(number, self.file_rate):
                    time = number / self.file_rate
                    if done(number):
                        yield Frame(number, time, None)
                    else:
                        read, image = file.retrieve()
                        if not read:
                            break
                        yield Frame(number, time, np.ascontiguousarray(image[:, :, ::-1]))
                number += 1
        finally:
            file.release()
        if not number:
            yield BadSample(f"{self.path} has no frame that can be read")
        elif self.count is not None and number < (1 - CUT_SHORT) * self.count - 1:
            yield BadSample(f"{self.path} breaks off after {number} of {self.count} frames")

    def _open(self) -> cv2.VideoCapture:
        _quiet()
        file = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        if not file.isOpened():
            raise BadSample(f"{self.path} is not a video that OpenCV can read, or is broken")
        return file


class DepthVideo:
    """A video of frames with their depth in colors at their side, which gets its name when it is whole.

    Args:
        path: of the file, an .mp4.
        rate: frames a second.
        space: what depth means.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, path: Path, rate: float, space: DepthSpace) -> None:
        self.path, self.rate, self.space = path, rate, space
        self.draft = path.with_name(f".{path.stem}.writing{path.suffix}")
        self.scale: tuple[float, float] | None = None
        self.written = 0
        self._file: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __enter__(self) -> "DepthVideo":
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def add(self, image: RGB, depth: DepthArray) -> None:
        """Write one frame.

        Raises:
            UserError: the file cannot be begun.
        """
        near = nearness(depth, self.space)
        ends = limits(near)
        if self.scale is not None:
            low, high = (MEMORY * a + (1 - MEMORY) * b for a, b in zip(self.scale, ends, strict=True))
            ends = low, high
        self.scale = ends
        both = np.concatenate([image, colors(near, ends)], axis=1)
        if self._file is None:
            self._begin(both.shape[0], both.shape[1])
        assert self._file is not None
        height, width = self._size
        if both.shape[:2] != (height, width):
            both = cv2.resize(both, (width, height), interpolation=cv2.INTER_AREA)
        self._file.write(np.ascontiguousarray(both[:, :, ::-1]))
        self.written += 1

    def _begin(self, height: int, width: int) -> None:
        factor = min(1.0, WIDEST / width)
        high, wide = (max(2, 2 * round(side * factor / 2)) for side in (height, width))
        self._size = high, wide
        _quiet()
        with writing(self.path), self.draft.open("wb"):
            pass  # whether it can be written: OpenCV says only that it cannot
        code = cv2.VideoWriter.fourcc(*CODEC)
        self._file = cv2.VideoWriter(str(self.draft), cv2.CAP_FFMPEG, code, self.rate, self._size[::-1])
        if not self._file.isOpened():
            raise UserError(f"{self.path} cannot be written: this OpenCV has no encoder for {CODEC}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.release()
        try:
            if kind is None and self.written:
                self._check()
                with writing(self.path):
                    self.draft.replace(self.path)
        finally:
            with suppress(OSError):
                self.draft.unlink()

    def _check(self) -> None:
        """OpenCV says nothing of a disk that is full."""
        file = cv2.VideoCapture(str(self.draft), cv2.CAP_FFMPEG)
        count = int(file.get(cv2.CAP_PROP_FRAME_COUNT)) if file.isOpened() else 0
        file.release()
        if count != self.written:
            raise UserError(
                f"{self.path} cannot be written: of {self.written} frames {count} have arrived; is the disk "
                "full?"
            )


def _quiet() -> None:
    """No lines of OpenCV's own: what matters is in our sentences."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
