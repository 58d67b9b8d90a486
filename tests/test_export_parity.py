"""What `depthkd export` compares: metrics before and after, half precision, programs, ways of resizing."""

import copy
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.capi.onnxruntime_inference_collection import InferenceSession
from PIL import Image
from transformers import pipeline

from depthkd import load_model, models
from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.cost.counting import parameter_count
from depthkd.errors import MissingFileError, UserError
from depthkd.evaluation.evaluate import evaluate
from depthkd.models import TorchProgram
from depthkd.runs.folder import Run
from depthkd.runs.student import load_student
from depthkd.verbs import export as verb
from depthkd.verbs.export import half_precision, metrics
from depthkd.verbs.export.forms import HUB, parse_size
from depthkd.verbs.export.metrics import ORIGINAL, Scored, Scorer, form_scores, scored
from depthkd.verbs.export.parity import FLOAT32, HALF
from depthkd.verbs.export.tested import results_section
from tests.conftest import CommandLine
from tests.models.programs import Convolution
from tests.test_export import picture, run, small_pictures, student_of

__all__ = ["run", "small_pictures"]  # fixtures


def table_of(folder: str) -> dict[str, dict[str, float]]:
    return {
        row["form"]: row for row in json.loads(Path(folder, "depthkd_export.json").read_text())["metrics"]
    }


def test_metrics_before_and_after_stand_in_card_and_mark(run: Path, command_line: CommandLine) -> None:
    status, printed, errors = command_line("export", run, "--out", "both", "--format", "all")
    assert (status, errors) == (0, "")
    found = table_of("both")
    ways = [f"transformers, preprocessing: {way}" for way in ("transformers", "authors")]
    assert list(found) == ["original", "transformers", *ways, "onnx"]
    original = found.pop("original")
    for name in ("transformers", "onnx"):
        assert found[name]["abs_rel"] == pytest.approx(original["abs_rel"], abs=1e-5)
        assert found[name]["within"] == [1.0, 1.0] and found[name]["change"] < 1e-4
    assert all(found[way]["change"] > 1e-4 for way in ways), "another way of resizing gives other depth"
    card = Path("both/README.md").read_text()
    row = f"| original | {original['abs_rel']:.4f} | {original['delta1']:.4f} |"
    assert row in card and row in printed and all(f"| {way} |" in card for way in ways)


def test_the_metrics_are_those_of_depthkd_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AbsRel and delta1 of one picture are what the evaluation says of the motorcycle."""
    monkeypatch.setattr(metrics, "test_pictures", lambda: TEST_PICTURES[:1])
    model = student_of(1)
    model.trained_at = (64, 64)
    ours = Scorer(model).original()
    shown = {"pictures": 0, "photographs": False, "device": "cpu", "resolution": "own"}
    theirs = evaluate({"it": model}, {"m": models_motorcycle()}, out=tmp_path / "test", **shown)
    row = theirs["benchmarks"]["m"]["metrics"]["it"]
    assert ours.abs_rel == pytest.approx(row["abs_rel"], rel=1e-6)
    assert ours.delta1 == pytest.approx(row["delta1"], rel=1e-6)


TEST_PICTURES = metrics.test_pictures()


def models_motorcycle() -> object:
    from depthkd.benchmarks import Motorcycle

    return Motorcycle()


def test_what_is_off_in_metrics_is_off() -> None:
    maps = [torch.rand(1, *sample.image.shape[:2]) for sample, _ in TEST_PICTURES]
    before = Scored(ORIGINAL, *metrics.means(maps, AFFINE_DISPARITY))
    assert scored("same", maps, maps, before, AFFINE_DISPARITY, FLOAT32).agrees
    noisy = [one + 0.2 * torch.rand_like(one) for one in maps]
    off = scored("off", noisy, maps, before, AFFINE_DISPARITY, FLOAT32)
    assert (
        not off.agrees
        and off.within[0] < 0.5
        and scored("told", noisy, maps, before, AFFINE_DISPARITY, None).agrees
    )
    for wrong in (torch.nan, torch.inf):
        holed = [torch.where(one > 0.99, wrong, one) for one in maps]
        found = scored("holed", holed, maps, before, AFFINE_DISPARITY, HALF)
        assert not found.agrees and "not finite" in str(found.fault)
    black = scored("black", [torch.zeros_like(one) for one in maps], maps, before, AFFINE_DISPARITY, HALF)
    assert not black.agrees and black.fault == "answers with 0 everywhere"


def loud_head() -> models.DepthAnything:
    """A network whose head's values go past float16's largest, and whose depth does not."""
    model = student_of(1)
    with torch.no_grad():
        for tensor in (model.network.head.conv1.weight, model.network.head.conv1.bias):
            tensor.mul_(1e6)
        model.network.head.conv3.weight.mul_(1e-6)
    model.trained_at = (64, 64)
    return model


def test_a_form_that_is_read_in_another_space_is_off(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = student_of(0)
    model.trained_at = (64, 64)
    model.save_pretrained(tmp_path)
    scorer = Scorer(model)
    assert all(one.agrees for one in form_scores(scorer, HUB, tmp_path, parse_size("dynamic", "hf"), []))
    model.space = METRIC_DEPTH
    *_, found = form_scores(Scorer(model), HUB, tmp_path, parse_size("dynamic", "hf"), [])
    assert not found.agrees and str(found.fault).startswith("is read as affine disparity, and the original")


def test_half_precision_keeps_the_head_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verb.export(loud_head(), tmp_path / "half", "onnx", precision="fp16").agrees
    graph = onnx.load(str(tmp_path / "half/model.onnx"))
    kinds = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    head = {kind for name, kind in kinds.items() if ".head." in name}
    encoder = {kind for name, kind in kinds.items() if ".encoder." in name}
    assert head == {onnx.TensorProto.FLOAT} and encoder == {onnx.TensorProto.FLOAT16}
    session = InferenceSession(str(tmp_path / "half/model.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == session.get_outputs()[0].type == "tensor(float)"
    image = picture(64, 96, 5)
    (depth,) = session.run(["depth"], {"image": image.numpy()})
    with torch.no_grad():
        wanted = loud_head()(image).depth.numpy()
    assert (np.abs(depth - wanted) <= 0.05 * np.ptp(wanted)).mean() >= 0.99
    stated = json.loads(session.get_modelmeta().custom_metadata_map["depthkd"])
    assert stated["precision"] == "fp16" and load_model(str(tmp_path / "half")).trained_at == (64, 64)

    monkeypatch.setattr(half_precision, "KEPT", set())  # as converters do that know nothing of depth
    found = verb.export(loud_head(), tmp_path / "black", "onnx", precision="fp16")
    assert not found.agrees and not (tmp_path / "black").exists()


def test_half_precision_without_onnx_is_a_sentence(
    run: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    status, _, errors = command_line("export", run, "--out", "h", "--format", "onnx", "--precision", "fp16")
    assert status == 2 and "pip install 'depthkd[onnx]'" in errors and not Path("h").exists()


def test_a_program_runs_where_it_is_trusted(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Convolution().eval()
    assert verb.export(ours, tmp_path / "p", "torch").agrees
    Image.fromarray((picture(60, 90)[0] * 255).byte().permute(1, 2, 0).numpy()).save("x.png")
    monkeypatch.delenv("DEPTHKD_TRUST_PROGRAMS", raising=False)
    status, _, errors = command_line("predict", "x.png", "--model", "p")
    assert status == 2 and "runs code that its maker chose" in errors and "DEPTHKD_TRUST_PROGRAMS=1" in errors
    program, image = load_model("p", trusted=True), picture(41, 56, 5)
    assert (program.fixed_size, program.license, program.space) == (None, "mit", ours.space)
    for loaded in (program, copy.deepcopy(program), pickle.loads(pickle.dumps(program))):
        torch.testing.assert_close(loaded.predict(image), ours.predict(image), rtol=0, atol=1e-5)
    assert parameter_count(program) == parameter_count(ours) == 28
    assert program.identity() == load_model("p/model.pt2", trusted=True).identity()
    monkeypatch.setenv("DEPTHKD_TRUST_PROGRAMS", "1")
    assert command_line("predict", "x.png", "--model", "p", "--out", "depth")[0] == 0
    assert np.load("depth/x.npy").shape == (60, 90)


@pytest.mark.long
def test_a_program_of_one_size_runs_any_batch(run: Path, command_line: CommandLine) -> None:
    status, printed, errors = command_line(
        "export", run, "--out", "p", "--format", "torch", "--size", "40x56"
    )
    assert (status, errors) == (0, "") and "| torch | 3 | 40 x 56 |" in printed
    assert "| original, 40 x 56 |" in printed
    program, ours, image = load_model("p", trusted=True), load_student(run), picture(40, 56, 5)
    torch.testing.assert_close(program.predict(image), ours.predict(image, "native"), rtol=0, atol=1e-5)
    assert program.fixed_size == (40, 56)


def test_what_is_no_program_is_told(tmp_path: Path) -> None:
    file = tmp_path / "model.pt2"
    with pytest.raises(MissingFileError, match="there is no file"):
        TorchProgram(str(file), trusted=True)
    file.write_bytes(b"half")
    with pytest.raises(UserError, match="is no program that depthkd export"):
        load_model(str(file))
    for facts, sentence in (("[]", "would be a mapping"), ('{"space": "metric depth"}', "does not say")):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("model/extra/depthkd.json", facts)
        with pytest.raises(UserError, match=sentence):
            TorchProgram(str(file), trusted=True)
    locked = bytearray(file.read_bytes())
    locked[6] |= 1  # the flag of an encrypted member, here and in the directory
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(locked)
    with pytest.raises(UserError, match="is no program that depthkd export"):
        TorchProgram(str(file), trusted=True)
    with pytest.raises(UserError, match=r"give one size \(--size HEIGHTxWIDTH\)"):
        verb.export(models.Embedded(), tmp_path / "out", "torch")


def test_the_preprocessing_is_recorded_and_is_the_pipelines(
    run: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    words = ("export", run, "--out", "t", "--preprocessing", "transformers")
    status, printed, errors = command_line(*words)
    assert (status, errors) == (0, "") and "| transformers, preprocessing: transformers |" in printed
    assert json.loads(Path("t/config.json").read_text())["depth_preprocessing"] == "transformers"
    ours, pipe = load_model("t"), pipeline("depth-estimation", "t", device="cpu")
    assert ours.preprocessing == "transformers" and ours.trained_at == (48, 48)
    for height, width in ((30, 40), (64, 48), (20, 120), (90, 30)):
        photograph = (picture(height, width) * 255).round().byte()
        answer = pipe(Image.fromarray(photograph[0].permute(1, 2, 0).numpy()))["predicted_depth"]
        depth = ours.predict(photograph / 255)[0]
        assert float((answer - depth).abs().max()) < 1e-4 * float(depth.max() - depth.min())
    with pytest.raises(UserError, match="TimmDepth resizes in one way"):
        verb.export(models.TimmDepth("resnet10t", fusion=16), tmp_path / "no", preprocessing="authors")


@pytest.mark.long
def test_a_program_takes_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("depthkd.verbs.export.parity.SIDE", 128)  # its guards want three multiples at least
    assert verb.export(student_of(1), tmp_path / "out", "torch").agrees


def test_metric_bins_have_a_folder_of_depthkd(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.MetricBinsDepth("tiny", image_size=(48, 64), bins=8, embedding=16, license="mit").eval()
    assert verb.export(model, tmp_path / "bins").agrees
    loaded, image = load_model(str(tmp_path / "bins")), picture(70, 100)
    assert isinstance(loaded, models.MetricBinsDepth) and loaded.image_size == (48, 64)
    assert torch.equal(loaded.predict(image), model.predict(image))
    assert "library_name: depthkd" in (tmp_path / "bins/README.md").read_text()


def test_the_card_has_the_latest_results_of_these_weights(
    run: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    place = tmp_path / "runs/student"
    shutil.copytree(run, place)
    small = ("--format", "onnx", "--size", "16")
    assert command_line("export", place, "--out", "none", *small)[0] == 0
    assert "no results.json in" in Path("none/README.md").read_text()
    student = load_student(place)
    about = {"row": {"weights": student.identity()}, "other": {"weights": "0"}}
    row = {"abs_rel": 0.125, "delta1": 0.75, "images": 3.0}
    metrics_of = {"row": row, "vertical ramp": {"abs_rel": 0.5, "images": 3.0}}
    protocol = {"protocol": "marigold: fitted", "protocol_fields": {"name": "marigold"}}
    film = {"benchmark": "film", "data": "1", "samples": 3, "metrics": metrics_of, **protocol}
    test = {"models": about, "benchmarks": {"film": film}, "versions": {"depthkd": "1"}}
    for name, content in {
        "test": json.dumps(test | {"claims": {}}),
        "later": json.dumps(test),
        "broken": "{",
        "edited": json.dumps(test | {"benchmarks": []}),
    }.items():
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "results.json").write_text(content)
    status, printed, _ = command_line("export", place, "--out", "some", *small)
    assert status == 0 and printed.count("left out of the card: ") == 3
    assert "runs/later/results.json, as that test did not come to its end" in printed
    card = Path("some/README.md").read_text()
    assert (
        "| film | marigold: fitted | 3 | 0.1250 | - | 0.7500 | 0.5000 |" in card
        and "`test/results.json`" in card
    )
    (tmp_path / "runs/test").rename(tmp_path / "scratch")
    (tmp_path / "runs/test").symlink_to(tmp_path / "scratch")  # results on another disk
    assert "From `test/results.json`:" in results_section(Run(place), student.identity())
    assert command_line("export", place, "--out", "raw", "--weights", "raw", *small)[0] == 0
    assert "None is known" in Path("raw/README.md").read_text()


FRESH = """
import sys
import numpy as np
from PIL import Image
from transformers import pipeline
pipe = pipeline("depth-estimation", sys.argv[1], device="cpu")
for name in sys.argv[2:]:
    np.save(name + ".pipe.npy", pipe(Image.open(name))["predicted_depth"].numpy())
print("depthkd" in sys.modules)
"""
TEN = (
    (20, 30),
    (40, 40),
    (48, 48),
    (48, 160),
    (56, 72),
    (90, 30),
    (100, 140),
    (160, 48),
    (200, 260),
    (333, 97),
)


@pytest.mark.long
def test_a_fresh_process_gives_the_depth_of_predict_at_ten_sizes(
    run: Path, command_line: CommandLine
) -> None:
    """In transformers' pipeline; and in onnxruntime, alone and five at a time."""
    assert (
        command_line("export", run, "--out", "t", "--preprocessing", "transformers", "--format", "all")[0]
        == 0
    )
    names = [f"{height}x{width}.png" for height, width in TEN]
    for (height, width), name in zip(TEN, names, strict=True):
        photograph = (picture(height, width)[0] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(photograph).save(name)
    fresh = subprocess.run(
        [sys.executable, "-c", FRESH, "t", *names], capture_output=True, text=True, check=True, timeout=250
    )
    assert fresh.stdout.strip().endswith("False")
    assert command_line("predict", *names, "--model", "t", "--out", "ours")[0] == 0
    for name in names:
        ours, theirs = np.load(f"ours/{Path(name).stem}.npy"), np.load(f"{name}.pipe.npy")
        assert np.abs(ours - theirs).max() <= 1e-4 * np.ptp(ours), name
    session = InferenceSession("t/model.onnx", providers=["CPUExecutionProvider"])
    student = load_student(run)
    for count in (1, 5):
        for height, width in ((24, 32), (48, 48), (40, 160), (160, 40)):
            image = picture(height, width, count)
            (depth,) = session.run(["depth"], {"image": image.numpy()})
            torch.testing.assert_close(
                torch.from_numpy(depth), student.predict(image, "native"), rtol=0, atol=1e-5
            )
