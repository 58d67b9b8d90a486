"""What the preflight says of faked machines and jobs."""

from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from depthkd.cluster import preflight as module
from depthkd.cluster.preflight import Plan, preflight, runs_on
from depthkd.cluster.slurm import EveryRankError, current_job, first_node, is_same_job, mark
from tests.cluster.slurm import free_ports

Usage = namedtuple("Usage", "total used free")
A100 = ["sm_80", "sm_86", "sm_90", "compute_90"]


def plan(tmp_path: Path, **changes: Any) -> Plan:
    asked = {"accelerator": "auto", "devices": "auto", "nodes": 1, "precision": "auto", "workers": 0}
    return Plan(**{**asked, "folder": tmp_path / "runs/x", **changes})


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A task of a job with one node and one task."""
    facts = {
        "SLURM_JOB_ID": "4242",
        "SLURM_STEP_ID": "0",
        "SLURM_NNODES": "1",
        "SLURM_NTASKS": "1",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURMD_NODENAME": "n1",
        "SLURM_NODELIST": "n1",
    }
    for name, value in facts.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    def fake(capability: tuple[int, int], count: int = 1, built: list[str] = A100) -> None:
        monkeypatch.setattr(module, "local_capabilities", lambda: [capability] * count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"GPU {i}")
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)

    return fake


def test_prints_what_it_found_and_what_it_chose(
    tmp_path: Path, gpus: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus((8, 0), 2)
    assert preflight(plan(tmp_path)) == "bf16-mixed"
    said = capsys.readouterr().out
    assert "GPU 0 (sm_80), GPU 1 (sm_80)" in said
    assert "GiB disk" in said
    assert "GiB shm" in said
    assert "for sm_80, sm_86, sm_90, compute_90" in said
    assert "precision bf16-mixed: every device has bf16 (the weakest is sm_80)" in said
    assert "warning" not in said


def test_a_configured_precision_stays_but_slow_bf16_is_said(
    tmp_path: Path, gpus: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus((7, 0), built=["sm_70"])
    assert preflight(plan(tmp_path, precision="bf16-mixed")) == "bf16-mixed"
    assert "only emulates bf16, slowly: auto or 16-mixed suits it" in capsys.readouterr().out
    assert preflight(plan(tmp_path, accelerator="cpu")) == "32-true"


def test_a_device_that_this_torch_was_not_built_for(tmp_path: Path, gpus: Any) -> None:
    gpus((7, 0))
    with pytest.raises(
        EveryRankError, match=r"was built for sm_80.*is sm_70: install an older torch, for a V100 with"
    ):
        preflight(plan(tmp_path))


def test_an_accelerator_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EveryRankError, match=r"trainer.accelerator is 'gpu', but torch sees no CUDA device"):
        preflight(plan(tmp_path, accelerator="gpu"))


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((8, 0), A100, True),
        ((8, 9), A100, True),  # sm_86 runs on 8.9
        ((9, 0), ["sm_80", "sm_90a"], True),
        ((10, 0), A100, True),  # compiled on the spot from compute_90
        ((10, 0), ["sm_90"], False),
        ((8, 0), ["sm_86"], False),
        ((7, 0), A100, False),
        ((12, 0), ["sm_120"], True),
        ((7, 0), [], True),  # an unknown build is given the benefit of the doubt
    ],
)
def test_which_builds_run_where(capability: tuple[int, int], built: list[str], runs: bool) -> None:
    assert runs_on(capability, built) is runs


def test_shortages_are_warnings(
    tmp_path: Path, job: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job.setenv("SLURM_CPUS_PER_TASK", "1")
    job.setattr(module.shutil, "disk_usage", lambda path: Usage(2**40, 2**40, 2**29))
    assert preflight(plan(tmp_path, workers=3)) == "32-true"
    said = capsys.readouterr().out
    assert "data.workers is 3, but a task on n1 has 1 CPU(s): ask for --cpus-per-task=4" in said
    assert "runs/x on n1 has only 0.5 GiB free" in said
    assert "/dev/shm on n1 has only 0.50 GiB free" in said


MISTAKES = {
    "nodes": ({"nodes": 2}, {}, "trainer.num_nodes is 2, but the job has 1 nodes"),
    "devices": ({"devices": 4}, {}, "trainer.devices is 4, but the job runs 1 tasks a node"),
    "tasks": (
        {},
        {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": None},
        "say --ntasks-per-node instead of --ntasks",
    ),
    "too few GPUs": (
        {},
        {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_GPUS_ON_NODE": "1"},
        "n1 runs 2 tasks but the job has 1 device(s) there: ask for --gpus-per-node=2",
    ),
    "no GPU to see": ({}, {"SLURM_GPUS_ON_NODE": "1"}, "sees none: its driver is too old for this torch"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_job_that_does_not_fit_its_config(case: str, tmp_path: Path, job: pytest.MonkeyPatch) -> None:
    changes, facts, sentence = MISTAKES[case]
    for name, value in facts.items():
        job.delenv(name) if value is None else job.setenv(name, value)
    with pytest.raises(EveryRankError, match=sentence.replace("(", r"\(").replace(")", r"\)")):
        preflight(plan(tmp_path, **changes))


def test_a_task_that_sees_too_few_of_its_nodes_devices(
    tmp_path: Path, job: pytest.MonkeyPatch, gpus: Any
) -> None:
    gpus((8, 0), 1)
    job.setenv("SLURM_NTASKS_PER_NODE", "4")
    job.setenv("SLURM_GPUS_ON_NODE", "4")
    with pytest.raises(EveryRankError, match="sees 1 of the node's 4 devices: each must see all of them"):
        preflight(plan(tmp_path))


def test_ranks_that_do_not_come_are_named(tmp_path: Path, job: pytest.MonkeyPatch) -> None:
    job.setenv("SLURM_NTASKS", "3")
    job.setenv("MASTER_ADDR", "127.0.0.1")
    job.setenv("MASTER_PORT", str(free_ports(1)[0] - module.PORT_OFFSET))
    job.setattr(module, "MEETING", 0.5)
    with pytest.raises(ValueError, match="of 3 ranks, these did not come: 1, 2"):
        preflight(plan(tmp_path))


def test_a_name_that_does_not_resolve(tmp_path: Path, job: pytest.MonkeyPatch) -> None:
    job.setenv("SLURM_NTASKS", "2")
    job.setenv("SLURM_NTASKS_PER_NODE", "2")
    job.setenv("MASTER_ADDR", "no-such-node.invalid")
    with pytest.raises(
        ValueError, match=r"'no-such-node.invalid', does not resolve on n1 \(.+\): set MASTER_ADDR"
    ):
        preflight(plan(tmp_path))


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n[1-2]", "n1"),
        ("gpu[07-09,12],cpu3", "gpu07"),
        ("a,b", "a"),
        ("rack[3]-x,b", "rack3-x"),
        ("host[5,9]", "host5"),
    ],
)
def test_first_node_of_a_list(nodes: str, first: str) -> None:
    assert first_node(nodes) == first


def test_only_a_restart_of_the_same_job_goes_on_by_itself(tmp_path: Path, job: pytest.MonkeyPatch) -> None:
    assert current_job() is not None
    mark(tmp_path)
    assert not is_same_job(tmp_path)  # a first start: an earlier run is set aside
    job.setenv("SLURM_RESTART_COUNT", "1")
    assert is_same_job(tmp_path)
    job.setenv("SLURM_JOB_ID", "4243")
    assert not is_same_job(tmp_path)
    job.setenv("SLURM_JOB_NAME", "bash")  # a shell by `srun --pty bash`
    assert current_job() is None
    job.delenv("SLURM_JOB_NAME")
    job.delenv("SLURM_STEP_ID")  # a batch script, not a task
    assert current_job() is None
    assert not is_same_job(tmp_path)
