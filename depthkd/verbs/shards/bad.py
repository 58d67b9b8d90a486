"""Bad samples: those of a tar, and many of them printed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from depthkd.errors import UserError
from depthkd.storage.files import StoredFile

SHOWN = 20  # that are printed one by one


@dataclass(frozen=True)
class CheckedTar:
    """A tar whose samples have been decoded.

    Attributes:
        file: the tar, as it was then.
        samples: how many it has, as far as it can be read.
        bad: key -> why, of each that cannot be used.
        fault: why the tar cannot be read, or not to its end.
        failed: keys of those that are no samples, but what downloaders keep of failed downloads.
    """

    file: StoredFile
    samples: int = 0
    bad: Mapping[str, str] = field(default_factory=dict)
    fault: UserError | None = None
    failed: Collection[str] = ()

    @property
    def good(self) -> int:
        """How many samples can be used."""
        return self.samples - len(self.bad)

    @property
    def sentences(self) -> list[str]:
        """One on each bad sample, and one on the tar's fault."""
        return [*self.bad.values(), *([] if self.fault is None else [str(self.fault)])]


def print_bad(bad: Sequence[str], total: int | None = None) -> None:
    """A sentence for each of the first, and how many there are, of `total`."""
    print_listed(f"{len(bad)}{'' if total is None else f' of {total}'} are bad", bad)


def print_listed(title: str, sentences: Sequence[str]) -> None:
    """The first sentences below a title, and how many more there are; nothing without any."""
    if sentences:
        print(f"{title}:")
    for sentence in sentences[:SHOWN]:
        print(f"  {sentence}")
    if len(sentences) > SHOWN:
        print(f"  and {len(sentences) - SHOWN} more")
