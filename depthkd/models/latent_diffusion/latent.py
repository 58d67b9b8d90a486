"""What depth networks made from Stable Diffusion share: an image's latent in, depth or its latent out."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from depthkd.batch import DepthSpace
from depthkd.errors import UserError
from depthkd.models.latent_diffusion.depth_codec import PERCENTILES, label_picture
from depthkd.models.model import DepthModel, DepthOutput, RawPrediction, Resized
from depthkd.resolution import NATIVE
from depthkd.shapes import Image, Map, Mask

Latent = Float[Tensor, "batch channels latent_height latent_width"]
UNetOutput = Float[Tensor, "batch out_channels latent_height latent_width"]
Pictures = Float[Tensor, "batch 3 height width"]


class UNetDepth(DepthModel):
    """A diffusers UNet over what an autoencoder's encoder makes of the image.

    The autoencoder stays in float32 in whatever precision the rest is: bfloat16 knows 128 values
    between 0.5 and 1, so depth would come in steps, and float16 overflows in it. It is never trained.

    Args:
        unet: a UNet2DConditionModel.
        vae: an AutoencoderKL, AutoencoderTiny or TransformCodec; its weights are frozen.
        text: the text encoder's embedding of an empty prompt.
        longest: the longer side at which it runs where nobody asks for another size, in pixels; None: the
            image's own size, or that which a run's student was trained at.

    Raises:
        UserError: the text embedding is of another width than the UNet takes; or `longest` is less
            than one pixel of the latent.
    """

    keeps_head_fp32 = True
    resizes = True
    encoding: torch.dtype = torch.float32  # in which the autoencoder encodes

    def __init__(self, unet: Any, vae: Any, text: Tensor, longest: int | None = None) -> None:
        super().__init__()
        self.multiple = 2 ** (len(vae.config.block_out_channels) - 1)
        if longest is not None and longest < self.multiple:
            raise UserError(f"the longest side must be at least {self.multiple} pixels, not {longest}")
        width = unet.config.cross_attention_dim
        if text.ndim != 3 or len(text) != 1 or text.shape[-1] != width:
            raise UserError(
                f"the empty prompt's embedding is {list(text.shape)}; this UNet takes [1, tokens, {width}]"
            )
        self.vae, self.unet = vae.requires_grad_(False), unet
        self.text: Tensor
        self.register_buffer("text", text)
        self.longest, self.chooses_size = longest, longest is not None

    @abstractmethod
    def predict_raw(self, image: Image) -> RawPrediction:
        """Depth in [0, 1], at a size that `resize_to` brings to the image's."""

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> depth in `self.space`, in [0, 1].

        With `longest` it is of the image's size, without it of the rounded size.
        """
        depth = self.predict_raw(image)
        size = (image.shape[-2], image.shape[-1])
        return DepthOutput(self.resize_to(depth, size) if self.chooses_size else depth)

    def encode(self, image: Image) -> Latent:
        """RGB in [0, 1], of rounded size -> the mean of the autoencoder's posterior, scaled, float32."""
        scale: float = self.vae.config.scaling_factor
        half = self.encoding != torch.float32
        with torch.autocast(image.device.type, self.encoding if half else None, enabled=half):
            encoded = self.vae.encode(image.float() * 2 - 1)
        mean: Tensor = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        return mean.float() * scale

    def denoise(
        self, latent: Latent, timestep: int | Int[Tensor, " batch"], labels: Tensor | None = None
    ) -> UNetOutput:
        """The UNet's output at a timestep, for an empty prompt, float32.

        Args:
            latent: with as many channels as the UNet takes.
            timestep: the same for the whole batch, or one for each image.
            labels: the class embedding's input, one row an image, where the UNet has one.
        """
        dtype = next(self.unet.parameters()).dtype
        text = self.text.to(dtype).expand(len(latent), -1, -1)
        times = torch.as_tensor(timestep, device=latent.device).expand(len(latent))
        labels = None if labels is None else labels.to(latent.device, dtype)
        output: Tensor = self.unet(latent.to(dtype), times, text, class_labels=labels).sample
        return output.float()

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """The autoencoder's and the UNet's, which are pre-trained."""
        return chain(self.vae.parameters(), self.unet.parameters())

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The size at which an image of this size runs: what `infer` is asked for; in `forward` `longest`, or
        the image's own."""
        if self._request is not None:
            at = self.resolve(self._request)
        else:
            at = NATIVE if self.longest is None else self.default_resolution
        return self.rounded(*at.size(height, width))

    def fit_input(self, image: Image) -> Resized:
        """Bilinear and antialiased, as these networks' own code resizes."""
        size = self.input_size(*image.shape[-2:])
        if tuple(image.shape[-2:]) == size:
            return image
        return F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "UNetDepth":
        def keep_type(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            return changed if changed.dtype == tensor.dtype else tensor.to(changed.device)

        modules: dict[str, Any] = self._modules
        vae = modules.pop("vae")  # a rounded weight would not come back
        try:
            rest: Callable[..., object] = super()._apply
            rest(fn, recurse)
        finally:
            modules["vae"] = vae
        vae._apply(keep_type, recurse)
        return self


class LatentDepth(UNetDepth):
    """A UNet that predicts a depth map's latent, which the autoencoder decodes."""

    decodes_latents = True
    percentiles: tuple[float, float] = PERCENTILES  # of a label's values, which become black and white

    @abstractmethod
    def estimate(self, rgb: Latent) -> Latent:
        """The depth map's latent from the image's, both scaled, float32."""

    def predict_raw(self, image: Image) -> RawPrediction:
        """Depth in [0, 1] at the size that the network ran at."""
        return self.decode(self.estimate(self.encode(self.fit_input(image.float()))))

    def decode(self, latent: Latent) -> RawPrediction:
        """A scaled latent -> depth in [0, 1], float32, `multiple` times as large."""
        with torch.autocast(latent.device.type, enabled=False):
            pictures: Tensor = self.vae.decode(latent.float() / self.vae.config.scaling_factor).sample
        return self.gray(pictures)

    @torch.no_grad()
    def encode_decode_truth(self, depth: Map, mask: Mask, space: DepthSpace) -> Map:
        """The truth, encoded as in training, and decoded: no prediction can be nearer."""
        picture = label_picture(
            super().encode_decode_truth(depth, mask, space), mask, self.space.quantity, self.percentiles
        )
        height, width = depth.shape[-2:]
        padding = (0, -width % self.multiple, 0, -height % self.multiple)
        return self.decode(self.encode(F.pad(picture, padding, mode="replicate")))[:, :height, :width]

    def gray(self, pictures: Pictures) -> RawPrediction:
        """A decoded picture in about [-1, 1] -> [0, 1]: the mean of its channels, then cut."""
        return pictures.mean(1).clamp(-1, 1) / 2 + 0.5


def noise_like(latent: Latent) -> Latent:
    """Normal noise from torch's global generator, drawn on the CPU and image by image: it depends
    neither on the device nor on the batch."""
    return torch.stack([torch.randn(latent.shape[1:]) for _ in latent]).to(latent.device)
