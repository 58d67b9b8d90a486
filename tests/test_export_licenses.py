"""Licenses of exports bind through all runs before."""

from pathlib import Path

import torch
import yaml

from depthkd.runs.student import load_student
from tests.conftest import CommandLine
from tests.test_export import TEACHERS, run, small_pictures, student_of

__all__ = ["run", "small_pictures"]  # fixtures


def test_a_license_binds_through_every_run_before(
    run: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    """A run that goes on from another's student, and a run that is named by its class."""
    second = tmp_path / "second"
    (second / "checkpoints").mkdir(parents=True)
    described = {"class_path": "depthkd.runs.TrainedDepth", "init_args": {"path": str(run)}}
    (second / "config.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"student": described}}}))
    content = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    weights = student_of(3).state_dict()
    content["state_dict"] = {f"student.network.{name}": tensor for name, tensor in weights.items()}
    content["depthkd"] |= {"averaged": False, "teachers": {}, "student": str(run)}
    torch.save(content, second / "checkpoints/last.ckpt")
    by_class = ("--model", "depthkd.runs.TrainedDepth", "--model.path", run)
    for model in ((second,), by_class):
        words = ("export", *model, "--out", "free", "--part", "encoder", "--license", "mit")
        status, _, errors = command_line(*words)
        assert status == 2 and "'mit' permits more than 'cc-by-nc-4.0'" in errors, (errors, model)
    assert command_line("export", *by_class, "--out", "bound", "--part", "encoder")[0] == 0
    card = Path("bound/README.md").read_text()
    assert "license: cc-by-nc-4.0" in card and "owner/large (cc-by-nc-4.0)" in card


def test_a_license_that_is_not_known_stays_so(tmp_path: Path, run: Path) -> None:
    content = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    for student, teacher, found in (
        ("DepthAnything tiny V2", "unknown", "apache-2.0, unknown"),
        ("owner/small", "cc-by-nc-4.0", "apache-2.0, cc-by-nc-4.0, unknown"),
        ("DepthAnything tiny V2", "cc-by-nc-4.0", "apache-2.0, cc-by-nc-4.0"),
    ):
        teachers = {**TEACHERS, "teacher": TEACHERS["teacher"] | {"license": teacher}}
        content["depthkd"] |= {"teachers": teachers, "student": student}
        (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        torch.save(content, tmp_path / "checkpoints/last.ckpt")
        assert load_student(tmp_path).license == found
