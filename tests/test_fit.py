"""Training through the command line: what it learns from, what it writes, and what it says of mistakes."""

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from depthkd.runs.folder import read_checkpoint
from depthkd.runs.student import TrainedDepth, load_student
from tests.conftest import CommandLine

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden_losses.json"
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
SHORT = ["--trainer.max_steps", "3", "--trainer.val_check_interval", "2", "--trainer.log_every_n_steps", "1"]
SMALL = ["--data.workers", "0", "--data.batch_size", "4", *SHORT, *QUIET]


def teacher(command_line: CommandLine, *more: str) -> tuple[int, str, str]:
    size = ["--model.init_args.student.init_args.size", "tiny"]
    return command_line("fit", "--config", "configs/tiny/teacher.yaml", *size, *SMALL, *more)


def student(command_line: CommandLine, *more: str) -> tuple[int, str, str]:
    return command_line("fit", "--config", "configs/tiny/cross_context.yaml", *SMALL, *more)


def logged(run: Path) -> dict[str, list[float]]:
    log = EventAccumulator(str(run / "logs"))
    log.Reload()
    return {tag: [event.value for event in log.Scalars(tag)] for tag in log.Tags()["scalars"]}


def test_a_teacher_and_its_student_end_to_end(home: Path, command_line: CommandLine) -> None:
    status, _, err = teacher(command_line)
    assert status == 0, err
    status, said, err = student(command_line)
    assert status == 0, err
    assert said.splitlines()[-1] == "depthkd fit: runs/tiny/cross_context is finished, at step 3 of 3"
    assert said.count("step 2, val/film: abs_rel 0.") == 1
    run = home / "runs/tiny/cross_context"
    assert sorted(p.name for p in run.iterdir()) == ["checkpoints", "config.yaml", "logs", "trained_on"]
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["last.ckpt"]

    content = read_checkpoint(run / "checkpoints/last.ckpt")
    parts = ("student.", "feature_projection.")  # and no teacher
    assert all(key.startswith(parts) for key in content["state_dict"])
    assert content["depthkd"]["teachers"] == {
        "teacher": {"source": "runs/tiny/teacher", "license": "unknown", "training_sets": None}
    }
    assert content["depthkd"]["space"] == "affine disparity"
    assert content["ShardDataModule"]["processed"] == 3
    assert "hyper_parameters" not in content

    metrics = {name: logged(home / f"runs/tiny/{name}") for name in ("teacher", "cross_context")}
    terms = {
        "train/shared_context",
        "train/local_global",
        "train/features",
        "train/gradient",
        "train/magnitude",
        "val/film/abs_rel",
    }
    assert terms <= set(metrics["cross_context"])
    weighted = yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["weights"]
    off = {"anchor": 0.0}
    assert weighted == {"shared_context": 1.0, "local_global": 0.5, "features": 0.5, "gradient": 0.25} | off
    del weighted["anchor"]
    for step, total in enumerate(metrics["cross_context"]["train/loss"]):
        parts = sum(w * metrics["cross_context"][f"train/{term}"][step] for term, w in weighted.items())
        assert math.isclose(total, parts, rel_tol=1e-5)
    golden = json.loads(GOLDEN.read_text())
    losses = {name: metrics[name]["train/loss"] for name in metrics}
    assert losses["teacher"] == pytest.approx(golden["teacher"], rel=1e-3)
    # A teacher of three steps is nearly constant: normalized, its labels amplify the rounding of a processor.
    assert losses["cross_context"] == pytest.approx(golden["cross_context"], rel=0.06)

    trained, fresh = load_student(run), load_student(run, fresh=True)
    wrapped = TrainedDepth(str(run))
    with pytest.raises(ValueError, match="is a DepthAnything; only a SharpDepth takes `metric`"):
        TrainedDepth(str(run), metric=lambda: wrapped)
    assert wrapped.feature_channels == trained.feature_channels == 48
    image = torch.rand(1, 3, 96, 128)
    assert torch.equal(trained.predict(image), wrapped.predict(image))
    assert trained.training_sets is wrapped.training_sets is None
    assert not torch.equal(trained.predict(image), fresh.predict(image))

    status, out, err = command_line(
        "test", "runs/tiny/cross_context", "--resolution", "48", "--photographs", "false"
    )
    assert status == 0, err
    assert "marigold: least-squares scale and shift" in out
    assert "cross_context, untrained" in out
    assert (home / "runs/test/sheet.png").is_file()


def test_a_rerun_keeps_the_earlier_run(home: Path, command_line: CommandLine) -> None:
    for _ in range(2):
        status, out, err = teacher(command_line)
        assert status == 0, err
    assert "held an earlier run, which is now runs/tiny/teacher.1" in out
    assert (home / "runs/tiny/teacher.1/checkpoints/last.ckpt").is_file()
    assert (home / "runs/tiny/teacher/checkpoints/last.ckpt").is_file()


def test_validation_without_truth_in_range_is_told(
    home: Path, command_line: CommandLine, caplog: pytest.LogCaptureFixture
) -> None:
    status, _, err = teacher(command_line, "--data.validation.studio.init_args.max_depth", "0.01")
    assert status == 0, err
    said = "validation on studio has no metrics: no image has truth in the range of its protocol"
    assert said in caplog.text
    assert teacher(command_line, "--run", "runs/y")[0] == 0
    assert caplog.text.count(said) == 1


def test_one_seed_for_everything(home: Path, command_line: CommandLine) -> None:
    status, out, _ = teacher(command_line, "--seed_everything", "7", "--print_config")
    assert status == 0
    tree = yaml.safe_load(out)
    assert tree["seed_everything"] == 7
    for seed in ("7", "7", "8"):
        assert teacher(command_line, "--seed_everything", seed)[0] == 0
    runs = [home / f"runs/tiny/teacher{suffix}" for suffix in (".1", ".2", "")]
    losses = [logged(run)["train/loss"] for run in runs]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


MISTAKES = {
    "a misspelt key": (["--data.bach_size", "4"], "bach_size"),
    "an unknown class": (
        ["--model", "depthkd.methods.CrossContextDistil"],
        "it has CrossContextDistill",
    ),
    "a missing shard": (
        ["--data.train.studio.urls", "nowhere/x.tar"],
        r"data\.train\.studio\.urls.*nowhere/x\.tar",
    ),
    "shares that do not sum to 1": (["--data.train.studio.share", "0.4"], r"data\.train.*sum to.*0\.4"),
    "last without a checkpoint": (
        ["--ckpt_path", "last"],
        r"there is no runs/tiny/teacher/checkpoints/last\.ckpt",
    ),
    "no number of steps": (["--trainer.max_steps", "-1"], r"trainer\.max_steps is not set"),
    "unlabelled data for a supervised method": (
        ["--data.train.studio.urls", "runs/scenes/film_train", "--data.train.studio.labelled", "false"],
        r"data\.train\.studio has no depth",
    ),
    "a validation in the middle of an accumulation": (
        ["--trainer.accumulate_grad_batches", "2", "--trainer.val_check_interval", "3"],
        r"trainer\.val_check_interval.*3.*multiple of trainer\.accumulate_grad_batches.*2",
    ),
    "a size that does not exist": (["--model.init_args.student.init_args.size", "huge"], "huge"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence(mistake: str, home: Path, command_line: CommandLine) -> None:
    words, sentence = MISTAKES[mistake]
    status, _, err = teacher(command_line, *words)
    said = [line for line in err.splitlines() if line.startswith("depthkd fit: ")]
    assert status == 2
    assert len(said) == 1, err
    assert "Traceback" not in err
    import re

    assert re.search(sentence, said[0]), said[0]
    assert len(said[0]) < 400


def test_an_empty_tar_and_a_missing_teacher(home: Path, command_line: CommandLine) -> None:
    import tarfile

    tarfile.open(home / "empty.tar", "w").close()
    status, _, err = teacher(command_line, "--data.train.studio.urls", "empty.tar")
    assert (status, "Traceback" in err) == (2, False)
    assert "empty.tar" in err
    (home / "runs/tiny/teacher/checkpoints").mkdir(parents=True)
    (home / "runs/tiny/teacher/checkpoints/last.ckpt").write_bytes(b"no checkpoint")
    status, _, err = student(command_line)
    assert (status, "Traceback" in err) == (2, False)
    assert "runs/tiny/teacher/checkpoints/last.ckpt is not a checkpoint, or was cut short" in err


def test_a_teacher_of_the_other_quantity_is_refused(home: Path, command_line: CommandLine) -> None:
    assert teacher(command_line)[0] == 0
    words = ["--model.init_args.teacher", "depthkd.models.DepthAnything"]
    words += ["--model.init_args.teacher.init_args.size", "tiny"]
    words += ["--model.init_args.teacher.init_args.metric_max_depth", "20"]
    status, _, err = student(command_line, *words)
    assert status == 2
    assert "'metric depth'" in err
    assert "'affine disparity'" in err
    assert "Traceback" not in err


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return Path.write_text, (Path("pwned"), "x")  # type: ignore[return-value]


def test_a_checkpoint_is_never_unpickled(home: Path, command_line: CommandLine) -> None:
    torch.save({"depthkd": {}, "state_dict": {}, "payload": Payload()}, "evil.ckpt")
    with pytest.raises(ValueError, match=r"evil\.ckpt holds more than tensors and plain values"):
        read_checkpoint(Path("evil.ckpt"))
    status, _, err = teacher(command_line, "--ckpt_path", "evil.ckpt")
    assert (status, Path("pwned").exists(), "Traceback" in err) == (2, False, False)
    for text, sentence in (("text", "is not a checkpoint"), ("", "is not a checkpoint")):
        Path("broken.ckpt").write_text(text)
        with pytest.raises(ValueError, match=sentence):
            read_checkpoint(Path("broken.ckpt"))
    torch.save({"state_dict": {}}, "other.ckpt")
    with pytest.raises(ValueError, match="has no entry 'depthkd'"):
        read_checkpoint(Path("other.ckpt"))
