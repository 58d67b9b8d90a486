import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from depthkd.batch import METRIC_DEPTH, Batch, TrainingBatch
from depthkd.benchmarks.benchmark import Benchmark
from depthkd.benchmarks.protocol import PROTOCOLS
from depthkd.data.datamodule import ShardDataModule
from depthkd.data.loaders import BenchmarkLoader, StreamLoader
from depthkd.data.stream import ShardSource
from depthkd.data.transforms import SquareCrop
from depthkd.formats.sample import Sample
from tests.data.shards import write_shards

COUNTS = [5, 3, 7, 4]


class Flat(Benchmark):
    name = "flat"
    protocol = PROTOCOLS["marigold"]

    def __len__(self) -> int:
        return 5

    def sample(self, index: int) -> Sample:
        depth = np.full((6, 8), 1.0 + index, dtype=np.float32)
        image = np.zeros((6, 8, 3), dtype=np.uint8)
        return Sample(f"flat_{index}", image, depth, depth > 0, None, METRIC_DEPTH)


class Recorder(pl.LightningModule):
    """A toy student that writes down which samples it was trained and validated on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.trained: list[tuple[str, ...]] = []
        self.validated: list[str] = []

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> torch.Tensor:
        self.trained.append(tuple(key for part in batch.values() for key in part.keys))
        pixels = torch.cat([part.images().mean(dim=(2, 3)) for part in batch.values()])
        loss: torch.Tensor = self.layer(pixels).square().mean()
        return loss

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.validated += batch.keys

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class StopAfter(pl.Callback):
    """Saves and stops after a number of batches, in the middle of wherever that is."""

    def __init__(self, batches: int, path: Path, where: str) -> None:
        self.batches = batches
        self.path = path
        self.where = where

    def on_train_batch_end(self, trainer: pl.Trainer, module: Recorder, *_: Any) -> None:
        if self.where == "in the hook" and len(module.trained) == self.batches:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt

    def on_train_batch_start(self, trainer: pl.Trainer, module: Recorder, *_: Any) -> None:
        # as a signal between two batches would
        if self.where == "between batches" and len(module.trained) == self.batches:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_shards(tmp_path_factory.mktemp("photos"), COUNTS)


def data(urls: str, workers: int = 0, **settings: Any) -> ShardDataModule:
    source = ShardSource(urls, transform=SquareCrop(16, 18), shuffle_window=2)
    return ShardDataModule({"photos": source}, batch_size=4, workers=workers, **settings)


def trainer(tmp_path: Path, callback: pl.Callback | None = None, **settings: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        callbacks=[callback] if callback else [],
        enable_model_summary=False,
        use_distributed_sampler=False,
        accumulate_grad_batches=2,
        **quiet,
        **settings,
    )


LIMITS: dict[str, dict[str, Any]] = {
    "one long epoch": {"max_steps": 10, "val_check_interval": 6, "check_val_every_n_epoch": None},
    "epochs of 6": {"max_epochs": 4, "limit_train_batches": 6},
}


@pytest.mark.parametrize("where", ["in the hook", "between batches"])
@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize(("batches", "workers"), [(7, 0), (6, 0), (8, 2)])
def test_a_resumed_run_sees_what_an_uninterrupted_one_does(
    urls: str, tmp_path: Path, limits: str, batches: int, workers: int, where: str
):
    whole = Recorder()
    trainer(tmp_path, **LIMITS[limits]).fit(whole, data(urls, validation={"flat": Flat()}))
    assert len(whole.trained) == (20 if limits == "one long epoch" else 24)
    assert len(set(whole.trained)) > 15
    assert whole.validated

    saved, first, second = tmp_path / "mid.ckpt", Recorder(), Recorder()
    stop = StopAfter(batches, saved, where)
    with pytest.raises(SystemExit):
        trainer(tmp_path, stop, **LIMITS[limits]).fit(first, data(urls, workers, validation={"flat": Flat()}))
    state = torch.load(saved, weights_only=True)["ShardDataModule"]
    assert state["processed"] == batches
    resumed = data(urls, workers, validation={"flat": Flat()})
    trainer(tmp_path, **LIMITS[limits]).fit(second, resumed, ckpt_path=saved, weights_only=True)
    assert first.trained == whole.trained[:batches]
    assert first.trained[:batches] + second.trained == whole.trained[: batches + len(second.trained)]
    assert batches + len(second.trained) >= len(whole.trained)


def test_the_training_loader_has_no_length_and_follows_the_run(urls: str):
    module = data(urls)
    module.setup("fit")
    loader = module.train_dataloader()
    assert not hasattr(loader, "__len__")
    assert next(iter(loader))["photos"].positions == [0, 1, 2, 3]
    processed = 5
    follows = StreamLoader(loader._batches, lambda: processed, module.note_skipped)
    assert next(iter(follows))["photos"].positions == [20, 21, 22, 23]
    processed = 6
    assert next(iter(follows))["photos"].positions == [24, 25, 26, 27]


def test_iterating_leaves_the_global_random_numbers_alone(urls: str):
    module = data(urls)
    module.setup("fit")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    next(iter(module.train_dataloader()))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_ranks_share_a_benchmark_without_padding(world_size: int):
    loaders = [BenchmarkLoader(Flat(), rank, world_size) for rank in range(world_size)]
    seen = [batch for loader in loaders for batch in loader]
    assert sorted(batch.keys[0] for batch in seen) == [f"flat_{i}" for i in range(5)]
    assert sum(len(loader) for loader in loaders) == 5
    assert all(len(list(loader)) == len(loader) for loader in loaders)
    for batch in seen:
        assert batch.depth is not None and batch.positions is not None
        assert batch.depth[0, 0, 0] == 1 + batch.positions[0]


def test_validation_needs_no_training_shards(tmp_path: Path):
    module, recorder = data(str(tmp_path / "absent.tar"), validation={"a": Flat(), "b": Flat()}), Recorder()
    trainer(tmp_path).validate(recorder, module, verbose=False)
    assert recorder.validated == 2 * [f"flat_{i}" for i in range(5)]


def test_another_stream_is_refused_unless_allowed(urls: str, caplog: pytest.LogCaptureFixture):
    before = data(urls)
    before.setup("fit")
    state = before.state_dict()
    for change, sentence in (
        ({"seed": 1}, r"data\.seed \(seed_everything\) was 0 and is 1"),
        ({"batch_size": 8}, "data.batch_size was 4 and is 8"),
    ):
        module = data(urls)
        for name, value in change.items():
            setattr(module, name, value)
        module.setup("fit")
        with pytest.raises(ValueError, match=f"{sentence}; .*data.allow_changed_stream=true.*at batch 0"):
            module.load_state_dict(state)
    module = data(urls.replace("..03", "..02"), allow_changed_stream=True)
    module.setup("fit")
    with caplog.at_level(logging.WARNING):
        module.load_state_dict(state)
    assert "data.train.photos.samples was 19 and is 15" in caplog.text
    same = data(urls, workers=3)
    same.setup("fit")
    same.load_state_dict(state)


def test_bad_samples_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    module = data(write_shards(tmp_path, [60], bad=1))
    module.setup("fit")
    batches = iter(module.train_dataloader())
    with caplog.at_level(logging.WARNING):
        for _ in range(45):  # three passes, so the bad sample comes by three times
            next(batches)
    assert len(caplog.records) == 1
    assert "sample '00_00'" in caplog.text


def test_bad_samples_are_counted_by_kind(tmp_path: Path) -> None:
    module = data(write_shards(tmp_path, [20], bad=3))
    module.setup("fit")
    for batch, _ in zip(module.train_dataloader(), range(40), strict=False):
        assert len(batch["photos"]) == 4
    good, bad, new = module.bad.take()
    assert good == 4 * 41 and bad > 20 and module.bad.kinds == {"image": bad}
    assert len(new) == 3 and {noted.source for noted in new} == {"photos"}
    assert module.bad.take() == (0, 0, [])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"workers": -1}, "data.workers must be 0 or more"), ({"seed": -1}, "data.seed must be 0 or more")],
)
def test_settings_that_cannot_be_are_named(urls: str, settings: dict[str, int], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        data(urls, **settings)


def test_a_missing_shard_stops_before_training(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"data\.train\.photos\.urls: .*absent\.tar"):
        trainer(tmp_path, max_steps=1).fit(Recorder(), data(str(tmp_path / "absent.tar")))


def test_samples_that_cannot_be_learned_from_are_bad_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = data(write_shards(tmp_path, [20]))
    module.setup("fit")
    for batch, _ in zip(module.train_dataloader(), range(9), strict=False):
        module.note_unusable("photos", ["no label"], len(batch["photos"]))
    assert caplog.messages == ["skipped a bad sample: no label"]
    good, bad, _ = module.bad.take()
    assert (good + bad, bad) == (40, 9)  # none is counted twice
    assert module.bad.kinds == {"no usable label": 9}


def test_twenty_samples_in_a_row_without_a_label_stop_the_run(tmp_path: Path) -> None:
    module = data(write_shards(tmp_path, [20]))
    for _ in range(2):
        for n in range(4):
            module.note_unusable("photos", [f"k{n}"] * 4, 4)
        module.note_unusable("photos", ["k"] * 3, 4)
    with pytest.raises(ValueError, match=r"^20 samples in a row have no label to learn from; the last: k4$"):
        for n in range(8):
            module.note_unusable("photos", [f"k{n}"] * 4, 4)
            module.note_unusable("others", [], 4)  # of which all is well
