"""SharpDepth (Pham et al., CVPR 2025): metric depth with a diffusion model's details, section 4."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from depthkd.batch import AFFINE_DEPTH, Batch, TrainingBatch
from depthkd.errors import UserError
from depthkd.methods.method import Method, Teacher
from depthkd.methods.optimization import Optimization
from depthkd.models.frozen import HALF
from depthkd.models.latent_diffusion.denoiser import LAST, DepthDenoiser, noised
from depthkd.models.latent_diffusion.sharpdepth import SharpDepth, Variant
from depthkd.models.model import DepthModel
from depthkd.shapes import Image, Map, Mask, PerImage

Latent = Float[Tensor, "batch channels latent_height latent_width"]

EMA: dict[str, Any] = {"ema_decay": 0.9999, "ema_after": 100, "ema_every": 10, "ema_power": 2 / 3}
SETTLED = 1e-8


@dataclass(frozen=True)
class SharpDepthWeights:
    """SharpDepth, Eq. 7 with section 5.1's lambda_SDS = 1.0 and lambda_recons = 0.3."""

    score_distillation: float = 1.0
    reconstruction: float = 0.3


@dataclass(frozen=True)
class Reading:
    """What the paper and its released code do differently in training; see `SharpDepthRefiner`."""

    weights: SharpDepthWeights
    optimization: Optimization
    pure_noise: float
    reconstruction: Literal["mean", "over_difference"]


READINGS: dict[Variant, Reading] = {
    "paper": Reading(
        SharpDepthWeights(),
        Optimization(learning_rate=1e-6, encoder_factor=1.0, weight_decay=0.0, schedule="constant", **EMA),
        0.0,
        "mean",
    ),
    "released": Reading(
        SharpDepthWeights(reconstruction=0.4),
        Optimization(
            learning_rate=1.6e-5,  # 1e-6, multiplied by the 16 images of a step
            encoder_factor=1.0,
            weight_decay=0.01,
            schedule="cosine",
            warmup_steps=200,
            **EMA,
        ),
        0.2,
        "over_difference",
    ),
}


def score_distillation(sharp: Latent, clean: Latent, weight: PerImage) -> PerImage:
    """SharpDepth, Eq. 5: a loss whose gradient in z^ is w_t (z^ - f_G(z^_t; z_i, t)), over their count.

    Its value is half the mean square of that; where f_G's prediction is not finite, the gradient is 0.

    Args:
        sharp: z^, the sharpener's prediction.
        clean: f_G's prediction for a noisy z^, without a graph.
        weight: w_t.
    """
    gradient = torch.where(clean.isfinite(), weight[:, None, None, None] * (sharp - clean).detach(), 0.0)
    target = (sharp - gradient).detach()
    return 0.5 * (sharp - target).square().flatten(1).mean(1)


def reconstruction(difference: Map, metric: Map, sharp: Map) -> PerImage:
    """SharpDepth, Eq. 6: the mean of e |d - d^| over the pixels, of maps in about [0, 1]."""
    return (difference * (metric - sharp).abs()).flatten(1).mean(1)


def reconstruction_over_difference(difference: Map, metric: Map, sharp: Map) -> PerImage:
    """Eq. 6 as the released code has it: the sum of e |d - d^| over that of e."""
    summed = (difference * (metric - sharp).abs()).flatten(1).sum(1)
    return summed / (difference.flatten(1).sum(1) + SETTLED)


@dataclass
class RefinerInput:
    """A source's images as the sharpener meets them.

    Attributes:
        rgb: the images' latent z_i.
        normalized_metric: the metric depth d in [0, 1].
        first: the latent of the diffusion model's own prediction.
        latent: z'_d.
        difference: e; 1 where the metric depth is not known.
        known: where it is, and the diffusion model's prediction too.
    """

    rgb: Latent
    normalized_metric: Map
    first: Latent
    latent: Latent
    difference: Map
    known: Mask


class SharpDepthRefiner(Method):
    """Trains a SharpDepth on images alone: towards a diffusion teacher's details, near a metric model's.

    The metric teacher f_D is the student's own `metric`. The student starts as a copy of the diffusion
    teacher f_G. Where the two see different depth (section 4.1), the student is given noise; score
    distillation (Eq. 5) pulls its prediction towards f_G's, the reconstruction (Eq. 6) towards f_D's.

    Where the paper and its released code differ, the student's `variant` decides; each of `weights`,
    `optimization`, `pure_noise` and `reconstruction`, if given, decides for itself.

    Args:
        student: a SharpDepth with a metric model.
        diffusion_teacher: how to build f_G, a Lotus-G (the paper's) or a Marigold of depth.
        difference_source: whose first estimate is compared with the metric depth: the student's moving
            average once `optimization.ema_after` steps are done, and f_G before ("ema", the paper's);
            f_G always ("frozen", Table 3's setting G); or the student as it is ("student").
        timesteps: the first and the last t that Eq. 5 draws; None: those that f_G is good at, which is
            999 alone for a Lotus, and 20 to 980 for a Marigold.
        timestep_weight: w_t of Eq. 5: "variance" is 1 - abar_t, as in DreamFusion; or "one".
        initialize: start from "teacher", f_G's weights, or from the "student"'s own.
        weights: of the two terms; 0 switches one off. Released: 0.4 for the reconstruction.
        optimization: optimizer, schedule and moving average. Paper: Adam at a constant 1e-6. Released: AdamW
            at 1.6e-5 with decay 0.01, cosine after 200 steps of warm-up. The average's constants are
            the released code's in both; the paper gives none.
        pure_noise: the share of images whose sharpener is given noise alone. Paper: 0; released: 0.2.
        reconstruction: Eq. 6 as a "mean" over pixels (paper), or "over_difference", divided by the sum
            of e (released).
        seed: of everything random in training.

    Raises:
        UserError: the student is no SharpDepth or has no metric model, or f_G is no network of which it
            could be a copy.
    """

    tests_average = False

    def __init__(
        self,
        student: DepthModel,
        diffusion_teacher: Teacher,
        difference_source: Literal["ema", "frozen", "student"] = "ema",
        timesteps: tuple[int, int] | None = None,
        timestep_weight: Literal["variance", "one"] = "variance",
        initialize: Literal["teacher", "student"] = "teacher",
        weights: SharpDepthWeights | None = None,
        optimization: Optimization | None = None,
        pure_noise: float | None = None,
        reconstruction: Literal["mean", "over_difference"] | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(student, SharpDepth):
            raise UserError(
                f"model.init_args.student is {type(student).__name__}; SharpDepthRefiner trains a "
                "depthkd.models.SharpDepth"
            )
        if student.make_metric is None:
            raise UserError(
                "model.init_args.student.init_args.metric is missing: it would be the metric model to "
                "sharpen, such as {class_path: depthkd.models.ZoeDepth, init_args: {source: "
                "Intel/zoedepth-nyu-kitti}}"
            )
        reading = READINGS[student.variant]
        teachers = {"metric": student.make_metric, "diffusion": diffusion_teacher}
        chosen = optimization or reading.optimization
        super().__init__(student, chosen, weights or reading.weights, teachers, seed)
        if difference_source == "ema" and chosen.ema_decay is None:
            raise UserError(
                "model.init_args.difference_source is 'ema', but model.init_args.optimization.ema_decay is "
                "not set: the paper's code has 0.9999"
            )
        self.difference_source = difference_source
        self.timesteps, self.timestep_weight = timesteps, timestep_weight
        self.initialize = initialize
        self.pure_noise = reading.pure_noise if pure_noise is None else pure_noise
        self.over_difference = (reconstruction or reading.reconstruction) == "over_difference"

    @property
    def network(self) -> SharpDepth:
        """The student G, under its own type."""
        assert isinstance(self.student, SharpDepth)
        return self.student

    @property
    def diffusion(self) -> DepthDenoiser:
        """f_G, under its own type."""
        model = self.teachers["diffusion"].model.unwrapped()
        assert isinstance(model, DepthDenoiser)
        return model

    def setup(self, stage: str) -> None:
        """Build the teachers; the student becomes a copy of f_G, before a checkpoint's weights come."""
        super().setup(stage)
        if stage != "fit":
            return
        self.network.metric = self.teachers["metric"]
        self._check_diffusion()
        if self.initialize == "teacher":
            self.network.unet.load_state_dict(self.diffusion.unet.state_dict())
            if self.optimization.ema_decay is not None:
                self.student_average.load_state_dict(self.student.state_dict())
        if (half := HALF.get(str(self.trainer.precision))) is not None:
            nn.Module.to(self.diffusion.unet, half)  # in which it runs anyhow, at half the memory

    def _check_diffusion(self) -> None:
        model, student = self.teachers["diffusion"].model.unwrapped(), self.network
        who = f"model.init_args.diffusion_teacher ({model.source})"
        if not isinstance(model, DepthDenoiser) or not model.generative or model.space != AFFINE_DEPTH:
            raise UserError(
                f"{who} is a {type(model).__name__} of {model.space}; it would be a Lotus-G or a Marigold of "
                f"{AFFINE_DEPTH}"
            )
        shapes = [{k: v.shape for k, v in m.unet.state_dict().items()} for m in (model, student)]
        if shapes[0] != shapes[1] or model.prediction != student.prediction:
            raise UserError(
                f"{who} is another network than the student ({student.source}), which could not become its "
                "copy: give both the same source, or the same size and prediction"
            )

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """SharpDepth, Eq. 7, term by term, over all sources."""
        return self.mean_over_images([self._per_image(name, part) for name, part in batch.items()])

    def _per_image(self, name: str, part: Batch) -> dict[str, PerImage]:
        image = self.sized(name, part)
        draws = self.generators(name, part)
        inputs = self._refiner_input(name, image, part, draws)
        sharp = self.network.clean(inputs.latent, inputs.rgb, LAST)
        self.latest = {
            "image": image[:1],
            "normalized_metric": inputs.normalized_metric[:1],
            "first": inputs.first[:1],
            "difference": inputs.difference[:1],
            "sharp": sharp[:1].detach(),
        }
        terms = {}
        if self.used("score_distillation"):
            terms["score_distillation"] = self._distilled(name, part, sharp, inputs.rgb, draws)
        if self.used("reconstruction"):
            distance = reconstruction_over_difference if self.over_difference else reconstruction
            counts = torch.where(inputs.known, inputs.difference, 0.0)
            terms["reconstruction"] = distance(counts, inputs.normalized_metric, self.network.decode(sharp))
        return terms

    @torch.no_grad()
    def _refiner_input(
        self, name: str, image: Image, part: Batch, draws: list[torch.Generator]
    ) -> RefinerInput:
        """Section 4.1: the metric depth, the diffusion model's, and what their difference makes of both."""
        network = self.network
        rgb = network.encode(image)
        metric = network.metric_depth(image, part.intrinsics)
        metric, known = self.usable(name, part, f"the depth of {self.named('metric')}", metric)
        first = self._source().clean(self.noise(rgb, draws), rgb, LAST)
        # a decoder looks everywhere: a latent that is not finite somewhere says nothing anywhere
        whole = torch.where(first.flatten(1).isfinite().all(1)[:, None, None, None], first, torch.nan)
        _, usable = self.usable(
            name, part, f"what {self.named('diffusion')} predicts for noise", whole.mean(1)
        )
        first = torch.where(usable[:, None], first, 0.0)
        known = known & usable.flatten(1).any(1)[:, None, None]
        normalized_metric = network.normalized(metric, known)
        latent, difference = network.gate_latent(normalized_metric, first, self.noise(rgb, draws), known)
        if self.pure_noise:
            chosen = torch.cat([torch.rand(1, generator=g) for g in draws]).to(rgb.device) < self.pure_noise
            latent = torch.where(chosen[:, None, None, None], self.noise(rgb, draws), latent)
        return RefinerInput(rgb, normalized_metric, first, latent, difference, known)

    def _source(self) -> DepthDenoiser:
        """Whose first estimate is compared with the metric depth."""
        if self.difference_source == "student":
            return self.network
        early = self.trainer.global_step <= self.optimization.ema_after
        if self.difference_source == "frozen" or early:
            return self.diffusion
        assert isinstance(self.student_average, SharpDepth)
        return self.student_average

    def _distilled(
        self, name: str, part: Batch, sharp: Latent, rgb: Latent, draws: list[torch.Generator]
    ) -> PerImage:
        """Eq. 5, at timesteps drawn for each image."""
        teacher = self.diffusion
        low, high = self.timesteps or teacher.timesteps
        times = torch.cat([torch.randint(low, high + 1, (1,), generator=g) for g in draws]).to(rgb.device)
        kept = teacher.alphas_cumprod[times].float()
        with torch.no_grad():
            clean = teacher.clean(noised(sharp, self.noise(rgb, draws), kept), rgb, times)
        self.usable(name, part, f"the prediction of {self.named('diffusion')}", clean.mean(1))
        weight = 1.0 - kept if self.timestep_weight == "variance" else torch.ones_like(kept)
        return score_distillation(sharp, clean, weight)

    @torch.no_grad()
    def pictures(self) -> dict[str, tuple[Image, list[Map]]]:
        """Figures 3 and 4: the metric depth, the diffusion model's, their difference, the sharpened depth."""
        if not self.latest:
            return {}
        first, sharp = (self.network.decode(self.latest[name]) for name in ("first", "sharp"))
        maps = [self.latest["normalized_metric"], first, self.latest["difference"], sharp]
        return {"train/metric_diffusion_difference_sharp": (self.latest["image"], maps)}
