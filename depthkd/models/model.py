"""DepthModel: what students, teachers and baselines have in common."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from depthkd.alignment import convert
from depthkd.batch import DepthSpace
from depthkd.errors import UserError
from depthkd.geometry import flip_intrinsics, resize_intrinsics, resize_sparse_depth
from depthkd.models.arguments import check, named
from depthkd.models.identity import identity_of
from depthkd.models.renamed import RenamedNames
from depthkd.resolution import NATIVE, Asked, Resolution
from depthkd.shapes import Image, Map

Cameras = Float[Tensor, "batch 3 3"]
Resized = Float[Tensor, "batch 3 new_height new_width"]
RawPrediction = Float[Tensor, "batch raw_height raw_width"]
SparseDepth = Float[Tensor, "_ _ _"]  # would be [batch, height, width], as is checked with a sentence


class DepthOutput(NamedTuple):
    """What a network returns: `depth` in the model's space, float32, and the encoder's last patch
    features where it has them (channels last, as tokens, row by row, without a class token)."""

    depth: Float[Tensor, "batch height width"]
    features: Float[Tensor, "batch tokens channels"] | None = None


class FeatureModel(RenamedNames, nn.Module):
    """A network whose encoder makes patch features of RGB in [0, 1]; a `DepthModel` also predicts depth."""

    keeps_head_fp32: bool = False  # whether autocast leaves the head, or the decoder, in float32
    license: str = "unknown"
    base_license: str = "unknown"  # of a run's student: of the weights from which its training began
    source: str = "unnamed"  # hub id, path or class: what reports and checkpoints call it
    training_sets: tuple[str, ...] | None = None  # the data sets it has learned from; None: not known

    @abstractmethod
    def features(self, image: Image) -> Float[Tensor, "batch tokens channels"] | None:
        """The encoder's last patch features, as tokens row by row, without a class token; None where there
        are none."""

    @property
    def feature_channels(self) -> int | None:
        """How many channels `features` have; None where there are none, or nothing is known of them."""
        return None

    @property
    def feature_family(self) -> str:
        """The encoder's architecture: the channels of two families do not mean the same."""
        return type(self).__name__


class DepthModel(FeatureModel):
    """A network from RGB in [0, 1] to a depth map in a declared space.

    The model owns its normalization. `forward` runs at the size that it is given, rounded to the nearest
    `multiple` (or at `fixed_size`, where the network takes only one), and returns depth of the size that it
    ran at. `predict` returns depth of the image's size: it is `infer`, which gives the raw prediction at
    network resolution, and `resize_to`, which brings that to the image's size. Both run at the resolution
    that they are asked for, else at `default_resolution`; networks that choose their size always at that.

    Names of version 0.1 that a subclass overrides (`answer`, `restore`, `licence`, ...) still work, with a
    warning: see `depthkd.models.renamed`.
    """

    space: DepthSpace
    multiple: int = 1
    fixed_size: tuple[int, int] | None = None
    chooses_size: bool = False  # whether forward resizes every image itself
    resizes: bool = False  # whether it can do that at the size that `infer` is asked for
    longest: int | None = None  # the longer side at which it runs where nobody asks for another
    trained_at: tuple[int, int] | None = None  # height and width of the images a run's student learned from
    preprocessing: str = "depthkd"  # whose way of resizing images and predictions it takes
    decodes_latents: bool = False  # whether an autoencoder makes the prediction, with an error of its own
    takes_camera: bool = False  # whether its prediction depends on the intrinsics, where they are known
    takes_sparse_depth: bool = False  # whether it completes measured points, where they are given
    needs_sparse_depth: bool = False  # whether it predicts nothing without them
    max_depth: float | None = None  # the largest depth it can predict, in meters; None: any, or not metric
    caches: tuple[str, ...] = ()  # attributes that change while it runs, without changing its predictions
    _request: Resolution | None = None  # what `infer` is asked for, while it runs

    def __new__(cls, *arguments: object, **options: object) -> Any:
        """Check and note what the model is built with; `identity` is made of it.

        Raises:
            UserError: an argument cannot be.
        """
        check(cls, named(cls, arguments, options))
        model = super().__new__(cls)
        vars(model)["_arguments"] = arguments, options
        return model

    @abstractmethod
    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> depth in `self.space` at the (rounded) input size."""

    def features(self, image: Image) -> Float[Tensor, "batch tokens channels"] | None:
        """The encoder's last patch features, which `forward` returns beside the depth."""
        output: DepthOutput = self(image)
        return output.features

    @abstractmethod
    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """The pre-trained part, which learns ten times slower than the rest."""

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """All parameters that are not the encoder's."""
        encoder = {id(p) for p in self.encoder_parameters()}
        return (p for p in self.parameters() if id(p) not in encoder)

    @property
    def default_resolution(self) -> Resolution:
        """Where it runs if nobody asks for a size: at its `longest` side; at the shorter side of the images
        that it learned from, which keeps the aspect ratio and the scale of pixels; or at an image's own
        size."""
        if self.longest is not None:
            return Resolution("longer", self.longest)
        return NATIVE if self.trained_at is None else Resolution("shorter", min(self.trained_at))

    def resolve(self, asked: Resolution) -> Resolution:
        """What is asked for, or `default_resolution` where that is left to the model."""
        left = asked.side == "own" or (asked.or_own and self.longest is not None)
        return self.default_resolution.times(asked.scale) if left else asked

    def runs_at(
        self, height: int, width: int, resolution: Asked = None, scale: float = 1.0
    ) -> tuple[int, int] | None:
        """Height and width at which an image of this height and width runs.

        Args:
            height, width: in pixels.
            resolution, scale: as in `infer`.

        Returns:
            None, where only the network knows.
        """
        if self.fixed_size is not None:
            return self.fixed_size
        if self.chooses_size and not self.resizes:
            return None
        size = self.resolve(Resolution.parse(resolution).times(scale)).size(height, width)
        return self.rounded(*size)

    def rounded(self, height: int, width: int) -> tuple[int, int]:
        """A size that the network takes: each side at the nearest `multiple`, or the `fixed_size`."""
        if self.fixed_size is not None:
            return self.fixed_size
        m = self.multiple
        return max(m, round(height / m) * m), max(m, round(width / m) * m)

    def fit_input(self, image: Image) -> Resized:
        """The image resized to the size at which it runs, where that differs."""
        size = self.rounded(*image.shape[-2:])
        return image if tuple(image.shape[-2:]) == size else resize_image(image, size)

    def predict_raw(self, image: Image) -> RawPrediction:
        """Raw prediction at network resolution; `resize_to` brings it to the image's size.

        It is depth in `self.space`, unless the model overrides both methods.

        Args:
            image: of the size at which the network runs.
        """
        output: DepthOutput = self(image)
        return output.depth.float()

    def predict_raw_with_camera(self, image: Image, intrinsics: Cameras) -> RawPrediction:
        """`predict_raw` for images of known cameras, in their pixels; of a network that `takes_camera`."""
        return self.predict_raw(image)

    def predict_raw_with_sparse_depth(
        self, image: Image, sparse: Map, intrinsics: Cameras | None = None
    ) -> RawPrediction:
        """`predict_raw` for images of which the depth is measured at some pixels; of a network that
        `takes_sparse_depth`.

        Args:
            image: of the size at which the network runs.
            sparse: the depth at the image's pixels, in meters, 0 where nothing was measured.
            intrinsics: of the cameras, in the image's pixels, of a network that `takes_camera`; None, where
                they are not known.

        Raises:
            UserError: there are too few points for this network.
        """
        return (
            self.predict_raw(image) if intrinsics is None else self.predict_raw_with_camera(image, intrinsics)
        )

    def estimated_cameras(self, image: Image) -> Cameras | None:
        """Intrinsics that the network itself finds for images, in their pixels; None where it finds none."""
        return None

    def companions(self) -> "list[DepthModel]":
        """Networks that are not part of this one, but on which its predictions depend."""
        return []

    def files(self) -> list[Path]:
        """Files besides its weights on which its predictions depend."""
        return []

    @final
    def identity(self) -> str:
        """What its predictions depend on, in 16 hexadecimal digits; kept metrics and predictions go by it.

        Two models have one identity only if they predict alike: if class and source code, all arguments,
        attributes, tensors and `files`, and the identities of all `companions` are the same. What it
        is called by (`source`, `license`, `training_sets`) and its `caches` do not count. Where a part
        cannot be told again in another process, such as a lambda that builds no companion, a handle, or
        a class without a source file, no two calls agree. It reads every tensor: about two seconds
        a gigabyte.
        """
        return identity_of(self)

    def unwrapped(self) -> "DepthModel":
        """The network itself, of one that only stands for another."""
        return self

    def save_pretrained(self, folder: Path | str, image_size: int | None = None) -> None:
        """Write it as a folder that transformers loads, or diffusers; or depthkd alone, as of a TimmDepth.

        Args:
            folder: made where it is missing.
            image_size: the side at which it runs where nobody asks for another size, in
                `transformers.pipeline` too, in pixels; the model's own where None.

        Raises:
            UserError: there is no such form of this network.
        """
        raise UserError(
            f"{type(self).__name__} cannot be saved as a folder: neither transformers, diffusers nor depthkd "
            "loads it from one; DepthAnything, HuggingFaceDepth, MetricBinsDepth, TimmDepth, "
            "LightweightDepth, DepthCompletion, ZoeDepth, DepthPro, FiffDepth, Lotus, Marigold and "
            "SharpDepth can"
        )

    def resize_to(self, raw: RawPrediction, size: tuple[int, int]) -> Float[Tensor, "batch height width"]:
        """A raw prediction of `infer` as depth in `self.space`, resized to (height, width)."""
        return resize_map(raw, size)

    @torch.no_grad()
    def infer(
        self,
        image: Image,
        resolution: Asked = None,
        scale: float = 1.0,
        flip: bool = False,
        intrinsics: Cameras | None = None,
        sparse: SparseDepth | None = None,
    ) -> RawPrediction:
        """Run the network, in eval mode; its raw prediction, float32, at network resolution, for `resize_to`.

        Args:
            image: RGB in [0, 1].
            resolution: the shorter side at which the network runs, in pixels; or "longer 756", the
                longer side; or "native", the image's own size (see `Resolution`). None:
                `default_resolution`. The sides are then rounded to the network's multiple. A network
                that chooses its size itself runs at that.
            scale: multiplies the sides. Depth Anything V2 runs at two and four times the side it was
                trained at, for finer detail.
            flip: the mean with the prediction for the mirrored image, mirrored back.
            intrinsics: of the cameras, in the image's pixels with the top-left one's center at (0, 0);
                None, where they are not known. Only networks that take them hear of them.
            sparse: the depth that was measured at some of the image's pixels, in meters; not above 0, or not
                finite, where nothing was measured. None: nowhere. Only networks that take it hear of it. When
                the image is resized, points stay points: see `resize_sparse_depth`.

        Raises:
            UserError: the resolution is none, the scale is not above 0, or the sparse depth is not of the
                image's size.
        """
        asked = Resolution.parse(resolution).times(scale)
        height, width = image.shape[-2:]
        sparse = _measured(sparse, image) if self.takes_sparse_depth and sparse is not None else None
        was_training = self.training
        self.eval()
        self._request = asked
        try:
            size = self.runs_at(height, width, asked)
            by_itself = self.chooses_size or self.resizes or self.fixed_size is not None
            if size is not None and size != (height, width) and not by_itself:
                image = resize_image(image, size)
                if intrinsics is not None:
                    intrinsics = resize_intrinsics(intrinsics, size[0] / height, size[1] / width)
                if sparse is not None:
                    sparse = resize_sparse_depth(sparse, size)
            raw = self._ask(image, intrinsics, sparse)
            if flip:
                mirrored = None if intrinsics is None else flip_intrinsics(intrinsics, image.shape[-1])
                points = None if sparse is None else sparse.flip(-1)
                raw = (raw + self._ask(image.flip(-1), mirrored, points).flip(-1)) / 2
        finally:
            vars(self).pop("_request")
            self.train(was_training)
        return raw

    def _ask(self, image: Image, intrinsics: Cameras | None, sparse: Map | None) -> RawPrediction:
        intrinsics = intrinsics if self.takes_camera else None
        if sparse is not None:
            return self.predict_raw_with_sparse_depth(image, sparse, intrinsics)
        if intrinsics is None:
            return self.predict_raw(image)
        return self.predict_raw_with_camera(image, intrinsics)

    def encode_decode_truth(
        self,
        depth: Float[Tensor, "batch height width"],
        mask: Bool[Tensor, "batch height width"],
        space: DepthSpace,
    ) -> Float[Tensor, "batch height width"]:
        """What the network would predict if it knew the truth: the truth in its quantity, unless
        `decodes_latents`.

        Args:
            depth: the truth, metric or up to scale.
            mask: where it is valid.
            space: of the truth.
        """
        return torch.where(mask, convert(depth, space, self.space.quantity), 0.0)

    @torch.no_grad()
    def predict(
        self,
        image: Image,
        resolution: Asked = None,
        scale: float = 1.0,
        flip: bool = False,
        intrinsics: Cameras | None = None,
        sparse: SparseDepth | None = None,
    ) -> Float[Tensor, "batch height width"]:
        """Depth in `self.space` at the image's own size, float32, in eval mode; arguments as in `infer`."""
        height, width = image.shape[-2:]
        points = {} if sparse is None else {"sparse": sparse}  # an older subclass's `infer` may not know it
        return self.resize_to(
            self.infer(image, resolution, scale, flip, intrinsics, **points), (height, width)
        )


def _measured(sparse: SparseDepth, image: Image) -> Map:
    """Sparse depth in float32, 0 where nothing was measured.

    Raises:
        UserError: it is not of the images' size.
    """
    if sparse.shape != (len(image), *image.shape[-2:]):
        raise UserError(
            f"sparse depth would be one map of each image's size, {[len(image), *image.shape[-2:]]}, not "
            f"{list(sparse.shape)}"
        )
    return torch.where((sparse > 0) & sparse.isfinite(), sparse, 0.0).float()


def resize_image(image: Image, size: tuple[int, int]) -> Resized:
    """Bicubic, antialiased, clipped to [0, 1]."""
    resized = F.interpolate(image, size, mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0.0, 1.0)


def resize_map(
    depth: Float[Tensor, "batch height width"], size: tuple[int, int]
) -> Float[Tensor, "batch new_height new_width"]:
    """Bilinear, corners of the image kept; for predictions, which are smooth."""
    if tuple(depth.shape[-2:]) == size:
        return depth
    return F.interpolate(depth[:, None], size, mode="bilinear", align_corners=False)[:, 0]
