"""SAM's key points, of a tiny SAM with random weights whose masks are kept or not as the test says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import SamConfig, SamImageProcessor, SamModel

from depthkd.errors import UserError
from depthkd.models.sam import SamKeyPoints

SIDE = 64
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)


def write_tiny_sam(folder: Path) -> Path:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "image_size": SIDE, "patch_size": 8}
    vision = {"output_channels": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 16}
    vision |= {"global_attn_indexes": [0], "window_size": 0, "num_pos_feats": 8}
    decoder = {"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    network: Any = SamModel(
        SamConfig(
            vision_config=size | vision,
            prompt_encoder_config=size | {"mask_input_channels": 4},
            mask_decoder_config=decoder | {"iou_head_depth": 2, "num_hidden_layers": 1},
        )
    )
    network.save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    SamImageProcessor(size={"longest_edge": SIDE}, pad_size=square).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny_sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sam(tmp_path_factory.mktemp("sam"))


def test_key_points_are_those_of_the_masks_that_are_kept(tiny_sam: Path) -> None:
    key_points = SamKeyPoints(str(tiny_sam), torch.device("cpu"), side=5)
    again = SamKeyPoints(str(tiny_sam), torch.device("cpu"))
    assert key_points.identity == again.identity and len(again.identity) == 16
    assert key_points(IMAGE).shape == (0, 2)  # what is random is not stable
    asked: list[list[int]] = []

    def keep(masks: Any, scores: Any, size: Any, crop: Any) -> Any:
        """One mask of every other point, each with a box of its own, or all with the same."""
        number = len(asked)
        asked.append(list(masks.shape))
        left = number * 10 if apart else 0
        count = 1 - number % 2
        boxes = torch.tensor([[left, 0, left + 5, 5]])[:count]
        return [None] * count, torch.full((count,), number / 100), boxes

    key_points.processor.filter_masks = keep
    apart = True
    found = key_points(IMAGE)
    grid = [(int((r + 0.5) * 48 / 5), int((c + 0.5) * 80 / 5)) for r in range(5) for c in range(5)]
    assert asked == [[1, 3, 48, 80]] * 25
    np.testing.assert_allclose(found, grid[::2], atol=1)  # SAM's grid is in whole pixels of its own image
    asked.clear()
    apart = False
    np.testing.assert_allclose(key_points(IMAGE), [grid[24]], atol=1)  # the best of those with one box


def test_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "depth_anything"}')
    with pytest.raises(UserError, match="has model_type 'depth_anything'; for key points it would be sam"):
        SamKeyPoints(str(tmp_path), torch.device("cpu"))
