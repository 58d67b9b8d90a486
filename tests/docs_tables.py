"""The tables of docs/ that are made from the classes: `python -m tests.docs_tables` writes them anew.

In a page, a table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

from depthkd import benchmarks, datasets, methods, models
from depthkd.benchmarks.public_benchmark import PublicBenchmark
from depthkd.datasets.dataset import ListedDataset
from depthkd.methods.method import Method
from depthkd.models.model import DepthModel, FeatureModel
from depthkd.resolution import Resolution

BASES = (DepthModel, FeatureModel, Method, PublicBenchmark)
OTHERS = {"ablations", "embedded", "eval", "tiny"}  # folders of configs that are no paper's main one
DOCS = Path(__file__).parent.parent / "docs"
CONFIGS = DOCS.parent / "configs"


def classes(package: object, kind: type) -> list[type]:
    """The public classes of a kind, those that can be built."""
    found = (getattr(package, name) for name in sorted(dir(package), key=str.lower))
    built = [c for c in found if isinstance(c, type) and issubclass(c, kind) and c not in BASES]
    return [c for c in built if not inspect.isabstract(c)]


def sentence(kind: type) -> str:
    """The first sentence of a class's docstring."""
    text = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
    return re.split(r"(?<!Eq)(?<=[^ .]{2})[.:;](?= |$)", text)[0]


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def needed(kind: type) -> str:
    """The arguments without a default."""
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    plain = [p for p in parameters if p.kind is not p.VAR_KEYWORD and p.default is p.empty]
    return ", ".join(f"`{p.name}`" for p in plain) or "-"


def of_benchmarks() -> str:
    rows = []
    for kind in classes(benchmarks, PublicBenchmark):
        if not hasattr(kind, "kind") or kind.__name__ == "DIODEIndoor":
            continue
        benchmark = kind("nowhere")
        low, high = benchmark.protocol.min_depth, benchmark.protocol.max_depth
        depth = "-" if low is None else f"{low:g} to {'infinity' if high is None else f'{high:g}'} m"
        at = Resolution.parse(benchmark.protocol.resolution).words
        rows.append([f"`{kind.__name__}`", sentence(kind), depth, at, ", ".join(benchmark.metrics)])
    return table(["class", "what", "valid depth", "run at", "metrics"], rows)


def of_data_sets() -> str:
    rows = []
    for kind in classes(datasets, ListedDataset):
        splits = ", ".join(kind.splits) or "-"
        rows.append([f"`{kind.name}`", f"`{kind.__name__}`", splits, f"`{kind.layout}`"])
    return table(["name", "class", "splits", "what the root holds"], rows)


def of_models() -> str:
    rows = [[f"`{c.__name__}`", sentence(c), needed(c)] for c in classes(models, FeatureModel)]
    return table(["class", "what", "needs"], rows)


def of_methods() -> str:
    rows = []
    for kind in classes(methods, Method):
        named = f"class_path: depthkd.methods.{kind.__name__}\n"
        paths = (path for path in sorted(CONFIGS.rglob("*.yaml")) if named in path.read_text())
        names = [path.relative_to(CONFIGS) for path in paths if not OTHERS & set(path.parts)]
        configs = ", ".join(f"`configs/{name}`" for name in names) or "-"
        rows.append([f"`{kind.__name__}`", sentence(kind), configs])
    return table(["class", "what", "config"], rows)


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "data.md": {"data sets": of_data_sets},
    "evaluation.md": {"benchmarks": of_benchmarks},
    "models.md": {"models": of_models},
    "papers.md": {"methods": of_methods},
}


def written(page: str, text: str) -> str:
    """A page with its tables as the classes have them."""
    for name, make in PAGES[page].items():
        place = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        assert place.search(text), f"docs/{page} has no place for the table of {name}"
        made = make()
        text = place.sub(lambda found, made=made: f"{found[1]}{made}\n{found[2]}", text)
    return text


if __name__ == "__main__":
    for page in PAGES:
        (DOCS / page).write_text(written(page, (DOCS / page).read_text()))
