"""What is known of a tar of labels: a JSON file beside it, by which it is told whether it is done.

`NAME.tar.json` is written before `NAME.tar` gets its name, and says how many bytes and which SHA-256 that
will have. So a tar with a manifest that agrees with it is whole, and was made of these images in this way.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from depthkd.errors import UserError
from depthkd.formats.whole_files import write_whole, writing

VERSION = 1  # of the labels' layout
SUFFIX = ".json"

Settings = Mapping[str, Any]
"""What labels depend on besides their images, in words and numbers of JSON."""


@dataclass(frozen=True)
class Manifest:
    """What a tar of labels was made of.

    Attributes:
        tar: its name, which is that of the tar of images.
        images: `TarIndex.digest` of that tar.
        settings: models, by `DepthModel.identity`, and options.
        samples: how many images the tar has.
        bad: key -> why, of each image that has no label.
        size: of the labels' tar, in bytes.
        sha256: of the same.
        invalid: share of all labels' pixels that are not valid.
        version: of the labels' layout.
    """

    tar: str
    images: str
    settings: Settings
    samples: int
    bad: Mapping[str, str]
    size: int
    sha256: str
    invalid: float = 0.0
    version: int = VERSION

    @property
    def labelled(self) -> int:
        """How many images have a label."""
        return self.samples - len(self.bad)

    def write(self, tar: Path) -> None:
        """Write it beside a tar."""
        write_whole(manifest_of(tar), json.dumps(asdict(self), indent=1) + "\n")

    def damage(self, tar: Path) -> str | None:
        """What is wrong with the tar, all of which is read; None: it is as it was made."""
        if (fault := self.missing(tar)) is not None:
            return fault
        return None if file_digest(tar) == self.sha256 else f"{tar} is damaged: its SHA-256 is another"

    def missing(self, tar: Path) -> str | None:
        """What is wrong with the tar, as far as its size tells."""
        if not tar.is_file():
            return f"{tar} is not there"
        size = tar.stat().st_size
        return (
            None
            if size == self.size
            else f"{tar} is damaged: it has {size} bytes, and was made of {self.size}"
        )


def manifest_of(tar: Path) -> Path:
    """Where the manifest of a tar of labels lies."""
    return tar.with_name(tar.name + SUFFIX)


def read_manifest(tar: Path) -> Manifest | None:
    """The manifest of a tar of labels; None: there is none, or it is no such file."""
    try:
        record = json.loads(manifest_of(tar).read_bytes())
        return Manifest(**record) if record["version"] == VERSION else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_done(tar: Path, images: str, settings: Settings, overwrite: bool) -> bool:
    """Whether a tar of labels is whole, and of these images and settings.

    Args:
        tar: of labels, which need not exist.
        images: digest of the images' tar.
        settings: of the labels.
        overwrite: whether a tar that is another one may be replaced.

    Raises:
        UserError: it is another one, and may not be replaced.
    """
    manifest = read_manifest(tar)
    if manifest is None:
        if tar.exists() and not overwrite:
            raise UserError(
                f"{tar} exists, and no {manifest_of(tar).name} says that it holds labels: choose another "
                "--out, or --overwrite true replaces it"
            )
        return False
    different = None
    if manifest.settings != json.loads(json.dumps(settings)):
        different = _difference(manifest.settings, settings)
    elif manifest.images != images:
        different = "of other images than those of that name now"
    if different is None:
        return manifest.missing(tar) is None
    if not overwrite:
        raise UserError(
            f"{tar} holds labels {different}: choose another --out, or --overwrite true replaces them"
        )
    return False


def _difference(made: Settings, asked: Settings) -> str:
    """In which setting labels are others than those that are asked for."""
    name = next(key for key in [*made, *asked] if made.get(key) != asked.get(key))
    before, now = made.get(name), asked.get(name)
    if isinstance(before, dict) and isinstance(now, dict):
        inner = next(key for key in [*before, *now] if before.get(key) != now.get(key))
        if inner == "identity":
            return f"of {before.get('name')} with other weights or settings ({name})"
        name, before, now = f"{name}'s {inner}", before.get(inner), now.get(inner)
    return f"that were made with {name} {json.dumps(before)}, not {json.dumps(now)}"


def remove(tar: Path) -> None:
    """Remove a tar of labels that is replaced, its index and its manifest, whose new one comes first."""
    with writing(tar):
        for path in (tar, tar.with_name(tar.name + ".index"), manifest_of(tar)):
            path.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
