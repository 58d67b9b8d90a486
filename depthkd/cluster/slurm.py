"""What SLURM tells a task of its job."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from depthkd.errors import UserError
from depthkd.formats.whole_files import write_whole

INTERACTIVE = ("bash", "interactive")  # names of jobs, as Lightning knows them
MARKER = "slurm_job"  # in a run's folder: the job that made it


class EveryRankError(UserError):
    """A mistake that all ranks find alike, so that rank 0 alone says it."""


@dataclass(frozen=True)
class Job:
    """The job and this task of it.

    Args:
        identifier: of the job; a requeued job keeps it.
        restarts: how often it was requeued.
        nodes, tasks, tasks_per_node: how many; tasks_per_node is None where SLURM was not told.
        rank, local_rank: of this task, over all nodes and on its own.
        node: the name of this task's node.
        cpus: of this task; None where SLURM was not told.
        devices: GPUs that the job has on this node; None where it asked for none.
        master: the node of rank 0, where all ranks meet.
        port: at which they meet.
    """

    identifier: str
    restarts: int
    nodes: int
    tasks: int
    tasks_per_node: int | None
    rank: int
    local_rank: int
    node: str
    cpus: int | None
    devices: int | None
    master: str
    port: int


def current_job() -> Job | None:
    """The job whose task this process is; None outside of `srun`, and in an interactive shell under it,
    where Lightning starts the processes itself."""
    env = os.environ
    if "SLURM_STEP_ID" not in env or "SLURM_NTASKS" not in env or env.get("SLURM_JOB_NAME") in INTERACTIVE:
        return None
    identifier = env["SLURM_JOB_ID"]
    per_node = env.get("SLURM_NTASKS_PER_NODE")
    cpus, devices = env.get("SLURM_CPUS_PER_TASK"), env.get("SLURM_GPUS_ON_NODE")
    return Job(
        identifier=identifier,
        restarts=int(env.get("SLURM_RESTART_COUNT", 0)),
        nodes=int(env.get("SLURM_NNODES", 1)),
        tasks=int(env["SLURM_NTASKS"]),
        tasks_per_node=None if per_node is None else int(per_node),
        rank=int(env["SLURM_PROCID"]),
        local_rank=int(env["SLURM_LOCALID"]),
        node=env.get("SLURMD_NODENAME", "?"),
        cpus=None if cpus is None else int(cpus),
        devices=None if devices is None else int(devices),
        master=env.get("MASTER_ADDR") or first_node(env.get("SLURM_NODELIST", "127.0.0.1")),
        port=int(env.get("MASTER_PORT", 15000 + int(identifier[-4:]))),
    )


def this_rank() -> int:
    """This process's rank, whoever started it; known before any process group is."""
    job = current_job()
    if job is not None:
        return job.rank
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


def first_node(nodes: str) -> str:
    """The first name of a list as SLURM writes it: `gpu[07-09,12],cpu3` -> `gpu07`."""
    first = re.match(r"([^,\[]*)(?:\[([^,\]-]*)[^\]]*\])?([^,]*)", nodes)
    return "".join(part or "" for part in first.groups()) if first else nodes


def is_same_job(folder: Path) -> bool:
    """Whether this process belongs to a requeued job that has already worked in this run's folder."""
    job = current_job()
    marker = folder / MARKER
    return (
        job is not None
        and job.restarts > 0
        and marker.is_file()
        and marker.read_text().strip() == job.identifier
    )


def mark(folder: Path) -> None:
    """Leave the job's number in the run's folder."""
    job = current_job()
    if job is not None and job.rank == 0:
        write_whole(folder / MARKER, f"{job.identifier}\n")
