"""The size at which models run: what users write, what owners' scripts do, and what tables say."""

import csv
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthkd.benchmarks import (
    DA2K,
    DIODE,
    ETH3D,
    KITTI,
    Hypersim,
    NYUv2,
    Protocol,
    ScanNet,
    ShardBenchmark,
    Sintel,
    VirtualKITTI2,
)
from depthkd.benchmarks.public import AM2k
from depthkd.evaluation.evaluate import evaluate
from depthkd.formats.images import encode_png
from depthkd.models import DepthModel, DepthOutput, Frozen
from depthkd.models.baselines import AlignedDepth, UnsharpMask
from depthkd.resolution import Resolution, size_range
from depthkd.verbs.configs import load_config
from tests.conftest import CommandLine
from tests.evaluation.subjects import Boxes, Seer
from tests.models.test_model import Mean
from tests.models.test_sharpdepth import sharpdepth

CONFIGS = Path(__file__).parent.parent / "configs"
fast = settings(deadline=None, derandomize=True, max_examples=100)
sides = st.integers(1, 7000)


@fast
@given(sides, sides, st.integers(1, 2000), st.sampled_from([1, 2, Fraction(1, 2)]))
def test_the_longer_side_is_marigold_s(height: int, width: int, pixels: int, scale: Any) -> None:
    """`resize_max_res`: int(side * min(N / width, N / height)), exactly; floats can fall a pixel short."""
    factor = min(Fraction(pixels) * scale / width, Fraction(pixels) * scale / height)
    exact = tuple(max(1, int(side * factor)) for side in (height, width))
    found = Resolution.parse(f"longer {pixels}").times(float(scale)).size(height, width)
    assert found == exact
    theirs = [int(side * min(pixels / width, pixels / height)) for side in (height, width)]
    if scale == 1:
        assert all(0 <= ours - max(1, n) <= 1 for ours, n in zip(found, theirs, strict=True))


@fast
@given(sides, sides, st.integers(1, 2000))
def test_a_number_is_the_shorter_side(height: int, width: int, pixels: int) -> None:
    found = Resolution.parse(pixels).size(height, width)
    assert min(found) == pixels
    exact = [Fraction(side * pixels, min(height, width)) for side in (height, width)]
    assert all(
        abs(ours - n) <= Fraction(1, 2) + Fraction(1, 10**6) for ours, n in zip(found, exact, strict=True)
    )
    assert Resolution.parse("native").size(height, width) == (height, width)


@pytest.mark.parametrize(
    ("benchmark", "image", "plain", "of_14"),
    [
        (ETH3D, (4032, 6048), (504, 756), (504, 756)),  # 31_infer_eth3d.sh: --processing_res 756
        (ETH3D, (6048, 4032), (756, 504), (756, 504)),
        (DIODE, (768, 1024), (480, 640), (476, 644)),  # 51_infer_diode.sh: --processing_res 640
        (NYUv2, (480, 640), (480, 640), (476, 644)),  # the others: --processing_res 0
        (KITTI, (352, 1216), (352, 1216), (350, 1218)),
        (VirtualKITTI2, (352, 1216), (352, 1216), (350, 1218)),
        (ScanNet, (968, 1296), (968, 1296), (966, 1302)),
        (Hypersim, (768, 1024), (768, 1024), (770, 1022)),
        (DA2K, (1365, 2048), (518, 777), (518, 784)),  # Depth Anything's input_size
        (AM2k, (1000, 800), (648, 518), (644, 518)),
        (Sintel, (436, 1024), (436, 1024), (434, 1022)),  # its owners have none
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_benchmarks_run_at_their_owners_sizes(
    benchmark: Any, image: tuple[int, int], plain: tuple[int, int], of_14: tuple[int, int]
) -> None:
    asked = benchmark("nowhere").protocol.resolution
    assert Mean(1).runs_at(*image, asked) == plain
    assert Mean(14).runs_at(*image, asked) == of_14


def test_sharpdepth_s_tables_are_measured_at_its_size() -> None:
    """inference.py: --processing_res 1024."""
    for name in ("accuracy", "details"):
        asked = load_config(CONFIGS / f"eval/sharpdepth_{name}.yaml")["resolution"]
        assert sharpdepth(longest=768).runs_at(1080, 1920, asked) == (576, 1024)


def test_a_student_runs_where_it_was_trained_unless_a_benchmark_or_a_user_says_otherwise() -> None:
    model = Mean(8)
    model.trained_at = (64, 96)
    assert model.runs_at(100, 150) == model.runs_at(100, 150, "own") == (64, 96)
    assert model.runs_at(150, 100) == (96, 64)
    assert model.runs_at(100, 400) == (64, 256)
    assert model.runs_at(100, 150, scale=2.0) == (128, 192)
    assert model.runs_at(100, 150, "native") == (
        96,
        152,
    )  # 100 is nearer to 12 than to 13 patches, by evenness
    assert model.runs_at(100, 150, 32) == (32, 48)
    assert model.runs_at(100, 150, DA2K("nowhere").protocol.resolution) == (520, 776)
    assert model.predict(torch.rand(1, 3, 100, 150)).shape == (1, 100, 150)
    assert model.seen[-1] == (64, 96, False)
    assert model(torch.rand(1, 3, 32, 48)).depth.shape == (1, 32, 48)  # as in training


def test_models_with_a_longest_side_keep_it_where_a_benchmark_leaves_that_to_them() -> None:
    model = sharpdepth(longest=64)
    own = DA2K("nowhere").protocol.resolution
    assert model.runs_at(100, 200) == model.runs_at(100, 200, own) == (32, 64)
    assert model.runs_at(100, 200, DA2K("nowhere", resolution=518).protocol.resolution) == (518, 1036)
    assert model.runs_at(100, 200, "longer 1024") == (512, 1024)
    torch.manual_seed(0)
    assert model.infer(torch.rand(1, 3, 30, 60), "longer 40").shape == (1, 20, 40)
    model.trained_at = (16, 16)  # of a longest side, the training size says nothing
    assert model.runs_at(100, 200) == (32, 64)


def test_companions_take_sizes_of_their_own() -> None:
    class Metric(Mean):
        """A metric model that is a student of 24 pixels."""

        trained_at = (24, 30)

    image = torch.rand(1, 3, 40, 60)
    made: list[Metric] = []

    def build() -> Metric:
        made.append(Metric())
        return made[-1]

    for resolution, expected in (
        (None, (24, 36)),
        (20, (20, 30)),
        ("longer 30", (20, 30)),
        ("native", (40, 60)),
    ):
        model = sharpdepth(metric=build, longest=32, metric_resolution=resolution)
        model.predict(image)
        assert made[-1].seen[-1][:2] == expected
        frozen = Frozen(lambda: Metric())
        assert frozen(image, resolution=resolution or "own").depth.shape == (1, 40, 60)
        relative, metric = Mean(), Metric()
        AlignedDepth(relative, metric, metric_resolution=resolution).predict(image, "longer 45")
        assert (relative.seen[-1][:2], metric.seen[-1][:2]) == ((30, 45), expected)
        other = Metric()
        unsharp = UnsharpMask(other, resolution=resolution)
        unsharp.predict(image)
        assert other.seen[-1][:2] == unsharp.runs_at(40, 60) == expected
        assert unsharp.runs_at(40, 60, 10) == (10, 15)  # a request wins
    with pytest.raises(ValueError, match=r"^metric_resolution must be at least 1 pixel, not 0$"):
        sharpdepth(metric_resolution=0)


def test_protocols_keep_the_shortest_form_and_benchmarks_those_of_their_protocol() -> None:
    assert Protocol.named("marigold", resolution="518").resolution == 518
    assert Protocol.named("marigold", resolution=" longer  756 ").resolution == "longer 756"
    given = Protocol.named("marigold", resolution="longer 300")
    assert NYUv2("nowhere", protocol=given).protocol.resolution == "longer 300"
    assert NYUv2("nowhere", protocol=given, resolution=200).protocol.resolution == 200
    assert ShardBenchmark("nowhere", protocol=given).protocol.resolution == "longer 300"
    assert ShardBenchmark("nowhere", resolution="native").protocol.resolution == "native"
    with pytest.raises(ValueError, match=r"'marigold': resolution must be at least 1 pixel, not 0$"):
        NYUv2("nowhere", resolution=0)


@pytest.mark.parametrize("text", ["abc", "longer", "longer 7.5", "-", "or own", "756 longer", "518.5", True])
def test_anything_else_is_a_sentence(text: Any) -> None:
    sentence = r"^resolution would be the shorter side in pixels, such as 518, or 'longer 756' .*, not "
    with pytest.raises(ValueError, match=sentence):
        Mean().predict(torch.rand(1, 3, 8, 8), text)


class Watched(Seer):
    """Notes the sizes at which it runs."""

    sizes: ClassVar[list[tuple[int, ...]]] = []

    def __init__(self, trained_at: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.trained_at = trained_at

    def forward(self, image: Any) -> DepthOutput:
        Watched.sizes.append(tuple(image.shape[-2:]))
        return super().forward(image)


def test_the_table_says_at_which_size_each_row_ran(tmp_path: Path) -> None:
    models: dict[str, str | DepthModel] = {"student": Watched((20, 30)), "other": Watched()}
    Watched.sizes.clear()
    options: dict[str, Any] = {"photographs": False, "pictures": 0, "workers": 0, "out": tmp_path}
    results = evaluate(models, {"boxes": Boxes(3)}, **options)
    found = results["benchmarks"]["boxes"]
    rows = {"best constant per image": "-", "vertical ramp": "-"}
    assert found["run_at"] == {"student": "20 x 28", "other": "40 x 56"} | rows
    assert Watched.sizes == [(20, 28)] * 3 + [(40, 56)] * 3
    assert found["protocol"].split(", boundary")[0].endswith("run at each model's own size")
    table, page = (tmp_path / "table.md").read_text(), (tmp_path / "report.html").read_text()
    assert [x for x in table.splitlines() if x.startswith("| student ") and "| 20 x 28 |" in x]
    assert "|  run at | images |" in table and ">run at</th>" in page and "<td>20 x 28</td><td>3</td>" in page
    with (tmp_path / "per_sample.csv").open() as file:
        sizes = {row["model"]: row["run_at"] for row in csv.DictReader(file)}
    assert sizes["student"] == "20x28" and sizes["vertical ramp"] == ""
    assert (
        evaluate(models, {"boxes": Boxes(3)}, **options)["benchmarks"]["boxes"]["run_at"] == found["run_at"]
    )
    assert len(Watched.sizes) == 6  # all was taken up
    student = models["student"]
    assert isinstance(student, Watched)
    student.trained_at = (10, 12)  # of another checkpoint with the same weights
    assert (
        evaluate(models, {"boxes": Boxes(3)}, **options)["benchmarks"]["boxes"]["run_at"]["student"]
        == "10 x 14"
    )
    for resolution, ran_at in (("native", (40, 56)), ("longer 28", (20, 28)), (10, (10, 14))):
        results = evaluate(models, {"boxes": Boxes(3)}, resolution=resolution, **options)
        assert Watched.sizes[-6:] == [ran_at] * 6
        assert results["benchmarks"]["boxes"]["run_at"]["other"] == f"{ran_at[0]} x {ran_at[1]}"


def test_sizes_are_told_from_the_smallest_to_the_largest() -> None:
    assert size_range([(40, 56)] * 2) == "40 x 56"
    assert size_range([(64, 90), (90, 64), (40, 41), (64, 64)]) == "40 x 41 to 90 x 64"
    assert size_range([None]) == "own" and size_range([]) == ""


@pytest.mark.parametrize(
    ("resolution", "ran_at"),
    [
        ("20", "20 x 30"),
        ("longer 60", "40 x 60"),
        ("native", "24 x 36"),
        ("own", "24 x 36"),
        ("null", "24 x 36"),
    ],
)
def test_the_command_line_takes_every_form(
    resolution: str, ran_at: str, tmp_path: Path, command_line: CommandLine
) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(encode_png(photo))
    model = ["--model.class_path", "tests.models.test_model.Mean", "--points", "false"]
    status, out, err = command_line("predict", "a.png", *model, "--resolution", resolution, "--out", "o")
    assert status == 0, err
    assert f"run at {ran_at} pixels, " in out


def test_mistakes_on_the_command_line_are_one_sentence(tmp_path: Path, command_line: CommandLine) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    words = ["--models.m.class_path", "tests.models.test_model.Mean", "--benchmarks.b"]
    tests = [*words, "depthkd.benchmarks.Motorcycle", "--resolution", "longest"]
    benchmark = [
        *words,
        "depthkd.benchmarks.NYUv2",
        "--benchmarks.b.root",
        "x",
        "--benchmarks.b.resolution",
        "7x",
    ]
    predict = ["a.png", "--model.class_path", "tests.models.test_model.Mean", "--resolution", "longest"]
    for verb, arguments in (("test", tests), ("test", benchmark), ("predict", predict)):
        status, _, err = command_line(verb, *arguments, "--out", "o")
        assert status == 2 and "resolution would be the shorter side in pixels" in err, err
        assert err.count("\n") == 1 and not (tmp_path / "o").exists()
