"""`depthkd replicate`: rows, seeds, verdicts, and that what is done is not done again."""

import json
import re
from pathlib import Path

import pytest
import yaml

from depthkd.report.verdict import verdict
from depthkd.verbs.configs import compose
from depthkd.verbs.replicate import ReplicatedRow, Replication, ReplicationClaim, replicate, report
from tests.conftest import CommandLine

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("worse", "word"),
    [((1.1, 1.2, 1.15), "agrees"), ((0.9, 0.8, 0.85), "disagrees"), ((1.3, 0.8, 1.0), "undecided")],
)
def test_a_verdict_needs_an_interval_on_one_side(worse: tuple[float, ...], word: str) -> None:
    found = verdict(dict.fromkeys(range(3), 1.0), dict(enumerate(worse)))
    assert found.word == word and found.seeds == 3
    assert found.low < found.mean < found.high


def test_an_interval_is_students_t_over_pairs() -> None:
    better, worse = {0: 0.30, 1: 0.35, 2: 0.32, 3: 9.0}, {0: 0.33, 1: 0.36, 2: 0.36}
    found = verdict(better, worse)  # differences .03, .01, .04; t(.975, 2) = 4.3027
    assert found.mean == pytest.approx(0.08 / 3)
    half = 4.3027 * 0.0152753 / 3**0.5
    assert (found.low, found.high) == (
        pytest.approx(0.08 / 3 - half, rel=1e-3),
        pytest.approx(0.08 / 3 + half, rel=1e-3),
    )
    assert verdict({0: 1.0}, {0: 2.0}).word == "undecided"  # one pair decides nothing


def test_the_shipped_replication_builds_on_its_ablations() -> None:
    shipped = Replication.read(ROOT / "replications/distill_any_depth.yaml")
    trees = {name: shipped.tree(row) for name, row in shipped.rows.items() if row.model is None}
    for tree in trees.values():  # nothing of full size is left
        assert "hub" not in json.dumps(tree) and "Depth-Anything-V2-Large" not in json.dumps(tree)
        assert tree["data"]["train"]["sa1b"]["urls"] == "runs/scenes/film_unlabelled"
        assert tree["trainer"]["max_steps"] == 600
    for name in ("T1 local global, none", "T2 local-global"):
        arguments = trees[name]["model"]["init_args"]
        assert {term for term, weight in arguments["weights"].items() if weight} == {"local_global"}
        assert arguments["teacher"]["class_path"] == "depthkd.models.RandomScaleShift"
        assert "feature_encoder" not in arguments
    assert trees["T1 local global, none"]["model"]["init_args"]["local_global_normalization"] == "none"
    assert trees["T2 both"]["model"]["init_args"]["teacher"]["class_path"] == "depthkd.models.Embedded"
    assert (
        trees["T2 baseline"]["data"]["train"]["sa1b"]["transform"]["class_path"] == "depthkd.data.WholeImage"
    )
    for name in ("average", "select"):
        assert trees[f"T4 {name}"]["model"]["init_args"]["strategy"] == name


@pytest.mark.parametrize("path", sorted((ROOT / "replications").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_row_of_a_shipped_replication_composes(path: Path, tmp_path: Path) -> None:
    shipped = Replication.read(path)
    for row in shipped.rows.values():
        (tmp_path / "row.yaml").write_text(yaml.safe_dump(shipped.tree(row)))
        assert compose(["--config", str(tmp_path / "row.yaml")]).needs == {}  # those of the common config


def test_fiffdepths_replication_is_its_figure_7() -> None:
    shipped = Replication.read(ROOT / "replications/fiffdepth.yaml")
    trees = {name: shipped.tree(row)["model"]["init_args"] for name, row in shipped.rows.items()}
    assert trees["image only"]["gamma"] == 1.0 and trees["full"]["gamma"] == 0.5
    assert trees["no keeping"]["weights"]["keep"] == 0.0
    assert "teacher" not in trees["no DINO"] and "teacher" in trees["full"]
    assert trees["DINO at d0"]["real_step"] == 0
    assert {claim.metric for claim in shipped.claims} == set(shipped.metrics)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "{paper: x, common: c, benchmark: b, rows: {a: {}}, claims: [{better: a, worse: a, metric: z}]}",
            "names 'z', which is none of",
        ),
        ("paper: x", "is not a replication: 'rows'"),
        ("{paper: x, common: c, benchmark: b, rows: {a: {speed: 3}}}", "is not a replication: .*speed"),
        (
            "{paper: x, common: c, benchmark: b, rows: {a: {}}, claims: [{better: a, worse: z}]}",
            "names the row 'z'",
        ),
    ],
)
def test_mistakes_get_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        Replication.read(tmp_path / "r.yaml")
    assert ReplicatedRow().seeds == 2


def test_an_ablation_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "common.yaml").write_text("{}")
    (tmp_path / "row.yaml").write_text("model: [")
    rows = f"{{a: {{config: {tmp_path / 'row.yaml'}}}}}"
    (tmp_path / "r.yaml").write_text(
        f"{{paper: x, common: {tmp_path / 'common.yaml'}, benchmark: b, rows: {rows}}}"
    )
    with pytest.raises(ValueError, match=r"row\.yaml is not valid YAML at line"):
        replication = Replication.read(tmp_path / "r.yaml")
        replication.tree(replication.rows["a"])


def test_rows_are_trained_scored_and_not_done_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    common = {
        "base": str(ROOT / "configs/embedded/replication.yaml"),
        "needs": None,
        "data": {
            "batch_size": 4,
            "train": {"sa1b": {"urls": "runs/scenes/film_train"}},
            "validation": {"motorcycle": {"class_path": "depthkd.benchmarks.Motorcycle"}},
        },
        "trainer": {"max_steps": 2, "val_check_interval": 2},
    }
    Path("common.yaml").write_text(yaml.safe_dump(common))
    ablation = "configs/ablations/distill_any_depth/table1_shared_context_global.yaml"
    tiny = {"data": {"train": {"sa1b": {"urls": "runs/scenes/film_train"}}}}
    replication = {
        "paper": "A Paper",
        "common": "common.yaml",
        "benchmark": "film",
        "metrics": ["abs_rel", "delta1@motorcycle"],
        "rows": {
            "hybrid": {"seeds": 2, "paper": ".057"},
            "global": {"config": ablation, "seeds": 2, "tiny": tiny, "paper": ".064"},
            "the same": {"config": ablation, "seeds": 1, "tiny": tiny},
            "teacher": {"model": {"class_path": "depthkd.models.Embedded"}},
        },
        "claims": [
            {"better": "hybrid", "worse": "global"},
            {"better": "hybrid", "worse": "teacher", "metric": "delta1@motorcycle"},
        ],
    }
    Path("small.yaml").write_text(yaml.safe_dump(replication))
    text = replicate("small.yaml", workers=2, table="small.md")
    assert Path("small.md").read_text() == text
    rows = text.split("| claim ")[0].splitlines()
    lines = [line for line in rows if line.startswith(("| hybrid ", "| global ", "| teacher "))]
    assert len(lines) == 3 and ".057" in next(line for line in lines if "hybrid" in line)
    assert "| AbsRel ↓ on film | δ1 ↑ on motorcycle |" in re.sub(" +", " ", text)
    claim = next(line for line in text.splitlines() if line.startswith("| hybrid beats teacher"))
    assert "δ1 ↑ on motorcycle" in claim
    assert text.count("undecided") + text.count("agrees") == 2
    assert next(line for line in rows if line.startswith("| the same ")).count("|") == 6
    metrics = {p.parent.parent.name: p for p in sorted(Path("runs/replicate/small").rglob("metrics.json"))}
    assert set(metrics) == {"hybrid", "global", "teacher"}  # "the same" is "global", and trained once
    metrics["hybrid"].write_text('{"abs_rel": 7.5, "delta1@motorcycle": 0.5}')
    again = replicate("small.yaml", workers=1, table="small.md")
    assert again != text and "7.5" not in text  # what is on disk counts


def test_a_claim_can_be_of_a_multiple() -> None:
    claim = ReplicationClaim("sharp", "blurred", metric="pdbe_completeness", at_most=0.65)
    assert str(claim) == "sharp is at most 0.65 x blurred"
    rows = {"sharp": ReplicatedRow(), "blurred": ReplicatedRow()}
    replication = Replication("P", "c.yaml", "fog", rows, (claim,), ("pdbe_completeness",))
    found = {
        "sharp": {s: {"pdbe_completeness": 5.0 + 0.1 * s} for s in range(3)},
        "blurred": {s: {"pdbe_completeness": 10.0} for s in range(3)},
    }
    table = report(replication, found, "depthkd replicate")
    assert "+1.4000" in table and "agrees" in table  # .65 x 10 less 5.1
    strict = ReplicationClaim("sharp", "blurred", metric="pdbe_completeness", at_most=0.5)
    stricter = Replication("P", "c.yaml", "fog", rows, (strict,), ("pdbe_completeness",))
    assert "undecided" in report(stricter, found, "depthkd replicate")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{paper: x, common: c, benchmark: b, rows: 5}", "'rows' would map names"),
        (
            "{paper: x, common: c, benchmark: b, rows: {a: {seeds: two}}}",
            "the row 'a' has two seeds; it would be 1",
        ),
        (
            "{paper: x, common: c, benchmark: b, rows: {a: {seeds: 0}}}",
            "the row 'a' has 0 seeds; it would be 1",
        ),
        (
            "{paper: x, common: c, benchmark: b, rows: {a: {}}, claims: [{better: a, worse: a, at_most: x}]}",
            "at_most of 'a' is 'x', and no number",
        ),
        (
            "{paper: x, common: c.yaml, benchmark: b, rows: {a: {}}}",
            "'b' is not in data.validation of c.yaml, which",
        ),
    ],
)
def test_what_would_fail_after_hours_is_told_first(
    text: str, sentence: str, tmp_path: Path, command_line: CommandLine
) -> None:
    (tmp_path / "c.yaml").write_text("data: {validation: {film: {}}}")
    (tmp_path / "r.yaml").write_text(text)
    status, _, err = command_line("replicate", "--file", "r.yaml")
    assert status == 2 and sentence in err
    assert "workers must be 1 or more" in command_line("replicate", "--file", "r.yaml", "--workers", "0")[2]
    (tmp_path / "r.yaml").write_bytes(b"\x89HDF\xff")
    assert "is no text; it would be a YAML file" in command_line("replicate", "--file", "r.yaml")[2]
