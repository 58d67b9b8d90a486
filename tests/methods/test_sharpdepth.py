"""SharpDepth's equations against slow oracles; who gets gradients, and whose depth is compared with whose."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from depthkd.batch import METRIC_DEPTH, Batch
from depthkd.methods.method import Teacher
from depthkd.methods.optimization import Optimization, averaged_copy, update_average
from depthkd.methods.sharpdepth import (
    READINGS,
    SharpDepthRefiner,
    SharpDepthWeights,
    reconstruction,
    reconstruction_over_difference,
    score_distillation,
)
from depthkd.models.dpt.depth_anything import DepthAnything
from depthkd.models.frozen import Frozen
from depthkd.models.latent_diffusion.denoiser import LAST
from depthkd.models.latent_diffusion.diffusion import Lotus, Marigold
from depthkd.models.latent_diffusion.sharpdepth import SharpDepth, gated_latent
from depthkd.models.model import DepthModel, DepthOutput


def maps(seed: int = 0, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    one, two, three = (torch.rand(batch, 5, 6, generator=generator, dtype=torch.float64) for _ in range(3))
    return one, two, three


def latents(seed: int = 0, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    one, two = (torch.randn(batch, 3, 4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    return one, two


def test_gating_is_eq_4() -> None:
    latent, noise = latents()
    difference = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gated = gated_latent(latent, noise, difference)
    for b, c, y, x in np.ndindex(2, 3, 4, 5):
        e = float(difference[b, y, x])
        expected = e * float(noise[b, c, y, x]) + (1 - e) * float(latent[b, c, y, x])
        assert float(gated[b, c, y, x]) == pytest.approx(expected, rel=1e-12)
    assert torch.equal(gated_latent(latent, noise, torch.zeros(2, 4, 5, dtype=torch.float64)), latent)
    assert torch.equal(gated_latent(latent, noise, torch.ones(2, 4, 5, dtype=torch.float64)), noise)


def test_the_gradient_of_score_distillation_is_eq_5() -> None:
    sharp, clean = latents()
    sharp.requires_grad_(True)
    weight = torch.tensor([0.5, 0.9], dtype=torch.float64)
    value = score_distillation(sharp, clean, weight)
    (gradient,) = torch.autograd.grad(value.sum(), sharp)
    sharp = sharp.detach()
    entries = sharp[0].numel()
    for b, c, y, x in np.ndindex(2, 3, 4, 5):
        pull = float(weight[b]) * float(sharp[b, c, y, x] - clean[b, c, y, x])
        assert float(gradient[b, c, y, x]) == pytest.approx(pull / entries, rel=1e-9)
    expected = 0.5 * ((weight[:, None, None, None] * (sharp - clean)) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(value, expected)


def test_score_distillation_does_not_pass_on_what_is_not_a_number() -> None:
    sharp, clean = latents()
    sharp.requires_grad_(True)
    clean[0, 0, 0, 0] = torch.nan
    value = score_distillation(sharp, clean, torch.ones(2, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(value.sum(), sharp)
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all()
    assert float(gradient[0, 0, 0, 0]) == 0.0


@pytest.mark.parametrize("loss", [reconstruction, reconstruction_over_difference], ids=lambda f: f.__name__)
def test_reconstruction_is_eq_6(loss: Any) -> None:
    difference, metric, sharp = maps()
    for b, value in enumerate(loss(difference, metric, sharp)):
        total, weight = 0.0, 0.0
        for y, x in np.ndindex(5, 6):
            total += float(difference[b, y, x]) * abs(float(metric[b, y, x]) - float(sharp[b, y, x]))
            weight += float(difference[b, y, x])
        expected = total / 30 if loss is reconstruction else total / (weight + 1e-8)
        assert float(value) == pytest.approx(expected, rel=1e-12)
    assert float(loss(torch.zeros_like(difference), metric, sharp).abs().sum()) == 0.0
    sharp.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda p: loss(difference, metric, p), (sharp,))


def test_the_average_follows_its_recurrence() -> None:
    settings = Optimization(ema_decay=0.9, ema_after=4, ema_every=2, ema_power=2 / 3)
    student = nn.Linear(1, 1, bias=False)
    average = nn.Linear(1, 1, bias=False)
    expected = 7.0
    with torch.no_grad():
        average.weight.fill_(expected)
        for step in range(1, 15):
            student.weight.fill_(float(step))
            decay = settings.average_decay(step)
            if decay is not None:
                update_average(average, student, decay)
            if step % 2 == 0:
                kept = 0.0 if step <= 4 else min(0.9, 1 - (1 + step - 4) ** (-2 / 3))
                expected = kept * expected + (1 - kept) * step
            assert float(average.weight) == pytest.approx(expected, rel=1e-5), step
    assert Optimization(ema_decay=0.9).average_decay(1) == 0.9
    assert Optimization().average_decay(1) is None


def test_what_the_paper_and_its_code_read_differently() -> None:
    paper, released = READINGS["paper"], READINGS["released"]
    assert paper.weights == SharpDepthWeights(1.0, 0.3) and released.weights == SharpDepthWeights(1.0, 0.4)
    assert (paper.optimization.learning_rate, paper.optimization.weight_decay) == (1e-6, 0.0)
    assert (released.optimization.learning_rate, released.optimization.weight_decay) == (1.6e-5, 0.01)
    assert (released.optimization.schedule, released.optimization.warmup_steps) == ("cosine", 200)
    students = {v: SharpDepth(size="tiny", variant=v) for v in ("paper", "released")}
    said = {v: (str(s.fit), s.blend, s.takes_camera) for v, s in students.items()}
    assert said == {
        "paper": ("scale_and_shift", "noise", True),
        "released": ("none", "noised_answer", False),
    }


class Ramp(DepthModel):
    """Metric depth that grows to the right, steeper where the image is red, and nearer for longer lenses."""

    chooses_size = True
    takes_camera = True

    space = METRIC_DEPTH

    def __init__(self) -> None:
        super().__init__()
        self.steepness = nn.Parameter(torch.tensor(3.0))

    def forward(self, image: Tensor) -> DepthOutput:
        columns = torch.linspace(1, 2, image.shape[-1]).expand(image.shape[0], *image.shape[-2:])
        return DepthOutput(columns + self.steepness * image[:, 0])

    def predict_raw_with_camera(self, image: Tensor, intrinsics: Tensor) -> Tensor:
        return self.predict_raw(image) * intrinsics[:, 0, 0, None, None]

    def encoder_parameters(self) -> Any:
        return self.parameters()


def part(count: int = 2, height: int = 16, width: int = 24) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)
    return Batch(images, [str(i) for i in range(count)], positions=list(range(count)))


class Step:
    """A trainer that has come to some step."""

    precision = "32-true"

    def __init__(self, step: int) -> None:
        self.global_step = step


def prepared(
    teacher: Teacher | None = None, step: int = 0, student: dict[str, Any] | None = None, **options: Any
) -> SharpDepthRefiner:
    torch.manual_seed(0)
    network = SharpDepth(size="tiny", metric=Ramp, **({"longest": None} | (student or {})))
    diffusion = teacher or (lambda: Lotus(size="tiny"))
    settings = {"optimization": Optimization(learning_rate=1e-3, ema_decay=0.9, ema_after=2)} | options
    method = SharpDepthRefiner(network, diffusion, **settings)
    torch.manual_seed(1)
    method.teachers = {name: Frozen(make) for name, make in method.teacher_factories.items()}
    method._trainer = Step(step)  # type: ignore[assignment]
    method.setup("fit")
    return method


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_student_starts_as_a_copy_of_its_teacher() -> None:
    method = prepared()
    assert same(method.network.unet, method.diffusion.unet)
    assert same(method.student_average, method.student)
    assert not same(prepared(initialize="student").network.unet, method.diffusion.unet)


def test_gradients_reach_the_sharpener_alone() -> None:
    method = prepared()
    losses = method.losses({"photos": part()})
    assert set(losses) == {"score_distillation", "reconstruction"}
    total = sum(method.weights[name] * loss for name, loss in losses.items())
    assert isinstance(total, Tensor)
    total.backward()
    unet = method.network.unet.parameters()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in unet if p.requires_grad)
    frozen = [*method.teachers["metric"].model.parameters(), *method.diffusion.parameters()]
    frozen += [*method.network.vae.parameters(), *method.student_average.parameters()]
    assert len(frozen) > 10 and all(p.grad is None and not p.requires_grad for p in frozen)


def test_the_total_is_eq_7(monkeypatch: pytest.MonkeyPatch) -> None:
    method = prepared(weights=SharpDepthWeights())
    logged: dict[str, Any] = {}
    monkeypatch.setattr(method, "log", lambda name, value, **_: logged.update({name: value}))
    monkeypatch.setattr(method, "log_dict", lambda values, **_: logged.update(values))
    total = float(method.training_step({"photos": part()}, 0).detach())
    terms = [float(logged[f"train/{name}"]) for name in ("score_distillation", "reconstruction")]
    assert total == pytest.approx(1.0 * terms[0] + 0.3 * terms[1], rel=1e-5)
    assert min(terms) > 0


@pytest.mark.parametrize("off", ["score_distillation", "reconstruction"])
def test_a_term_without_weight_costs_nothing(off: str) -> None:
    method = prepared(weights=SharpDepthWeights(**{off: 0.0}))
    calls: list[str] = []
    method.diffusion.clean = lambda *a, **k: calls.append("asked")  # type: ignore[assignment, method-assign, return-value]
    method.difference_source = "student"
    kept = {"score_distillation", "reconstruction"} - {off}
    if off == "score_distillation":
        assert set(method.losses({"photos": part()})) == kept and not calls
    else:
        method = prepared(weights=SharpDepthWeights(reconstruction=0.0))
        method.network.decode = None  # type: ignore[assignment, method-assign]
        method.network.gate = "noise"
        assert set(method.losses({"photos": part()})) == kept


@pytest.mark.parametrize(
    ("source", "step", "expected"),
    [
        ("ema", 2, "diffusion"),
        ("ema", 3, "student_average"),
        ("frozen", 3, "diffusion"),
        ("student", 0, "network"),
    ],
)
def test_whose_first_answer_is_compared(source: str, step: int, expected: str) -> None:
    method = prepared(step=step, difference_source=source)
    assert method._source() is getattr(method, expected)


def test_a_lotus_is_asked_at_its_one_timestep_and_a_marigold_over_a_range() -> None:
    asked: list[int] = []
    for teacher, prediction in ((Lotus, "sample"), (Marigold, "v_prediction")):
        method = prepared(
            lambda teacher=teacher: teacher(size="tiny"),  # type: ignore[misc]
            student={"prediction": prediction},
            difference_source="student",
        )
        clean = method.diffusion.clean

        def note(noisy: Tensor, rgb: Tensor, timestep: Any, clean: Any = clean) -> Tensor:
            asked.extend(torch.as_tensor(timestep).tolist())
            return clean(noisy, rgb, timestep)

        method.diffusion.clean = note  # type: ignore[assignment, method-assign]
        for _ in range(4):
            batch = part()
            batch.positions = [10 * len(asked), 10 * len(asked) + 1]
            method.losses({"photos": batch})
    assert asked[:8] == [LAST] * 8
    assert len(set(asked[8:])) > 4 and min(asked[8:]) >= 20 and max(asked[8:]) <= 980


def test_noise_depends_on_the_samples_place_alone() -> None:
    method = prepared()
    whole = method.losses({"photos": part()})
    halves = []
    for i in range(2):
        one = part()
        halves.append(method.losses({"photos": Batch(one.image[i : i + 1], ["x"], positions=[i])}))
    for name, value in whole.items():
        mean = sum(float(half[name].detach()) for half in halves) / 2
        assert float(value.detach()) == pytest.approx(mean, rel=1e-4)


def test_the_share_of_pure_noise() -> None:
    latents_given = []
    for share in (0.0, 1.0):
        method = prepared(pure_noise=share)
        batch = part()
        given = method._refiner_input("photos", batch.images(), batch, method.generators("photos", batch))
        latents_given.append(given.latent)
    assert not torch.equal(*latents_given)
    assert abs(float(latents_given[1].std()) - 1) < 0.2


def test_cameras_reach_the_metric_teacher_in_the_papers_reading() -> None:
    batch = part()
    batch.intrinsics = torch.eye(3).expand(2, 3, 3) * 2.0
    depths = {}
    for variant in ("paper", "released"):
        network = prepared(student={"variant": variant}, weights=SharpDepthWeights()).network
        depths[variant] = network.metric_depth(batch.images(), batch.intrinsics)
    torch.testing.assert_close(depths["paper"], 2.0 * depths["released"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"teacher": lambda: DepthAnything(size="tiny")},
            r"diffusion_teacher .* is a DepthAnything of",
        ),
        ({"teacher": lambda: Lotus(size="mini")}, "is another network than the student"),
        ({"teacher": lambda: Marigold(size="tiny")}, "is another network than the student"),
        ({"optimization": Optimization()}, "difference_source is 'ema', but .*ema_decay is not set"),
    ],
)
def test_mistakes_are_sentences(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        prepared(**change)


def test_students_that_cannot_be_trained_are_sentences() -> None:
    with pytest.raises(ValueError, match=r"student is DepthAnything; .* trains a depthkd.models.SharpDepth"):
        SharpDepthRefiner(DepthAnything(size="tiny"), lambda: Lotus(size="tiny"))
    with pytest.raises(ValueError, match=r"student\.init_args\.metric is missing"):
        SharpDepthRefiner(SharpDepth(size="tiny"), lambda: Lotus(size="tiny"))
    method = prepared()
    with pytest.raises(ValueError, match=r"data\.train\.photos: images are 20 x 24 .* multiples of 8"):
        method.losses({"photos": part(height=20)})


def test_the_average_is_copied_without_its_metric_model() -> None:
    method = prepared()
    copied = averaged_copy(method.student)
    assert isinstance(copied, SharpDepth) and copied.metric is method.network.metric
    assert not any("metric" in name for name in method.student.state_dict())
    assert method.evaluated() is method.student
