"""What is not finite stays out of training: labels are masked and counted, losses stop the run in time."""

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import onnx
import pytest
import torch
import yaml
from lightning.pytorch.plugins import MixedPrecision
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.utils.data import DataLoader

from depthkd.batch import METRIC_DEPTH, Batch, TrainingBatch
from depthkd.errors import UserError
from depthkd.losses.gradient import normalized_gradient_matching
from depthkd.losses.normalization import Normalization, distillation_loss
from depthkd.methods.distill_any_depth import AssistantGuided, CrossContextWeights, local_global_loss
from depthkd.methods.finite import OVERFLOWS, Finiteness, Unusable
from depthkd.methods.latent_diffusion import LatentDiffusion
from depthkd.methods.method import Method
from depthkd.methods.optimization import Optimization
from depthkd.models.frozen import Frozen
from depthkd.models.latent_diffusion.diffusion import Lotus
from depthkd.models.model import DepthOutput
from depthkd.runs.student import read_checkpoint
from tests.conftest import CommandLine
from tests.methods import test_fiffdepth, test_sharpdepth
from tests.methods.test_assistant import batch as windowed
from tests.methods.test_distill_any_depth import ColumnReader, prepared

ROOT = Path(__file__).parent.parent.parent
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]


def answers(path: Path, kind: str) -> None:
    """An ONNX network whose depth is the mean of the channels, spoilt."""
    constant = {"zero": 0.0, "one": 1.0, "nan": math.nan, "inf": math.inf, "dark": 0.3, "light": 0.6}
    node = helper.make_node
    nodes = {
        "nan": [node("Mul", ["mean", "zero"], ["none"]), node("Div", ["none", "none"], ["depth"])],
        "constant": [node("Mul", ["mean", "zero"], ["none"]), node("Add", ["none", "one"], ["depth"])],
        "holes": [
            node("Less", ["mean", "dark"], ["is_dark"]),
            node("Where", ["is_dark", "inf", "mean"], ["half"]),
            node("Greater", ["mean", "light"], ["is_light"]),
            node("Where", ["is_light", "nan", "half"], ["depth"]),
        ],
    }[kind]
    graph = helper.make_graph(
        [node("ReduceMean", ["image"], ["mean"], axes=[1], keepdims=1), *nodes],
        "spoilt",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("n", 3, "h", "w"))],
        [helper.make_tensor_value_info("depth", TensorProto.FLOAT, None)],
        [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in constant.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)


def distill(command_line: CommandLine, kind: str, steps: int) -> tuple[int, str, str]:
    answers(Path(f"{kind}.onnx"), kind)
    tree = {
        "base": str(ROOT / "configs/tiny/cross_context.yaml"),
        "needs": None,
        "model": {
            "init_args": {
                "teacher": {
                    "class_path": "depthkd.models.OnnxDepth",
                    "init_args": {"path": f"{kind}.onnx", "threads": 1},
                },
                "weights": {"features": 0.0},
            }
        },
        "data": {"batch_size": 4, "validation": {"film": {"init_args": {"limit": 1}}}},
        "trainer": {"max_steps": steps, "val_check_interval": steps},
        "checkpoint": {"every_n_train_steps": 3},
    }
    Path("c.yaml").write_text(yaml.safe_dump(tree))
    return command_line("fit", "--config", "c.yaml", "--run", "run", *QUIET)


def sentences(err: str) -> list[str]:
    assert "Traceback" not in err
    return [line for line in err.splitlines() if line.startswith("depthkd fit: ")]


def test_a_teacher_of_nan_ends_the_run_with_a_sentence(home: Path, command_line: CommandLine) -> None:
    for steps, sentence in (
        (1, "none of the 4 samples of data.train.sa1b up to step 1"),
        (6, "of the 12 samples"),
    ):
        status, _, err = distill(command_line, "nan", steps)
        (said,) = sentences(err)
        assert status == 2 and sentence in said, said
        assert "the label of teacher 'teacher' (nan.onnx) has no pixel that is finite" in said
        assert not Path("run/checkpoints/last.ckpt").exists()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            "holes",
            r"the label of teacher 'teacher' \(holes\.onnx\), in all: .* not finite: \d+, in \d+ of 12$",
        ),
        ("constant", r"the windows' labels of teacher .*, in all: constant, .*: 12 of 12$"),
    ],
)
def test_holes_and_constants_are_counted_and_said(
    kind: str, said: str, home: Path, command_line: CommandLine, caplog: pytest.LogCaptureFixture
) -> None:
    status, _, err = distill(command_line, kind, 3)
    assert status == 0, err
    weights = read_checkpoint(Path("run/checkpoints/last.ckpt"))["state_dict"]
    assert all(bool(value.isfinite().all()) for value in weights.values())
    assert any(re.search(said, message) for message in caplog.messages), caplog.messages


def test_a_loss_that_is_not_finite_stops_the_run_with_its_samples(
    home: Path, command_line: CommandLine
) -> None:
    words = ["--model.init_args.student.init_args.size", "tiny", "--data.batch_size", "2", *QUIET]
    words += ["--trainer.max_steps", "4", "--trainer.val_check_interval", "4"]
    words += ["--model.init_args.optimization.learning_rate", "1e30", "--run", "run"]
    words += ["--model.init_args.optimization.warmup_steps", "0", "--checkpoint.every_n_train_steps", "1"]
    status, _, err = command_line("fit", "--config", "configs/tiny/teacher.yaml", *words)
    (said,) = sentences(err)
    assert status == 2 and "the loss is not finite at step 2" in said
    assert "scale_shift_invariant is nan" in said and said.count("'studio_") == 2, said
    weights = read_checkpoint(Path("run/checkpoints/last.ckpt"))["state_dict"]
    assert all(bool(value.isfinite().all()) for value in weights.values())


class Holes(ColumnReader):
    """A teacher without an answer where the image is bright, and of whole bright images."""

    def forward(self, image: Tensor) -> DepthOutput:
        depth = super().forward(image).depth
        depth = torch.where(image[:, 1] > 0.8, torch.nan, depth)
        depth = torch.where(image[:, 2] > 0.9, torch.inf, depth)
        blank = image.amin((1, 2, 3)) > 0.95
        return DepthOutput(torch.where(blank[:, None, None], torch.nan, depth))


def spoilt_batch() -> Batch:
    """Two images with holes in their labels, and a white one, without any."""
    batch = windowed(3)
    batch.image[2] = 255
    assert batch.windows is not None
    batch.windows[2] = 255
    batch.windows[1, 0] = 255
    return batch


def test_labels_with_holes_count_where_they_are_finite() -> None:
    method = prepared(ColumnReader(0.7), Holes)
    batch = spoilt_batch()
    losses = method.losses({"x": batch})
    student = method.student_depth(batch.images()).detach()
    label = Holes()(batch.images()).depth
    mask = label.isfinite()
    assert [int(one.sum()) > 0 for one in mask] == [True, True, False] and not bool(mask[0].all())
    expected = distillation_loss(student, label, mask, Normalization.HYBRID)
    torch.testing.assert_close(losses["shared_context"], expected.mean())
    gradient = normalized_gradient_matching(student, torch.where(mask, label, 0), mask)
    torch.testing.assert_close(losses["gradient"], gradient.mean())
    alone: list[Tensor] = []
    assert batch.windows is not None and batch.boxes is not None
    for i, boxes in enumerate(batch.boxes):
        windows = Holes()(batch.windows[i].float() / 255).depth
        parts = [
            local_global_loss(student[i][None], w[None, None], box[None, None], Normalization.HYBRID, mask=m)
            for w, box in zip(windows, boxes, strict=True)
            if bool((m := w.isfinite()[None, None]).any())
        ]
        alone.append(torch.stack(parts).mean() if parts else torch.zeros(()))
    torch.testing.assert_close(losses["local_global"], torch.stack(alone).mean())
    sum(losses.values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    (gradient,) = (p.grad for p in method.student.parameters())
    assert gradient is not None and bool(gradient.isfinite())


def test_a_resampled_window_counts_where_all_that_it_is_made_of_does() -> None:
    student = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    windows = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    boxes, mask = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]), torch.ones(1, 1, 16, 16, dtype=torch.bool)
    mask[0, 0, 4, 6] = False
    spoilt = torch.where(mask, windows, torch.nan)
    loss = local_global_loss(student, spoilt, boxes, Normalization.GLOBAL, "teacher", mask)
    small = nn.functional.avg_pool2d(windows, 2)[0]  # what bilinear halving is
    inside = torch.ones(1, 8, 8, dtype=torch.bool)
    inside[0, 2, 3] = False
    torch.testing.assert_close(loss, distillation_loss(student, small, inside, Normalization.GLOBAL))


def test_an_average_counts_where_both_teachers_are_finite() -> None:
    factories: Any = {"a": ColumnReader, "b": Holes}
    method = AssistantGuided(
        ColumnReader(),
        factories,
        {"a": 1.0, "b": 1.0},
        strategy="average",
        weights=CrossContextWeights(features=0.0),
    )
    method.teachers = {name: Frozen(make) for name, make in factories.items()}
    image = spoilt_batch().images()
    labels = method.labels(image).depth
    assert torch.equal(labels.isfinite(), Holes()(image).depth.isfinite())
    torch.testing.assert_close(labels[labels.isfinite()], image[:, 0][labels.isfinite()])
    assert all(bool(loss.isfinite()) for loss in method.losses({"x": spoilt_batch()}).values())


def test_fiffdepths_labels_with_holes_are_masked_ones() -> None:
    method, student = test_fiffdepth.prepared(Holes)
    batch = test_fiffdepth.parts()
    image = 0.5 * batch["laion"].images()
    image[0, 1, :8, :8] = 0.9
    image[1] = 1.0
    batch["laion"].image = image
    loss = method.losses(batch)["real_mae"]
    label = Holes()(image).depth
    batch["laion"].depth, batch["laion"].mask = label.nan_to_num(posinf=0.0), label.isfinite()
    batch["laion"].space = student.space
    torch.testing.assert_close(method.losses(batch)["real_mae"], loss)
    assert bool(loss.isfinite()) and float(loss.detach()) > 0


def test_lotus_and_metric_depth_with_holes() -> None:
    torch.manual_seed(0)
    method = LatentDiffusion(Lotus(size="tiny"))
    depth = 1 + torch.rand(2, 16, 24, generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(depth, dtype=torch.bool)
    mask[0, :8, :8], mask[1] = False, False
    image = torch.zeros(2, 3, 16, 24, dtype=torch.uint8)
    losses = []
    for holes in (torch.nan, torch.inf, 1.0):
        truth = torch.where(mask, depth, holes)
        said = torch.ones_like(mask) if holes != 1.0 else mask
        batch = Batch(image, ["a", "b"], depth=truth, mask=said, space=METRIC_DEPTH, positions=[0, 1])
        losses.append(method.losses({"x": batch})["depth"].detach())
    torch.testing.assert_close(losses[0], losses[2])
    torch.testing.assert_close(losses[1], losses[2])


class DarkRamp(test_sharpdepth.Ramp):
    """Metric depth without an answer at the left of the first image, and for the whole second one."""

    def forward(self, image: Tensor) -> DepthOutput:
        depth = super().forward(image).depth.clone()
        depth[0, :, :8] = torch.nan
        depth[1] = torch.inf
        return DepthOutput(depth)


def test_sharpdepth_learns_nothing_from_what_its_metric_model_does_not_know() -> None:
    method = test_sharpdepth.prepared()
    method.teachers["metric"] = Frozen(DarkRamp)
    method.network.metric = method.teachers["metric"]
    batch = test_sharpdepth.part()
    given = method._refiner_input("x", batch.images(), batch, method.generators("x", batch))
    assert not bool(given.known[0, :, :8].any()) and bool(given.known[0, :, 8:].all())
    assert not bool(given.known[1].any()) and bool((given.difference[~given.known] == 1).all())
    assert (
        float(given.normalized_metric[0, :, 8:].min()) == 0.0
        and float(given.normalized_metric[0, :, 8:].max()) == 1.0
    )
    losses = method.losses({"x": batch})
    assert all(bool(loss.isfinite()) for loss in losses.values())
    sum(losses.values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    unet = [p.grad for p in method.network.unet.parameters() if p.grad is not None]
    assert unet and all(bool(gradient.isfinite().all()) for gradient in unet)


def test_a_diffusion_teacher_of_nan_teaches_nothing() -> None:
    method = test_sharpdepth.prepared()
    batch = test_sharpdepth.part()
    method.diffusion.clean = lambda noisy, *_: torch.full_like(noisy, torch.nan)  # type: ignore[method-assign]
    losses = method.losses({"x": batch})
    assert {name: float(loss.detach()) for name, loss in losses.items()} == {
        "score_distillation": 0.0,
        "reconstruction": 0.0,
    }
    method.finiteness.note({"x": batch}, losses)
    (found,) = method.finiteness.read(1, method.student, False)
    assert (found.source, found.samples, len(found.sentences)) == ("x", 2, 2)
    assert "teacher 'diffusion'" in found.sentences[0]


@dataclass(frozen=True)
class Weights:
    term: float = 1.0


class Overflowing(Method):
    """Learns one weight; the loss of samples called "bad" is NaN, and its gradient is not."""

    def __init__(self) -> None:
        constant = Optimization(learning_rate=0.1, schedule="constant")
        super().__init__(ColumnReader(), constant, Weights(), {}, 0)
        self.seen: list[float] = []

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        (part,) = batch.values()
        self.seen.append(next(self.student.parameters()).item())
        spoilt = torch.nan if part.keys == ["bad"] else 0.0
        return {"term": self.student_depth(part.images()).mean() + spoilt}


def train(keys: list[str], scaled: bool, method: Overflowing) -> pl.Trainer:
    image = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    batches: Any = [{"x": Batch(image, [key])} for key in keys]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    trainer = pl.Trainer(
        max_steps=len(keys),
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        plugins=MixedPrecision("16-mixed", "cpu", scaler) if scaled else None,
    )
    trainer.fit(method, DataLoader(batches, batch_size=None), DataLoader([]))  # type: ignore[arg-type]
    return trainer


def test_without_a_scaler_the_first_such_loss_stops_the_run_before_its_step() -> None:
    method = Overflowing()
    sentence = (
        r"not finite at step 3 \(term is nan, loss is nan\), with the samples 'bad': this step was not taken"
    )
    with pytest.raises(UserError, match=sentence):
        train(["good", "good", "bad", "good"], False, method)
    assert len(method.seen) == 3
    assert next(method.student.parameters()).item() == method.seen[2] < method.seen[1] < method.seen[0]


def test_a_gradient_scaler_skips_such_steps_but_not_for_ever() -> None:
    method = Overflowing()
    trainer = train(["good", "bad", "good", "good"], True, method)
    assert method.seen[0] > method.seen[1] == method.seen[2] > method.seen[3]
    assert trainer.scaler is not None and trainer.scaler.get_scale() == 2.0**15
    with pytest.raises(UserError, match=f"not finite at step {1 + OVERFLOWS}"):
        train(["good"] + ["bad"] * 20, True, method := Overflowing())
    assert len(method.seen) == 1 + OVERFLOWS and len(set(method.seen)) == 2


def test_weights_that_are_not_finite_are_not_saved() -> None:
    student, finiteness = nn.Linear(2, 2), Finiteness(keys=[f"k{i}" for i in range(20)])
    finiteness.check_saved(4, student, False)
    student.weight.data[0, 1] = torch.inf
    with pytest.raises(UserError, match=r"not finite after step 4, whose samples were 'k0', .* and 4 more"):
        finiteness.check_saved(4, student, False)


def test_what_is_said_of_labels_is_said_rarely(caplog: pytest.LogCaptureFixture) -> None:
    finiteness, student = Finiteness(), nn.Linear(1, 1)
    batch = {"x": Batch(torch.zeros(2, 3, 2, 2), ["a", "b"])}
    label = torch.tensor([[1.0, 1.0, 1.0, torch.nan], [0.0, 1.0, 2.0, 3.0]])
    with caplog.at_level(logging.WARNING):
        for step in range(1, 31):
            _, mask = finiteness.usable("x", "the label", ["a", "b"], label)
            assert mask.sum() == 7
            finiteness.note(batch, {"loss": label[1].sum()})
            assert finiteness.read(step, student, False) == [Unusable("x", 2, [])]
        finiteness.summary()
    counts = "the label, so far: pixels left out, not finite: 1, in 1 of 2; constant, of one value"
    assert counts in caplog.messages[0] and len(caplog.messages) == 3
    assert "in all: pixels left out, not finite: 30, in 30 of 60; constant" in caplog.messages[-1]


def test_a_student_whose_relu_has_died_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    finiteness, student, batch = Finiteness(), nn.Linear(1, 1), {"x": Batch(torch.zeros(1, 3, 2, 8), ["a"])}
    dead = torch.zeros(1, 4, 8)
    dead[0, 0, 0] = 1.0
    with caplog.at_level(logging.WARNING):
        for step in range(1, 121):
            alive = step == 40  # once is no death
            finiteness.note(batch, {"loss": torch.ones(())}, torch.ones(1, 4, 8) if alive else dead)
            finiteness.read(step, student, False)
            assert len(caplog.messages) == (step >= 90)
    assert "exactly 0 at over 90 % of the pixels for 50 batches" in caplog.messages[0]
