"""What is publicly known of checkpoints: the data sets that they have learned from, and licenses.

A model that has seen a benchmark's data set is not tested zero-shot on it. Named are the sets of the
depth training, labelled or pseudo-labelled, by the names that their benchmarks use; what backbones
were pre-trained on (ImageNet, DINOv2's LVD-142M, Stable Diffusion's LAION) is left out.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

LICENSES = {  # of checkpoints whose card is not at hand offline
    "depth-anything/Depth-Anything-V2-Small-hf": "apache-2.0",
    "depth-anything/Depth-Anything-V2-Base-hf": "cc-by-nc-4.0",
    "depth-anything/Depth-Anything-V2-Large-hf": "cc-by-nc-4.0",
    "Intel/dpt-large": "apache-2.0",
    "Intel/zoedepth-nyu-kitti": "mit",
    "apple/DepthPro-hf": "apple-amlr",
}

# Labelled sets first, then those whose images a teacher labelled.
DEPTH_ANYTHING_UNLABELLED = (
    *("BDD100K", "Google Landmarks", "ImageNet-21K", "LSUN", "Objects365", "Open Images V7"),
    *("Places365", "SA-1B"),
)
DEPTH_ANYTHING_V1 = (
    *("BlendedMVS", "DIML", "HRWSI", "IRS", "MegaDepth", "TartanAir"),
    *DEPTH_ANYTHING_UNLABELLED,
)
DEPTH_ANYTHING_V2 = (
    *("BlendedMVS", "Hypersim", "IRS", "TartanAir", "Virtual KITTI 2"),
    *DEPTH_ANYTHING_UNLABELLED,
)
DEPTH_PRO = (
    *("3D Ken Burns", "ApolloScape", "ARKitScenes", "BEDLAM", "BlendedMVS", "DIML", "DynamicReplica"),
    *("EDEN", "HRWSI", "Hypersim", "IRS", "MegaDepth", "MVS-Synth", "SAIL-VOS 3D", "ScanNet"),
    *("SmartPortraits", "Synscapes", "TartanAir", "UASOL", "UnrealStereo4K", "UrbanSyn", "Virtual KITTI 2"),
)
METRIC3D_V1 = (
    *("Argoverse2", "Cityscapes", "DDAD", "DIML", "DrivingStereo", "DSEC", "Lyft", "Mapillary PSD"),
    *("PandaSet", "Taskonomy", "UASOL"),
)
METRIC3D_V2 = (
    *METRIC3D_V1,
    *("HM3D", "Hypersim", "Matterport3D", "Replica", "ScanNet", "Virtual KITTI 2", "Waymo"),
)
MIDAS_10 = (
    *("3D Movies", "ApolloScape", "BlendedMVS", "DIML", "HRWSI", "IRS", "MegaDepth", "ReDWeb"),
    *("TartanAir", "WSVD"),
)
MIDAS_12 = (*MIDAS_10, "KITTI", "NYUv2")
DIFFUSION = ("Hypersim", "Virtual KITTI 2")
UNIDEPTH_V1 = (
    *("A2D2", "Argoverse2", "BDD100K", "Cityscapes", "DrivingStereo", "Mapillary PSD", "ScanNet"),
    *("Taskonomy", "Waymo"),
)
UNIDEPTH_V2 = (
    *("A2D2", "Argoverse2", "ARKitScenes", "BEDLAM", "BlendedMVS", "DL3DV", "DrivingStereo"),
    *("DynamicReplica", "EDEN", "HM3D", "HOI4D", "Map-free", "Mapillary PSD", "MatrixCity"),
    *("Matterport3D", "MegaDepth", "PointOdyssey", "ScanNet", "ScanNet++", "TartanAir", "Taskonomy"),
    *("Waymo", "WildRGB-D"),
)
UNIK3D = (
    *("A2D2", "aiMotive", "Argoverse2", "ARKitScenes", "Aria Synthetic Environments", "BEDLAM"),
    *("BlendedMVS", "DL3DV", "DrivingStereo", "DynamicReplica", "EDEN", "FutureHouse", "HM3D", "HOI4D"),
    *("Map-free", "Mapillary PSD", "MatrixCity", "Matterport3D", "MegaDepth", "PointOdyssey", "ScanNet"),
    *("ScanNet++", "TartanAir", "Taskonomy", "Waymo", "WildRGB-D"),
)
MOGE_2 = (
    *("3D Ken Burns", "A2D2", "Apollo Synthetic", "Argoverse2", "ARKitScenes", "BlendedMVS", "EDEN"),
    *("GTA-SfM", "Hypersim", "IRS", "MatrixCity", "MegaDepth", "Mid-Air", "MVS-Synth", "Objaverse"),
    *("ScanNet++", "Structured3D", "Synscapes", "SYNTHIA", "TartanAir", "Taskonomy", "UnrealStereo4K"),
    *("UrbanSyn", "Waymo"),
)
DEPTH_ANYTHING_3 = (  # of the teacher
    *("3D Ken Burns", "BlendedMVS", "EDEN", "GTA-SfM", "Hypersim", "IRS", "MatrixCity", "MVS-Synth"),
    *("Objaverse", "OmniObject3D", "PointOdyssey", "Replica", "Spring", "Structured3D", "TartanAir"),
    *("TauAgent", "Trellis", "UnrealStereo4K", "UrbanSyn", "Virtual KITTI 2"),
)
DEPTH_ANYTHING_3_METRIC = (
    *("Argoverse2", "ARKitScenes", "Cityscapes", "DDAD", "DIML", "DrivingStereo", "DSEC", "Lyft"),
    *("Map-free", "PandaSet", "ScanNet++", "Taskonomy", "Waymo"),
)
PROMPT_DEPTH_ANYTHING = (*DEPTH_ANYTHING_V2, "ARKitScenes", "ScanNet++")
UNIDEPTH_V2_OLD = (*UNIDEPTH_V1, "ARKitScenes", "DIML", "HRWSI", "Hypersim", "MegaDepth")


@dataclass(frozen=True)
class Known:
    """Checkpoints, by a pattern of their ids in lower case; their sets, and where that is stated."""

    pattern: str
    sets: tuple[str, ...]
    stated: str


# The first that fits counts. "Unchecked" lists were written down without the source at hand.
KNOWN = (
    Known("depth-anything/depth-anything-v2-*", DEPTH_ANYTHING_V2, "arXiv 2406.09414, Table 7"),
    Known("liheyoung/depth?anything*", DEPTH_ANYTHING_V1, "arXiv 2401.10891; unchecked"),
    Known(
        "xingyang1/distill-any-depth*",
        DEPTH_ANYTHING_V2,
        "arXiv 2502.19204: SA-1B, from Depth Anything V2's weights, with GenPercept's labels",
    ),
    Known("intel/dpt-large", MIDAS_10, "isl-org/MiDaS, README of v3.0"),
    Known("intel/dpt-hybrid-midas", MIDAS_10, "isl-org/MiDaS, README of v3.0"),
    Known("intel/dpt-beit-*", MIDAS_12, "isl-org/MiDaS, README of v3.1"),
    Known("intel/dpt-swinv2-*", MIDAS_12, "isl-org/MiDaS, README of v3.1"),
    Known("intel/zoedepth-*", MIDAS_12, "arXiv 2302.12288: MiDaS's twelve, then NYUv2, KITTI or both"),
    Known("apple/depthpro*", DEPTH_PRO, "arXiv 2410.02073, appendix; unchecked"),
    Known(
        "depth-anything/da3mono-*",
        (*DEPTH_ANYTHING_3, *DEPTH_ANYTHING_UNLABELLED),
        "arXiv 2511.10647, section 4; unchecked",
    ),
    Known(
        "depth-anything/da3metric-*",
        (*DEPTH_ANYTHING_3, *DEPTH_ANYTHING_3_METRIC),
        "arXiv 2511.10647, section 4; unchecked",
    ),
    Known(
        "depth-anything/prompt-depth-anything-*-transparent*",
        (*PROMPT_DEPTH_ANYTHING, "HAMMER"),
        "DepthAnything/PromptDA, README",
    ),
    Known(
        "depth-anything/prompt-depth-anything-*",
        PROMPT_DEPTH_ANYTHING,
        "arXiv 2412.14015: Hypersim, ARKitScenes, ScanNet++, from Depth Anything V2's weights; unchecked",
    ),
    Known("ruicheng/moge-2*", MOGE_2, "microsoft/MoGe, configs/train/v2.json"),
    Known("lpiccinelli/unik3d-*", UNIK3D, "arXiv 2503.16591; unchecked"),
    Known("lpiccinelli/unidepth-v1-*", UNIDEPTH_V1, "arXiv 2403.18913; unchecked"),
    Known("lpiccinelli/unidepth-v2old-*", UNIDEPTH_V2_OLD, "lpiccinelli-eth/UniDepth, issue 42"),
    Known("lpiccinelli/unidepth-v2-*", UNIDEPTH_V2, "arXiv 2502.20110; unchecked"),
    Known("yvanyin/metric3d/metric3d_convnext_*", METRIC3D_V1, "arXiv 2307.10984; unchecked"),
    Known(
        "yvanyin/metric3d/metric3d_vit_*",
        METRIC3D_V2,
        "YvanYin/Metric3D, training/mono/configs/RAFTDecoder/vit.raft5.giant2.py",
    ),
    Known("prs-eth/marigold-depth-*", DIFFUSION, "prs-eth/Marigold, config/train_marigold_depth.yaml"),
    Known("guangkaixu/genpercept*", DIFFUSION, "aim-uofa/GenPercept, issue 6"),
    Known("jingheya/lotus-depth-*", DIFFUSION, "EnVision-Research/Lotus, train_lotus_g.py"),
)


def training_sets(source: str) -> tuple[str, ...] | None:
    """The data sets that a checkpoint has learned from, by their usual names; None where not known.

    Args:
        source: a hub id, or its folder in the hub's cache (models--OWNER--NAME).
    """
    entry = known(source)
    return None if entry is None else entry.sets


def stated_or_known(stated: list[str] | None, source: str | None) -> tuple[str, ...] | None:
    """The training sets that a user states, or else those that are known of the source."""
    if stated is not None:
        return tuple(stated)
    return None if source is None else training_sets(source)


def known(source: str) -> Known | None:
    """The statement about a checkpoint; None where there is none."""
    name = hub_id(source).lower()
    return next((entry for entry in KNOWN if fnmatchcase(name, entry.pattern)), None)


def hub_id(source: str) -> str:
    """The hub id of a folder in the hub's cache; anything else as it is."""
    cached = re.search(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)", source)
    return f"{cached['owner']}/{cached['name']}" if cached else source
