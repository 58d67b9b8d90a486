"""The shipped scripts under a real SLURM of two nodes."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from depthkd.runs.folder import read_checkpoint
from depthkd.verbs.label.label import label
from depthkd.verbs.label.whole import merge
from tests.cluster.slurm import Slurm, missing, wait_until
from tests.label.teachers import Gray, made, write_images
from tests.processes import run
from tests.test_resume import assert_same, configured, shards

__all__ = ["shards"]

ROOT = Path(__file__).parent.parent.parent
CHECKPOINT = Path("runs/tiny/checkpoints/last.ckpt")
STEPS, EVERY, PAUSE = 20, 2, 0.4
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
Words = tuple[str, ...]
PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "ShardDataModule")

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.xdist_group("slurm"),
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("interrupted"),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def project(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: the scripts, a config, and an uninterrupted run of two ranks."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "slurm").symlink_to(ROOT / "slurm")
    more = {"devices": 2, "strategy": "ddp", "max_steps": STEPS}
    config = configured(shards, folder, **more)
    codes, output = run(["fit", "--config", str(config), "--run", "whole"], folder, 2)
    assert codes == [0, 0], output
    tree = yaml.safe_load(config.read_text())
    tree["checkpoint"]["every_n_train_steps"] = EVERY
    tree["trainer"]["callbacks"] = [
        {"class_path": "tests.cluster.callbacks.Slow", "init_args": {"seconds": PAUSE}}
    ]
    config.write_text(yaml.safe_dump(tree))
    return folder


ENVIRONMENT = {
    "DEPTHKD": str(Path(sys.executable).parent / "depthkd"),
    "PYTHONPATH": str(ROOT),
    "MASTER_ADDR": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}
TWO = ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=0", "--cpus-per-task=1")


def submit(slurm: Slurm, folder: Path, name: str, *words: str, **environment: str) -> tuple[str, Path]:
    """`sbatch WORDS`; the job, and its log."""
    log = folder / f"{name}.log"
    job = slurm.submit(folder, f"--output={log}", *words, **(ENVIRONMENT | environment))
    return job, log


@dataclass(frozen=True)
class Job:
    number: str
    log: Path
    checkpoint: Path


def train(slurm: Slurm, project: Path, name: str, options: Words = (), overrides: Words = ()) -> Job:
    """A job on two ranks."""
    words = (*TWO, *options, "slurm/fit.sbatch", "tiny.yaml", "--run", name, *overrides)
    return Job(*submit(slurm, project, name, *words), project / name / "checkpoints/last.ckpt")


def await_first_steps(slurm: Slurm, *jobs: Job) -> None:
    def begun() -> bool:
        return all(job.checkpoint.exists() or slurm.state(job.number) in OVER for job in jobs)

    wait_until(begun, 120, f"first checkpoints of {jobs}")


@pytest.fixture(scope="module")
def interrupted(slurm: Slurm, project: Path) -> dict[str, Job]:
    """Jobs that are sent away while they train, each in another way; the other tests fill the time until they
    are back."""
    # SLURM looks every 30 s and counts a signal as due 30 s early: 20 to 50 s after the start.
    slower = ("--trainer.callbacks+", "tests.cluster.callbacks.Slow", "--trainer.callbacks.seconds", "0.8")
    limited = train(slurm, project, "limited", ("--time=1", "--signal=USR1@10"), slower)
    await_first_steps(slurm, limited)
    requeued, signalled = (train(slurm, project, name) for name in ("requeued", "signalled"))
    await_first_steps(slurm, requeued, signalled)
    slurm.call("scontrol", "requeue", requeued.number)
    slurm.call("scancel", "--signal=USR1", signalled.number)
    return {"limited": limited, "requeued": requeued, "signalled": signalled}


def last_words(slurm: Slurm, folder: Path, name: str, *words: str, **environment: str) -> list[str]:
    """What a job that fails at its start says, without srun's own lines."""
    job, log = submit(slurm, folder, name, *words, **environment)
    # 15 seconds where nothing else runs, most of them imports; here other tests do.
    wait_until(
        lambda: slurm.state(job) in OVER, 120, f"the end of job {job}: {log.exists() and log.read_text()}"
    )
    assert slurm.state(job) == "FAILED"
    said = log.read_text().splitlines()
    return [line for line in said if line.strip() and "srun: " not in line]


def test_more_tasks_than_devices(slurm: Slurm, project: Path) -> None:
    words = ("--nodelist=n1", "--ntasks-per-node=2", "--gpus-per-node=1", "--cpus-per-task=1")
    override = ("--trainer.accelerator", "auto")
    said = last_words(slurm, project, "greedy", *words, "slurm/fit.sbatch", "tiny.yaml", *override)
    assert said == [
        "depthkd fit: n1 runs 2 tasks but the job has 1 device(s) there: ask for --gpus-per-node=2, or for "
        "--ntasks-per-node=1"
    ]


def test_no_such_config(slurm: Slurm, project: Path) -> None:
    said = last_words(slurm, project, "nowhere", *TWO, "slurm/fit.sbatch", "configs/nowhere.yaml")
    assert said == [f"fit.sbatch: the config configs/nowhere.yaml does not exist (seen from {project})"]


def test_master_does_not_resolve(slurm: Slurm, project: Path) -> None:
    name = "no-such-node.invalid"
    said = last_words(slurm, project, "lost", *TWO, "slurm/fit.sbatch", "tiny.yaml", MASTER_ADDR=name)
    assert len(said) == 1
    assert said[0].startswith(
        f"fit.sbatch: the name of the node where the ranks meet, '{name}', does not resolve"
    )


def test_test_script(slurm: Slurm, project: Path) -> None:
    words = ("--benchmarks.m", "depthkd.benchmarks.Motorcycle", "--resolution", "32", "--out", "tested")
    job, log = submit(slurm, project, "tested", *TWO[1:], "slurm/test.sbatch", "whole", *words)
    wait_until(lambda: slurm.state(job) in OVER, 120, f"the end of job {job}")
    assert slurm.state(job) == "COMPLETED", log.read_text()
    assert "| best constant per image |" in (project / "tested/table.md").read_text()


def test_test_script_without_anything_to_test(slurm: Slurm, project: Path) -> None:
    said = last_words(slurm, project, "untested", *TWO, "slurm/test.sbatch", "configs/nowhere.yaml")
    assert said == [f"test.sbatch: configs/nowhere.yaml does not exist (seen from {project})"]


@pytest.mark.parametrize("name", ["requeued", "signalled", "limited"])
def test_sent_away_and_back(name: str, slurm: Slurm, project: Path, interrupted: dict[str, Job]) -> None:
    """By `scontrol requeue`, `scancel --signal=USR1`, and the time limit: as if it had never been away."""
    job = interrupted[name]
    wait_until(lambda: slurm.state(job.number) in OVER, 400, f"the end of job {job.number}")
    text = job.log.read_text()
    assert slurm.state(job.number) == "COMPLETED", text
    assert "restart 1" in text
    assert "Traceback" not in text, text
    said = "asked to leave: saved step" if name == "requeued" else f"requeueing job {job.number}"
    assert said in text
    whole = read_checkpoint(project / "whole/checkpoints/last.ckpt")
    resumed = read_checkpoint(job.checkpoint)
    assert whole["global_step"] == STEPS
    for part in PARTS:
        assert_same(whole[part], resumed[part], part)


def test_label_array(slurm: Slurm, project: Path, tmp_path: Path) -> None:
    """Two tasks of an array give the bytes of one process."""
    images, one = write_images(tmp_path / "images"), tmp_path / "one"
    label(str(images), one, Gray(), batch_size=2, device="cpu")
    words = (
        "--images",
        str(images),
        "--out",
        str(tmp_path / "labels"),
        "--batch_size",
        "2",
        "--device",
        "cpu",
    )
    model = ("--model.class_path", "tests.label.teachers.Gray")
    job, log = submit(slurm, project, "label", "--array=1-2", *TWO[1:], "slurm/label.sbatch", *words, *model)
    wait_until(
        lambda: slurm.state(f"{job}_1") in OVER and slurm.state(f"{job}_2") in OVER,
        120,
        f"labels: {log.exists() and log.read_text()}",
    )
    assert all(slurm.state(f"{job}_{i}") == "COMPLETED" for i in (1, 2)), log.read_text()
    assert merge(tmp_path / "labels", str(images)).faults == []
    assert made(tmp_path / "labels") == made(one)
