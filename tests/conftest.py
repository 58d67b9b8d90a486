import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from depthkd.cli import main
from depthkd.verbs.shards.scenes import scenes

os.environ["HF_HUB_OFFLINE"] = "1"
torch.set_num_threads(1)
logging.raiseExceptions = False  # Lightning keeps a handler on a stream that pytest has closed

CommandLine = Callable[..., tuple[int, str, str]]
LONGEST = ("test_learning.py", "test_slurm.py", "test_sharpening.py")  # begun last, they would be waited for


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CommandLine]:
    """`depthkd ...` in this process and in a folder of its own; what it changed is put back."""
    environment, threads, random = dict(os.environ), torch.get_num_threads(), torch.get_rng_state()
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    yield run
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(threads)
    torch.set_rng_state(random)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def scene_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small scenes: 24 labelled studio ones, 24 film images, and 6 labelled ones of each to test on."""
    folder = tmp_path_factory.mktemp("scenes")
    size = {"height": 48, "width": 64, "workers": 1}
    scenes(str(folder / "studio_train"), style="studio", seed=1, count=24, **size)
    scenes(str(folder / "film_train"), style="film", seed=3, count=24, format="sa1b", **size)
    for seed, style in ((2, "studio"), (4, "film")):
        scenes(str(folder / f"{style}_test"), style=style, seed=seed, count=6, **size)
    return folder


@pytest.fixture
def home(tmp_path: Path, scene_shards: Path) -> Path:
    """A working folder as `make run` would find it, with smaller scenes."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/scenes").symlink_to(scene_shards)
    (tmp_path / "configs").symlink_to(Path(__file__).parent.parent / "configs")
    return tmp_path
