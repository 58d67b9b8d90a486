"""The plan of the house: imports go one way, and heavy rooms are entered late."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import depthkd

PACKAGE = Path(depthkd.__file__).parent
FLOORS = [
    {"errors", "geometry", "old_names", "pixels", "processes", "shapes", "versions"},
    {"storage"},
    {"batch", "lazy", "parsing", "paths", "resolution"},
    {"alignment", "formats"},
    {"cluster", "datasets", "in_use", "losses", "metrics", "sparse_depth"},
    {"models", "report", "watching"},
    {"benchmarks", "cost", "runs"},
    {"data", "evaluation", "methods"},
    {"verbs"},
    {"cli"},
]


LONGEST, MOST_PARAMETERS = 60, 10  # lines of a function without its docstring; constructors may take more
OF_VERBS = {
    "export": "a verb's own options",
    "label": "a verb's own options",
    "pack": "a verb's own options",
    "predict": "a verb's own options",
}


def floor(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def files() -> list[Path]:
    return [p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py"]


def imported(path: Path) -> set[str]:
    """Modules of ours that a file imports when it is imported, or later."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("depthkd.")}


def test_every_room_has_a_floor_and_imports_go_down() -> None:
    assert len(files()) > 40
    for path in files():
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for other in {name.split(".")[1] for name in imported(path)} - {room}:
            assert floor(other) < floor(room), (
                f"{path.relative_to(PACKAGE)} imports depthkd.{other}, upstairs"
            )


def test_no_file_comes_back_to_itself() -> None:
    """Neither when it is imported nor later: imports inside functions count."""
    modules = {".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts): p for p in files()}
    edges = {name: imported(path) & modules.keys() - {name} for name, path in modules.items()}
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in edges[name]:
                walk(other, (*way, name))
            done.add(name)

    for name in edges:
        walk(name, ())


def test_no_file_is_two_rooms() -> None:
    for path in [*PACKAGE.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 400, path


def test_functions_are_short_and_take_little() -> None:
    for path in files():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            where, first = f"{path.relative_to(PACKAGE)}: {node.name}", node.body[0]
            text = ast.get_docstring(node) and isinstance(first, ast.Expr)
            described = (first.end_lineno or 0) - first.lineno + 1 if text else 0
            lines = (node.end_lineno or 0) - node.lineno + 1 - described
            assert lines <= LONGEST, f"{where} has {lines} lines"
            count = len(node.args.args) + len(node.args.kwonlyargs)
            assert count <= MOST_PARAMETERS or node.name in ("__init__", *OF_VERBS), f"{where} takes {count}"


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
