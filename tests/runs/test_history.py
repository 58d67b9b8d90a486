"""What a run has logged, read back from TensorBoard's files and from CSV, whole or torn."""

import warnings
from pathlib import Path

import pytest

from depthkd.runs.folder import Run
from depthkd.runs.history import history


def logged(folder: Path, values: dict[int, float], name: str = "train/loss") -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorBoard's protobuf
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(folder / "logs")) as writer:
            for step, value in values.items():
                writer.add_scalar(name, value, step)
                writer.add_scalar("epoch", 0, step)
    return next((folder / "logs").iterdir())


def test_a_run_that_went_over_steps_again_has_the_later_values(tmp_path: Path) -> None:
    logged(tmp_path, {10: 4.0, 20: 3.0, 30: 2.5})
    logged(tmp_path, {20: 3.5, 30: 2.0, 40: 1.0})
    assert history(Run(tmp_path)) == {"train/loss": [(10, 4.0), (20, 3.5), (30, 2.0), (40, 1.0)]}


def test_a_torn_file_is_read_as_far_as_it_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = logged(tmp_path, {10: 4.0, 20: 3.0, 30: 2.0})
    path.write_bytes(path.read_bytes()[:-20])
    assert history(Run(tmp_path))["train/loss"][:2] == [(10, 4.0), (20, 3.0)]
    assert not caplog.records


def test_csv_fills_in_what_tensorboard_lacks(tmp_path: Path) -> None:
    logged(tmp_path, {10: 4.0})
    (tmp_path / "logs/metrics.csv").write_text(
        "epoch,step,train/loss,val/studio/abs_rel\n0,10,9.0,\n0,20,,0.25\n0,30,nan,0.5\n0,40,1.0,0.12\n0,5"
    )
    found = history(Run(tmp_path))
    assert found == {"train/loss": [(10, 4.0)], "val/studio/abs_rel": [(20, 0.25), (30, 0.5), (40, 0.12)]}
    assert history(Run(tmp_path / "nothing")) == {}
