"""A real SLURM of two nodes on this one host, for tests: munged, slurmctld and two slurmd, on loopback."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
NODES = 2

CONF = """
ClusterName=depthkd
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={munge}/socket,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,defer_batch
SlurmdParameters=config_overrides
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool/%n
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd-%n.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd-%n.log
SlurmctldTimeout=30
SlurmdTimeout=30
KillWait=20
InactiveLimit=0
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
"""


def missing() -> str | None:
    """Why no SLURM can be brought up here; None if it can."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        packages = "slurmctld slurmd slurm-client munge"
        return f"SLURM is not installed ({', '.join(absent)}): apt-get install {packages}"
    return None if os.geteuid() == 0 else "the test's SLURM needs root"


def wait_until(done: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds:.0f} s, still not: {what}")
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()


class Slurm:
    """Two nodes of six CPUs and two pretended GPUs each."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.munge = Path("/run") / f"munge-{base.name}-{os.getpid()}"
        self.environment = {**os.environ, "SLURM_CONF": str(base / "slurm.conf")}

    def up(self) -> None:
        for folder in ("state", *(f"spool/n{i}" for i in range(1, NODES + 1))):
            (self.base / folder).mkdir(parents=True)
        self._start_munge()
        host = socket.gethostname().split(".")[0]
        controller, *ports = free_ports(1 + NODES)
        lines = CONF.format(host=host, port=controller, munge=self.munge, base=self.base)
        for i, port in enumerate(ports, 1):
            lines += (
                f"NodeName=n{i} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=6 RealMemory=4000 "
                "Gres=gpu:2 State=UNKNOWN\n"
            )
        lines += f"PartitionName=debug Nodes=n[1-{NODES}] Default=YES MaxTime=INFINITE State=UP\n"
        (self.base / "slurm.conf").write_text(lines)
        for i in range(2):
            os.mknod(self.base / f"gpu{i}", 0o666 | 0o020000, os.makedev(1, 3))  # copies of /dev/null
        (self.base / "gres.conf").write_text(f"NodeName=n[1-{NODES}] Name=gpu File={self.base}/gpu[0-1]\n")
        self.call("slurmctld", "-i")
        for i in range(1, NODES + 1):
            self.call("slurmd", "-N", f"n{i}")
        wait_until(
            lambda: self.call("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(NODES), 30, "idle nodes"
        )

    def _start_munge(self) -> None:
        user = pwd.getpwnam("munge")  # munged refuses to share a key, or a folder, with others
        for folder in (self.munge, self.munge / "etc"):
            folder.mkdir(mode=0o755 if folder == self.munge else 0o700)
            os.chown(folder, user.pw_uid, user.pw_gid)
        key = self.munge / "etc" / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        os.chown(key, user.pw_uid, user.pw_gid)
        files = {"key-file": "etc/munge.key", "socket": "socket", "pid-file": "munged.pid"}
        files |= {"log-file": "munged.log", "seed-file": "munge.seed"}
        options = [f"--{name}={self.munge}/{file}" for name, file in files.items()]
        subprocess.run(["runuser", "-u", "munge", "--", "munged", *options], check=True, capture_output=True)

    def call(self, *words: str, folder: Path | None = None, **environment: str) -> str:
        done = subprocess.run(
            words, env=self.environment | environment, cwd=folder, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def submit(self, folder: Path, *words: str, **environment: str) -> str:
        """`sbatch`; the job's number."""
        return self.call("sbatch", "--parsable", *words, folder=folder, **environment).strip()

    def state(self, job: str) -> str:
        return self.call("scontrol", "show", "job", job).partition("JobState=")[2].split()[0]

    def down(self) -> None:
        try:
            self.call("scancel", "--user=root")
        finally:
            pids = [*self.base.glob("*.pid"), self.munge / "munged.pid"]
            alive = [int(file.read_text()) for file in pids if file.exists()]
            for pid in alive:
                os.kill(pid, signal.SIGTERM)
            wait_until(
                lambda: not any(Path(f"/proc/{pid}").exists() for pid in alive),
                30,
                "the end of SLURM's daemons",
            )
            shutil.rmtree(self.munge, ignore_errors=True)
