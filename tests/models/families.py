"""The smallest configuration of each kind of network in the DPT family."""

from typing import Any

STAGES = ["stage1", "stage2", "stage3", "stage4"]
NECK: dict[str, Any] = {"neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8}
VIT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
BEIT: dict[str, Any] = {
    "model_type": "beit",
    "reshape_hidden_states": False,
    "use_relative_position_bias": True,
}
SMALL_BEIT = {**BEIT, "image_size": 64, "patch_size": 16, "out_features": STAGES, **VIT}


def dpt(sizes: list[int], backbone: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """A DPT over a backbone of these channels."""
    plain: dict[str, Any] = {"model_type": "dpt", "is_hybrid": False, "neck_hidden_sizes": sizes}
    return {**plain, "backbone_config": backbone, **settings}


def swinv2(**settings: Any) -> dict[str, Any]:
    """A Swin V2 that gives its four stages."""
    return {"model_type": "swinv2", "out_features": STAGES, **settings}


DEPTH_ANYTHING: dict[str, Any] = {
    "model_type": "depth_anything",
    "patch_size": 14,
    "reassemble_hidden_size": 16,
    "head_hidden_size": 8,
    **NECK,
    "backbone_config": {
        "model_type": "dinov2",
        "image_size": 56,
        "patch_size": 14,
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "out_indices": [1, 2, 3, 4],
        "reshape_hidden_states": False,
    },
}
DPT_VIT: dict[str, Any] = {
    "model_type": "dpt",
    "image_size": 64,
    "patch_size": 16,
    "backbone_out_indices": [0, 1, 2, 3],
    **VIT,
    **NECK,
}
DPT_BEIT = dpt([8, 8, 8, 8], SMALL_BEIT, fusion_hidden_size=8)
DPT_SWINV2 = dpt(
    [8, 16, 32, 64],
    swinv2(image_size=64, patch_size=4, embed_dim=8, depths=[1] * 4, num_heads=[1, 2, 2, 4], window_size=4),
    fusion_hidden_size=8,
)
DPT_HYBRID: dict[str, Any] = {
    "model_type": "dpt",
    "is_hybrid": True,
    "image_size": 64,
    "patch_size": 16,
    "backbone_out_indices": [0, 1, 2, 3],
    "reassemble_factors": [1, 1, 1, 0.5],
    "neck_hidden_sizes": [8, 16, 8, 8],
    "fusion_hidden_size": 8,
    "backbone_featmap_shape": [1, 32, 4, 4],
    **VIT,
    "backbone_config": {
        "model_type": "bit",
        "embedding_size": 8,
        "hidden_sizes": [8, 16, 32],
        "depths": [1, 1, 1],
        "layer_type": "bottleneck",
        "num_groups": 2,
        "global_padding": "same",
        "embedding_dynamic_padding": True,
        "out_features": STAGES[:3],
    },
}
ZOEDEPTH: dict[str, Any] = {
    "backbone_config": SMALL_BEIT,
    "neck_hidden_sizes": [8, 8, 8, 8],
    "fusion_hidden_size": 8,
    "bottleneck_features": 8,
    "num_relative_features": 4,
    "num_attractors": [4, 2, 2, 1],
    "bin_embedding_dim": 8,
    "bin_configurations": [{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
}
ZOEDEPTH_OF_TWO: dict[str, Any] = {
    **ZOEDEPTH,
    "bin_configurations": [
        {"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"},
        {"n_bins": 8, "min_depth": 0.001, "max_depth": 80.0, "name": "kitti"},
    ],
    "num_patch_transformer_layers": 4,  # transformers runs four
    "patch_transformer_hidden_size": 128,
    "patch_transformer_intermediate_size": 16,
    "patch_transformer_num_attention_heads": 2,
}
DINOV2: dict[str, Any] = {
    "model_type": "dinov2",
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
DEPTH_PRO: dict[str, Any] = {
    "patch_size": 32,
    "fusion_hidden_size": 16,
    "intermediate_hook_ids": [2, 0],
    "intermediate_feature_dims": [16, 8],
    "scaled_images_feature_dims": [16, 8, 8],
    "merge_padding_value": 1,
    "use_fov_model": True,
    "num_fov_head_layers": 2,
    "image_model_config": DINOV2,
    "patch_model_config": DINOV2,
    "fov_model_config": DINOV2,
}
FAMILIES = {
    "depth_anything": DEPTH_ANYTHING,
    "dpt_vit": DPT_VIT,
    "dpt_beit": DPT_BEIT,
    "dpt_swinv2": DPT_SWINV2,
    "dpt_hybrid": DPT_HYBRID,
}
# The two of MiDaS v3.1 at their own size: Intel/dpt-beit-large-512 and Intel/dpt-swinv2-tiny-256.
LARGE_BEIT = {
    **BEIT,
    "image_size": 512,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "out_features": ["stage6", "stage12", "stage18", "stage24"],
}
MIDAS_LARGE = dpt([256, 512, 1024, 1024], LARGE_BEIT)
MIDAS_SMALL = dpt(
    [96, 192, 384, 768],
    swinv2(image_size=256, embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=16),
)
