"""FiffDepth (Bai and Huang): a diffusion model's UNet becomes a feed-forward depth network, section 3."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depthkd.alignment import convert, masked_mean
from depthkd.batch import Batch, TrainingBatch
from depthkd.errors import UserError
from depthkd.losses.gradient import gradient_difference
from depthkd.methods.method import Method, Teacher
from depthkd.methods.optimization import Optimization
from depthkd.models.latent_diffusion.denoiser import noised, velocity
from depthkd.models.latent_diffusion.depth_codec import PERCENTILES, label_picture, latent_mask
from depthkd.models.latent_diffusion.fiffdepth import FiffDepth
from depthkd.models.model import DepthModel, resize_map
from depthkd.shapes import Image, Map, Mask, PerImage

Latent = Float[Tensor, "batch channels height width"]
LatentMask = Bool[Tensor, "batch height width"]
Timesteps = Int[Tensor, " batch"]

Kind = Literal["synthetic", "real"]
Request = tuple[Latent, Timesteps]


@dataclass(frozen=True)
class FiffDepthWeights:
    """FiffDepth, Eq. 7 with section 4.1's lambda_MAE = 1, lambda_GM = 0.5 and lambda_k = 0.2.

    "synthetic" is its t = 0, "real" its t = -1.
    """

    synthetic_mae: float = 1.0
    synthetic_gradient: float = 0.5
    real_mae: float = 1.0
    real_gradient: float = 0.5
    keep: float = 0.2


def blended_latent(image: Latent, depth: Latent, gamma: float) -> Latent:
    """FiffDepth, Eq. 2, first line: b_0 = gamma x_0 + (1 - gamma) d_0."""
    return gamma * image + (1.0 - gamma) * depth


def keeping_loss(prediction: Latent, target: Latent, mask: LatentMask) -> PerImage:
    """FiffDepth, Eq. 3, second line: the mean of (v_t - UNet(b_t, t))^2 over channels and valid pixels."""
    return masked_mean((prediction - target).square().mean(1), mask)


def mean_absolute_error(prediction: Latent, target: Latent, mask: LatentMask) -> PerImage:
    """FiffDepth, Eq. 5: the mean of |d - d*| over channels and valid pixels of the latent."""
    return masked_mean((prediction - target).abs().mean(1), mask)


def gradient_matching(prediction: Latent, target: Latent, mask: LatentMask) -> PerImage:
    """FiffDepth, Eq. 6: the mean of |dR/dx| + |dR/dy|, R = d - d*, over channels and valid pixels."""
    batch, channels = prediction.shape[:2]
    everywhere = mask[:, None].expand(-1, channels, -1, -1)
    residual = (prediction - target).flatten(0, 1)
    return gradient_difference(residual, everywhere.flatten(0, 1)).view(batch, channels).mean(1)


@dataclass
class EncodedSource:
    """One source's images in the latent space.

    Attributes:
        kind: "synthetic", whose labels are truth, or "real", whose labels are a teacher's.
        image, depth: scaled latents x_0 and d*.
        mask: where the label counts.
        noise, timesteps: for keeping the trajectory.
        shown: image and label as pictures in [0, 1].
    """

    kind: Kind
    image: Latent
    depth: Latent
    mask: LatentMask
    noise: Latent
    timesteps: Timesteps
    shown: dict[str, Tensor]


class FiffDepthFeedForward(Method):
    """Trains a diffusion UNet to predict depth at t = 0: by truth there, by a teacher at t = -1.

    Sources with metric depth (or up to scale) are synthetic: they teach t = 0 and the keeping of the
    diffusion trajectory. Sources without depth are real: the teacher labels them; or they bring
    pseudo-labels of unknown scale and offset with them. Their images have loss at t = -1 alone, so
    that d_0 hears of them only through the second pass. The paper gives each source of a batch.

    All labels are brought into the student's quantity, and into the range [-1, 1] by percentiles, as
    Marigold does. A disparity student learns from 1/depth; of a depth student, a teacher's disparity
    is taken with its sign turned: the order is right, the curvature is not.

    Args:
        student: a FiffDepth; its `space` says which quantity is learned.
        teacher: how to build what labels real images (the paper's: Depth Anything V2 Large); None if
            there are none, or their labels come with them.
        weights: of the terms of Eq. 7; 0 switches one off, and its pass with it.
        gamma: the image's part of the blended latent; 1 is Figure 7's "image only".
        real_step: where the teacher's labels are; -1, or 0 for Figure 7's "DINO supervision at d0".
        percentiles: of a label's valid values, which become -1 and 1.
        optimization: optimizer, schedule and moving average. The paper does not say; Marigold's 3e-5.
        seed: of everything random in training.

    Raises:
        UserError: the student is no FiffDepth, or a source's labels are none of these.
    """

    def __init__(
        self,
        student: DepthModel,
        teacher: Teacher | None = None,
        weights: FiffDepthWeights = FiffDepthWeights(),
        gamma: float = 0.5,
        real_step: Literal[-1, 0] = -1,
        percentiles: tuple[float, float] = PERCENTILES,
        optimization: Optimization = Optimization(learning_rate=3e-5, encoder_factor=1.0, weight_decay=0.0),
        seed: int = 0,
    ) -> None:
        teachers = {} if teacher is None else {"teacher": teacher}
        super().__init__(student, optimization, weights, teachers, seed)
        if not isinstance(student.unwrapped(), FiffDepth):
            raise UserError(
                f"model.init_args.student is {type(student).__name__}; FiffDepthFeedForward trains a "
                "depthkd.models.FiffDepth"
            )
        if not 0.0 <= gamma <= 1.0:
            raise UserError(f"model.init_args.gamma must be between 0 and 1, not {gamma}")
        self.gamma = gamma
        self.real_step = real_step
        self.percentiles = percentiles

    @property
    def network(self) -> FiffDepth:
        """The student, under its own type; a run's, where it goes on from one."""
        network = self.student.unwrapped()
        assert isinstance(network, FiffDepth)
        return network

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """FiffDepth, Eq. 7, term by term, over all sources."""
        sources = [
            source for name, part in batch.items() if (source := self._encoded(name, part)) is not None
        ]
        taught = [h for h in sources if self._teaches(h.kind)]
        kept = [h for h in sources if h.kind == "synthetic" and self.used("keep")]
        blends = [blended_latent(h.image, h.depth, self.gamma) for h in kept]
        schedule = [self.network.alphas_cumprod[h.timesteps] for h in kept]
        outputs = self._unet(
            [(h.image, torch.zeros_like(h.timesteps)) for h in taught]
            + [(noised(b, h.noise, a), h.timesteps) for b, h, a in zip(blends, kept, schedule, strict=True)]
        )
        d0 = outputs[: len(taught)]
        ends = self._ends(taught, d0)
        terms = [self._supervised(h, end) for h, end in zip(taught, ends, strict=True)]
        for b, h, a, output in zip(blends, kept, schedule, outputs[len(taught) :], strict=True):
            terms.append({"keep": keeping_loss(output, velocity(b, h.noise, a), h.mask)})
        if not terms:
            raise UserError(
                f"no source of data.train ({', '.join(batch)}) is of a kind that has a weight in "
                f"model.init_args.weights ({self.weights}): synthetic ones have metric depth, real ones none"
            )
        if taught:
            shown = max(range(len(taught)), key=lambda i: taught[i].kind == "real")
            latents = {"d0": d0[shown].detach(), "end": ends[shown].detach()}
            self.latest = {name: one[:1] for name, one in (taught[shown].shown | latents).items()}
        return self.mean_over_images(terms)

    def _teaches(self, kind: Kind) -> bool:
        return self.used(f"{kind}_mae") or self.used(f"{kind}_gradient")

    def _ends(self, sources: list[EncodedSource], d0: list[Latent]) -> list[Latent]:
        """FiffDepth, Eq. 4: what labels are compared with: d_0 of synthetic images, d_-1 of real ones."""
        further = [i for i, h in enumerate(sources) if h.kind == "real" and self.real_step == -1]
        ends = list(d0)
        outputs = self._unet([(d0[i], torch.full_like(sources[i].timesteps, -1)) for i in further])
        for i, latent in zip(further, outputs, strict=True):
            ends[i] = latent
        return ends

    def _supervised(self, source: EncodedSource, prediction: Latent) -> dict[str, PerImage]:
        terms = {}
        if self.used(f"{source.kind}_mae"):
            terms[f"{source.kind}_mae"] = mean_absolute_error(prediction, source.depth, source.mask)
        if self.used(f"{source.kind}_gradient"):
            terms[f"{source.kind}_gradient"] = gradient_matching(prediction, source.depth, source.mask)
        return terms

    def _unet(self, requests: list[Request]) -> list[Latent]:
        """The UNet's output for each, in one call for all of one size."""
        outputs: dict[int, Latent] = {}
        for size in dict.fromkeys(latent.shape[1:] for latent, _ in requests):
            places = [i for i, (latent, _) in enumerate(requests) if latent.shape[1:] == size]
            latents, timesteps = zip(*(requests[i] for i in places), strict=True)
            output = self.network.denoise(torch.cat(latents), torch.cat(timesteps))
            outputs |= dict(
                zip(places, torch.split(output, [len(latent) for latent in latents]), strict=True)
            )
        return [outputs[i] for i in range(len(requests))]

    @torch.no_grad()
    def _encoded(self, name: str, part: Batch) -> EncodedSource | None:
        """A source in the latent space; None if nothing is learned from its kind."""
        truth = part.depth is not None and part.space is not None and part.space.invertible
        kind: Kind = "synthetic" if truth else "real"
        if not self._teaches(kind) and not (truth and self.used("keep")):
            return None
        image = self.sized(name, part)
        label, mask = self._label(name, part, image)
        picture = label_picture(label, mask, self.student.space.quantity, self.percentiles)
        latent = self.network.encode(image)
        noise, timesteps = self._noise(name, part, latent)
        valid = latent_mask(mask, self.network.multiple)
        shown = {"image": image, "target": picture[:, 0]}
        return EncodedSource(kind, latent, self.network.encode(picture), valid, noise, timesteps, shown)

    def _label(self, name: str, part: Batch, image: Image) -> tuple[Map, Mask]:
        """The source's or the teacher's depth in the student's quantity, with its mask."""
        label, mask, space, origin = part.depth, part.mask, part.space, "the label"
        if label is None or mask is None or space is None:
            if not self.teachers:
                raise UserError(
                    f"data.train.{name} has no depth, and there is no model.init_args.teacher to label it"
                )
            teacher, origin = self.teachers["teacher"], f"the label of {self.named('teacher')}"
            label = resize_map(teacher(image).depth, (image.shape[-2], image.shape[-1]))
            mask, space = None, teacher.space
        label, mask = self.usable(name, part, origin, label, mask)
        quantity = self.student.space.quantity
        if space.quantity is quantity or space.invertible:
            return convert(label, space, quantity), mask
        return -label, mask

    def _noise(self, name: str, part: Batch, latent: Latent) -> tuple[Latent, Timesteps]:
        """Noise, and timesteps from 1 on (0 is the feed-forward pass), drawn for each sample's place in the
        stream: neither ranks nor devices change them."""
        steps = len(self.network.alphas_cumprod)
        generators = self.generators(name, part)
        timesteps = torch.cat([torch.randint(1, steps, (1,), generator=g) for g in generators])
        return self.noise(latent, generators), timesteps.to(latent.device)

    @torch.no_grad()
    def pictures(self) -> dict[str, tuple[Image, list[Map]]]:
        """Figure 3: the label, d_0 and d_-1 of the last batch's images."""
        if "d0" not in self.latest:
            return {}
        maps = [self.network.decode(self.latest[name]) for name in ("d0", "end")]
        return {"train/label_d0_and_end": (self.latest["image"], [self.latest["target"], *maps])}
