"""Depth Anything V2's first stage and its ablations, a few steps of each with small encoders of its kind."""

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from depthkd import models
from depthkd.datasets.by_name import named_dataset
from depthkd.datasets.dataset import ListedDataset
from depthkd.verbs.configs import load_config
from tests.conftest import CommandLine

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "configs/ablations/depth_anything_v2"
TEACHERS = ("figure10", "figure12", "table9", "table12", "table13")  # the first stage's
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem.startswith(TEACHERS))
HRWSI = "figure12_hrwsi.yaml"
SHORT = {"table13_synclr_l", "figure12_hrwsi"}  # a backbone from a file, and two sources
NARROW: dict[str, Any] = {"embed_dim": 16, "depth": 4, "num_heads": 2}
OPTIONS: dict[str, dict[str, Any]] = {  # what keeps a backbone's kind at the least size
    "table13_beit_l": {**NARROW, "img_size": 48},
    "table13_dinov2_g_registers": {**NARROW, "mlp_ratio": 4},
    "table13_sam_l": {**NARROW, "global_attn_indexes": [1, 3], "window_size": 2},
}


def shrunk(name: str, home: Path) -> dict[str, Any]:
    """An ablation as it stands, but for its sizes: network, images, batch and shards."""
    tree = load_config(FOLDER / f"{name}.yaml")
    student = tree["model"]["init_args"]["student"]
    arguments = student["init_args"]
    if student["class_path"].endswith("TimmDepth"):
        options = {**arguments.get("options", {}), **OPTIONS.get(name, NARROW)}
        arguments |= {"options": options, "layers": [0, 1, 2, 3], "widths": [4, 8, 16, 16], "fusion": 8}
        backbone = arguments["backbone"] = arguments["backbone"].partition(".")[0]
        if arguments["pretrained"] is not True:  # a file
            arguments["pretrained"] = str(home / "weights.pth")
            theirs = timm.create_model(backbone, num_classes=0, **NARROW).state_dict()
            torch.save({"model": {f"module.visual.{k}": v for k, v in theirs.items()}}, home / "weights.pth")
        else:
            arguments["pretrained"] = False
    else:
        del arguments["weights"]
        arguments["size"] = "tiny"
    for source in tree["data"]["train"].values():
        source["urls"] = str(home / "runs/scenes/studio_train")
        source["transform"]["init_args"]["size"] = 48 if "patch16" in str(arguments.get("backbone")) else 56
    tree["data"] |= {"batch_size": 4 if len(tree["data"]["train"]) == 1 else 16, "workers": 0}
    tree["trainer"] |= {"max_steps": 3, "accelerator": "cpu", "precision": "32-true", "log_every_n_steps": 1}
    tree["trainer"] |= {"enable_progress_bar": False, "enable_model_summary": False}
    tree["checkpoint"] = {"every_n_train_steps": 3}
    return tree


@pytest.mark.parametrize(
    "name", [n if n in SHORT else pytest.param(n, marks=pytest.mark.long) for n in NAMES]
)
def test_each_ablation_trains(name: str, home: Path, command_line: CommandLine) -> None:
    (home / "small.yaml").write_text(yaml.safe_dump(shrunk(name, home)))
    status, _, err = command_line("fit", "--config", "small.yaml", "--run", "runs/ablation")
    assert status == 0, err
    assert (home / "runs/ablation/checkpoints/last.ckpt").exists()
    log = EventAccumulator(str(home / "runs/ablation/logs"))
    log.Reload()
    logged = {tag.removeprefix("train/") for tag in log.Tags()["scalars"]}
    assert {"scale_shift_invariant", "gradient"} <= logged


def test_the_ablations_differ_in_what_the_paper_says() -> None:
    teacher = load_config(ROOT / "configs/depth_anything_v2/teacher.yaml")
    trees = {name: load_config(FOLDER / f"{name}.yaml") for name in NAMES}
    sets = ["blendedmvs", "hypersim", "irs", "tartanair", "virtual_kitti_2"]
    (source,) = teacher["data"]["train"].values()
    assert source["urls"] == [f"/data/{name}/*.tar" for name in sets] and source["space"] == "scale depth"
    assert trees["table13_dinov2_g"]["model"] == teacher["model"]
    for name, tree in trees.items():
        method = tree["model"]["init_args"]
        weight = {"figure10_gradient_0_5": 0.5, "figure10_gradient_1": 1.0, "figure10_gradient_4": 4.0}
        assert method["weights"] == {"scale_shift_invariant": 1.0, "gradient": weight.get(name, 2.0)}, name
        rates = method["optimization"]["learning_rate"], method["optimization"]["encoder_factor"]
        assert rates == (5e-5, 0.1) and method["sky"] == "zero", name
        if not name.startswith("table12"):
            assert (tree["trainer"]["max_steps"], tree["data"]["batch_size"]) == (160000, 64), name
    for name in sets:
        assert trees[f"table9_{name}"]["data"]["train"]["synthetic"]["urls"] == [f"/data/{name}/*.tar"]
    for size, widths, fusion in (("l", [256, 512, 1024, 1024], 256), ("g", [1536] * 4, 384)):
        heads = [t["model"]["init_args"]["student"]["init_args"] for n, t in trees.items() if f"_{size}" in n]
        timms = [head for head in heads if "backbone" in head]
        assert timms and all((head["widths"], head["fusion"]) == (widths, fusion) for head in timms)


@pytest.mark.long
def test_all_encoders_of_table_13_have_one_head_at_full_size() -> None:
    """Built without memory: as many weights in every head of a size, and about as many in every encoder."""
    heads: dict[str, set[int]] = {"large": set(), "giant": set()}
    for name in (name for name in NAMES if name.startswith("table13")):
        student = load_config(FOLDER / f"{name}.yaml")["model"]["init_args"]["student"]
        arguments = {k: v for k, v in student["init_args"].items() if k not in ("weights", "pretrained")}
        with torch.device("meta"):
            model = getattr(models, student["class_path"].rpartition(".")[2])(**arguments)
        size = "giant" if "_g" in name else "large"
        encoder = sum(p.numel() for p in model.encoder_parameters())
        assert encoder == pytest.approx({"large": 304e6, "giant": 1136e6}[size], rel=0.02), name
        heads[size].add(sum(p.numel() for p in model.parameters()) - encoder)
    assert [len(counts) for counts in heads.values()] == [1, 1], heads


def test_its_recipe_packs_what_the_teacher_reads() -> None:
    page = (ROOT / "docs/recipes.md").read_text().partition("## Depth Anything V2's teacher")[2]
    packed = re.findall(r"--dataset (\w+) .*?(?:--split (\w+) )?--out (\S+)%06d\.tar", page)
    trees = [load_config(path) for path in (ROOT / "configs/depth_anything_v2/teacher.yaml", FOLDER / HRWSI)]
    read = [source["urls"] for tree in trees for source in tree["data"]["train"].values()]
    assert [f"{out}*.tar" for _, _, out in packed] == [*read[0], read[2]]
    for name, split, _ in packed:
        found = named_dataset(name, "/data/raw", split or None)
        assert isinstance(found, ListedDataset)
        assert split == ("train" if "train" in found.splits else ""), name


def test_the_encoders_of_table_13_are_timms_and_have_weights() -> None:
    for name in NAMES:
        student = load_config(FOLDER / f"{name}.yaml")["model"]["init_args"]["student"]
        if student["class_path"].endswith("TimmDepth"):
            known = timm.models.get_pretrained_cfg(student["init_args"]["backbone"])
            fetched = student["init_args"]["pretrained"] is True
            assert known is not None and bool(known.hf_hub_id) == fetched, name
            size = student["init_args"]["layers"][-1] + 1
            assert size == {"large": 24, "giant": 40}[student["init_args"]["backbone"].split("_")[1]], name
