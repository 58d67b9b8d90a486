"""SharpDepth's network (Pham et al., CVPR 2025): a diffusion UNet that sharpens another's metric depth."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from depthkd.alignment import Fit, fit_scale_and_shift
from depthkd.batch import METRIC_DEPTH, DepthSpace
from depthkd.errors import UserError
from depthkd.losses.disagreement import relative_disagreement
from depthkd.models.described import described
from depthkd.models.frozen import Frozen
from depthkd.models.hub import read_license
from depthkd.models.latent_diffusion.denoiser import LAST, DepthDenoiser, Prediction, load_parts, noised
from depthkd.models.latent_diffusion.depth_codec import as_picture, depth_range
from depthkd.models.latent_diffusion.latent import Latent, Pictures, noise_like
from depthkd.models.latent_diffusion.latent_folder import write_folder
from depthkd.models.latent_diffusion.random_weights import Size
from depthkd.models.model import Cameras, DepthModel, DepthOutput, RawPrediction, resize_map
from depthkd.models.provenance import stated_or_known
from depthkd.paths import user_path
from depthkd.resolution import checked
from depthkd.shapes import Image, Map, Mask

Variant = Literal["paper", "released"]
Gate = Literal["difference", "noise", "metric"]
MetricModel = Callable[[], DepthModel]

ALL: tuple[float, float] = (0.0, 1.0)  # percentiles: the smallest and the largest value
SMALLEST_DEPTH = 1e-3  # m
# Of maps in [0, 1]: one gray level of the pictures that autoencoders have learned from. Two maps that are
# nowhere farther apart agree, as far as an autoencoder tells.
LEAST_DIFFERENCE = 1 / 255


def gated_latent(
    latent: Latent, noise: Latent, difference: Float[Tensor, "batch latent_height latent_width"]
) -> Latent:
    """SharpDepth, Eq. 4: z'_d = e * eps + (1 - e) * z_d, e being the difference map at the latent's size."""
    share = difference[:, None]
    return share * noise + (1.0 - share) * latent


def rescaled(
    sharp: Map,
    metric: Map,
    reliable: Bool[Tensor, "batch height width"],
    smallest: float | None = SMALLEST_DEPTH,
) -> Map:
    """The sharpened map in meters (SharpDepth, section 5.1): fitted by least squares to the metric model's on
    the pixels where the two agree; on all, in images that have no such pixel.

    Args:
        sharp: in about [0, 1].
        metric: in meters.
        reliable: where the two agree.
        smallest: in meters, to which the result is raised; None: it may even be negative.
    """
    none = ~reliable.flatten(1).any(1)[:, None, None]
    scale, shift = fit_scale_and_shift(sharp, metric, reliable | none)
    return (scale[:, None, None] * sharp + shift[:, None, None]).clamp(min=smallest or -torch.inf)


class SharpDepth(DepthDenoiser):
    """Metric depth in, sharp metric depth out: d^ = G(z'_d, z_i), sections 4.1 and 5.1.

    A metric model's depth goes from its smallest to its largest value into [-1, 1], is encoded, and
    gets noise where the UNet itself, asked with nothing but noise first, sees another depth. What the
    UNet makes of that is decoded and fitted to the metric model's depth where the two agreed. The
    metric model is loaded when it is first asked, and any other may take its place at test time.

    Where the paper and its released code differ, `variant` decides: a `SharpDepthRefiner` reads it
    too. Each of these arguments, if given, decides for itself.

    Args:
        source: hub id or folder of a Lotus-G of depth (not of disparity), or of a Marigold, with `unet`,
            `vae`, `tokenizer` and `text_encoder`: what training starts from.
        size: random weights instead of a source; `SharpDepthRefiner` makes it a copy of its teacher.
        prediction: of one with random weights: "sample" is a Lotus, "v_prediction" a Marigold.
        metric: how to build the metric model f_D.
        metric_resolution: the size at which that runs, see `DepthModel.infer`; None: the image's own, or
            that which a run's student was trained at.
        longest: the longer side at which it runs where nobody asks for another size, in pixels; None:
            see `UNetDepth`. The paper's code: 768, and 1024 for benchmarks (configs/eval).
        variant: "paper" or "released".
        alignment: of the UNet's first estimate to the metric depth, before their difference:
            "scale_and_shift" (paper), or "none" (released).
        blend: what is put where they differ: "noise" (paper), or "noised_answer" (released), which is
            the first estimate with the noise of t = 999.
        intrinsics: whether known cameras reach the metric model: yes (paper), or no (released).
        fit_size: where the last fit is made: at the "network"'s size, and no depth is under 1 mm (ours: the
            paper does not say); or (released) at the "image"'s, to which the sharpened map, the metric depth
            and their difference are brought first, and nothing is raised.
        gate: "difference"; or Table 3's settings A, "noise" everywhere, and B, "metric", no noise at all.
            Without a difference map, no pixels count for more than others.
        reliable: the difference, 0 to 1, below which pixels count in the last fit.
        text: a .npy or .safetensors file with the empty prompt's embedding instead of the text
            encoder; or "zeros".
        vae: hub id or folder of another autoencoder than the source's.
        gradient_checkpointing: recompute activations of UNet and decoder in the backward pass.
        license: of the weights; what their card says where None.
        revision: branch, tag or commit of the source on the hub.
        training_sets: the data sets that the weights have learned from; what is publicly known where None.

    Raises:
        MissingFileError: there is no such folder or hub repository, or the hub cannot be reached.
        UserError: it holds another model, or the weights are pickled or do not fit; or there is no
            metric model when it is asked, or one whose depth is not metric.
    """

    space = METRIC_DEPTH
    percentiles = ALL

    def __init__(
        self,
        source: str = "jingheya/lotus-depth-g-v1-0",
        size: Size | None = None,
        prediction: Prediction = "sample",
        metric: MetricModel | None = None,
        metric_resolution: int | str | None = None,
        longest: int | None = 768,
        variant: Variant = "paper",
        alignment: Literal["scale_and_shift", "none"] | None = None,
        blend: Literal["noise", "noised_answer"] | None = None,
        intrinsics: bool | None = None,
        fit_size: Literal["network", "image"] | None = None,
        gate: Gate = "difference",
        reliable: float = 0.5,
        text: str | None = None,
        vae: str | None = None,
        gradient_checkpointing: bool = False,
        license: str | None = None,
        revision: str | None = None,
        training_sets: list[str] | None = None,
    ) -> None:
        if size is None and "disparity" in source:
            raise UserError(
                f"'{source}' predicts disparity; SharpDepth sharpens depth, as that of "
                "jingheya/lotus-depth-g-v1-0"
            )
        super().__init__(load_parts(source, size, vae, text, revision, prediction=prediction), longest)
        paper = variant == "paper"
        self.variant: Variant = variant
        self.fit = Fit(alignment or ("scale_and_shift" if paper else "none"))
        self.blend = blend or ("noise" if paper else "noised_answer")
        self.takes_camera = paper if intrinsics is None else intrinsics
        self.fit_size = fit_size or ("network" if paper else "image")
        self.gate: Gate = gate
        self.reliable = reliable
        self.metric_resolution = checked(metric_resolution, "metric_resolution")
        self.make_metric = metric
        self._metric: Frozen | None = None
        if gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
            if hasattr(self.vae, "enable_gradient_checkpointing"):
                self.vae.enable_gradient_checkpointing()
        self.source = f"SharpDepth, random weights ({size})" if size else source
        self.license = license or ("unknown" if size else read_license(source, revision))
        self.training_sets = stated_or_known(training_sets, None if size else source)

    @property
    def metric(self) -> Frozen:
        """f_D, built on first use; never part of the weights.

        Raises:
            UserError: there is none, or its depth is not metric.
        """
        if self._metric is None:
            if self.make_metric is None:
                raise UserError(
                    "SharpDepth sharpens a metric model's depth and has none: give `metric`, such as "
                    "{class_path: depthkd.models.ZoeDepth, init_args: {source: Intel/zoedepth-nyu-kitti}}"
                )
            self.metric = Frozen(self.make_metric, next(self.unet.parameters()).device)
        assert self._metric is not None
        return self._metric

    @metric.setter
    def metric(self, teacher: Frozen) -> None:
        if teacher.space != METRIC_DEPTH:
            raise UserError(f"SharpDepth sharpens {METRIC_DEPTH}, but its metric model gives {teacher.space}")
        self._metric = teacher

    def save_pretrained(self, folder: Path | str, image_size: int | None = None) -> None:
        """Write a folder of diffusers, which `SharpDepth(source=FOLDER)` loads; see
        `DepthModel.save_pretrained`. The metric model is no part of it, and is named in it.

        Raises:
            UserError: the metric model cannot be named in a file.
        """
        own = {
            "variant": self.variant,
            "alignment": str(self.fit),
            "blend": self.blend,
            "intrinsics": self.takes_camera,
            "fit_size": self.fit_size,
            "gate": self.gate,
            "reliable": self.reliable,
            "longest": self.longest,
            "metric_resolution": None if self.metric_resolution is None else str(self.metric_resolution),
        }
        schedule = {**self.schedule, "prediction_type": self.prediction}
        metric = described(self.metric.model)
        write_folder(self, user_path(folder), image_size, own, schedule, companions={"metric": metric})

    def companions(self) -> list[DepthModel]:
        """The metric model, where there is one."""
        return [] if self._metric is None and self.make_metric is None else [self.metric.model]

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> depth in meters, at the image's size with `longest`, else at the rounded one."""
        height, width = image.shape[-2:]
        size = (height, width) if self.chooses_size else self.rounded(height, width)
        return DepthOutput(self.resize_to(self.predict_raw(image), size))

    def predict_raw(self, image: Image) -> RawPrediction:
        """Depth in meters at the size that the network ran at.

        With a last fit at the image's size, what that needs, one map above the other: the sharpened
        map in about [0, 1], the metric depth in meters, and their difference.
        """
        return self._sharpen(image, None)

    def predict_raw_with_camera(self, image: Image, intrinsics: Cameras) -> RawPrediction:
        """`predict_raw`, whose metric model knows the cameras."""
        return self._sharpen(image, intrinsics)

    def _sharpen(self, image: Image, intrinsics: Cameras | None) -> RawPrediction:
        pixels = self.fit_input(image.float())
        metric = resize_map(self.metric_depth(image, intrinsics), (pixels.shape[-2], pixels.shape[-1]))
        rgb, normalized_metric = self.encode(pixels), self.normalized(metric)
        first = self.estimate(rgb)
        latent, difference = self.gate_latent(normalized_metric, first, noise_like(rgb))
        sharp = self.decode(self.clean(latent, rgb, LAST))
        if self.fit_size == "image":
            return torch.cat([sharp, metric, difference], 1)
        return rescaled(sharp, metric, difference < self.reliable)

    def resize_to(self, raw: RawPrediction, size: tuple[int, int]) -> Map:
        """Depth in meters at the size (height, width) of the image."""
        if self.fit_size == "network":
            return resize_map(raw, size)
        sharp, metric, difference = (resize_map(part, size) for part in raw.chunk(3, 1))
        return rescaled(sharp, metric, difference < self.reliable, smallest=None)

    def metric_depth(self, image: Image, intrinsics: Cameras | None = None) -> Map:
        """f_D's depth in meters, at the image's size."""
        metric = self.metric
        metric.to(image.device)
        known = intrinsics if self.takes_camera else None
        at = "own" if self.metric_resolution is None and metric.model.trained_at else self.metric_resolution
        return resize_map(metric(image, known, at).depth, (image.shape[-2], image.shape[-1]))

    def normalized(self, metric: Map, known: Mask | None = None) -> Map:
        """Each map from its smallest to its largest value into [0, 1]; 1, far away, where it is not known."""
        known = torch.ones_like(metric, dtype=torch.bool) if known is None else known
        low = torch.where(known, metric, torch.inf).flatten(1).amin(1)
        high = torch.where(known, metric, -torch.inf).flatten(1).amax(1)
        return as_picture(metric, low, high, known, 1.0)[:, 0] / 2 + 0.5

    def estimate(self, rgb: Latent) -> Latent:
        """The depth's latent from noise and the image's alone, in one step."""
        return self.clean(noise_like(rgb), rgb, LAST)

    def gate_latent(
        self, normalized_metric: Map, first: Latent, noise: Latent, known: Mask | None = None
    ) -> tuple[Latent, Map]:
        """Noise-aware gating (section 4.1): what the sharpener is given, z'_d, and the difference map e.

        Args:
            normalized_metric: the metric depth in [0, 1].
            first: the latent of the diffusion model's own prediction.
            noise: for z'_d.
            known: where the metric depth is; elsewhere e is 1, so that the sharpener is given noise there.
        """
        depth = self.encode(normalized_metric[:, None].expand(-1, 3, -1, -1))
        if self.gate != "difference":
            return (noise if self.gate == "noise" else depth), torch.ones_like(normalized_metric)
        known = torch.ones_like(normalized_metric, dtype=torch.bool) if known is None else known
        difference = relative_disagreement(
            self.decode(first), normalized_metric, known, self.fit, LEAST_DIFFERENCE
        )
        difference = torch.where(known, difference, 1.0)
        if self.blend == "noised_answer":
            noise = noised(first, noise, self.alphas_cumprod[LAST].float().expand(len(first)))
        small = F.interpolate(difference[:, None], depth.shape[-2:], mode="nearest")[:, 0]
        return gated_latent(depth, noise, small), difference

    def gray(self, pictures: Pictures) -> RawPrediction:
        """A decoded picture in about [-1, 1] -> about [0, 1]: the mean of its channels, not cut."""
        return pictures.mean(1) / 2 + 0.5

    def encode_decode_truth(self, depth: Map, mask: Mask, space: DepthSpace) -> Map:
        """The truth, encoded and decoded, in meters."""
        truth = DepthModel.encode_decode_truth(self, depth, mask, space)
        low, high = (end[:, None, None] for end in depth_range(truth, mask, self.percentiles))
        return low + super().encode_decode_truth(depth, mask, space) * (high - low)
