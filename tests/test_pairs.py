"""`depthkd pairs`: from photographs to a benchmark of DA-2K's layout that `depthkd test` scores, and back."""

import json
import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import SamImageProcessor

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.benchmarks.trivial import TrivialModel
from depthkd.datasets.da2k import DA2K, SCENARIOS
from depthkd.formats.images import encode_png
from depthkd.formats.sample import BadSample
from depthkd.models.model import DepthOutput
from depthkd.report.published import paper_table
from depthkd.shapes import Image
from depthkd.verbs.pairs import expand
from tests.conftest import CommandLine
from tests.models.test_sam import write_tiny_sam

SIZE = 40, 60
asked: list[str] = []  # which model was asked for an image
stop_at: list[int] = []  # the image at which somebody interrupts


class Formula(TrivialModel):
    """A plane that is nearest at the left, at the right or at the top, with a depth of 1 to 21.

    Args:
        nearest: where.
        metric: whether it predicts meters; affine disparity otherwise.
        broken: whether it answers with nothing.
    """

    def __init__(self, nearest: str = "left", metric: bool = False, broken: bool = False) -> None:
        super().__init__()
        self.nearest, self.broken = nearest, broken
        self.space = METRIC_DEPTH if metric else AFFINE_DISPARITY
        self.source = f"nearest at the {nearest}"

    def forward(self, image: Image) -> DepthOutput:
        if len(asked) in stop_at:
            stop_at.clear()
            raise KeyboardInterrupt
        asked.append(self.nearest)
        rows, columns = (torch.linspace(0, 1, side) for side in image.shape[-2:])
        far = {"left": columns[None, :], "right": 1 - columns[None, :], "top": rows[:, None]}[self.nearest]
        depth = (1 + 20 * far).expand(image.shape[-2:])[None].clone()
        return DepthOutput((depth if self.space == METRIC_DEPTH else 5 / depth + 1) * (not self.broken))


def words(name: str, nearest: str, **settings: Any) -> list[str]:
    option = f"--models.{name}"
    rest = [word for key, value in settings.items() for word in (f"{option}.{key}", str(value).lower())]
    return [f"{option}.class_path", "tests.test_pairs.Formula", f"{option}.nearest", nearest, *rest]


LEFT, RIGHT, TOP = words("left", "left"), words("right", "right"), words("top", "top", metric=True)
MODELS = [*LEFT, *RIGHT, *TOP]
GRID = ["--side", "12"]
PHOTOS = ("indoor/a b.png", "indoor/c<script>%#é.png", "underwater/d.png")
Propose = Callable[..., tuple[int, str, str]]


@pytest.fixture
def propose(tmp_path: Path, command_line: CommandLine) -> Propose:
    asked.clear()
    stop_at.clear()
    for number, name in enumerate(PHOTOS):
        image = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(encode_png(image))

    def run(*more: object, out: str = "pairs", models: list[str] = MODELS) -> tuple[int, str, str]:
        return command_line("pairs", "--images", "photos/**", *models, "--out", out, *GRID, *more)

    return run


def annotations(out: str = "pairs") -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads(Path(out, "annotations.json").read_text())
    return found


def page_data(out: str = "pairs") -> dict[str, Any]:
    page = Path(out, "annotate.html").read_text()
    assert page.count("</script>") == 2 and "@DATA@" not in page
    scripts = re.findall(r"<script type=.application/json. id=.data.>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1
    found: dict[str, Any] = json.loads(scripts[0])
    return found


def decisions(who: str, choose: Callable[[int, dict[str, Any]], str | None], out: str = "pairs") -> Path:
    """What the page saves, where an annotator chooses so of each pair, by its number."""
    data, made, number = page_data(out), {}, 0
    for image in data["images"]:
        made[image["path"]] = []
        for pair in image["pairs"]:
            choice = choose(number, pair)
            number += 1
            if choice is not None:
                made[image["path"]].append({**pair, "closer_point": choice})
    path = Path(f"{who}.json")
    path.write_text(json.dumps({"annotator": who, "made_by": data["made_by"], "decisions": made}))
    return path


def nearer(pair: dict[str, Any], side: str = "left") -> str:
    first_is_left = pair["point1"][1] < pair["point2"][1]
    return "point1" if first_is_left == (side == "left") else "point2"


def test_from_photographs_to_a_scored_benchmark(propose: Propose, command_line: CommandLine) -> None:
    status, out, err = propose()
    assert status == 0, err
    assert "3 of 3 images are done; pairs has 6 pairs in 3" in out
    assert "pairs by scenario: indoor 4, underwater 2" in out and "not among" not in out
    found = annotations()
    assert list(found) == [f"images/{name}" for name in sorted(PHOTOS)]
    for image, pairs in found.items():
        assert Path("pairs", image).read_bytes() == Path("photos", image.removeprefix("images/")).read_bytes()
        assert len(pairs) == 2
        for pair in pairs:
            (_, a), (_, b) = pair["point1"], pair["point2"]
            assert pair["closer_point"] is None and pair["ratio"] > 3
            assert pair["votes"]["left"] == nearer(pair) and a != b
            assert set(pair["votes"].values()) == {"point1", "point2"}
            rows = sorted(1 + 20 * row / (SIZE[0] - 1) for row in (pair["point1"][0], pair["point2"][0]))
            assert pair["ratios"]["top"] == pytest.approx(rows[1] / rows[0], abs=2e-3)
    made_by = json.loads(Path("pairs/made_by.json").read_text())
    assert (
        made_by["models"]["top"]["space"] == "metric depth"
        and len(made_by["models"]["left"]["identity"]) == 16
    )
    data = page_data()
    assert "votes" not in json.dumps(data)
    assert [image["scenario"] for image in data["images"]] == ["indoor", "indoor", "underwater"]
    assert all((image["height"], image["width"]) == SIZE for image in data["images"])
    with pytest.raises(BadSample, match=r"a b\.png has a pair that not all annotators have decided"):
        DA2K("pairs").sample(0)

    one = decisions("one", lambda number, pair: nearer(pair))
    two = decisions("two", lambda number, pair: "skip" if number == 1 else nearer(pair))
    three = decisions("three", lambda n, pair: nearer(pair, "right" if n == 4 else "left"))
    status, out, err = command_line("pairs", "--decisions", one, two, three, "--out", "pairs")
    assert status == 0, err
    assert "3 annotators: 4 pairs decided, 1 skipped, 1 in dispute, 0 undecided: pairs/" in out
    assert "for annotators disagree: images/underwater/d.png, [" in out and "three takes point" in out
    for pairs in annotations().values():
        for pair in pairs:
            assert pair["closer_point"] == "point1" == pair["votes"]["left"]
            assert pair["point1"][1] < pair["point2"][1] and pair["votes"]["right"] == "point2"
    status, out, err = command_line(
        "test", *MODELS, "--benchmarks.own", "depthkd.benchmarks.DA2K", "--benchmarks.own.root", "pairs",
        "--out", "t", "--photographs", "false", "--pictures", "0", "--tables",
        '["Depth Anything V2, Table 14"]',
    )  # fmt: skip
    assert status == 0, err
    results = json.loads(Path("t/results.json").read_text())["benchmarks"]["own"]
    assert (results["metrics"]["left"]["pair_accuracy"], results["metrics"]["left"]["pairs"]) == (1, 4)
    assert results["metrics"]["right"]["pair_accuracy"] == 0
    assert results["groups"]["underwater"]["left"]["pairs"] == 1
    assert "## Depth Anything V2, Table 14, and ours" in out and "da2k_underwater" in out


def test_scenarios_are_those_of_table_14() -> None:
    cells = [cell.benchmark for cell in paper_table("Depth Anything V2, Table 14")]
    assert list(dict.fromkeys(cells)) == [*(f"da2k_{scenario}" for scenario in SCENARIOS), "da2k"]


def test_an_interrupted_proposal_goes_on(propose: Propose, tmp_path: Path) -> None:
    assert propose(out="whole")[0] == 0
    asked.clear()
    stop_at.append(4)  # the second image's second model
    status, _, err = propose()
    assert status == 130 and "interrupted" in err
    assert not Path("pairs/annotations.json").exists() and not Path("pairs/annotate.html").exists()
    assert len(list(Path("pairs/proposed").rglob("*.json"))) == 1
    asked.clear()
    assert propose()[0] == 0 and len(asked) == 6  # two images, three models
    for name in ("annotations.json", "annotate.html", "made_by.json"):
        assert Path("pairs", name).read_bytes() == Path("whole", name).read_bytes()
    asked.clear()
    before = Path("pairs/annotations.json").read_bytes()
    assert propose()[0] == 0 and asked == [] and Path("pairs/annotations.json").read_bytes() == before
    Path("photos/indoor/a b.png").write_bytes(Path("photos/underwater/d.png").read_bytes())
    assert propose()[0] == 0 and len(asked) == 3  # another file of the same name
    asked.clear()
    Path("pairs/images/underwater/d.png").unlink()
    assert propose()[0] == 0 and len(asked) == 3 and Path("pairs/images/underwater/d.png").is_file()


def test_pairs_depend_on_the_seed_and_on_no_other_image(propose: Propose, command_line: CommandLine) -> None:
    assert propose()[0] == propose("--seed", 1, out="other")[0] == 0
    assert annotations() != annotations("other")
    assert command_line("pairs", "--images", "photos/underwater", *MODELS, "--out", "alone", *GRID)[0] == 0
    image = "images/underwater/d.png"
    assert annotations("alone") == {image: annotations()[image]}
    status, out, _ = command_line("pairs", "--images", "photos/indoor", *MODELS, "--out", "alone", *GRID)
    assert status == 0 and annotations("alone") == annotations()  # what was done before stays
    assert "2 of 2 images are done; alone has 6 pairs in 3" in out


def test_models_by_one_word_and_other_folders(propose: Propose, command_line: CommandLine) -> None:
    Path("photos/flat.png").write_bytes(encode_png(np.zeros((*SIZE, 3), np.uint8)))
    status, out, err = propose("--reference", "top", models=[*TOP, *words("b", "right")])
    assert status == 0, err
    assert "not among DA-2K's scenarios (indoor, outdoor, " in out and "object): photos" in out
    models = ["--models={}", "--models.embedded=embedded", "--models.teacher=photos/teacher.onnx"]
    Path("photos/teacher.onnx").touch()
    assert expand(["embedded", "photos/teacher.onnx", "--out", "o"]) == [*models, "--out", "o"]
    before = annotations()
    status, _, err = command_line("pairs", "--images", "pairs/**", "photos/**", "--reference", "top", *TOP,
                                  *words("b", "right"), "--out", "pairs", *GRID)  # fmt: skip
    assert status == 0 and annotations() == before, err  # its own copies are no photographs


def test_key_points_of_sam(propose: Propose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_sam(tmp_path / "sam")
    numbers = count()

    def keep(self: Any, masks: Any, scores: Any, *_: Any) -> Any:
        left = 10 * next(numbers)
        return [None], scores.flatten()[:1], torch.tensor([[left, 0, left + 5, 5]])

    more = ("--points", "sam", "--sam", "sam", "--ratio_of", "largest", "--apart", "0.01")
    status, out, err = propose(*more, out="none")
    assert status == 0 and "has 0 pairs in 0" in out and annotations("none") == {}, err
    monkeypatch.setattr(SamImageProcessor, "filter_masks", keep)
    assert propose(*more)[0] == 0
    grid = {(int((r + 0.5) * 40 / 12), int((c + 0.5) * 5)) for r in range(12) for c in range(12)}
    for pair in [pair for pairs in annotations().values() for pair in pairs]:
        for row, column in (pair["point1"], pair["point2"]):
            assert any(abs(row - r) <= 1 and abs(column - c) <= 1 for r, c in grid)
    assert len(annotations()) == 3
    settings = json.loads(Path("pairs/made_by.json").read_text())["settings"]
    assert settings["points"] == "sam" and settings["sam"]["source"] == "sam"


def test_an_image_or_an_answer_that_is_broken_is_left_out(propose: Propose) -> None:
    Path("photos/indoor/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    status, out, err = propose()
    assert status == 1 and "left out: photos/indoor/broken.png is broken" in err + out
    assert "3 of 4 images are done" in out
    status, out, err = propose(out="other", models=[*MODELS, *words("b", "left", broken=True)])
    assert status == 1 and "d.png: the model 'b' answers with 0 everywhere" in err + out
    assert annotations("other") == {} and page_data("other")["images"] == []


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            ["--ratio_of", "best"],
            "ratio_of 'best' would be one of median, largest, smallest, left, right,",
        ),
        (["--reference", "left"], "the reference 'left' predicts affine disparity, whose offset is unknown"),
        (["--ratio", "30"], "span would be above the ratio of 30, not 20"),
        (["--side", "1"], "side would be 2 cells or more, not 1"),
        (["--seed", "-1"], "seed would be 0 or more, not -1"),
        (["--scale", "0"], "the scale of the network's side must be above 0, not 0"),
        (["--resolution", "large"], "resolution"),
        (["--points", "sam", "--sam", "none/here"], "'none/here' is no folder here, and no hub repository"),
        (["--images", "nothing/**"], "nothing/**"),
    ],
)
def test_mistakes_are_sentences(more: list[str], sentence: str, propose: Propose) -> None:
    status, _, err = propose(*more)
    assert status == 2 and sentence in err and err.count("\n") == 1, err
    assert not Path("pairs/annotations.json").exists()


def test_folders_that_must_not_be_written(propose: Propose, command_line: CommandLine) -> None:
    status, _, err = propose(models=LEFT)
    assert status == 2 and "models disagree, which takes two or more; given: left" in err
    Path("own/annotations.json").parent.mkdir()
    Path("own/annotations.json").write_text("{}")
    status, _, err = propose(out="own")
    assert status == 2 and "own/annotations.json is not of `depthkd pairs`: choose another --out" in err
    assert propose()[0] == 0
    status, _, err = propose("--seed", 3)
    assert status == 2 and "with another settings.seed (0, now 3): choose another --out" in err
    status, _, err = propose(models=[*LEFT, *RIGHT])
    assert status == 2 and "pairs that were proposed with another models.top (" in err
    command_line("pairs", "--decisions", decisions("one", lambda n, p: "point1"), "--out", "pairs")
    status, _, err = propose()
    assert status == 2 and "has decisions of annotators, which would be lost" in err
    Path("photos/more/indoor").mkdir(parents=True)
    Path("photos/more/indoor/a b.png").write_bytes(b"")
    status, _, err = propose(out="new")
    assert status == 2 and "would both be images/indoor/a b.png: rename one" in err


def test_what_annotators_leave_undecided_stays_so(propose: Propose, command_line: CommandLine) -> None:
    assert propose()[0] == 0
    half = decisions("half", lambda number, pair: "point2" if number < 3 else None)
    status, out, _ = command_line("pairs", "--decisions", half, "--out", "pairs")
    assert status == 1 and "1 annotator: 3 pairs decided, 0 skipped, 0 in dispute, 3 undecided" in out
    closer = [pair["closer_point"] for pairs in annotations().values() for pair in pairs]
    assert closer == ["point1"] * 3 + [None] * 3
    none = decisions("none", lambda number, pair: None)
    before = Path("pairs/annotations.json").read_bytes()
    status, _, err = command_line("pairs", "--decisions", none, half, "--out", "pairs")
    assert status == 2 and "no pair is decided by all of the files, so pairs/annotations.json stays" in err
    assert Path("pairs/annotations.json").read_bytes() == before


def test_files_that_are_no_decisions(propose: Propose, command_line: CommandLine) -> None:
    assert propose()[0] == propose("--seed", 1, out="other")[0] == 0
    right = decisions("right", lambda number, pair: "point1")
    strange = decisions("strange", lambda number, pair: "point1", "other")
    again, moved, odd = (json.loads(right.read_text()) for _ in range(3))
    moved["annotator"] = "moved"
    moved["decisions"]["images/underwater/d.png"][0]["point1"][0] += 1
    odd["decisions"]["images/underwater/d.png"][0]["closer_point"] = "point3"
    contents = {
        "again": again,
        "moved": moved,
        "odd": odd,
        "list": [1],
        "empty": {},
        "annotator": {"decisions": 3},
    }
    for name, content in contents.items():
        Path(f"{name}.json").write_text(json.dumps(content))
    Path("text.json").write_text("{")
    sentences = {
        "again": "right.json and again.json are both by 'right'",
        "moved": "moved.json decides on other pairs than those that are proposed here: images/underwater/",
        "strange": "strange.json decides on other pairs than those that are proposed here",
        "odd": "odd.json: the decision on images/underwater/d.png, [",
        "list": "list.json is no file of decisions, as the page saves them",
        "empty": "empty.json is no file of decisions",
        "annotator": "annotator.json is no file of decisions",
        "text": "text.json is not JSON; it would be what the page saves",
        "absent": "absent.json cannot be read: No such file",
    }
    before = Path("pairs/annotations.json").read_bytes()
    for name, sentence in sentences.items():
        status, _, err = command_line("pairs", "--decisions", right, f"{name}.json", "--out", "pairs")
        assert status == 2 and sentence in err and err.count("\n") == 1, err
    assert strange.is_file() and Path("pairs/annotations.json").read_bytes() == before
    status, _, err = command_line("pairs", "--decisions", right, "--out", "nowhere")
    assert status == 2 and "nowhere has no annotations.json of `depthkd pairs`" in err
    assert not Path("nowhere").exists()
