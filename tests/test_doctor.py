"""What `depthkd doctor` says of faked machines, and of a config's shards, benchmarks and teachers."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from depthkd.errors import UserError
from depthkd.verbs.doctor import hub, machine, overridden, packages, slurm, training
from depthkd.verbs.doctor.findings import Finding, State, problem, told
from tests.conftest import CommandLine
from tests.runs.conftest import small

ROOT = Path(__file__).parent.parent


def states(findings: Any) -> list[State]:
    return [finding.state for finding in findings]


def test_a_row_says_what_to_do() -> None:
    text = told(problem("disk", "full " * 30, "make room"))
    first, *_, last = text.splitlines()
    assert first.startswith("problem  disk              full")
    assert last == " " * 27 + "-> make room"
    assert all(len(line) <= 110 for line in text.splitlines())


# The machine


def test_few_files_and_a_slow_or_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.open_files(65536).state is State.OK
    few = machine.open_files(256)
    assert few.state is State.WARNING and "only 256" in few.found and "ulimit -n 4096" in few.advice
    monkeypatch.setattr(machine, "write_speed", lambda folder: 1e9)
    assert machine.disk("runs", tmp_path / "not/there").state is State.OK
    monkeypatch.setattr(machine, "write_speed", lambda folder: 10e6)
    slow = machine.disk("runs", tmp_path)
    assert slow.state is State.WARNING and "a checkpoint of 5 GB takes 8.3 minutes" in slow.found
    monkeypatch.setattr(machine, "LOW_DISK", 2**62)
    assert "make room" in machine.disk("runs", tmp_path).advice

    def denied(folder: Path) -> float:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine, "write_speed", denied)
    assert machine.disk("runs", tmp_path).state is State.PROBLEM


def test_what_is_written_to_try_a_disk_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "TRIED", 2**21)
    assert machine.write_speed(tmp_path) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_driver_that_torch_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = machine.Plan("auto", "auto", 1, "auto", 2, tmp_path)
    seen = machine.survey(plan, None)
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
    assert states(machine.devices(plan, seen)) == [State.OK]
    (tmp_path / "version").write_text("NVRM version: 535.104.05\n")
    (found,) = machine.devices(plan, seen)
    assert found.state is State.PROBLEM
    assert "535.104.05" in found.found and "sees no device" in found.found and "580" in found.advice
    asked = machine.Plan("cuda", "auto", 1, "auto", 2, tmp_path)
    assert State.PROBLEM in states(machine.devices(asked, seen))


def test_a_gpu_of_another_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = machine.Plan("auto", "auto", 1, "auto", 2, tmp_path)
    found = machine.Found(0, "n", ["V100"], [(7, 0)], 8, 2**40, 2**40)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    (old,) = machine.devices(plan, found)
    assert old.state is State.PROBLEM and "constraints-v100.txt" in old.found
    found.capabilities = [(9, 0)]
    (new,) = machine.devices(plan, found)
    assert new.state is State.OK and "bf16-mixed" in new.found


def test_more_workers_than_processors_and_little_shared_memory(tmp_path: Path) -> None:
    plan = machine.Plan("auto", "auto", 1, "auto", 8, tmp_path)
    found = machine.Found(0, "n", [], [], 4, 2**40, 64 * 2**20)
    processors, shared = machine.processors_and_memory(plan, found)
    assert processors.state is State.WARNING and processors.advice == "data.workers 3"
    assert shared.state is State.WARNING and "--shm-size" in shared.advice


# Packages


def test_versions_out_of_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.5.0", "lightning": "2.6.3", "numpy": "2.1.0"}
    monkeypatch.setattr(packages, "installed", versions.get)
    needed = ["torch>=2.10", "lightning>=2.6.6", "numpy>=2", "timm>=1", 'lmdb>=1; extra == "lmdb"']
    found = [f.found for f in packages.bounds(needed)]
    assert found == [
        "torch is 2.5.0, but >=2.10 is needed",
        "lightning is 2.6.3, but >=2.6.6 is needed",
        "timm is not installed",
    ]
    (bad,) = packages.known_bad()
    assert bad.state is State.PROBLEM and "malicious" in bad.found
    assert states(packages.bounds(["numpy>=2"])) == [State.OK]
    text = "numpy==2.0.0 ; python_version < '3.12' \\\n    --hash=x\nnumpy==2.1.0\ntorch==2.6.0\nmissing==1\n"
    (other,) = packages.lock(text)
    assert other.found == "1 packages have other versions than requirements.lock: torch 2.5.0 (2.6.0)"


def test_a_torchvision_of_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr(packages, "import_module", broken)
    (found,) = packages.together()
    assert found.state is State.PROBLEM and found.found.endswith("operator torchvision::nms does not exist")


# The hub


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401 if self.headers.get("Authorization") == "Bearer old" else 200)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


def test_the_hub_answers_refuses_a_token_or_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        place = f"http://127.0.0.1:{server.server_port}"
        assert hub.reached(place).state is State.OK
        assert "takes the token" in hub.reached(place, "new").found
        refused = hub.reached(place, "old")
        assert refused.state is State.WARNING and "refuses the token (401)" in refused.found
    finally:
        server.shutdown()
        server.server_close()
    monkeypatch.setattr(hub, "LIMIT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        found = hub.reached(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert found.state is State.WARNING and "cannot be reached" in found.found
    assert "Connection refused" in hub.reached(place).found


def test_offline_switches_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "no")
    (found,) = hub.look({})
    assert found.found.startswith("HF_HUB_OFFLINE is set")


# SLURM


def test_shipped_scripts_are_as_they_should_be() -> None:
    for path in sorted((ROOT / "slurm").glob("*.sbatch")):
        found = list(slurm.script(path.name, path.read_text(), 7))
        assert states(found) == [State.OK], found


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        (("--signal=USR1@180", "--comment=x"), State.PROBLEM, "no --signal"),
        (("USR1@180", "B:USR1@180"), State.PROBLEM, "no task saves"),
        (("USR1@180", "TERM@180"), State.PROBLEM, "is not USR1"),
        (("USR1@180", "USR1@30"), State.WARNING, "leaves 30 s"),
        (("--requeue", "--no-requeue"), State.WARNING, "does not come back"),
        (("--open-mode=append", "--open-mode=truncate"), State.WARNING, "log anew"),
        (("--time=24:00:00", "--comment=x"), State.WARNING, "default limit"),
        (("--ntasks-per-node=4", "--ntasks-per-node=2"), State.PROBLEM, "2 tasks and 4 GPUs"),
        (("--cpus-per-task=8", "--cpus-per-task=4"), State.WARNING, "4 CPUs a task, but data.workers is 7"),
    ],
)
def test_a_script_in_which_something_is_missing(change: tuple[str, str], state: State, words: str) -> None:
    text = (ROOT / "slurm/fit.sbatch").read_text().replace(*change)
    (found,) = slurm.script("slurm/fit.sbatch", text, 7)
    assert found.state is state and words in found.found and "#SBATCH" in found.advice


# A config


@pytest.fixture
def config(scene_shards: Path) -> dict[str, Any]:
    tree = small(scene_shards)
    benchmark = {"urls": str(scene_shards / "studio_test"), "resolution": 16}
    tree["data"]["validation"] = {
        "studio": {"class_path": "depthkd.benchmarks.ShardBenchmark", "init_args": benchmark}
    }
    return tree


def looked(config: dict[str, Any], needs: dict[str, str] | None = None) -> dict[str, Finding]:
    return {finding.what: finding for finding in training.look(config, needs or {})}


def test_shards_and_benchmarks(config: dict[str, Any], scene_shards: Path) -> None:
    before = sorted(scene_shards.rglob("*"))
    found = looked(config)
    assert found["train.studio"].found == "1 shards, 24 samples in studio-000000.tar; the first 4 decode"
    assert found["validation.studio"].found.startswith("6 samples, ")
    new = {path.parent.name for path in set(scene_shards.rglob("*")) - set(before)}
    assert new <= {"studio_test"}  # no index is left beside the training shards
    config["data"]["train"]["studio"]["urls"] = "/nowhere/{0..3}.tar"
    config["data"]["validation"]["studio"]["init_args"]["urls"] = "/nowhere"
    found = looked(config)
    assert states(found.values()) == [State.PROBLEM] * 2
    assert all("/nowhere" in one.found for one in found.values())


def test_a_first_sample_that_cannot_be_decoded(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar" * 200)
    config["data"]["train"]["studio"]["urls"] = str(tmp_path / "a.tar")
    assert looked(config)["train.studio"].state is State.PROBLEM


def test_what_is_made_first_is_no_problem(config: dict[str, Any]) -> None:
    config["data"]["train"]["studio"]["urls"] = "runs/scenes/x"
    config["model"]["init_args"]["teacher"] = {
        "class_path": "depthkd.runs.TrainedDepth",
        "init_args": {"path": "runs/t"},
    }
    needs = {
        "runs/scenes/x": "shards scenes --out runs/scenes/x",
        "runs/t/checkpoints/last.ckpt": "fit --config t",
    }
    found = looked(config, needs)
    assert "`depthkd fit --config t`" in found["needs"].advice
    assert found["train.studio"].found == "its shards are made first: runs/scenes/x"
    assert found["teacher"].state is State.WARNING and "is made first" in found["teacher"].found


@pytest.mark.parametrize(
    ("source", "state", "words"),
    [
        ("depth-anything/Depth-Anything-V2-Small-hf", State.OK, "apache-2.0"),
        ("depth-anything/Depth-Anything-V2-Large-hf", State.WARNING, "not for commercial use"),
        ("apple/DepthPro-hf", State.WARNING, "not for commercial use"),
    ],
)
def test_licenses_of_teachers(source: str, state: State, words: str) -> None:
    teacher = {"class_path": "depthkd.models.HuggingFaceDepth", "init_args": {"source": source}}
    found = looked({"model": {"init_args": {"student": {"class_path": "X"}, "teachers": {"a": teacher}}}})
    assert list(found) == ["teachers.a"]
    assert found["teachers.a"].state is state
    assert words in found["teachers.a"].found + found["teachers.a"].advice


def test_settings_of_the_command_line_are_set() -> None:
    config = {"data": {"workers": 2, "train": {"a": {"urls": "x"}}}}
    overridden(config, ["--data.train.a.urls=y", "--data.workers", "4", "--trainer.devices", "2"])
    assert config == {"data": {"workers": 4, "train": {"a": {"urls": "y"}}}, "trainer": {"devices": 2}}
    wrong = {"data": "no setting", "--data.workers": "no value", "--data.workers.a=1": "of its own"}
    for word, sentence in wrong.items():
        with pytest.raises(UserError, match=sentence):
            overridden(config, [word])


def test_the_verb(
    config: dict[str, Any], tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "TRIED", 2**20)
    monkeypatch.setattr(machine, "write_speed", lambda folder: 1e9)
    config["needs"] = {"runs/never": "fit --config never"}  # which is told, and not made
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    status, out, err = command_line("doctor", "--config", "c.yaml")
    assert status == 0, out + err
    assert "0 problems" in out and "runs/never is not there yet" in out
    status, out, _ = command_line("doctor", "--config", "c.yaml", "--data.train.studio.urls", "/nowhere")
    assert status == 1 and "1 problems" in out and "/nowhere" in out
    assert command_line("doctor", "all")[0] == 2
    assert "no config" not in command_line("doctor", "--help")[1]


def test_values_that_are_none_are_sentences() -> None:
    with pytest.raises(UserError, match=r"--data.workers: '\[1' is not a value that YAML can read"):
        overridden({}, ["--data.workers", "[1"])
    with pytest.raises(UserError, match=r"trainer.num_nodes would be a whole number, not 'two'"):
        list(machine.look({"trainer": {"num_nodes": "two"}}))
    found = list(training.look({"data": {"train": {"mine": {"init_args": {}}}}}, {}))
    assert [one.found for one in found] == ["it has no `urls`, which would name its shards"]
