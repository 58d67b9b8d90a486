"""GenPercept, Lotus and Marigold: depth from Stable Diffusion 2, through diffusers."""

from pathlib import Path, PurePath
from typing import Any

import torch
from diffusers import DDIMScheduler, LCMScheduler, MarigoldDepthPipeline
from diffusers.pipelines.marigold.marigold_image_processing import MarigoldImageProcessor
from torch import Tensor

from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY, Ambiguity, DepthSpace, Quantity
from depthkd.errors import UserError
from depthkd.models.hub import locate, read_json, read_license
from depthkd.models.latent_diffusion.denoiser import LAST, DepthDenoiser, load_parts
from depthkd.models.latent_diffusion.latent import Latent, LatentDepth, Pictures, noise_like
from depthkd.models.latent_diffusion.latent_files import (
    STABLE_DIFFUSION,
    empty_text,
    latent_channels,
    load_autoencoder,
    load_unet,
)
from depthkd.models.latent_diffusion.latent_folder import write_folder
from depthkd.models.latent_diffusion.random_weights import NOISE, Size
from depthkd.models.model import RawPrediction, Resized
from depthkd.models.provenance import stated_or_known
from depthkd.paths import user_path
from depthkd.shapes import Image

SCHEDULERS: dict[str, Any] = {"DDIMScheduler": DDIMScheduler, "LCMScheduler": LCMScheduler}


class GenPercept(LatentDepth):
    """GenPercept (Xu et al., arXiv 2403.06090): one pass at t = 1 over the image's latent, no noise.

    All of its noise schedule is noise (beta is 1 throughout), so of a v-prediction v the depth's latent
    is -v. Where `source` has no config.json beside the UNet's weights, Stable Diffusion's is taken.

    Args:
        source: hub id or folder with the UNet.
        unet: its folder in there: `unet_disparity_v2` or `unet_depth_v2`; "." for the source itself.
        base: hub id or folder of Stable Diffusion 2.1, for `vae`, `tokenizer` and `text_encoder`.
        text: a .npy or .safetensors file with the empty prompt's embedding instead of the text
            encoder; or "zeros".
        longest: the longer side at which it runs where nobody asks for another size, in pixels; None:
            see `UNetDepth`.
        space: what the output means, if neither `unet` nor `source` is called after it.
        license: of the weights; what their card says where None.
        revision: of the source; branch, tag or commit on the hub.
        training_sets: the data sets that the weights have learned from; what is publicly known where None.

    Raises:
        MissingFileError: there is no such folder or hub repository, or the hub cannot be reached.
        UserError: it holds another model, or the weights are pickled or do not fit.
    """

    def __init__(
        self,
        source: str = "guangkaixu/genpercept-models",
        unet: str = "unet_disparity_v2",
        base: str = STABLE_DIFFUSION,
        text: str | None = None,
        longest: int | None = 768,
        space: str | None = None,
        license: str | None = None,
        revision: str | None = None,
        training_sets: list[str] | None = None,
    ) -> None:
        name = f"{PurePath(source).name}/{unet}"
        if "dpt_head" in name or "dpt-head" in name:
            raise UserError(
                f"'{name}' is GenPercept with a DPT head: take depthkd.models.GenPerceptDPT, or "
                "unet_disparity_v2 of guangkaixu/genpercept-models, which has none"
            )
        meaning = DepthSpace.parse(space) if space else space_by_name(name)
        network = load_unet(source, unet, (latent_channels(base),), revision, base)
        embedding = empty_text(base, network.config.cross_attention_dim, text)
        super().__init__(network, load_autoencoder(base), embedding, longest)
        self.space = meaning
        self.source = f"{source}/{unet}"
        self.license = license or read_license(source, revision)
        self.training_sets = stated_or_known(training_sets, source)

    def estimate(self, rgb: Latent) -> Latent:
        """The depth map's latent from the image's."""
        return -self.denoise(rgb, 1)


class Lotus(DepthDenoiser):
    """Lotus (He et al., arXiv 2409.18124): the depth's latent itself, in one pass at t = 999.

    Lotus-G (a UNet of 8 channels) takes noise beside the image's latent, from torch's global
    generator; Lotus-D takes the latent alone. The latent is the posterior's mean, where the authors'
    code draws from the posterior. v1 predicts depth, what is called "disparity" does that.

    Args:
        source: hub id or folder, with `unet`, `vae`, `tokenizer` and `text_encoder`.
        text: a .npy or .safetensors file with the empty prompt's embedding instead of the text
            encoder; or "zeros".
        longest: the longer side at which it runs where nobody asks for another size, in pixels; None:
            see `UNetDepth`.
        space: what the output means, if the source is not called after it.
        license: of the weights; what their card says where None.
        revision: branch, tag or commit on the hub.
        training_sets: the data sets that the weights have learned from; what is publicly known where None.
        size: random weights instead of a source: a Lotus-G for `LatentDiffusion` to train.

    Raises:
        MissingFileError: there is no such folder or hub repository, or the hub cannot be reached.
        UserError: it holds another model, or the weights are pickled or do not fit.
    """

    def __init__(
        self,
        source: str = "jingheya/lotus-depth-g-v1-0",
        text: str | None = None,
        longest: int | None = None,
        space: str | None = None,
        license: str | None = None,
        revision: str | None = None,
        training_sets: list[str] | None = None,
        size: Size | None = None,
    ) -> None:
        meaning = DepthSpace.parse(space) if space else space_by_name(PurePath(source).name)
        parts = load_parts(source, size, None, text, revision, (1, 2))
        if parts.unet.config.class_embed_type != "projection":
            raise UserError(
                f"the UNet in '{source}' has no class embedding of type 'projection', so it is not Lotus's"
            )
        super().__init__(parts, longest)
        self.space = meaning
        self.source = f"Lotus, random weights ({size})" if size else source
        self.license = license or ("unknown" if size else read_license(source, revision))
        self.training_sets = stated_or_known(training_sets, None if size else source)

    def estimate(self, rgb: Latent) -> Latent:
        """The depth map's latent from the image's."""
        return self.clean(noise_like(rgb) if self.generative else rgb, rgb, LAST)

    def gray(self, pictures: Pictures) -> RawPrediction:
        """A decoded picture in about [-1, 1] -> [0, 1]: cut, then the mean of its channels."""
        return (pictures / 2 + 0.5).clamp(0, 1).mean(1)

    def save_pretrained(self, folder: Path | str, image_size: int | None = None) -> None:
        """Write a folder of diffusers, which `Lotus(source=FOLDER)` loads; see
        `DepthModel.save_pretrained`."""
        own = {"space": str(self.space), "longest": self.longest}
        write_folder(self, user_path(folder), image_size, own, self.schedule)


class Marigold(DepthDenoiser):
    """Marigold (Ke et al., arXiv 2312.02145): the depth's latent from noise, in several steps.

    It gives what diffusers' MarigoldDepthPipeline gives for the same noise: the image is brought to the
    very size that is asked for and padded to the multiple. Images run one by one, the members of an
    ensemble together; all noise is from torch's global generator.

    Args:
        source: hub id or folder that the pipeline loads, such as prs-eth/marigold-depth-v1-0 or -v1-1.
        steps: of the denoising; what the source says where None.
        ensemble: predictions to align and take the median of.
        text: a .npy or .safetensors file with the empty prompt's embedding instead of the text
            encoder; or "zeros".
        longest: the longer side at which it runs where nobody asks for another size, in pixels; None:
            see `UNetDepth`.
        license: of the weights; what their card says where None.
        revision: branch, tag or commit on the hub.
        training_sets: the data sets that the weights have learned from; what is publicly known where None.
        size: random weights instead of a source, for `LatentDiffusion` to train: it predicts v, as
            Stable Diffusion 2.1 does, and depth in one step.

    Raises:
        MissingFileError: there is no such folder or hub repository, or the hub cannot be reached.
        UserError: it holds another model, the weights are pickled or do not fit, or `steps` or
            `ensemble` is not above 0.
    """

    def __init__(
        self,
        source: str = "prs-eth/marigold-depth-v1-1",
        steps: int | None = None,
        ensemble: int = 1,
        text: str | None = None,
        longest: int | None = 768,
        license: str | None = None,
        revision: str | None = None,
        training_sets: list[str] | None = None,
        size: Size | None = None,
    ) -> None:
        index: dict[str, Any] = {"default_denoising_steps": 1}
        if size is None:
            locate(source, "model_index.json", revision)
            index = read_json(source, "model_index.json", revision)
        chosen = index.get("default_denoising_steps") if steps is None else steps
        if not chosen or chosen < 1 or ensemble < 1:
            raise UserError(f"Marigold's steps and ensemble must be above 0, not {chosen} and {ensemble}")
        super().__init__(load_parts(source, size, None, text, revision, prediction="v_prediction"), longest)
        self.steps, self.ensemble = int(chosen), ensemble
        self.scheduler = random_scheduler() if size else load_scheduler(source, revision)
        self.shifted = index.get("shift_invariant", True)
        self.space = DepthSpace(
            Quantity(index.get("prediction_type") or "depth"),
            Ambiguity.AFFINE if self.shifted else Ambiguity.SCALE,
        )
        self.source = f"Marigold, random weights ({size})" if size else source
        self.license = license or ("unknown" if size else read_license(source, revision))
        self.training_sets = stated_or_known(training_sets, None if size else source)

    def predict_raw(self, image: Image) -> RawPrediction:
        """Depth in [0, 1] at the size that the image had before it was padded."""
        pixels = self.fit_input(image.float())
        height, width = self.input_size(*image.shape[-2:])
        return torch.cat([self._one(one)[:, :height, :width] for one in torch.split(pixels, 1)])

    def estimate(self, rgb: Latent) -> Latent:
        """The depth map's latent from the image's."""
        depth: Tensor = noise_like(rgb)
        self.scheduler.set_timesteps(self.steps)
        for timestep in self.scheduler.timesteps:
            output = self.denoise(torch.cat([rgb, depth], 1), int(timestep))
            # The generator is the CPU's, so that LCM's noise does not depend on the device either.
            step = self.scheduler.step(output, timestep, depth, generator=torch.default_generator)
            depth = step.prev_sample
        return depth

    def rounded(self, height: int, width: int) -> tuple[int, int]:
        """The sides as they are: `fit_input` pads them."""
        return height, width

    def fit_input(self, image: Image) -> Resized:
        """Resized as others are, then padded by its last row and column."""
        padded: Tensor = MarigoldImageProcessor.pad_image(super().fit_input(image), self.multiple)[0]
        return padded

    def save_pretrained(self, folder: Path | str, image_size: int | None = None) -> None:
        """Write a folder of diffusers, which `Marigold(source=FOLDER)` and diffusers' MarigoldDepthPipeline
        load; see `DepthModel.save_pretrained`."""
        own = {"steps": self.steps, "ensemble": self.ensemble, "longest": self.longest}
        index = {
            "_class_name": MarigoldDepthPipeline.__name__,
            "prediction_type": str(self.space.quantity),
            "scale_invariant": True,
            "shift_invariant": self.shifted,
            "default_denoising_steps": self.steps,
            "default_processing_resolution": self.longest or 0,
        }
        config = {"_class_name": type(self.scheduler).__name__, **self.scheduler.config}
        write_folder(self, user_path(folder), image_size, own, config, index)

    def _one(self, pixels: Resized) -> RawPrediction:
        members = self.decode(self.estimate(self.encode(pixels).expand(self.ensemble, -1, -1, -1)))
        if self.ensemble == 1:
            return members
        median: Tensor = MarigoldDepthPipeline.ensemble_depth(members[:, None], True, self.shifted)[0]
        return median[:, 0]


def load_scheduler(source: str, revision: str | None = None) -> Any:
    """The DDIM or LCM scheduler of a hub id or folder.

    Raises:
        MissingFileError: there is none, or the hub cannot be reached.
        UserError: it is another one.
    """
    name = "scheduler/scheduler_config.json"
    locate(source, name, revision)
    config = read_json(source, name, revision)
    kind = str(config.get("_class_name"))
    if kind not in SCHEDULERS:
        raise UserError(
            f"{name} of '{source}' says '{kind}'; for Marigold it would be {' or '.join(SCHEDULERS)}"
        )
    return SCHEDULERS[kind].from_config(config)


def random_scheduler() -> Any:
    """Marigold v1-1's, over Stable Diffusion's noise schedule as it is."""
    scheduler_class: Any = DDIMScheduler
    return scheduler_class(
        **NOISE, prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False
    )


def space_by_name(name: str) -> DepthSpace:
    """Affine disparity or affine depth, whichever a checkpoint is called after.

    Raises:
        UserError: neither.
    """
    if "disparity" in name:
        return AFFINE_DISPARITY
    if "depth" in name:
        return AFFINE_DEPTH
    raise UserError(
        f"'{name}' is called after neither depth nor disparity: set space to '{AFFINE_DEPTH}' or "
        f"'{AFFINE_DISPARITY}'"
    )
