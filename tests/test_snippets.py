"""The Python of README.md and docs/ runs as it stands, in a folder with what it names."""

import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from depthkd.models import DepthAnything
from tests.models.smallest import run as make_run

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)
ELSEWHERE = {"extending.md"}  # tests/test_docs.py writes its blocks into files, and types its commands
PAGES = [
    page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if page.name not in ELSEWHERE
]
RUN = [page for page in PAGES if any(not found["reason"] for found in BLOCK.finditer(page.read_text()))]
LONG = {"README.md", "python.md"}  # they score networks on a photograph of 500 x 741 pixels, edges too


@pytest.fixture
def working_folder(tmp_path: Path, scene_shards: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the pages name: photographs, shards, runs, an exported student."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(scene_shards / "film_train", tmp_path / "shards")
    pixels = torch.randint(0, 256, (48, 64, 3), generator=torch.Generator().manual_seed(0)).byte().numpy()
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/one.jpg", "photos/two.jpg"):
        Image.fromarray(pixels).save(tmp_path / name)
    for name in ("runs/own_teacher", "runs/embedded/student"):
        make_run(tmp_path / name, "DepthAnything", size="tiny")
    torch.manual_seed(0)
    network = DepthAnything("tiny")
    network.trained_at = (48, 48)
    network.save_pretrained(tmp_path / "exported")
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, id=p.name, marks=[pytest.mark.long] if p.name in LONG else []) for p in RUN],
)
def test_python_on_the_page_runs(
    page: Path, working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning, which a script is told too
        for found in BLOCK.finditer(page.read_text()):
            if not found["reason"]:
                exec(compile(found["code"], str(page), "exec"), {"__name__": "__main__"})


def test_what_is_not_run_says_why() -> None:
    reasons = [f["reason"] for page in PAGES for f in BLOCK.finditer(page.read_text()) if f["reason"]]
    assert reasons and all(len(reason.split()) >= 3 for reason in reasons)
    assert {"README.md", "python.md"} <= {page.name for page in RUN}
