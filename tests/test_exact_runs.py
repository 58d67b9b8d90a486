"""Runs from two sources, one of them remote, with 1, 2 and 4 ranks and 0, 1 and 3 workers, killed and resumed
with the same or with others: `make test-long`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from depthkd.runs.folder import CHECKPOINT, read_checkpoint
from tests.data.shards import write_shards
from tests.processes import run
from tests.storage.server import FaultyServer, serving
from tests.test_resume import assert_same, configured

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

RANKS, WORKERS = (1, 2, 4), (0, 1, 3)
KEPT = 2  # checkpoints are written every so many steps of two batches
PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "ShardDataModule", "depthkd")


@dataclass
class Runs:
    """Runs of one configuration in a folder."""

    folder: Path
    server: FaultyServer
    shards: str

    def fit(self, name: str, ranks: int, workers: int, *more: str) -> list[int]:
        """`depthkd fit` once a rank; the exit codes."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        distributed = {"devices": ranks, "strategy": "ddp"} if ranks > 1 else {}
        tree: dict[str, Any] = yaml.safe_load(
            configured(self.folder, place, workers=workers, **distributed).read_text()
        )
        transform = tree["data"]["train"]["photos"]["transform"]
        tree["data"]["batch_size"] = 8
        tree["data"]["train"] = {
            "here": {"urls": self.shards, "share": 0.5, "transform": transform},
            "far": {"urls": f"{self.server.url}/far_{{00..02}}.tar", "share": 0.5, "transform": transform},
        }
        tree["trainer"]["callbacks"] = [{"class_path": "tests.cluster.callbacks.Samples"}]
        (place / "run.yaml").write_text(yaml.safe_dump(tree))
        codes, output = run(
            ["fit", "--config", "run.yaml", "--run", "run", *more], place, ranks, timeout=300,
            more={"DEPTHKD_CACHE": str(place / "cache")},
        )  # fmt: skip
        assert set(codes) <= {0, -9}, output
        return codes

    def killed(self, name: str, ranks: int, workers: int) -> None:
        """A run that is killed after 11 batches."""
        kill = ("--trainer.callbacks+", "tests.processes.KillAfter", "--trainer.callbacks.batches", "11")
        assert -9 in self.fit(name, ranks, workers, *kill)

    def checkpoint(self, name: str) -> dict[str, Any]:
        return read_checkpoint(self.folder / name / "run" / CHECKPOINT)

    def samples(self, name: str) -> list[list[list[Any]]]:
        """What each global batch held, over all ranks; of batches that were trained on twice, the last."""
        batches: dict[int, list[list[Any]]] = {}
        for path in sorted((self.folder / name).glob("samples-*.jsonl")):
            mine = dict(json.loads(line) for line in path.read_text().splitlines())
            for number, samples in mine.items():
                batches.setdefault(number, []).extend(samples)
        return [sorted(batches[number]) for number in sorted(batches)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("runs")
    for name in ("here", "far"):
        (folder / name).mkdir()
    shards = write_shards(folder / "here", [17, 16])
    write_shards(folder / "far", [9, 14, 12])
    with serving(folder / "far") as server:
        yield Runs(folder, server, shards)


@pytest.fixture(scope="module")
def whole(runs: Runs) -> dict[int, str]:
    """Runs that nothing stopped, by their ranks."""
    names = {}
    for ranks in RANKS:
        names[ranks] = f"whole_{ranks}"
        assert runs.fit(names[ranks], ranks, 0) == [0] * ranks
    return names


def test_all_ranks_together_train_on_the_same(runs: Runs, whole: dict[int, str]) -> None:
    one = runs.samples(whole[1])
    assert len(one) == 16 and all(len(batch) == 8 for batch in one)
    assert {source for batch in one for source, _, _ in batch} == {"here", "far"}
    for ranks in RANKS:
        assert runs.samples(whole[ranks]) == one


@pytest.mark.parametrize(("ranks", "workers"), list(product(RANKS, WORKERS)))
def test_a_resumed_run_ends_with_the_same_bits(
    runs: Runs, whole: dict[int, str], ranks: int, workers: int
) -> None:
    name = f"same_{ranks}_{workers}"
    runs.killed(name, ranks, workers)
    assert runs.checkpoint(name)["global_step"] == 4
    assert runs.fit(name, ranks, workers, "--ckpt_path", "last") == [0] * ranks
    expected, found = runs.checkpoint(whole[ranks]), runs.checkpoint(name)
    for part in PARTS:
        assert_same(expected[part], found[part], part)
    assert runs.samples(name) == runs.samples(whole[1])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1, 3), (2, 0)),
        ((2, 1), (4, 0)),
        ((4, 0), (1, 1)),
        ((4, 1), (2, 3)),
        ((2, 0), (2, 3)),
        ((4, 3), (4, 1)),
    ],
)
def test_other_ranks_and_workers_go_on_with_the_same_samples(
    runs: Runs, whole: dict[int, str], before: tuple[int, int], after: tuple[int, int]
) -> None:
    name = "changed_" + "_".join(map(str, (*before, *after)))
    runs.killed(name, *before)
    for path in (runs.folder / name).glob("samples-*.jsonl"):  # of the batches that the checkpoint has seen
        lines = path.read_text().splitlines()
        path.with_name(f"samples-before-{path.name}").write_text("\n".join(lines[: 4 * KEPT]))
        path.unlink()
    assert runs.fit(name, *after, "--ckpt_path", "last") == [0] * after[0]
    assert runs.samples(name) == runs.samples(whole[1])
    if before[0] == after[0]:
        expected, found = runs.checkpoint(whole[after[0]]), runs.checkpoint(name)
        for part in PARTS:
            assert_same(expected[part], found[part], part)
