"""Whether a job under SLURM would be saved before its limit and come back: scripts, and the job around us."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from depthkd.verbs.doctor.findings import Finding, ok, problem, warning

SCRIPTS = "slurm"  # the folder of scripts, below the working folder
DIRECTIVE = re.compile(r"^#SBATCH\s+--([\w-]+)(?:[= ](\S+))?", re.MULTILINE)
SIGNAL = re.compile(r"(?:USR1|SIGUSR1|10)(?:@(\d+))?")
SOON = 60  # seconds: too few to save in, as SLURM sends the signal up to a minute early or late
PATIENCE = 5.0  # seconds for SLURM to answer


def look(config: dict[str, Any]) -> Iterator[Finding]:
    """Findings about SLURM; none where there is neither SLURM nor a script."""
    here = shutil.which("sbatch") is not None
    if here or "SLURM_JOB_ID" in os.environ:
        yield ok("SLURM", "sbatch is here" if here else "this is a job's shell, without sbatch")
        scripts = sorted(Path(SCRIPTS).glob("*.sbatch"))
        workers = (config.get("data") or {}).get("workers")
        for path in scripts:
            yield from script(path.as_posix(), path.read_text(encoding="utf-8"), workers)
        if not scripts:
            yield warning(
                "SLURM", f"there is no {SCRIPTS}/ here", "`depthkd configs --copy slurm`, and edit it"
            )
    if "SLURM_JOB_ID" in os.environ:
        yield from job(os.environ["SLURM_JOB_ID"])


def script(name: str, text: str, workers: int | None = None) -> Iterator[Finding]:
    """What a batch script asks for, and what a run then lacks."""
    asked = dict(DIRECTIVE.findall(text))
    faults = list(_faults(asked, workers, trains=" fit " in text))
    for fault in faults:
        yield Finding(fault.state, fault.what, f"{name}: {fault.found}", fault.advice)
    if not faults:
        yield ok("SLURM script", f"{name}: {', '.join(f'--{k} {v}'.strip() for k, v in asked.items())}")


def _faults(asked: dict[str, str], workers: int | None, trains: bool) -> Iterator[Finding]:
    what = "SLURM script"
    if "time" not in asked:
        yield warning(
            what, "no --time: the partition's default limit ends the job", "#SBATCH --time=24:00:00"
        )
    if "requeue" not in asked:
        yield warning(what, "no --requeue: a preempted job does not come back", "#SBATCH --requeue")
    if asked.get("open-mode") != "append":
        yield warning(what, "a requeued job begins its log anew", "#SBATCH --open-mode=append")
    if trains:
        yield from _signal(asked.get("signal"))
    tasks, gpus = asked.get("ntasks-per-node", ""), asked.get("gpus-per-node", "").rpartition(":")[2]
    if tasks.isdigit() and gpus.isdigit() and tasks != gpus and trains:
        found = f"{tasks} tasks and {gpus} GPUs a node, but each task drives one"
        yield problem(what, found, f"#SBATCH --ntasks-per-node={gpus}")
    cpus = asked.get("cpus-per-task", "1")
    if trains and workers is not None and cpus.isdigit() and int(cpus) < workers + 1:
        found = f"{cpus} CPUs a task, but data.workers is {workers}"
        yield warning(what, found, f"#SBATCH --cpus-per-task={workers + 1}")


def _signal(value: str | None) -> Iterator[Finding]:
    what, right = "SLURM script", "#SBATCH --signal=USR1@180"
    if value is None:
        found = "no --signal: what was trained since the last checkpoint is lost at the time limit"
        yield problem(what, found, right)
        return
    if value.startswith("B:"):
        yield problem(what, f"--signal={value} reaches the shell alone, and no task saves", right)
        return
    kind = SIGNAL.fullmatch(value)
    if kind is None:
        yield problem(what, f"--signal={value} is not USR1, which asks a run to save", right)
    elif int(kind[1] or SOON) <= SOON:
        yield warning(
            what, f"--signal={value} leaves {kind[1] or SOON} s to end a validation and save", right
        )


def job(number: str) -> Iterator[Finding]:
    """What SLURM says of the job that this is part of."""
    if shutil.which("scontrol") is None:
        return
    ask = ["scontrol", "show", "job", "-o", number]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        yield warning("SLURM job", f"scontrol does not tell about job {number}: {error}", "ask `squeue`")
        return
    facts = dict(word.split("=", 1) for word in done.stdout.split() if "=" in word)
    told = ", ".join(
        f"{k} {facts[k]}" for k in ("TimeLimit", "Requeue", "Restarts", "PreemptTime") if k in facts
    )
    if facts.get("Requeue") == "0":
        yield warning("SLURM job", told, f"it is not requeued: `scontrol update JobId={number} Requeue=1`")
    else:
        yield ok("SLURM job", told)
