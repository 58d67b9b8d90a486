"""`depthkd shards scenes`: procedural scenes as a folder of tar shards, which appears when it is whole."""

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from depthkd.errors import ExistingFileError, UserError
from depthkd.formats.shard_samples import encode_sample
from depthkd.formats.whole_files import draft_of, write_whole
from depthkd.formats.writing import Member, write_tar
from depthkd.in_use import InUse
from depthkd.paths import user_path
from depthkd.processes import pool

MANIFEST = "scenes.json"


def scenes(
    out: str,
    style: str = "studio",
    seed: int = 0,
    count: int = 600,
    height: int = 192,
    width: int = 256,
    format: Literal["labelled", "sa1b"] = "labelled",
    workers: int = 2,
    samples_per_shard: int = 200,
) -> list[Path]:
    """Generate procedural scenes into tar shards; the same settings give the same bytes.

    The folder appears when all is there. A run that was interrupted continues with the shard that it
    was at, and a folder that has these scenes already is left as it is.

    Args:
        out: the folder to make.
        style: how the scenes look: studio or film; lifelike, which the embedded teacher learned from; or
            studio_fog and film_fog.
        seed: which scenes.
        count: how many.
        height: of the images, in pixels.
        width: of the images, in pixels.
        format: labelled (with metric depth and intrinsics), or sa1b (images only).
        workers: how many processes; 1 does it in this one.
        samples_per_shard: how many samples go into a tar.

    Raises:
        UserError: a setting is out of range.
        ExistingFileError: the folder has something else in it.
    """
    if min(count, samples_per_shard) < 1:
        raise UserError(f"count ({count}) and samples_per_shard ({samples_per_shard}) must be at least 1")
    settings = {
        "style": str(style),
        "seed": seed,
        "count": count,
        "height": height,
        "width": width,
        "format": format,
        "samples_per_shard": samples_per_shard,
    }
    from depthkd.datasets.scenes import check_style

    check_style(style)
    folder = _folder_to_make(out)
    names = [f"{style}-{shard:06d}.tar" for shard in range(math.ceil(count / samples_per_shard))]
    paths = [folder / name for name in names]
    if _manifest(folder) == settings:  # it has its name only when it is whole
        print(f"{folder} has these {count} scenes already")
        return paths
    making = f"{folder} is being made by {{who}}: wait for it, or choose another --out"
    with InUse(folder.with_name(f".{folder.name}.in_use"), making, folder):
        if folder.is_dir() and any(folder.iterdir()):
            if _manifest(folder) != settings:
                raise ExistingFileError(
                    f"{folder} holds other files or other scenes; remove it, or choose another --out"
                )
            print(f"{folder} has these {count} scenes already")
            return paths
        draft = folder.with_name(f"{folder.name}.partial")
        _clear_draft(draft, settings)
        draft.mkdir(parents=True, exist_ok=True)
        write_whole(draft / MANIFEST, json.dumps(settings, indent=2) + "\n")
        done = next((at for at, name in enumerate(names) if not (draft / name).exists()), len(names))
        _generate(settings, draft, names[done:], done * samples_per_shard, workers)
        draft.replace(folder)
    print(f"{count} scenes, {len(names)} tars: {paths[0]} first")
    return paths


def _folder_to_make(out: str) -> Path:
    """Where the scenes go: a link's target, and no folder that has a name of its own already elsewhere."""
    folder = user_path(out)
    folder = folder.resolve() if folder.is_symlink() else folder
    if folder.name in ("", ".."):
        raise UserError(f"out '{out}' would be a folder to make, such as scenes/studio")
    if folder.exists() and not folder.is_dir():
        raise ExistingFileError(f"{folder} is a file; out would be a folder to make, such as scenes/studio")
    return folder


def _clear_draft(draft: Path, settings: dict[str, Any]) -> None:
    """Remove what an interrupted call with other settings has left, and nothing else."""
    if not draft.exists() or (found := _manifest(draft)) == settings:
        return
    left = sorted(draft.iterdir()) if draft.is_dir() else [draft]
    ours = isinstance(found, dict) and found.keys() == settings.keys()
    if left and not ours and [file.name for file in left] != [draft_of(draft / MANIFEST).name]:
        raise ExistingFileError(
            f"{draft} is there, where scenes are drafted: remove it, or choose another --out"
        )
    for file in left:
        file.unlink()


def _generate(settings: dict[str, Any], folder: Path, names: list[str], first: int, workers: int) -> None:
    """Write these tars, whose first scene has the number `first`."""
    how = (settings[name] for name in ("style", "seed", "height", "width", "format"))
    generate, todo = partial(_scene, *how), range(first, settings["count"])
    with ExitStack() as stack:
        generated: Iterator[Member] = map(generate, todo)
        if min(workers, len(todo) // 64) > 1:  # a process takes as long to start as 64 scenes
            generated = stack.enter_context(pool(workers)).map(generate, todo, chunksize=8)
        total = settings["count"]
        progress = tqdm(generated, total=total, initial=first, desc="scenes", unit="scene", disable=None)
        members = iter(progress)  # one iterator for all tars: a progress bar closes with its first
        for name in names:
            write_tar(islice(members, settings["samples_per_shard"]), folder / name)


def _scene(style: str, seed: int, height: int, width: int, format: str, index: int) -> Member:
    from depthkd.datasets.scenes import Style, scene

    sample = scene(seed, index, style, height, width).sample
    if format == "sa1b":
        sample.depth = sample.mask = sample.space = sample.intrinsics = None
        about = {"image_id": index, "width": width, "height": height, "file_name": f"{sample.key}.jpg"}
        return sample.key, encode_sample(sample, extra={"image": about, "annotations": []})
    # png16 as always, for runs are compared over versions; it cannot hold a sky of 1,000 m
    return sample.key, encode_sample(sample, "log16" if style == Style.LIFELIKE else "png16")


def _manifest(folder: Path) -> Any:
    try:
        return json.loads((folder / MANIFEST).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
