"""Preflight: what this run finds on its machines, and what is set wrong, before any model is built."""

import json
import shutil
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch's stubs forget it

from depthkd.cluster.precision import Capability, choose_precision, local_capabilities
from depthkd.cluster.processors import processors
from depthkd.cluster.slurm import EveryRankError, Job, current_job, this_rank
from depthkd.errors import UserError

GIB = 2**30
LOW_DISK, LOW_SHARED_MEMORY = 2 * GIB, 1 * GIB
RESOLVING, MEETING = 10.0, 60.0  # seconds that a name and the other ranks may take
PORT_OFFSET = 10000  # from the port at which the ranks will meet to train
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Plan:
    """What the configuration asks of the machines.

    Args:
        accelerator: as Lightning names it: "auto", "cpu", "gpu", "cuda".
        devices: of each node, as configured: a number, a list, "auto".
        nodes: how many.
        precision: as configured, "auto" included.
        workers: data processes of each rank.
        folder: the run's.
    """

    accelerator: str
    devices: object
    nodes: int
    precision: str
    workers: int
    folder: Path


@dataclass
class Found:
    """What one rank found.

    Args:
        rank, node: who.
        devices: their names.
        capabilities: of the devices that this rank sees.
        cpus: that this rank may use.
        disk, shared_memory: free bytes in the run's folder and in /dev/shm.
        mistakes: sentences; any of them stops the run.
        warnings: sentences that do not.
    """

    rank: int
    node: str
    devices: list[str]
    capabilities: list[Capability]
    cpus: int
    disk: int
    shared_memory: int
    mistakes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def preflight(plan: Plan) -> str:
    """Look, let the ranks of a SLURM job compare, print, and return the precision that suits them all.

    Raises:
        UserError: something is set wrong; one sentence for each thing.
    """
    job = current_job()
    if job is not None:
        if mistakes := layout_mistakes(job, plan):
            raise EveryRankError("; ".join(mistakes))
        if mistakes := master_mistakes(job):
            raise UserError("; ".join(mistakes))
    found = look(plan, job)
    everyone = [found] if job is None or job.tasks == 1 else compare(found, job)
    capabilities = [(major, minor) for f in everyone for major, minor in f.capabilities]
    if plan.accelerator == "cpu":
        capabilities = []
    precision, reason = plan.precision, "as configured"
    if plan.precision == "auto":
        precision, reason = choose_precision(capabilities)
    if found.rank == 0:
        print(described(everyone, job, precision, reason), flush=True)
    mistakes = list(dict.fromkeys(sentence for f in everyone for sentence in f.mistakes))
    if mistakes:
        raise EveryRankError("; ".join(mistakes))
    return precision


def look(plan: Plan, job: Job | None) -> Found:
    """What this rank sees, and what is wrong with it."""
    found = survey(plan, job)
    found.mistakes = device_mistakes(plan, job, found)
    found.warnings = shortages(plan, found)
    return found


def survey(plan: Plan, job: Job | None) -> Found:
    """What this rank sees."""
    capabilities = [] if plan.accelerator == "cpu" else local_capabilities()
    cpus = processors()
    if job is not None and job.cpus is not None:
        cpus = min(cpus, job.cpus)
    return Found(
        rank=this_rank(),
        node=socket.gethostname() if job is None else job.node,
        devices=[torch.cuda.get_device_name(i) for i in range(len(capabilities))],
        capabilities=capabilities,
        cpus=cpus,
        disk=shutil.disk_usage(existing(plan.folder)).free,
        shared_memory=shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0,
    )


def existing(folder: Path) -> Path:
    """The nearest folder above that is there already."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())


def layout_mistakes(job: Job, plan: Plan) -> list[str]:
    """Whether the job's tasks are the processes that the configuration asks for; the same on all ranks."""
    if job.tasks > 1 and job.tasks_per_node is None:
        return [
            f"the job has {job.tasks} tasks, but no number of them a node: say --ntasks-per-node instead "
            "of --ntasks"
        ]
    if plan.nodes != job.nodes:
        return [f"trainer.num_nodes is {plan.nodes}, but the job has {job.nodes} nodes: make them equal"]
    wanted = plan.devices if isinstance(plan.devices, int) else None
    if wanted is not None and wanted > 0 and wanted != (job.tasks_per_node or 1):
        return [
            f"trainer.devices is {wanted}, but the job runs {job.tasks_per_node or 1} tasks a node: make "
            "them equal, because each task drives one device"
        ]
    if plan.accelerator != "cpu" and job.devices is not None and (job.tasks_per_node or 1) > job.devices:
        return [
            f"{job.node} runs {job.tasks_per_node} tasks but the job has {job.devices} device(s) there: "
            f"ask for --gpus-per-node={job.tasks_per_node}, or for --ntasks-per-node={job.devices}"
        ]
    return []


def master_mistakes(job: Job) -> list[str]:
    """Whether the name at which the ranks meet resolves; left to itself, torch retries for minutes."""
    if job.tasks == 1:
        return []
    pool = ThreadPoolExecutor(1)
    try:
        pool.submit(socket.getaddrinfo, job.master, job.port).result(timeout=RESOLVING)
    except (OSError, TimeoutError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no answer"
        return [
            f"the name of the node where the ranks meet, '{job.master}', does not resolve on {job.node} "
            f"({reason}): set MASTER_ADDR to a name or address that every node knows"
        ]
    finally:
        pool.shutdown(wait=False)
    return []


def device_mistakes(plan: Plan, job: Job | None, found: Found) -> list[str]:
    """Whether the devices are there, and of a kind that this torch was built for."""
    if plan.accelerator in ("gpu", "cuda") and not found.capabilities:
        return [f"trainer.accelerator is '{plan.accelerator}', but torch sees no CUDA device on {found.node}"]
    if plan.accelerator != "cpu" and job is not None and job.devices and not found.capabilities:
        return [
            f"the job has {job.devices} device(s) on {found.node}, but torch {torch.__version__} sees none: "
            "its driver is too old for this torch, or this torch was built without CUDA"
        ]
    if job is not None and 0 < len(found.capabilities) < (job.tasks_per_node or 1):
        return [
            f"a task on {found.node} sees {len(found.capabilities)} of the node's {job.tasks_per_node} "
            "devices: each must see all of them, so ask with --gpus-per-node, and bind none (--gpu-bind=none)"
        ]
    built = torch.cuda.get_arch_list() if found.capabilities else []
    return [
        f"torch {torch.__version__} was built for {', '.join(built)}, but {name} on {found.node} is "
        f"sm_{major}{minor}: install an older torch, for a V100 with constraints-v100.txt"
        for name, (major, minor) in zip(found.devices, found.capabilities, strict=True)
        if not runs_on((major, minor), built)
    ]


def runs_on(capability: Capability, built: Sequence[str]) -> bool:
    """Whether a build has code for a device: of its generation, or an intermediate form of an older one."""
    for name in built:
        kind, _, digits = name.partition("_")
        number = int("".join(c for c in digits if c.isdigit()))
        version = divmod(number, 10)
        if kind == "sm" and version[0] == capability[0] and version[1] <= capability[1]:
            return True
        if kind == "compute" and version <= capability:
            return True
    return not built


def shortages(plan: Plan, found: Found) -> list[str]:
    """What will be slow or may fail later."""
    kinds = (few_processors, little_disk, little_shared_memory, emulated_bf16)
    return [sentence for kind in kinds if (sentence := kind(plan, found)) is not None]


def few_processors(plan: Plan, found: Found) -> str | None:
    """That a task has fewer processors than processes."""
    if plan.workers + 1 <= found.cpus:
        return None
    return (
        f"data.workers is {plan.workers}, but a task on {found.node} has {found.cpus} CPU(s): ask for "
        f"--cpus-per-task={plan.workers + 1}, or for fewer workers"
    )


def little_disk(plan: Plan, found: Found) -> str | None:
    """That the run's folder may become full."""
    if found.disk >= LOW_DISK:
        return None
    return f"{plan.folder} on {found.node} has only {found.disk / GIB:.1f} GiB free"


def little_shared_memory(plan: Plan, found: Found) -> str | None:
    """That there is little memory through which workers hand over batches."""
    if not plan.workers or found.shared_memory >= LOW_SHARED_MEMORY:
        return None
    return (
        f"{SHARED_MEMORY} on {found.node} has only {found.shared_memory / GIB:.2f} GiB free for what "
        "workers hand over; with a container, give it more (--shm-size)"
    )


def emulated_bf16(plan: Plan, found: Found) -> str | None:
    """That a device has no bf16."""
    if not (plan.precision.startswith("bf16") and found.capabilities and min(found.capabilities) < (8, 0)):
        return None
    return (
        f"trainer.precision is {plan.precision}, but {found.devices[0]} on {found.node} only emulates "
        "bf16, slowly: auto or 16-mixed suits it"
    )


def compare(found: Found, job: Job) -> list[Found]:
    """What every rank found, on every rank.

    Raises:
        UserError: some ranks did not come.
    """
    store = None
    try:
        timeout = timedelta(seconds=MEETING)
        store = TCPStore(
            job.master, job.port + PORT_OFFSET, job.tasks, job.rank == 0, timeout, wait_for_workers=False
        )
        store.set(f"found {job.rank}", json.dumps(asdict(found)))
        everyone = [Found(**json.loads(store.get(f"found {rank}"))) for rank in range(job.tasks)]
        store.set(f"read {job.rank}", "")
        if job.rank == 0:  # the store is rank 0's, so it stays until all have read
            store.wait([f"read {rank}" for rank in range(job.tasks)])
    except RuntimeError as error:
        absent = [r for r in range(job.tasks) if store is None or not store.check([f"found {r}"])]
        raise UserError(
            f"rank {job.rank} on {job.node} waited {MEETING:.0f} s at {job.master}:{job.port + PORT_OFFSET}, "
            f"but of {job.tasks} ranks, these did not come: {', '.join(map(str, absent)) or 'none'}"
        ) from error
    return everyone


def described(everyone: Sequence[Found], job: Job | None, precision: str, reason: str) -> str:
    """The preflight as text."""
    lines = ["preflight:"]
    if job is not None:
        again = f", restart {job.restarts}" if job.restarts else ""
        lines.append(
            f"  SLURM job {job.identifier}{again}: {job.tasks} task(s) on {job.nodes} node(s), "
            f"meeting at {job.master}:{job.port}"
        )
    for found in everyone:
        named = [
            f"{name} (sm_{major}{minor})"
            for name, (major, minor) in zip(found.devices, found.capabilities, strict=True)
        ]
        lines.append(
            f"  rank {found.rank} on {found.node}: {', '.join(named) or 'no CUDA device'}; "
            f"{found.cpus} CPU(s), {found.disk / GIB:.0f} GiB disk, {found.shared_memory / GIB:.1f} GiB shm"
        )
    architectures = torch.cuda.get_arch_list() if any(f.capabilities for f in everyone) else []
    if architectures:
        lines.append(f"  torch {torch.__version__} for {', '.join(architectures)}")
    lines.append(f"  precision {precision}: {reason}")
    lines += [f"  warning: {sentence}" for f in everyone for sentence in f.warnings]
    return "\n".join(lines)
