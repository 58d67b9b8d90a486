"""README.md and docs/: their paths exist, commands compose, tables are the classes', examples run."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.files import npy, picture, write
from tests.docs_tables import PAGES, written
from tests.models.smallest import run

ROOT = Path(__file__).parent.parent
TEXTS = {path.name: path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
TYPED = """
import shlex, sys
from depthkd.cli import main
for line in sys.stdin.read().splitlines():
    print(">", line, flush=True)
    status = main(shlex.split(line)[1:])
    print("exit", status, flush=True)
"""


def blocks(name: str, *kinds: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(TEXTS[name]) if kind in kinds]


def test_readme_is_a_door() -> None:
    assert len(TEXTS["README.md"].encode()) <= 10_000
    for name in TEXTS:
        assert name == "README.md" or f"docs/{name}" in TEXTS["README.md"], (
            f"README.md does not lead to {name}"
        )


@pytest.mark.parametrize("name", TEXTS)
def test_paths_and_links_exist(name: str) -> None:
    folder = ROOT if name == "README.md" else ROOT / "docs"
    prose = re.sub(r"```.*?```", "", TEXTS[name], flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
        assert (folder / target).exists(), target
    spans = re.findall(r"`([\w./-]+/[\w.*-]*)`", prose)
    ours = [
        s
        for s in spans
        if s.split("/")[0] in ("depthkd", "tests", "configs", "docs", "slurm", "replications")
    ]
    for path in ours:
        assert list(ROOT.glob(path.rstrip("/"))), path


@pytest.mark.parametrize("name", TEXTS)
def test_commands_name_what_there_is(name: str) -> None:
    from depthkd.verbs import VERBS

    for text in blocks(name, "bash"):
        for line in text.replace("\\\n", " ").splitlines():
            words = line.split("#")[0].split()
            if words[:1] == ["depthkd"] and name != "extending.md":
                assert words[1] in VERBS, line
            for word in words:
                if word.startswith(("configs/", "replications/", "slurm/")):
                    assert (ROOT / word).is_file() or name == "extending.md", line
                if found := re.fullmatch(r"depthkd\.(\w+)\.(\w+)", word):
                    module = __import__(f"depthkd.{found[1]}", fromlist=["x"])
                    assert name == "extending.md" or found[2] in dir(module), line


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_those_of_the_classes(page: str) -> None:
    assert TEXTS[page] == written(page, TEXTS[page]), "python -m tests.docs_tables writes them anew"


def test_the_five_additions_work(tmp_path: Path, scene_shards: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("depthkd", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    for text in blocks("extending.md", "python", "yaml"):
        where, _, body = text.partition("\n")
        path = re.search(r"[\w./]+/[\w.]+", where)
        assert path is not None, where
        file = tmp_path / path[0]
        if not where.startswith("# add to"):
            assert not file.exists() and len(body.splitlines()) <= 40
            file.write_text(body)
            continue
        assert len(body.splitlines()) == 1
        before = file.read_text()
        anchor = re.search(r"(in|before) (CATALOGUE|VERBS)$", where)
        if anchor is None:
            file.write_text(before + body)
        else:
            start = re.search(rf"^{anchor[2]}\b[^\n]*\n", before, re.MULTILINE)
            assert start is not None
            place = start.start() if anchor[1] == "before" else start.end()
            file.write_text(before[:place] + body + before[place:])
    run(tmp_path / "runs/tiny/teacher", "DepthAnything", size="tiny")
    (tmp_path / "runs/scenes").symlink_to(scene_shards)
    write(tmp_path / "rooms", {"a.png": picture(8, 10), "a.npy": npy(np.full((8, 10), 2500.0))})
    commands = "".join(blocks("extending.md", "bash"))
    environment = {
        "PYTHONPATH": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PATH": "/usr/bin",
    }
    done = subprocess.run([sys.executable, "-c", TYPED], input=commands, capture_output=True, text=True,
                          cwd=tmp_path, env=environment, timeout=200)  # fmt: skip
    assert len(commands.splitlines()) == 5
    assert done.stdout.count("\nexit 0") == 5, done.stdout + done.stderr
    assert "PlainDistill: the student is" in done.stdout and " RMSrel ↓ " in done.stdout
    assert "metric depth from 2.5 to 2.5" in done.stdout and "two convolutions: 593 parameters" in done.stdout
