"""Marigold's and Lotus's own training (SharpDepth, section 3): where a diffusion teacher is from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from depthkd.alignment import convert, masked_mean
from depthkd.batch import Batch, TrainingBatch
from depthkd.errors import UserError
from depthkd.methods.method import Method
from depthkd.methods.optimization import Optimization
from depthkd.models.latent_diffusion.denoiser import LAST, DepthDenoiser, noised, velocity
from depthkd.models.latent_diffusion.depth_codec import PERCENTILES, label_picture, latent_mask
from depthkd.models.latent_diffusion.latent import Latent
from depthkd.models.model import DepthModel
from depthkd.shapes import Image, Map


@dataclass(frozen=True)
class LatentDiffusionWeights:
    """SharpDepth, Eqs. 1 and 2: of the depth, and of Lotus's second task, the image itself."""

    depth: float = 1.0
    image: float = 1.0


class LatentDiffusion(Method):
    """Trains a Lotus-G or a Marigold on labelled images, as their authors do.

    A Lotus learns the depth's latent and the image's from noisy ones, at its last timestep (Eq. 2); a
    Marigold, at timesteps from all of the schedule, what it predicts of a noisy depth latent: eps
    (Eq. 1) or v. Labels are brought into the student's quantity and from their percentiles to [-1, 1].

    Args:
        student: a Lotus or a Marigold that takes noise.
        weights: of the two terms; a Marigold has the first alone.
        percentiles: of a label's valid values, which become -1 and 1.
        optimization: optimizer, schedule and moving average. Both papers' learning rate is 3e-5.
        seed: of everything random in training.

    Raises:
        UserError: the student is another network, or a source has no labels for it.
    """

    def __init__(
        self,
        student: DepthModel,
        weights: LatentDiffusionWeights = LatentDiffusionWeights(),
        percentiles: tuple[float, float] = PERCENTILES,
        optimization: Optimization = Optimization(learning_rate=3e-5, encoder_factor=1.0, weight_decay=0.0),
        seed: int = 0,
    ) -> None:
        super().__init__(student, optimization, weights, {}, seed)
        network = student.unwrapped()
        if not isinstance(network, DepthDenoiser) or not network.generative:
            raise UserError(
                f"model.init_args.student is {type(student).__name__}, or a Lotus without noise; "
                "LatentDiffusion trains a Marigold or a Lotus-G"
            )
        self.percentiles = percentiles

    @property
    def network(self) -> DepthDenoiser:
        """The student, under its own type; a run's, where it goes on from one."""
        network = self.student.unwrapped()
        assert isinstance(network, DepthDenoiser)
        return network

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Both terms over all labelled sources."""
        return self.mean_over_images([self._per_image(name, part) for name, part in batch.items()])

    def _per_image(self, name: str, part: Batch) -> dict[str, Tensor]:
        if part.depth is None or part.mask is None or part.space is None:
            raise UserError(
                f"data.train.{name} has no depth, but LatentDiffusion learns from labels: use labelled shards"
            )
        network, quantity = self.network, self.student.space.quantity
        image = self.sized(name, part)
        label, valid = self.usable(name, part, "the label", part.depth, part.mask)
        label = convert(label, part.space, quantity)
        picture = label_picture(label, valid, quantity, self.percentiles)
        with torch.no_grad():
            rgb, depth = network.encode(image), network.encode(picture)
        mask = latent_mask(valid, network.multiple)
        generators = self.generators(name, part)
        noise = self.noise(depth, generators)
        if not network.tasks:
            last = len(network.alphas_cumprod) - 1
            drawn = torch.cat([torch.randint(1, last + 1, (1,), generator=g) for g in generators])
            times = drawn.to(rgb.device)
            output = network.denoise(torch.cat([rgb, self._noised(depth, noise, times)], 1), times)
            return {"depth": masked_mean((output - self._aim(depth, noise, times)).square().mean(1), mask)}
        times = torch.full((len(rgb),), LAST, device=rgb.device)
        estimate = network.clean(self._noised(depth, noise, times), rgb, times)
        self.latest = {"image": image[:1], "target": picture[:1, 0], "latent": estimate[:1].detach()}
        terms = {"depth": masked_mean((estimate - depth).square().mean(1), mask)}
        if self.used("image"):
            again = network.clean(self._noised(rgb, noise, times), rgb, times, "image")
            terms["image"] = (again - rgb).square().flatten(1).mean(1)
        return terms

    def _noised(self, latent: Latent, noise: Latent, times: Tensor) -> Latent:
        return noised(latent, noise, self.network.alphas_cumprod[times])

    def _aim(self, depth: Latent, noise: Latent, times: Tensor) -> Latent:
        if self.network.prediction != "v_prediction":
            return noise if self.network.prediction == "epsilon" else depth
        return velocity(depth, noise, self.network.alphas_cumprod[times])

    @torch.no_grad()
    def pictures(self) -> dict[str, tuple[Image, list[Map]]]:
        """A Lotus's label and prediction of the last batch; a Marigold's single steps are no predictions."""
        if not self.latest:
            return {}
        depth = self.network.decode(self.latest["latent"])
        return {"train/latest": (self.latest["image"], [self.latest["target"], depth])}
