"""Images and answers resized as the owners of the code do it: equal to their code at any size."""

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import pipeline

from depthkd.evaluation.evaluate import evaluate
from depthkd.formats.images import encode_png
from depthkd.methods import SupervisedDepth
from depthkd.models import DepthAnything, DepthModel, Frozen, HuggingFaceDepth
from depthkd.models.dpt.depth_anything import SHAPES, Shape
from depthkd.models.dpt.preprocessing import authors_positions
from tests.conftest import CommandLine
from tests.evaluation.subjects import Boxes
from tests.models.families import DEPTH_ANYTHING, DPT_BEIT, DPT_HYBRID, DPT_VIT
from tests.models.published import infer_image, positions, publish
from tests.models.test_huggingface import build

SMALL = Shape(16, 6, 2, (1, 3, 5, 6), (8, 12, 16, 16), 8, image_size=56)
SIZES = [  # the grid's own; odd; portrait; a patch and less; larger; wide
    (56, 56), (57, 91), (91, 57), (14, 14), (9, 13), (120, 160), (161, 119), (300, 200), (56, 84), (20, 111),
]  # fmt: skip
CLOSE: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "small", SMALL)


def photograph(height: int, width: int) -> np.ndarray:
    """Blocks of color with sharp borders, where the ways of resizing differ."""
    rng = np.random.default_rng(height * 1000 + width)
    blocks = rng.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((5, 5, 1), np.uint8))[:height, :width]


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255.0


def weighty(model: DepthModel) -> DepthModel:
    """With weights to which every part of the answer matters, the positions above all."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "network.head.conv3.bias":
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def small(**arguments: Any) -> DepthAnything:
    torch.manual_seed(0)
    model = weighty(DepthAnything("small", **arguments))
    assert isinstance(model, DepthAnything)
    return model


@pytest.mark.parametrize(("version", "max_depth"), [(2, None), (1, None), (2, 20)])
def test_the_authors_code_gives_the_same(version: int, max_depth: int | None) -> None:
    model = small(version=version, metric_max_depth=max_depth, preprocessing="authors")
    tensors = publish(model.network)
    layers = [0, 2, 4, 5] if version == 2 else [2, 3, 4, 5]
    for size in SIZES if version == 2 else SIZES[:4]:
        image = photograph(*size)
        theirs = infer_image(image, tensors, layers, 2, version, max_depth, input_size=56)
        ours = model.predict(tensor(image))[0]
        torch.testing.assert_close(ours, theirs, **CLOSE)
        assert theirs.std() > 1e-3
        assert model.infer(tensor(image)).shape[1:] == model.runs_at(*size)


def test_each_cause_of_the_difference_counts() -> None:
    """Without any one of the four, the authors' answers do not come out."""
    model, image = small(preprocessing="authors"), photograph(120, 160)
    tensors, pixels = publish(model.network), tensor(image)
    theirs = infer_image(image, tensors, [0, 2, 4, 5], 2, 2, None, input_size=56)
    ours = small().predict(pixels, 56)[0]
    assert (ours - theirs).abs().max() > 0.05 * theirs.std()
    owner = model._owner
    assert owner is not None
    plain = type(model.network.backbone.embeddings).interpolate_pos_encoding
    for name, change in (
        ("restored", lambda depth, size: DepthModel.resize_to(model, depth, size)),
        (
            "pixels",
            lambda image, *_: model.normalized(nn.functional.interpolate(image, (56, 84), mode="area")),
        ),
    ):
        kept = getattr(owner, name)
        setattr(owner, name, change)
        assert (model.predict(pixels)[0] - theirs).abs().max() > 1e-3 * theirs.std(), name
        setattr(owner, name, kept)
    model.network.backbone.embeddings.interpolate_pos_encoding = partial(
        plain, model.network.backbone.embeddings
    )
    assert (model.predict(pixels)[0] - theirs).abs().max() > 1e-3 * theirs.std()


def test_sizes_are_the_authors() -> None:
    model = DepthAnything("tiny", patch=14, preprocessing="authors")
    model.config.backbone_config.image_size = 518
    owner = model._owner
    owner.side = 518  # type: ignore[union-attr]
    for size, expected in {
        (480, 640): (518, 686),  # the value test of transformers' conversion script
        (640, 480): (686, 518),
        (4032, 6048): (518, 770),  # 777 is as near to 784, but their product is 776.9999
        (436, 1024): (518, 1218),
        (500, 741): (518, 770),
        (520, 520): (518, 518),
    }.items():
        assert model.runs_at(*size) == expected
    assert model.runs_at(480, 640, 300) == (308, 406)  # 294 is nearer, but below
    assert model.runs_at(480, 640, "longer 518") == (392, 518)  # 388.5 of which 392 is the nearest above
    assert model.runs_at(480, 640, "native") == (490, 644)
    assert model.runs_at(480, 640, scale=2.0) == (1036, 1386)
    model.trained_at = (100, 200)
    assert model.runs_at(480, 640) == (112, 140)


def test_positions_are_dinov2_s() -> None:
    embeddings = small().network.backbone.embeddings
    known = embeddings.position_embeddings.detach()
    for rows, columns in ((4, 4), (4, 6), (1, 9), (13, 2), (37, 49)):
        found = authors_positions(embeddings, torch.empty(1, 1 + rows * columns, 16), 14 * rows, 14 * columns)
        expected = positions(known, (14 * rows, 14 * columns), 14)
        torch.testing.assert_close(found.detach(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (DEPTH_ANYTHING, SIZES),
        (DPT_VIT, SIZES[:5]),
        (DPT_BEIT, [SIZES[2], SIZES[5]]),
        (DPT_HYBRID, [SIZES[2], SIZES[5]]),
    ],
    ids=["depth_anything", "dpt_vit", "dpt_beit", "dpt_hybrid"],
)
def test_transformers_pipeline_gives_the_same(
    config: dict[str, Any], sizes: list[tuple[int, int]], tmp_path: Path
) -> None:
    saved = build(config, mean=(0.5, 0.4, 0.5), std=(0.25, 0.5, 0.3))
    weighty(saved)
    assert isinstance(saved, HuggingFaceDepth)
    saved.save_pretrained(tmp_path)
    theirs = pipeline("depth-estimation", model=str(tmp_path), device="cpu")
    model = HuggingFaceDepth(str(tmp_path), preprocessing="transformers").eval()
    for size in sizes:
        image = photograph(*size)
        expected = theirs(Image.fromarray(image))["predicted_depth"]
        depth = model.predict(tensor(image))[0]
        torch.testing.assert_close(depth, expected.reshape(size), **CLOSE)
        assert model.runs_at(*size) == tuple(model._owner.pixels(tensor(image), *model._asked()).shape[2:])  # type: ignore[union-attr]


def test_transformers_rule_scales_the_side_that_needs_the_least_change(tmp_path: Path) -> None:
    model = build(DEPTH_ANYTHING, preprocessing="transformers")
    assert model.runs_at(100, 200) == (56, 112)
    assert model.runs_at(30, 50) == (28, 56)  # the longer side: 56 / 50 is nearer to 1 than 56 / 30
    assert model.runs_at(30, 50, 56) == (56, 98)  # asked for, a number is the shorter side
    assert model.runs_at(30, 50, "longer 28") == (14, 28)
    model.trained_at = (28, 28)
    assert model.runs_at(100, 200) == (28, 56)
    model.trained_at = None
    with pytest.raises(
        ValueError, match=r"^transformers' image processor leaves nothing of .* 4 x 300 pixels"
    ):
        model.predict(tensor(photograph(4, 300)))
    build(DEPTH_ANYTHING).save_pretrained(tmp_path)
    folder = DepthAnything("tiny", preprocessing="transformers")
    assert folder.runs_at(96, 128) == (96, 128)  # its encoder's size


def test_batches_answer_as_single_images_and_teachers_as_models() -> None:
    images = torch.cat([tensor(photograph(40, 70)), tensor(photograph(70, 40)[:40].repeat(2, 1)[:, :70])])
    for owner in ("authors", "transformers"):
        model = small(preprocessing=owner)
        both = model.predict(images)
        single = torch.cat([model.predict(image[None]) for image in images])
        torch.testing.assert_close(both, single, **CLOSE)
        teacher = Frozen(partial(lambda one: one, model))
        output = teacher(images)
        torch.testing.assert_close(output.depth, both, **CLOSE)
        assert output.features is not None
        assert output.features.shape[1] == {"authors": 4 * 7, "transformers": 2 * 4}[owner]
        torch.testing.assert_close(teacher(images, resolution=28).depth, model.predict(images, 28))
        assert not torch.allclose(model.predict(images, flip=True), both, atol=1e-3)


def test_other_choices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^preprocessing 'authors' is that of Depth Anything's .* a 'dpt'"):
        HuggingFaceDepth(config=DPT_VIT, preprocessing="authors")
    with pytest.raises(
        ValueError, match=r"preprocessing is 'authors', but a student learns with 'depthkd': "
    ):
        SupervisedDepth(DepthAnything("tiny", preprocessing="authors"))


def test_verbs_take_it_and_tables_say_it(tmp_path: Path, command_line: CommandLine) -> None:
    models: dict[str, str | DepthModel] = {
        "ours": small(), "theirs": small(preprocessing="authors"), "hub": small(preprocessing="transformers")
    }  # fmt: skip
    options: dict[str, Any] = {"photographs": False, "pictures": 0, "workers": 0, "out": tmp_path / "out"}
    results = evaluate(models, {"boxes": Boxes(2)}, **options)
    found = results["benchmarks"]["boxes"]
    assert found["run_at"]["ours"] == "42 x 56"
    assert found["run_at"]["theirs"] == "56 x 84, authors"
    assert found["run_at"]["hub"] == "42 x 56, transformers"
    assert results["models"]["theirs"]["preprocessing"] == "authors"
    assert len({found["metrics"][name]["abs_rel"] for name in models}) == 3
    assert "|      56 x 84, authors |" in (tmp_path / "out/table.md").read_text()
    image = photograph(30, 40)
    (tmp_path / "a.png").write_bytes(encode_png(image))
    small().save_pretrained(tmp_path / "saved")
    words = ["--model.class_path", "depthkd.models.HuggingFaceDepth", "--model.source", "saved"]
    for owner in ("authors", "transformers"):
        status, _, err = command_line(
            "predict", "a.png", *words, "--model.preprocessing", owner, "--out", owner
        )
        assert status == 0, err
        model = HuggingFaceDepth(str(tmp_path / "saved"), preprocessing=owner).eval()  # type: ignore[arg-type]
        np.testing.assert_allclose(
            np.load(tmp_path / owner / "a.npy"), model.predict(tensor(image))[0], rtol=1e-4
        )


def test_opencv_s_cubic_is_not_torch_s_to_the_last_digit() -> None:
    """Of floats in [0, 1] they differ by 1e-4, because OpenCV's places are float32; so it is asked itself."""
    image = photograph(300, 200) / 255.0
    theirs = cv2.resize(image, (56, 84), interpolation=cv2.INTER_CUBIC)
    torchs = nn.functional.interpolate(
        torch.from_numpy(image.transpose(2, 0, 1)[None]), (84, 56), mode="bicubic"
    )
    assert 0 < np.abs(torchs[0].permute(1, 2, 0).numpy() - theirs).max() < 1e-3
    assert theirs.min() < 0 and theirs.max() > 1  # not clipped
