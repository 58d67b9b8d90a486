"""Raw predictions: how the network is run, what is kept, and that nothing is asked twice."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from depthkd.evaluation.evaluate import evaluate
from depthkd.evaluation.raw_predictions import RawPredictions, predictions_folder
from depthkd.models.inference import Inference, predict_sample
from depthkd.models.model import DepthOutput
from tests.evaluation.subjects import SIZE, Boxes, Seer

CPU = torch.device("cpu")
SAMPLE = Boxes().sample(0)


def test_scale_and_flip_reach_the_network() -> None:
    sizes: list[tuple[int, ...]] = []

    class Watcher(Seer):
        def forward(self, image: Any) -> DepthOutput:
            sizes.append(tuple(image.shape[-2:]))
            return super().forward(image)

    for how in (Inference(scale=2.0), Inference(resolution=20), Inference(20, 4.0), Inference(flip=True)):
        assert RawPredictions(Watcher(), how, CPU)(0, SAMPLE).shape == (1, *SIZE)
    assert sizes == [(80, 112), (20, 28), (80, 112), SIZE, SIZE]


def test_several_scales_are_averaged_at_the_images_size(tmp_path: Path) -> None:
    each = [RawPredictions(Seer(), Inference(scale=s, flip=True), CPU)(0, SAMPLE) for s in (1.0, 3.0)]
    how = Inference(scale=2.0, flip=True, scales=(0.5, 1.5))
    several = RawPredictions(Seer(), how, CPU, tmp_path, "one")
    torch.testing.assert_close(several(0, SAMPLE), (each[0] + each[1]) / 2)
    torch.testing.assert_close(predict_sample(Seer(), SAMPLE, how, CPU), several(0, SAMPLE))
    assert np.load(tmp_path / "000000x3.npy").shape == (SIZE[0] * 3, SIZE[1] * 3)
    Seer.asked = 0
    again = RawPredictions(Seer(), how, CPU, tmp_path, "one")(0, SAMPLE)
    assert Seer.asked == 0 and torch.equal(again, several(0, SAMPLE))


def test_noise_begins_anew_with_every_image() -> None:
    class Noisy(Seer):
        def forward(self, image: Any) -> DepthOutput:
            return DepthOutput(torch.rand(len(image), *image.shape[-2:]))

    first, again, other = (RawPredictions(Noisy(), Inference(seed=s), CPU) for s in (1, 1, 2))
    assert torch.equal(first(0, SAMPLE), again(5, SAMPLE))
    assert not torch.equal(first(0, SAMPLE), other(0, SAMPLE))


def test_kept_answers_are_at_the_networks_size_and_are_taken_up(tmp_path: Path) -> None:
    answers = RawPredictions(Seer(), Inference(resolution=20), CPU, tmp_path, "one")
    first = answers(3, SAMPLE)
    assert np.load(tmp_path / "000003.npy").shape == (20, 28)
    Seer.asked = 0
    again = RawPredictions(Seer(), Inference(resolution=20), CPU, tmp_path, "one")
    assert torch.equal(again(3, SAMPLE), first) and Seer.asked == 0


@pytest.mark.parametrize(
    "how",
    [
        Inference(),
        Inference(20, flip=True),
        Inference(20, seed=1),
        Inference("longer 20"),
        Inference("native"),
    ],
)
def test_answers_of_another_model_or_run_are_not(tmp_path: Path, how: Inference) -> None:
    RawPredictions(Seer(), Inference(resolution=20), CPU, tmp_path, "one")(3, SAMPLE)
    Seer.asked = 0
    RawPredictions(Seer(), how, CPU, tmp_path, "one")(3, SAMPLE)
    assert Seer.asked >= 1
    Seer.asked = 0
    RawPredictions(Seer(), how, CPU, tmp_path, "two")(3, SAMPLE)
    assert Seer.asked >= 1


def test_a_kept_answer_that_was_cut_off_is_asked_for_again(tmp_path: Path) -> None:
    answers = RawPredictions(Seer(), Inference(), CPU, tmp_path, "one")
    first = answers(3, SAMPLE)
    path = tmp_path / "000003.npy"
    path.write_bytes(path.read_bytes()[:200])
    assert torch.equal(answers(3, SAMPLE), first)
    assert np.load(path).shape == SIZE


def test_names_that_differ_in_odd_characters_do_not_share_a_folder(tmp_path: Path) -> None:
    folders = {predictions_folder(tmp_path, "b", name) for name in ("a b", "a_b", "a/b", "../b")}
    assert len(folders) == 4 and all(f.parent == tmp_path / "predictions" / "b" for f in folders)


def test_all_protocols_are_scored_from_what_was_kept(tmp_path: Path) -> None:
    """Done-when 3: the same model and images, other metrics, and the table says why."""
    options: dict[str, Any] = {"photographs": False, "pictures": 0, "workers": 0, "keep_predictions": True}
    evaluate({"seer": Seer(blur=5)}, {"boxes": Boxes()}, out=tmp_path, **options)
    Seer.asked = 0
    results = evaluate({"seer": Seer(blur=5)}, {"boxes": Boxes()}, out=tmp_path, protocol="all", **options)
    assert Seer.asked == 0
    found = results["benchmarks"]
    scored = {name: b["metrics"]["seer"]["abs_rel"] for name, b in found.items() if "seer" in b["metrics"]}
    assert list(scored) == ["boxes (marigold)", "boxes (depth_anything)", "boxes (midas)"]
    assert abs(scored["boxes (marigold)"] / scored["boxes (depth_anything)"] - 1) > 0.1
    refused = found["boxes (metric)"]["notes"]
    assert refused[0].startswith("No row for seer: protocol 'metric': a fit in depth needs the prediction")
    table = (tmp_path / "table.md").read_text()
    (why,) = [
        line for line in table.splitlines() if "boxes (marigold): marigold" in line and "_anything" in line
    ]
    assert "marigold scores in depth, leaves zeros out of the fit" in why
    assert "depth_anything scores in disparity, keeps zeros in the fit" in why
    assert f"AbsRel {scored['boxes (marigold)']:.4f} under marigold" in why
    assert why in (tmp_path / "report.html").read_text()


def test_one_call_asks_once_for_all_protocols(tmp_path: Path) -> None:
    Seer.asked = 0
    options: dict[str, Any] = {"photographs": False, "pictures": 0, "workers": 0}
    evaluate({"s": Seer()}, {"b": Boxes()}, out=tmp_path, protocol=["marigold", "midas"], **options)
    assert Seer.asked == len(Boxes())
    fields = json.loads((tmp_path / "results.json").read_text())["benchmarks"]["b (midas)"]["protocol_fields"]
    assert fields["max_depth"] == 20.0  # the benchmark's own range under every protocol
    assert fields == json.loads(json.dumps(replace(Boxes().protocol, name="midas").__dict__)) | {
        "fit_quantity": "disparity",
        "skip_zeros": False,
    }
