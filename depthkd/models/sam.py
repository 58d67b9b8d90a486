"""Segment Anything's key points: the points of its grid that prompt masks which are kept (Kirillov, 2023)."""

from hashlib import sha256
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torchvision.ops import nms  # type: ignore[import-untyped]
from transformers import SamImageProcessor, SamModel

from depthkd.errors import UserError
from depthkd.formats.images import RGB
from depthkd.models.hub import load_safetensors, quietly, read_config
from depthkd.paths import local_or_hub

KIND = "sam"
POINTS_AT_ONCE = 16  # each makes three masks of the image's size
SAME_BOX = 0.7  # intersection over union from which two masks' boxes are one object's


class SamKeyPoints:
    """Key points of images, from SAM's automatic generation of masks in transformers.

    The generation prompts SAM with a grid of points, keeps the masks that SAM itself rates high (predicted
    IoU above .88) and that are stable (above .95), and of masks whose boxes coincide the best one. The key
    points are those that prompted the masks which are left; the masks are not used.

    Args:
        source: hub id or local folder of a SAM (config.json and safetensors), such as facebook/sam-vit-huge.
        device: where it runs.
        side: grid points along each side.

    Raises:
        MissingFileError: there is no such folder or hub repository, or the hub cannot be reached.
        UserError: it holds another model, or the weights are pickled or do not fit.

    Attributes:
        identity: of its weights, in 16 hexadecimal digits.
    """

    def __init__(self, source: str, device: torch.device, side: int = 32) -> None:
        kind = read_config(source).get("model_type")
        if kind != KIND:
            raise UserError(f"'{source}' has model_type '{kind}'; for key points it would be {KIND}")
        self.source = source
        self.network: Any = load_safetensors(SamModel, source).to(device).eval()
        with quietly():
            self.processor: Any = SamImageProcessor.from_pretrained(local_or_hub(source))
        tensors = self.network.state_dict()
        digest = sha256()
        for name in sorted(tensors):
            digest.update(tensors[name].cpu().numpy().tobytes())
        self.identity = digest.hexdigest()[:16]
        self.device = device
        self.side = side

    @torch.no_grad()
    def __call__(self, image: RGB) -> Int64[np.ndarray, "points 2"]:
        """The key points of an image as (row, column), sorted; there may be none."""
        height, width = image.shape[:2]
        longest = self.processor.size["longest_edge"]
        crops, grid, cropped, labels = self.processor.generate_crop_boxes(
            torch.tensor(image).permute(2, 0, 1), longest, points_per_crop=self.side
        )
        inputs = self.processor(images=cropped, return_tensors="pt")
        embedding = self.network.get_image_embeddings(inputs["pixel_values"].to(self.device))
        prompts, scores, boxes = [], [], []
        for start in range(0, grid.shape[1], POINTS_AT_ONCE):
            few = np.s_[:, start : start + POINTS_AT_ONCE]
            predicted = self.network(
                image_embeddings=embedding,
                input_points=grid[few].to(self.device),
                input_labels=labels[few].to(self.device),
            )
            masks = self.processor.post_process_masks(
                predicted.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"], binarize=False
            )[0]
            for i in range(len(masks)):
                found = self.processor.filter_masks(
                    masks[i : i + 1], predicted.iou_scores[0, i : i + 1], (height, width), crops[0]
                )
                prompts += [start + i] * len(found[1])
                scores.append(found[1].cpu())
                boxes.append(found[2].cpu())
        kept = nms(torch.cat(boxes).float(), torch.cat(scores).float(), SAME_BOX).tolist()
        shrunk: Float[Tensor, "points 2"] = grid[0, sorted({prompts[i] for i in kept}), 0]
        sides = torch.tensor([height, width]), inputs["reshaped_input_sizes"][0]
        rows_columns = shrunk.flip(-1) * sides[0] / sides[1]
        return np.asarray(rows_columns.long().minimum(sides[0] - 1).numpy())
