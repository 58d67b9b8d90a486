"""Depth of a source's images from other tars, which hold labels and no images: they are joined by key."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from depthkd.data.order import Recent
from depthkd.errors import UserError
from depthkd.formats.opened import opened
from depthkd.formats.sample import BadSample, bad_part
from depthkd.formats.shard_set import name_of, survey
from depthkd.formats.shard_urls import find_shards
from depthkd.formats.splits import TRAIN
from depthkd.formats.tar import index_tar
from depthkd.formats.tar_index import TarIndex


class Labels:
    """The labels of a source, a tar of them for each tar of images, of the same name.

    Args:
        urls: of the tars, as for images.
        split: of the images, which is read where a folder of labels tells its splits.
        images: paths of the tars with images, in their order.
        cache: see `index_tar`.
        keep: how many indexes are remembered.
        turn: see `survey`.

    Raises:
        UserError: a tar is broken, two of labels or two of images have one name, or one is missing for a tar
            of images.
    """

    def __init__(
        self,
        urls: str | list[str],
        split: str | None,
        images: Sequence[str],
        cache: Path | None,
        keep: int,
        turn: tuple[int, int] = (0, 1),
    ) -> None:
        self._open_file = partial(opened, cache=cache)
        paths = find_shards(urls, default=split or TRAIN).paths
        found = survey(paths, cache, turn=turn, images=False, opened=self._open_file)
        by_name = {
            name_of(path): (path, digest) for path, digest in zip(found.paths, found.digests, strict=True)
        }
        if len(by_name) < len(found.paths):
            name, times = Counter(map(name_of, found.paths)).most_common(1)[0]
            raise UserError(f"{times} tars of labels are named {name}, and one is looked for by that name")
        first: dict[str, str] = {}
        for path in images:
            if first.setdefault(name_of(path), path) != path:
                raise UserError(
                    f"{first[name_of(path)]} and {path} have one name, by which their labels are looked for: "
                    "give each a source of its own"
                )
        missing = [path for path in images if name_of(path) not in by_name]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(images)} tars of images have no tar of labels of the same name, "
                f"{missing[0]} first"
            )
        self.paths, self.digests = zip(*(by_name[name_of(path)] for path in images), strict=True)
        self._cache = cache
        self._opened: Recent[int, tuple[TarIndex, dict[str, int]]] = Recent(keep)

    def digest(self) -> str:
        """What tells the labels from others: of the content of all tars, in order."""
        return hashlib.blake2b(" ".join(self.digests).encode(), digest_size=8).hexdigest()

    def teachers(self) -> list[dict[str, Any]]:
        """Source, license and training sets of the networks that made the labels, as what `depthkd label`
        wrote beside each tar says; none of tars of others, or on another machine."""
        told: dict[str, dict[str, Any]] = {}
        for path in self.paths:
            try:
                settings = json.loads(Path(f"{path}.json").read_bytes())["settings"].values()
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
            made = [one for one in settings if isinstance(one, dict) and {"name", "license"} <= one.keys()]
            told |= {str(one["name"]): one for one in made}
        return [
            {"source": name, "license": one["license"], "training_sets": one.get("training_sets")}
            for name, one in told.items()
        ]

    @bad_part("label")
    def read(self, shard: int, key: str) -> tuple[str, dict[str, bytes]]:
        """Where the label of an image lies, in words, and its members: suffix -> bytes.

        Args:
            shard: number of the image's tar.
            key: of the image.

        Raises:
            BadSample: there is none, or it cannot be read.
            UserError: the tar has changed since the run began.
        """
        index, places = self._opened.get(shard, lambda: self._open(shard))
        if key not in places:
            raise BadSample(f"{index.file.name} has no label of sample '{key}'")
        return index.file.name, index.read(places[key])

    def _open(self, shard: int) -> tuple[TarIndex, dict[str, int]]:
        index = index_tar(self._open_file(self.paths[shard]), self._cache, images=False)
        if index.digest != self.digests[shard]:
            raise UserError(f"{index.file.name} changed while the run was reading it; start the run again")
        return index, {key: i for i, key in enumerate(index.keys)}
