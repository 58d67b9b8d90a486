"""Configs by name, from whatever folder; and depthkd installed from a wheel, far from its repository."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from depthkd.errors import UserError
from depthkd.verbs import shipped
from depthkd.verbs.configs import compose, listed
from depthkd.verbs.shipped import find_config, summary
from tests.conftest import CommandLine

ROOT = Path(__file__).parent.parent
FOUND = sorted(
    p.relative_to(ROOT / "configs").with_suffix("").as_posix() for p in ROOT.glob("configs/**/*.yaml")
)
ABLATIONS = [name for name in FOUND if name.startswith("ablations/")]
TOP = [name for name in FOUND if "/" not in name]
NAMES = [*TOP, *(name for name in FOUND if name not in {*TOP, *ABLATIONS}), *ABLATIONS]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "named", ["fiff", "fiff.yaml", "configs/fiff.yaml", "./configs/fiff", "configs/fiff"]
)
def test_a_config_is_found_by_name_from_any_folder(named: str, empty: Path) -> None:
    assert find_config(named) == ROOT / "configs/fiff.yaml"
    assert compose(["--config", named]).name == "fiff"


def test_bases_are_found_by_name_and_files_of_ones_own_come_first(empty: Path) -> None:
    (empty / "mine.yaml").write_text("base: configs/tiny/teacher.yaml\ntrainer: {max_steps: 7}")
    command = compose(["--config", "mine.yaml"])
    assert command.name == "mine" and "max_steps: 7" in command.arguments[1]
    assert command.needs == compose(["--config", "tiny/teacher"]).needs != {}
    (empty / "configs").mkdir()
    (empty / "configs/fiff.yaml").write_text("a: 1")
    assert find_config("configs/fiff.yaml") == Path("configs/fiff.yaml")
    assert find_config("fiff") == ROOT / "configs/fiff.yaml"


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ("fif", r"the config fif does not exist; depthkd carries fiff$"),
        ("completion", "carries eval/completion, lightweight/completion, tiny/completion"),
        ("tiny", r"carries tiny/\w+, .* and others$"),
        ("../configs/fiff", "does not exist"),
        ("/nowhere/fiff", "the config /nowhere/fiff does not exist"),
        ("zzzzzz", r"`depthkd configs` lists"),
    ],
)
def test_a_mistyped_name_gets_near_ones(named: str, sentence: str, empty: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        compose(["--config", named])


def test_the_list_has_a_line_for_each_config(command_line: CommandLine) -> None:
    status, out, err = command_line("configs")
    assert status == 0, err
    assert [line.split()[0] for line in out.splitlines()] == NAMES
    assert all(len(line.split()) > 4 for line in out.splitlines())
    status, out, _ = command_line("configs", "TINY", "fiff")
    assert status == 0 and [line.split()[0] for line in out.splitlines()] == ["tiny/fiff"]
    with pytest.raises(UserError, match="no config has 'zzz'"):
        listed(["zzz"])


def test_a_summary_is_the_first_sentence(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("# A of B. C (arXiv 1.2), section\n# 3.4: d. More.\n# Cost: 1\na: 1")
    assert summary(config) == "A of B. C (arXiv 1.2), section 3.4: d."
    config.write_text("# no stop\n# Cost: 1\na: 1")
    assert summary(config) == "no stop"


def test_folders_are_copied_once(command_line: CommandLine, tmp_path: Path) -> None:
    assert command_line("configs", "--copy", "slurm")[0] == 0
    assert (tmp_path / "slurm/fit.sbatch").read_bytes() == (ROOT / "slurm/fit.sbatch").read_bytes()
    status, _, err = command_line("configs", "--copy", "slurm")
    assert status == 2 and "slurm exists already" in err
    status, _, err = command_line("configs", "--copy", "src")
    assert status == 2 and "'src' is nothing to copy; it would be one of configs, replications, slurm" in err


def test_without_configs_there_is_a_sentence(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path / "depthkd")
    status, _, err = command_line("configs")
    assert status == 2 and "carries no configs" in err
    assert command_line("fit", "--config", "fiff")[2] == "depthkd fit: the config fiff does not exist\n"


@pytest.mark.long
def test_an_installed_wheel_needs_no_repository(tmp_path: Path) -> None:
    """The documentation's commands with a shipped config, typed in an empty folder."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = (tmp_path / "dist").iterdir()
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:  # which is all that installing a pure wheel does
        archive.extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        start = [sys.executable, "-c", "import depthkd.cli as c; print(c.__file__); c.console()"]
        done = subprocess.run(
            [*start, *words], cwd=empty, env=environment, capture_output=True, text=True, timeout=280
        )
        assert done.stdout.startswith(str(site)), done.stderr
        return done

    done = typed("configs")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == NAMES
    assert typed("configs", "--copy", "slurm").returncode == 0
    assert (empty / "slurm/fit.sbatch").is_file()
    commands = re.findall(
        r"^depthkd (?:fit|test) --config [^\s]+",
        "\n".join(path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]),
        re.MULTILINE,
    )
    shown = sorted({c.split()[-1]: c for c in commands if (ROOT / c.split()[-1]).is_file()}.values())
    assert len(shown) > 4
    for command in shown[:: len(shown) // 4]:
        done = typed(*command.split()[1:], "--print_config")
        assert done.returncode == 0, (command, done.stderr)
    done = typed("fit", "--config", "tiny/teacher", "--trainer.max_steps", "1", "--data.validation", "null")
    assert done.returncode == 0, done.stderr
    assert (empty / "runs/tiny/teacher/checkpoints/last.ckpt").is_file()
    assert "carries fiff" in typed("fit", "--config", "fif").stderr
