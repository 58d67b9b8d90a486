"""The teacher that depthkd carries."""

from depthkd.errors import UserError
from depthkd.models.dpt.packaged_weights import embedded_card, embedded_tensors
from depthkd.models.dpt.timm_depth import TimmDepth

SOURCE = "depthkd's embedded teacher"  # how its source begins


class Embedded(TimmDepth):
    """The teacher that depthkd carries: EfficientNet-Lite0 under the head of DPT, trained on scenes alone.

    Depth Anything V2's first stage (arXiv 2406.09414) in small: it has learned from 3D scenes and their exact
    depth, on a backbone pre-trained on ImageNet, and has seen no photograph with depth. `make embedded` makes
    it again. Predicts affine disparity. Its weights are float16 on disk, 7 MB, and computed with in float32.

    Args:
        shorter_side: of the images that it is run on where nothing else is asked for, in pixels; None: 160,
            which its card names.

    Raises:
        UserError: its file is not the one that came with depthkd, or `shorter_side` is not positive.
    """

    def __init__(self, shorter_side: int | None = None) -> None:
        if shorter_side is not None and shorter_side < 1:
            raise UserError(f"Embedded's shorter_side would be 1 pixel or more, not {shorter_side}")
        card = embedded_card()
        student = card["student"]
        super().__init__(student["backbone"], fusion=student["fusion"], frozen_statistics=True)
        self.load_state_dict(embedded_tensors())
        side = int(card["shorter_side"]) if shorter_side is None else shorter_side
        self.trained_at = (side, side)
        self.source = f"{SOURCE} ({card['sha256'][:8]})"
        self.license = card["license"]
        self.training_sets = ("depthkd's scenes",)
