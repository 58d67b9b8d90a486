"""The plan of the house: imports go one way, and heavy rooms are entered late."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import depthkd

PACKAGE = Path(depthkd.__file__).parent
FLOORS = [
    {"errors", "lazy"},
    {"batch", "parsing", "paths", "pixels", "processes", "resolution"},
    {"geometry", "alignment"},
    {"formats", "losses", "metrics"},
    {"in_use", "models"},
    {"report"},
    {"datasets"},
    {"benchmarks", "cluster"},
    {"data", "methods"},
    {"runs"},
    {"evaluation"},
    {"verbs"},
    {"cli"},
]
APART = [("data", "methods"), ("methods", "data"), ("losses", "metrics"), ("metrics", "losses")]


def floor(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def imports(path: Path) -> set[str]:
    """Rooms that a file imports when it is imported, or later."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("depthkd.")}
    return found


def test_every_room_has_a_floor_and_imports_go_down() -> None:
    files = [p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py"]
    assert len(files) > 40
    for path in files:
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for other in imports(path) - {room}:
            assert floor(other) <= floor(room), (
                f"{path.relative_to(PACKAGE)} imports depthkd.{other}, upstairs"
            )
            assert (room, other) not in APART, f"{path.relative_to(PACKAGE)} knows depthkd.{other}"


def test_no_file_is_two_rooms() -> None:
    for path in [*PACKAGE.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 400, path


def test_help_answers_at_once_and_without_torch() -> None:
    start = time.perf_counter()
    code = "import sys; from depthkd.cli import main; main(['--help']); print('torch' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "fit" in shown.stdout
    assert shown.stdout.strip().endswith("False")
    assert time.perf_counter() - start < 30  # hangs only: its speed is in the closing notes


def test_a_room_can_be_entered_without_the_heavy_libraries() -> None:
    code = (
        "import sys, depthkd.models, depthkd.methods, depthkd.losses, depthkd.metrics, depthkd.benchmarks, "
        "depthkd.data; "
        "heavy = ('torch', 'lightning', 'transformers', 'diffusers', 'onnxruntime'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.strip() == "[]"


def test_a_reader_who_leaves_early_gets_no_traceback() -> None:
    command = f"{sys.executable} -c 'from depthkd.cli import console; console()' --help"
    done = subprocess.run(f"{command} | true", shell=True, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
