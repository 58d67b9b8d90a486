import json
import logging
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from lightning.pytorch import LightningModule, Trainer

from depthkd.batch import Skipped
from depthkd.cluster.slurm import EveryRankError
from depthkd.data.bad_samples import BadSampleCheck, BadSamples
from depthkd.formats.sample import BadSample, bad_part
from depthkd.runs.folder import read_checkpoint
from tests.data.shards import write_shards
from tests.processes import run
from tests.test_resume import configured


class Steps:
    """A trainer that takes optimizer steps, with a datamodule that has met some samples before each."""

    def __init__(self, folder: Path, max_bad_fraction: float = 0.1) -> None:
        self.saved: list[int] = []
        self.check = BadSampleCheck(self.save)
        self.bad = BadSamples()
        self.trainer = Mock(spec=Trainer, world_size=1, global_step=0, global_rank=0, fast_dev_run=False)
        self.trainer.default_root_dir = folder
        self.trainer.datamodule = SimpleNamespace(bad=self.bad, max_bad_fraction=max_bad_fraction)
        self.module = Mock(spec=LightningModule)
        self.check.on_train_start(self.trainer, self.module)

    def save(self, trainer: Trainer) -> Path:
        self.saved.append(trainer.global_step)
        return Path("last.ckpt")

    def step(self, good: int, *bad: str) -> None:
        self.bad.note("photos", good, [Skipped("image", sentence) for sentence in bad])
        self.trainer.global_step += 1
        self.check.on_train_batch_end(self.trainer)


def test_a_bad_part_names_its_kind() -> None:
    with pytest.raises(BadSample) as caught, bad_part("label"), bad_part("json"):
        raise BadSample("broken")
    assert caught.value.kind == "json"
    assert BadSample("x").kind == "sample"


def test_it_stops_at_the_share_of_the_last_samples_saved(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    for _ in range(9):
        steps.step(8, "a", "b")  # 90 samples are too few to judge
    with pytest.raises(
        EveryRankError, match=r"^20 of the last 100 samples were bad, more than data\.max_bad"
    ) as e:
        steps.step(8, "a", "b")
    assert "=0.1: mend the shards" in str(e.value)
    assert str(e.value).endswith("; the last: b; step 10 is saved in last.ckpt")
    assert steps.saved == [10]


def test_what_was_good_long_ago_does_not_count(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    for _ in range(1000):
        steps.step(100)
    for _ in range(2):
        steps.step(0, *"abcdefghij" * 10)  # 200 of the last 2,000 may be bad
    with pytest.raises(EveryRankError, match=r"^300 of the last 2000 samples were bad"):
        steps.step(0, *"abcdefghij" * 10)


def test_a_batch_that_is_no_step_waits_for_one(tmp_path: Path) -> None:
    steps = Steps(tmp_path, max_bad_fraction=0.0)
    steps.bad.note("photos", 200, [Skipped("image", "a")])
    steps.check.on_train_batch_end(steps.trainer)  # of gradients that are accumulated
    with pytest.raises(EveryRankError, match=r"^1 of the last 201"):
        steps.step(0)


def test_bad_samples_are_listed_once_and_counted_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steps = Steps(tmp_path, max_bad_fraction=1.0)
    steps.step(3, "a: déjà vu", "b")
    steps.bad.note("others", -1, [Skipped("no usable label", "c")])
    steps.step(4, "a: déjà vu")
    steps.check.on_train_end(steps.trainer, steps.module)
    lines = [json.loads(line) for line in (tmp_path / "bad_samples/0.jsonl").read_text().splitlines()]
    assert [tuple(line.values()) for line in lines] == [
        (1, "photos", "image", "a: déjà vu"),
        (1, "photos", "image", "b"),
        (2, "others", "no usable label", "c"),
    ]
    assert caplog.messages[-1].startswith("bad samples that this rank has met, each time: image 3, no usable")


def test_nothing_bad_leaves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        steps = Steps(tmp_path)
        steps.step(500)
        steps.check.on_train_end(steps.trainer, steps.module)
    assert not caplog.records and not list(tmp_path.iterdir())


def test_both_ranks_stop_at_the_same_step_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    urls = write_shards(tmp_path / "photos", [20], bad=6)
    settings = {"devices": 2, "strategy": "ddp", "max_steps": 200, "accumulate_grad_batches": 1}
    config = configured(Path(urls), tmp_path, **settings)
    words = ["fit", "--config", str(config), "--run", "stopped", "--data.max_bad_fraction", "0.1"]
    codes, output = run(words, tmp_path, 2)
    assert codes == [2, 2], output
    assert output.count("mend the shards") == 1
    step = read_checkpoint(tmp_path / "stopped/checkpoints/last.ckpt")["global_step"]
    assert 15 <= step <= 40 and f"step {step} is saved in" in output
    for rank in (0, 1):
        lines = (tmp_path / f"stopped/bad_samples/{rank}.jsonl").read_text().splitlines()
        assert {json.loads(line)["kind"] for line in lines} == {"image"}
