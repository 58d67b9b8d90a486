"""`depthkd export`: every form, loaded as its users load it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from onnxruntime.capi.onnxruntime_inference_collection import InferenceSession
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForDepthEstimation,
    Dinov2Backbone,
    Dinov2Config,
    Dinov2Model,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    pipeline,
)

from depthkd import models
from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.errors import UserError
from depthkd.models.dpt.dpt import IMAGENET_STD
from depthkd.models.model import DepthModel
from depthkd.runs.named_models import named_model
from depthkd.runs.student import load_student
from depthkd.verbs import export as verb
from depthkd.verbs.export import onnx_graph
from depthkd.verbs.export.licenses import Terms, chosen, inherited, permits, terms
from depthkd.verbs.export.onnx_graph import write_graph
from depthkd.verbs.export.parity import compare, rows, sizes_for
from tests.conftest import CommandLine
from tests.models.families import FAMILIES
from tests.models.test_metric import zoedepth

TEACHERS = {
    "teacher": {"source": "owner/large", "license": "cc-by-nc-4.0", "training_sets": ["Hypersim"]},
    "other": {"source": "owner/small", "license": "apache-2.0", "training_sets": None},
}


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("depthkd.verbs.export.parity.SIDE", 64)


def student_of(seed: int) -> DepthModel:
    torch.manual_seed(seed)
    return models.DepthAnything(size="tiny").eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose moving average is not its last step's weights."""
    folder = tmp_path_factory.mktemp("runs") / "student"
    (folder / "checkpoints").mkdir(parents=True)
    described = {"class_path": "depthkd.models.DepthAnything", "init_args": {"size": "tiny"}}
    settings: dict[str, Any] = {"model": {"init_args": {"student": described}}}
    settings["data"] = {"train": {"sa1b": {}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    state = {f"student.{k}": v for k, v in student_of(1).state_dict().items()}
    state |= {f"student_average.{k}": v for k, v in student_of(2).state_dict().items()}
    facts = {
        "averaged": True,
        "teachers": TEACHERS,
        "steps": 7,
        "trained_at": [48, 48],
        "student": "DepthAnything tiny V2",
        "method": "depthkd.methods.distill_any_depth.CrossContextDistill",
    }
    content = {"depthkd": facts, "global_step": 7, "state_dict": state}
    torch.save(content, folder / "checkpoints/last.ckpt")
    return folder


def picture(height: int, width: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_all_forms_of_a_run_predict_what_it_does(
    run: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    status, printed, errors = command_line("export", run, "--out", "student", "--format", "all")
    assert (status, errors) == (0, "") and "| transformers | 3 | 48 x 72 |" in printed
    assert sorted(p.name for p in tmp_path.iterdir()) == ["student"]
    expected = load_student(run)
    image = picture(50, 90)
    for name in ("student", "student/model.onnx"):
        loaded = named_model(name).load()
        assert (loaded.space, loaded.license, loaded.multiple) == (expected.space, "cc-by-nc-4.0", 8)
        assert loaded.default_resolution == expected.default_resolution
        torch.testing.assert_close(loaded.predict(image), expected.predict(image), rtol=0, atol=1e-5)
    weights = AutoModelForDepthEstimation.from_pretrained("student").state_dict()
    ours = student_of(2).network.state_dict()
    assert weights.keys() == ours.keys() and all(torch.equal(weights[k], ours[k]) for k in ours)

    square = (picture(48, 48) * 255).round().byte()
    answer = pipeline("depth-estimation", "student")(Image.fromarray(square[0].permute(1, 2, 0).numpy()))
    wanted = expected.predict(square / 255)[0]
    torch.testing.assert_close(answer["predicted_depth"], wanted, rtol=0, atol=1e-5)
    card = Path("student/README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-nc-4.0\nlibrary_name: transformers\n")
    for fact in ("CrossContextDistill", "affine disparity", "sa1b", "owner/large (cc-by-nc-4.0)", "Hypersim"):
        assert fact in card
    assert "Began from: random weights" in card and "the moving average" in card


def test_the_weights_of_the_last_step_are_a_choice(run: Path, command_line: CommandLine) -> None:
    status, _, errors = command_line("export", run, "--out", "raw", "--weights", "raw", "--size", "56")
    assert (status, errors) == (0, "")
    ours = student_of(1).network.state_dict()
    found = AutoModelForDepthEstimation.from_pretrained("raw").state_dict()
    assert ours.keys() == found.keys() and all(torch.equal(found[name], ours[name]) for name in ours)
    assert named_model("raw").load().trained_at == (56, 56)
    assert json.loads(Path("raw/preprocessor_config.json").read_text())["size"] == {"height": 56, "width": 56}
    assert "the weights of the last step" in Path("raw/README.md").read_text()


def test_a_graph_runs_at_any_size_and_batch_in_onnxruntime_alone(
    run: Path, command_line: CommandLine
) -> None:
    assert command_line("export", run, "--out", "graph", "--format", "onnx")[0] == 0
    session = InferenceSession("graph/model.onnx", providers=["CPUExecutionProvider"])
    expected = load_student(run)
    for count, height, width in ((1, 8, 8), (3, 24, 200), (2, 160, 40), (1, 96, 96)):
        image = picture(height, width, count)
        (depth,) = session.run(["depth"], {"image": image.numpy()})
        with torch.no_grad():
            wanted = expected(image).depth
        torch.testing.assert_close(torch.from_numpy(depth), wanted, rtol=0, atol=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["depthkd"])["trained_at"] == [48, 48]
    np.testing.assert_array_equal(named_model("graph").load().predict(image).shape, (1, 96, 96))


def test_a_graph_of_one_size_takes_any_batch(run: Path, command_line: CommandLine) -> None:
    status, printed, _ = command_line("export", run, "--out", "one", "--format", "onnx", "--size", "40x56")
    assert status == 0 and "| onnx | 3 | 40 x 56 |" in printed
    graph = models.OnnxDepth("one/model.onnx")
    assert graph.fixed_size == (40, 56) and graph.batch_size is None
    status, _, errors = command_line("export", run, "--out", "two", "--format", "onnx", "--size", "50")
    assert status == 2 and "multiples of 8: 48x48 does" in errors


def test_a_frozen_size_is_found_and_nothing_is_kept(
    run: Path, command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tracing makes of transformers' head if nobody minds its int()."""
    monkeypatch.setattr(onnx_graph, "modeling_depth_anything", SimpleNamespace())
    status, printed, _ = command_line("export", run, "--out", "graph", "--format", "onnx")
    assert status == 1 and "has shape" in printed
    assert "a graph of one size may (--size HEIGHTxWIDTH): nothing is kept" in printed
    assert not list(tmp_path.iterdir())


def test_a_network_that_says_nothing_is_not_exported(
    run: Path, command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    black = student_of(1)
    torch.nn.init.zeros_(black.network.head.conv3.weight)
    monkeypatch.setattr(verb, "load_student", lambda *_, **__: black)
    status, _, errors = command_line("export", run, "--out", "black")
    assert (
        status == 2 and "the network itself answers a picture of 96 x 96 pixels with 1 everywhere" in errors
    )
    assert not list(tmp_path.iterdir())


def test_an_interrupted_export_leaves_nothing(
    run: Path, command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verb, "_mark", stop)
    words = ("export", run, "--out", "half", "--format", "onnx", "--size", "16")
    assert command_line(*words)[0] == 130
    assert not list(tmp_path.iterdir())


def test_only_an_export_is_replaced_and_only_when_asked(run: Path, command_line: CommandLine) -> None:
    words = ("export", run, "--out", "out", "--format", "onnx", "--size", "16")
    Path(".out.writing").mkdir()  # left by one that was killed
    Path(".out.writing/model.onnx").write_bytes(b"half")
    assert command_line(*words)[0] == 0 and not Path(".out.writing").exists()
    assert "give --overwrite" in command_line(*words)[2]
    before = Path("out/model.onnx").stat().st_mtime_ns
    assert command_line(*words, "--overwrite")[0] == 0
    assert Path("out/model.onnx").stat().st_mtime_ns != before
    marked = Path("out/depthkd_export.json").read_text()
    Path("out/depthkd_export.json").write_text('{"files": null}')
    assert "holds 'README.md' besides" in command_line(*words, "--overwrite")[2]
    Path("out/depthkd_export.json").write_text(marked)
    Path("out/notes.txt").write_text("mine")
    assert "holds 'notes.txt' besides" in command_line(*words, "--overwrite")[2]
    assert "no export of depthkd" in command_line("export", run, "--out", run, "--overwrite")[2]
    assert Path("out/notes.txt").read_text() == "mine" and (run / "config.yaml").is_file()


def test_a_license_binds_unless_its_holder_says_so(run: Path, command_line: CommandLine) -> None:
    words = ("export", run, "--out", "free", "--license", "mit")
    status, _, errors = command_line(*words)
    assert status == 2 and "'mit' permits more than 'cc-by-nc-4.0'" in errors and not Path("free").exists()
    assert command_line(*words, "--i_hold_the_rights")[0] == 0
    card = Path("free/README.md").read_text()
    assert (
        "license: mit" in card and "states to hold the rights" in card and "cc-by-nc-4.0 would follow" in card
    )
    assert named_model("free").load().license == "mit"


def test_an_encoder_is_transformers_own(run: Path, command_line: CommandLine) -> None:
    assert command_line("export", run, "--out", "encoder", "--part", "encoder")[0] == 0
    encoder, report = Dinov2Model.from_pretrained("encoder", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    ours, theirs = student_of(2).network.backbone.state_dict(), encoder.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    processor = AutoImageProcessor.from_pretrained("encoder")
    assert (processor.size["height"], tuple(processor.image_std)) == (48, IMAGENET_STD)
    config = Mask2FormerConfig(
        backbone_config=Dinov2Config.from_pretrained("encoder"),
        **dict.fromkeys(("feature_size", "mask_feature_size", "hidden_dim"), 32),
        **{"encoder_feedforward_dim": 32, "dim_feedforward": 32, "num_attention_heads": 2},
        **{"encoder_layers": 1, "decoder_layers": 2, "num_queries": 4, "num_labels": 3},
    )
    segmenter = Mask2FormerForUniversalSegmentation(config).eval()
    backbone = Dinov2Backbone.from_pretrained("encoder")
    segmenter.model.pixel_level_module.encoder.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        answer = segmenter(picture(32, 48, 2))
    assert answer.class_queries_logits.shape == (2, 4, 4) and answer.masks_queries_logits.shape[:2] == (2, 4)


@pytest.fixture(scope="module")
def mobile() -> models.TimmDepth:
    torch.manual_seed(0)
    return models.TimmDepth("resnet10t", fusion=16, license="mit").eval()


def test_a_network_of_timm_has_a_folder_of_depthkd(
    mobile: models.TimmDepth, tmp_path: Path, command_line: CommandLine
) -> None:
    assert verb.export(mobile, tmp_path / "mobile", format="all").agrees
    loaded, image = named_model("mobile").load().eval(), picture(70, 100)
    assert isinstance(loaded, models.TimmDepth) and loaded.license == "mit"
    assert torch.equal(loaded.predict(image), mobile.predict(image))
    graph = models.OnnxDepth("mobile/model.onnx")
    torch.testing.assert_close(graph.predict(image), mobile.predict(image), rtol=1e-3, atol=1e-3)
    config = json.loads(Path("mobile/config.json").read_text())
    config["init_args"]["options"] = {"checkpoint_path": "evil.pth"}
    Path("mobile/config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="options that read files"):
        models.TimmDepth.from_folder("mobile")
    config["init_args"] = {"backbone": "resnet10t", "pretrained": True}
    Path("mobile/config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="describes no TimmDepth"):
        models.TimmDepth.from_folder("mobile")


@pytest.mark.parametrize(
    "name", ["resnet10t", "mobilenetv3_small_050", "vit_tiny_patch16_224", "samvit_base_patch16"]
)
def test_timm_loads_the_encoder_of_its_network(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    depth = {"options": {"depth": 4, "num_heads": 1, "embed_dim": 16}} if "vit" in name else {}
    if "sam" in name:
        depth["options"] |= {"img_size": 64, "global_attn_indexes": [1, 3]}
    model = models.TimmDepth(name, fusion=16, **depth).eval()
    assert verb.export(model, tmp_path / "encoder", part="encoder").agrees
    options = depth.get("options", {})
    file = tmp_path / "encoder/model.safetensors"
    loaded = timm.create_model(name, num_classes=0, checkpoint_path=str(file), **options).state_dict()
    ours = model.backbone.state_dict()
    assert len(ours) > 10 and all(torch.equal(loaded[key], tensor) for key, tensor in ours.items())
    left = sorted(set(loaded) - set(ours))
    card = (tmp_path / "encoder/README.md").read_text()
    assert all(key in card for key in left) and f'timm.create_model("{name}"' in card


def test_a_zoedepth_leaves_as_it_came(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = zoedepth(tmp_path / "zoe")
    model = models.ZoeDepth(source=source, license="mit")
    assert verb.export(model, tmp_path / "out").agrees
    image = picture(60, 80)
    assert torch.equal(models.ZoeDepth(source=str(tmp_path / "out")).predict(image), model.predict(image))
    with pytest.raises(UserError, match="a size of its own, which is no part of a graph"):
        verb.export(model, tmp_path / "graph", format="onnx")
    with pytest.raises(UserError, match="takes no image size"):
        verb.export(model, tmp_path / "sized", size="64")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--format", "onnx", "--part", "encoder"], "takes none of --format, --size"),
        (["--size", "40x56"], "size 40x56 is an ONNX graph's"),
        (["--size", "big"], "size would be 'dynamic', a side such as 518"),
        (["--precision", "fp16"], "--precision fp16 is an ONNX graph's"),
        (["--format", "onnx", "--preprocessing", "authors"], "is recorded in a folder (--format hf)"),
        (["--format", "hf", "--preprocessing", "mine"], "one of 'depthkd', 'authors', 'transformers'"),
        (["--license", ""], "license would be an identifier"),
        (["--format", "tflite"], "it would be one of 'hf', 'onnx', 'torch', 'all', not tflite"),
    ],
)
def test_mistakes_are_sentences(
    run: Path, command_line: CommandLine, words: list[str], sentence: str
) -> None:
    status, _, errors = command_line("export", run, "--out", "out", *words)
    assert (status, errors.count("\n")) == (2, 1) and sentence in errors, errors
    assert not Path("out").exists()


def test_what_has_no_form_is_told_what_can_be_done(run: Path, tmp_path: Path) -> None:
    place = tmp_path / "out"
    write_graph(student_of(1), tmp_path / "graph.onnx", (16, 16), {})
    for model, sentence in (
        (models.OnnxDepth(str(tmp_path / "graph.onnx")), "is an ONNX graph already"),
        (models.SharpDepth(size="tiny"), "SharpDepth sharpens a metric model's depth and has none"),
        (models.InterpolatedPoints("nearest"), "InterpolatedPoints cannot be saved as a folder"),
        (models.UnsharpMask(models.DepthAnything("tiny", metric_max_depth=20)), "cannot be saved"),
    ):
        with pytest.raises(UserError, match=sentence):
            verb.export(model, place)
    for model, sentence in (
        (models.FiffDepth(size="tiny"), "no program: take --format hf, a folder of diffusers$"),
        (models.SharpDepth(size="tiny"), "no program: take --format hf, a folder of diffusers$"),
        (models.DepthCompletion(models.Embedded, widths=[8]), "part of a graph: take --format hf$"),
        (models.MetricBinsDepth("tiny"), "part of a graph: take --format hf$"),
        (models.UnsharpMask(models.DepthAnything("tiny", metric_max_depth=20)), "part of a graph$"),
    ):
        with pytest.raises(UserError, match=sentence):
            verb.export(model, place, "onnx")
    with pytest.raises(UserError, match="chooses between those of a run"):
        verb.export(student_of(1), place, weights="raw")
    assert not place.exists()


def test_maps_are_compared_by_ratio_or_by_range() -> None:
    truth = torch.tensor([[[1.0, 2.0, 4.0, 5.0]]])
    off = torch.tensor([[[1.05, 2.0, 4.0, 5.5]]])
    metric, affine = (compare("form", truth, off, space) for space in (METRIC_DEPTH, AFFINE_DISPARITY))
    assert (metric.within, affine.within) == ((0.75, 1.0), (0.75, 1.0))
    assert metric.largest == pytest.approx(0.5 / 4) and not metric.agrees and not affine.agrees
    assert compare("form", truth, truth, METRIC_DEPTH).agrees
    assert compare("form", truth, truth * 1.001, AFFINE_DISPARITY).agrees
    slightly = compare("form", truth, truth + 0.1 / 4, AFFINE_DISPARITY)
    assert slightly.within[0] == 1 and slightly.agrees
    black, holed = torch.zeros_like(truth), torch.where(truth == 2, torch.nan, truth)
    for wrong, why in ((black, "answers with 0 everywhere"), (holed, "answers with 1 numbers that are not")):
        found = compare("form", truth, wrong, METRIC_DEPTH)
        assert not found.agrees and str(found.fault).startswith(why)
    assert "has shape [1, 4, 1]" in str(compare("form", truth, truth.mT, METRIC_DEPTH).fault)


def test_licenses_ask_for_more_or_less() -> None:
    assert [terms(name) for name in ("Apache-2.0", "openrail++", "cc-by-nc-4.0", "apple-amlr", "mine")] == [
        *(Terms.FREE, Terms.CONDITIONAL, Terms.NON_COMMERCIAL, Terms.NON_COMMERCIAL, Terms.NOT_KNOWN)
    ]
    assert inherited({"mit", "cc-by-nc-4.0"}) == "cc-by-nc-4.0"
    assert inherited({"mit", "apache-2.0"}) == "apache-2.0, mit"
    assert inherited({"mit", "unknown"}) == inherited(set()) == "unknown"
    assert permits({"mit"}, "cc-by-nc-4.0") and permits({"mine"}, "mine") and permits(set(), "mit")
    assert not permits({"unknown"}, "mit") and not permits({"mit, cc-by-nc-4.0"}, "apache-2.0")
    with pytest.raises(UserError, match="'mit' permits more than 'unknown'"):
        chosen("mit", {"unknown"}, False)
    assert chosen("mit", {"unknown"}, True) == "mit"


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_a_graph_and_a_folder(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.HuggingFaceDepth(config=FAMILIES[family], license="mit").eval()
    assert verb.export(model, tmp_path / "out", format="all").agrees


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "convnext_atto", "mobilenetv4_conv_small_035", "tf_efficientnet_lite0"]
)
def test_networks_of_timm_are_graphs(name: str, tmp_path: Path) -> None:
    """Among them one whose position embeddings are resampled with antialiasing, and one whose padding depends
    on the size."""
    torch.manual_seed(0)
    model = models.TimmDepth(name, fusion=16).eval()
    write_graph(model, tmp_path / "graph.onnx", None, {"multiple": model.multiple})
    graph = models.OnnxDepth(str(tmp_path / "graph.onnx"))
    found = list(
        rows(
            "onnx", sizes_for(model.multiple), lambda i: model(i).depth, lambda i: graph(i).depth, model.space
        )
    )
    assert all(row.agrees for row in found), found
