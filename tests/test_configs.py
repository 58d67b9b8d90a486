"""Every shipped config composes with real classes, and says what a config should say."""

from pathlib import Path

import pytest
import yaml

from depthkd.verbs.configs import compose, load_config, merge, run_name
from tests.conftest import CommandLine

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def verb(path: Path) -> str:
    tree = load_config(path)
    return "test" if "benchmarks" in tree else "fit" if "model" in tree else "cost"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_composes(path: Path, command_line: CommandLine) -> None:
    status, out, err = command_line(verb(path), "--config", path, "--print_config")
    assert status == 0, err
    tree = yaml.safe_load(out)
    assert "base" not in tree
    if verb(path) == "fit":
        assert tree["model"]["class_path"].startswith("depthkd.methods.")
        assert tree["trainer"]["max_steps"] > 0
        assert tree["trainer"]["use_distributed_sampler"] is False


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_opens_with_cost_and_command(path: Path) -> None:
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    text = " ".join(head)
    assert "Cost:" in text
    assert f"depthkd {verb(path)} --config {path.relative_to(ROOT)}" in text


ENCODERS = {  # of the student's size: as many channels
    "depth-anything/Depth-Anything-V2-Small-hf": "facebook/dinov2-small",
    "depth-anything/Depth-Anything-V2-Large-hf": "facebook/dinov2-large",
    "Intel/dpt-swinv2-tiny-256": "facebook/dinov2-base",
    "Intel/dpt-beit-large-512": "facebook/dinov2-large",
}


def test_features_are_aligned_to_dinov2_of_the_students_size() -> None:
    found = set()
    for path in CONFIGS:
        model = load_config(path).get("model", {"class_path": ""})
        if not model["class_path"].endswith(("CrossContextDistill", "AssistantGuided")):
            continue
        encoder = model["init_args"].get("feature_encoder")
        if {"tiny", "embedded"} & set(path.parts):
            assert encoder is None, path
            continue
        student = model["init_args"]["student"]["init_args"]["source"]
        assert encoder["class_path"] == "depthkd.models.Dinov2Features", path
        assert encoder["init_args"] == {"source": ENCODERS[student]}, path
        found.add(student)
    assert found == set(ENCODERS)


def test_ablations_of_distill_any_depth_have_the_papers_images_and_terms() -> None:
    folder = ROOT / "configs/ablations/distill_any_depth"
    trees = {path.stem: load_config(path) for path in folder.glob("table[1-4]_*.yaml")}
    for name, tree in trees.items():
        if "data" in tree:
            assert tree["data"]["train"]["sa1b"]["urls"] == "/data/sa1b/sa_{000000..000004}.tar", name
    alone = [name for name in trees if "local_global" in name]
    assert len(alone) == 5
    for name in alone:  # of Eq. 9 nothing else
        weights = trees[name]["model"]["init_args"]["weights"]
        assert {term for term, weight in weights.items() if weight} == {"local_global"}, name
    baseline = trees["table2_baseline"]["model"]["init_args"]
    assert baseline["shared_context_normalization"] == "global"
    for name in ("table3_da_l_to_midas_l_ours", "table3_midas_l_to_midas_s_base"):
        rates = trees[name]["model"]["init_args"]["optimization"]
        assert (rates["learning_rate"], rates["encoder_factor"]) == (1e-4, 0.1)


def test_a_source_can_be_reached_from_the_command_line(command_line: CommandLine) -> None:
    urls = "/data/sa1b/sa_{000020..000029}.tar"
    config = ROOT / "configs/cross_context.yaml"
    status, out, err = command_line(
        "fit", "--config", config, "--data.train.sa1b.urls", urls, "--print_config"
    )
    assert status == 0, err
    source = yaml.safe_load(out)["data"]["train"]["sa1b"]["init_args"]
    assert source["urls"] == urls
    assert source["transform"]["init_args"]["smallest"] == 644


def test_mappings_merge_and_a_new_class_drops_the_old_ones_arguments() -> None:
    under = {"a": {"x": 1, "y": [1, 2]}, "model": {"class_path": "A", "init_args": {"p": 1}}}
    over = {"a": {"y": [3]}, "model": {"class_path": "B"}}
    assert merge(under, over) == {"a": {"x": 1, "y": [3]}, "model": {"class_path": "B"}}
    assert merge(under, {"model": {"init_args": {"q": 2}}})["model"]["init_args"] == {"p": 1, "q": 2}
    assert merge(under, {"a": None}) == {"model": under["model"]}
    assert merge({"a": 1}, {"a": None}) == {"a": None}
    assert under["a"] == {"x": 1, "y": [1, 2]}


def test_old_names_are_read_from_overrides_and_options(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "models: {a: {class_path: depthkd.models.DepthAnything, init_args: {size: mini, initialize: all}}, "
        "b: {class_path: m.Mine, init_args: {licence: mit}}}\n"
        "color: depthkd.methods.perturbation.ColourPerturbation\n"
        "rows: {}\nmetrics: [delta1]\n"
    )
    over = tmp_path / "over.yaml"
    over.write_text("base: base.yaml\nmodels: {a: {init_args: {initialise: encoder}}}\nfigures: [abs_rel]\n")
    tree = load_config(over)
    assert tree["models"]["a"]["init_args"] == {"size": "mini", "initialize": "encoder"}
    assert tree["models"]["b"]["init_args"] == {"licence": "mit"}
    assert tree["color"] == "depthkd.methods.perturbation.ColorPerturbation"
    assert tree["metrics"] == ["abs_rel"] and "figures" not in tree

    words = ["--models.a.init_args.licence", "mit", "--models.b.init_args.licence=foo"]
    words += ["--models.c.class_path", "m.Mine", "--models.c.init_args.licence", "foo"]
    words += ["--models.d", "m.Mine", "--models.d.licence", "foo"]
    words += ["--claims", "[{row: a, figure: abs_rel}]"]
    words += ["--models.e={class_path: depthkd.models.DepthAnything, init_args: {initialise: all}}"]
    words += ["--p.class_path", "depthkd.methods.perturbation.ColourPerturbation", "runs/a"]
    found = compose(["--config", str(over), *words]).arguments[2:]
    assert found[0] == "--models.a.init_args.license" and found[2:12] == words[2:12]
    assert yaml.safe_load(found[12]) == [{"row": "a", "metric": "abs_rel"}]
    assert yaml.safe_load(found[13].partition("=")[2])["init_args"] == {"initialize": "all"}
    assert found[14:] == ["--p.class_path", "depthkd.methods.perturbation.ColorPerturbation", "runs/a"]


def test_bases_and_several_configs_merge_in_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "low.yaml").write_text("a: {x: 1, y: 1, z: 1}")
    (tmp_path / "sub/middle.yaml").write_text("base: ../low.yaml\na: {y: 2, z: 2}\nneeds: {p: make p}")
    (tmp_path / "top.yaml").write_text("a: {z: 3}")
    words = ["--config", str(tmp_path / "sub/middle.yaml"), "--x", "1", f"--config={tmp_path / 'top.yaml'}"]
    command = compose(words)
    assert command.arguments[0] == "--config"
    assert yaml.safe_load(command.arguments[1]) == {"a": {"x": 1, "y": 2, "z": 3}}
    assert command.arguments[2:] == ["--x", "1"]
    assert command.name == "top"
    assert command.needs == {"p": "make p"}
    (tmp_path / "less.yaml").write_text("base: sub/middle.yaml\nneeds: null")
    (tmp_path / "alone.yaml").write_text("needs: null")
    assert [compose(["--config", str(tmp_path / f"{n}.yaml")]).needs for n in ("less", "alone")] == [{}, {}]
    assert run_name(Path("/some/configs/tiny/cross_context.yaml")) == "tiny/cross_context"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("base: nowhere.yaml", "nowhere.yaml, which .*a.yaml names as its base, does not exist"),
        ("base: a.yaml", "a.yaml builds on itself"),
        ("- a list", "holds list, but it should hold keys"),
        ("a: [1, 2", "is not valid YAML at line 1"),
        ("needs: [x]", "'needs' maps each path to the command"),
    ],
)
def test_a_broken_config_gets_a_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        compose(["--config", str(tmp_path / "a.yaml")])
