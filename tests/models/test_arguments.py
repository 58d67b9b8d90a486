"""Arguments that cannot be, of every class: a sentence that names them, before anything is read."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from depthkd import models
from depthkd.errors import UserError
from depthkd.models.arguments import choices, named
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.runs.student import TrainedDepth
from tests.models.families import DEPTH_ANYTHING
from tests.models.smallest import Level, run

CLONE = {"repo": "", "weights": ""}
RESNET, VIT = {"backbone": "resnet10t"}, {"backbone": "vit_tiny_patch16_224"}
METRIC = {"relative": Level(), "metric": Level()}
Mistake = tuple[str, dict[str, Any], str]
NO_WORDS: list[Mistake] = [
    ("HuggingFaceDepth", {"initialize": "head"}, "'head'; it would be one of all, encoder"),
    ("DepthAnything", {"size": "huge"}, "'huge'; it would be one of tiny, mini, small, base, large, giant"),
    ("TimmDepth", {**RESNET, "layers": "first"}, "'first'; it would be one of spread, last"),
    ("Lotus", {"size": "huge"}, "'huge'; it would be one of tiny, mini, fine, large, null"),
    ("FiffDepth", {"vae_dtype": "int8"}, "'int8'; it would be one of float32, float16, bfloat16"),
    ("SharpDepth", {"variant": "papers"}, "'papers'; it would be one of paper, released"),
    ("SharpDepth", {"alignment": "scale"}, "'scale'; it would be one of scale_and_shift, none, null"),
    ("UniDepth", {**CLONE, "version": "v3"}, "'v3'; it would be one of v1, v2, v2old"),
]
NO_NUMBERS: list[Mistake] = [
    ("HuggingFaceDepth", {"multiple": 0}, "must be above 0, not 0"),
    ("HuggingFaceDepth", {"mean": [0.5]}, "would be one number a channel, 3 in all, not [0.5]"),
    ("HuggingFaceDepth", {"std": [0.5, 0.0, 0.5]}, "would be one number a channel, 3 in all, not [0.5, 0.0,"),
    ("DepthAnything", {"patch": -8}, "must be above 0, not -8"),
    ("DepthAnything", {"metric_max_depth": 0}, "must be above 0, not 0"),
    ("TimmDepth", {**RESNET, "fusion": 0}, "must be above 0, not 0"),
    ("SharpDepth", {"reliable": 0.0}, "must be above 0, not 0.0"),
    ("UniDepth", {**CLONE, "focal_length": 0.0}, "must be above 0, not 0.0"),
    ("Metric3D", {**CLONE, "fov": 180.0}, "would be degrees below 180, not 180.0"),
    ("Metric3D", {**CLONE, "size": [616]}, "would be [height, width] in pixels, not [616]"),
    ("OnnxDepth", {"path": "", "size": [8, 0]}, "would be [height, width] in pixels, not [8, 0]"),
    ("OnnxDepth", {"path": "", "input_range": 0.0}, "must be above 0, not 0.0"),
    ("OnnxDepth", {"path": "", "threads": -1}, "must be above 0, not -1"),
]
OTHERS: list[Mistake] = [
    (
        "HuggingFaceDepth",
        {"config": {"model_type": "dpt", "hidden_size": "x"}},
        "build a dpt by the config: ",
    ),
    (
        "HuggingFaceDepth",
        {"config": {"model_type": "dpt", "num_attention_heads": 7}},
        "by the config: The hid",
    ),
    (
        "TimmDepth",
        {**RESNET, "options": {"in_chans": 4, "pretrained": True}},
        "cannot set in_chans, pretrained",
    ),
    ("TimmDepth", {**RESNET, "options": {"checkpoint_path": "~/no.pth"}}, "there is no file of weights '/"),
    ("TimmDepth", {**VIT, "options": {"img_size": -3}}, "timm cannot build 'vit_tiny_patch16_224': "),
    ("UnsharpMask", {"model": Level(), "radius": float("nan")}, "must be above 0, not nan and 1.0"),
    ("AlignedDepth", {**METRIC, "metric_resolution": 0}, "metric_resolution must be at least 1 pixel, not 0"),
]


def refusal(name: str, arguments: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        getattr(models, name)(**arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "arguments", "sentence"), NO_WORDS)
def test_a_word_that_is_none_of_the_type_s_is_named(
    name: str, arguments: dict[str, Any], sentence: str
) -> None:
    assert refusal(name, arguments) == f"{name} has no {list(arguments)[-1]} {sentence}"


@pytest.mark.parametrize(("name", "arguments", "sentence"), NO_NUMBERS)
def test_a_number_that_cannot_be_is_named(name: str, arguments: dict[str, Any], sentence: str) -> None:
    assert refusal(name, arguments).startswith(f"{list(arguments)[-1]} of {name} {sentence}")


@pytest.mark.parametrize(("name", "arguments", "sentence"), OTHERS)
def test_what_the_libraries_would_not_build_is_named(
    name: str, arguments: dict[str, Any], sentence: str
) -> None:
    assert sentence in refusal(name, arguments)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"nope": 3}, "with the settings {'nope': 3}: student > depthkd.models.FiffDepth"),
        ({"vae_dtype": "int8"}, "student > depthkd.models.FiffDepth > vae_dtype"),
        ({"step": 5}, "FiffDepth answers at step 0 or -1, not 5"),
    ],
)
def test_settings_that_the_student_does_not_take_are_named(
    settings: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = run(tmp_path / "run", "FiffDepth", size="tiny")
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        TrainedDepth(path, settings=settings)
    assert "\n" not in str(caught.value)


class OfAUser(DepthModel):
    """With names that mean something else than in depthkd's own models."""

    def __init__(self, mean: float, patch: int = -1, kind: Literal["a", "b"] | None = None) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, image: Tensor) -> DepthOutput:
        return DepthOutput(torch.full_like(image[:, 0], self.mean))

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return self.parameters()


def test_a_model_of_a_user_is_held_to_its_own_words_alone() -> None:
    assert OfAUser(0.0).mean == OfAUser(mean=0.0, patch=-3, kind="b").mean == 0.0
    assert named(OfAUser, (0.5,), {"kind": "a"}) == {"mean": 0.5, "patch": -1, "kind": "a"}
    with pytest.raises(UserError, match=r"^OfAUser has no kind 'c'; it would be one of a, b, null$"):
        OfAUser(0.0, kind="c")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'mean'"):
        OfAUser()  # type: ignore[call-arg]
    assert choices(Literal[1, 2]) == (1, 2)
    assert choices(Literal["a"] | list[int], "b") == ("a",) and choices(Literal["a"] | list[int], [1]) is None
    assert choices(int) is choices(int | None) is choices(Literal["a"] | int) is choices("str") is None
    assert models.HuggingFaceDepth(config=DEPTH_ANYTHING, mean=(0.5, 0.5, 0.5)).mean == (0.5, 0.5, 0.5)
