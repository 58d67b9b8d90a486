"""`python -m tests.embedded RUN`: the embedded teacher's files from a run of configs/embedded/teacher.yaml.

Writes depthkd/models/embedded/weights.safetensors, float16, and card.json beside it.
"""

import hashlib
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from depthkd.benchmarks import Motorcycle, ShardBenchmark
from depthkd.datasets.scenes import Style, scene
from depthkd.evaluation.evaluate import carried_out
from depthkd.evaluation.request import EvaluationRequest
from depthkd.models import Embedded
from depthkd.models.dpt.packaged_weights import FOLDER, PACKAGED
from depthkd.runs.folder import Run
from depthkd.runs.student import load_student
from depthkd.verbs.configs import load_config

ROOT = Path(__file__).parent.parent
CONFIG = "configs/embedded/teacher.yaml"
SHORTER_SIDE = 160  # of the sizes tried on lifelike scenes and on frames 0-240 of 7-Scenes, the best


def looks() -> list[float]:
    """Means over some lifelike scenes: they tell a later change of what the teacher has learned from."""
    made = [scene(21, index, Style.LIFELIKE, 48, 64).sample for index in range(6)]
    return [float(f"{np.mean(values):.4g}") for one in made for values in (one.image, 1 / one.depth)]


def settings() -> dict[str, Any]:
    """What the config says of model, data and steps."""
    config = load_config(ROOT / CONFIG)
    return {name: config[name] for name in ("needs", "model", "data", "trainer")}


def settings_digest() -> str:
    """What tells these settings from others."""
    return hashlib.sha256(json.dumps(settings(), sort_keys=True).encode()).hexdigest()


def write(run: Path) -> None:
    """The files of a finished run.

    Raises:
        SystemExit: the run is not finished, or of other settings than the config's.
    """
    progress = Run(run).progress()
    if progress is None or not progress.finished:
        sys.exit(f"{run} is not finished: {progress}")
    student = load_student(run)
    tensors = {name: tensor.half().contiguous() for name, tensor in student.state_dict().items()}
    content = save(tensors)
    package = next(iter(PACKAGED.values()))
    own = settings()["model"]["init_args"]["student"]["init_args"]
    card: dict[str, Any] = {
        "what": "the teacher that depthkd carries; see depthkd.models.Embedded",
        "student": {"backbone": own["backbone"], "fusion": own["fusion"]},
        "shorter_side": SHORTER_SIDE,
        "license": "apache-2.0",
        "backbone": f"{package.package} {package.version}, {package.license}, SHA-256 {package.sha256}",
        "config": CONFIG,
        "settings": settings_digest(),
        "scenes": looks(),
        "seed": Run(run).settings()["model"]["init_args"].get("seed", 0),
        "steps": progress.steps,
        "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip(),
        "torch": metadata.version("torch"),
        "parameters": sum(p.numel() for p in student.parameters()),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "weights.safetensors").write_bytes(content)
    (FOLDER / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    card["metrics"] = metrics()
    (FOLDER / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(f"{FOLDER}: {len(content) / 1e6:.1f} MB, {card['metrics']}")


def metrics() -> dict[str, dict[str, float]]:
    """AbsRel and delta1 of the files as they are, on what comes with depthkd."""
    scenes = ShardBenchmark("runs/scenes/lifelike_test", protocol="marigold", limit=60)
    results = carried_out(
        EvaluationRequest(
            models={"embedded": Embedded()},
            benchmarks={"lifelike scenes": scenes, "motorcycle": Motorcycle(protocol="marigold")},
            out=Path("runs/embedded/test"),
            photographs=False,
        )
    )
    found: dict[str, dict[str, float]] = {}
    for name, benchmark in results["benchmarks"].items():
        row = benchmark["metrics"]["embedded"]
        found[name] = {metric: round(row[metric], 4) for metric in ("abs_rel", "delta1")}
    return found


if __name__ == "__main__":
    torch.manual_seed(0)
    write(Path(sys.argv[1]))
