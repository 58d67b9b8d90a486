"""The size at which a network runs, as users write it: `518`, `longer 756`, `native` or `own`."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from depthkd.errors import UserError

Side = Literal["shorter", "longer", "native", "own"]

MOST_TIMES = 64
ENOUGH = 9  # digits of a number, to see that it is too large
LARGEST = 32768  # pixels of a side


@dataclass(frozen=True)
class Resolution:
    """The size to which an image is brought before a network sees it; its aspect ratio stays.

    A number is the shorter side in pixels: `518`. `longer 756` is the longer side, `native` the image's
    own size, and `own`, as `None`, leaves it to each model (`DepthModel.default_resolution`). `518 or own`
    holds for all models but those that have a longest side of their own.

    Attributes:
        side: which one is given.
        pixels: its length.
        scale: a further factor on it.
        or_own: whether models with a `longest` keep to that.
    """

    side: Side
    pixels: int | None = None
    scale: float = 1.0
    or_own: bool = False

    @classmethod
    def parse(cls, value: "Asked", key: str = "resolution") -> "Resolution":
        """Read what a user wrote.

        Args:
            value: see the class.
            key: what the sentence about a mistake calls it.

        Raises:
            UserError: it is none of these.
        """
        if isinstance(value, Resolution):
            return value
        words = "own" if value is None else "" if isinstance(value, bool) else str(value)
        match words.split():
            case [*words_before, "or", "own"] if words_before:
                return replace(cls.parse(" ".join(words_before), key), or_own=True)
            case ["native"]:
                return NATIVE
            case ["own"]:
                return OWN
            case [number] | ["shorter", number] if _is_whole(number):
                return cls("shorter", _positive(number, key))
            case ["longer", number] if _is_whole(number):
                return cls("longer", _positive(number, key))
        raise UserError(
            f"{key} would be the shorter side in pixels, such as 518, or 'longer 756' for the longer side, "
            f"'native' for the image's own size, or 'own' for that of each model, not {value!r}"
        )

    def times(self, scale: float) -> "Resolution":
        """With sides so many times as long.

        Raises:
            UserError: the scale is not above 0, or above 64.
        """
        if not scale > 0:
            raise UserError(f"the scale of the network's side must be above 0, not {scale}")
        if scale > MOST_TIMES:
            raise UserError(f"the scale of the network's side must be at most {MOST_TIMES}, not {scale}")
        return replace(self, scale=self.scale * scale)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image of this height and width; not of `own`.

        Of a longer side the other one is rounded down, as in Marigold's `resize_max_res`; otherwise
        sides are rounded to the nearest pixel.
        """
        if self.side == "longer":
            factor = self.factor(height, width)  # whose rounding errors are Marigold's too
            return max(1, int(height * factor)), max(1, int(width * factor))
        factor = self.factor(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))

    def factor(self, height: int, width: int) -> float:
        """How many times as large an image of this height and width becomes; not of `own`."""
        if self.side == "native":
            return self.scale
        return self.scale * self._given() / (max if self.side == "longer" else min)(height, width)

    def _given(self) -> int:
        if self.pixels is None:
            raise ValueError(f"'{self}' is no size before a model has chosen one")
        return self.pixels

    @property
    def plain(self) -> int | str:
        """As a user writes it, without the scale; `parse` reads it."""
        return str(self) if self.pixels is None or self.side != "shorter" or self.or_own else self.pixels

    @property
    def words(self) -> str:
        """For the lines above tables."""
        text = {"native": "native size", "own": "each model's own size"}.get(
            self.side, f"{self.pixels} px ({self.side} side)"
        )
        times = "" if self.scale == 1 else f" x {self.scale:g}"
        return text + times + (", or at a model's own longest side" if self.or_own else "")

    def __str__(self) -> str:
        request = {"shorter": f"{self.pixels}", "longer": f"longer {self.pixels}"}.get(self.side, self.side)
        return request + (" or own" if self.or_own else "")


Asked: TypeAlias = Resolution | int | str | None

NATIVE = Resolution("native")
OWN = Resolution("own")


def size_range(sizes: Iterable[tuple[int, int] | None]) -> str:
    """Heights and widths in words: the one that there is, or the smallest and the largest; None is "own"."""
    found = set(sizes)
    known = sorted((size for size in found if size is not None), key=lambda size: (size[0] * size[1], size))
    text = " to ".join(f"{height} x {width}" for height, width in dict.fromkeys((*known[:1], *known[-1:])))
    return text or ("own" if found else "")


def checked(value: int | str | None, key: str = "resolution") -> int | str | None:
    """A resolution in its shortest form, as settings keep it.

    Raises:
        UserError: it is none.
    """
    return None if value is None else Resolution.parse(value, key).plain


def _is_whole(number: str) -> bool:
    return number.isascii() and number.removeprefix("-").isdigit()


def _positive(number: str, key: str) -> int:
    if int(number[:ENOUGH]) < 1:
        raise UserError(f"{key} must be at least 1 pixel, not {number}")
    if int(number[:ENOUGH]) > LARGEST:
        raise UserError(f"{key} must be at most {LARGEST} pixels, not {number}")
    return int(number)
