"""Backbones of timm, for the heads that read four of their maps."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import timm

from depthkd.errors import MissingFileError, UserError
from depthkd.models.dpt.packaged_weights import WeightsFile, packaged
from depthkd.models.weights import SUFFIXES, read_weights, refuse_broken
from depthkd.paths import user_path

STAGES = 4
OWN = {
    "pretrained",
    "num_classes",
    "in_chans",
    "features_only",
    "out_indices",
}  # options that are not the user's
PATHS = {"checkpoint_path", "cache_dir"}


@dataclass(frozen=True)
class TimmBackbone:
    """A network of timm without a classifier, four of whose maps a head reads.

    Args:
        network: timm's, without the layers behind the last of those maps.
        stages: which maps, as `forward_intermediates` counts them.
        channels, strides: of these maps, the finest first.
        plain: whether all maps have one stride, as of a plain transformer.
        normed: whether the maps pass through its final norm.
        only_size: height and width, of a network that runs at no other.
        with_weights: whether it came with weights.
        mean, std: how it wants RGB in [0, 1] normalized.
        license: of the weights; None where that is not known.
        origin: where the weights are from.
    """

    network: Any
    stages: list[int]
    channels: list[int]
    strides: list[int]
    plain: bool
    normed: bool
    only_size: tuple[int, int] | None
    with_weights: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    license: str | None
    origin: str


def build_backbone(
    name: str,
    pretrained: bool | str,
    options: dict[str, Any],
    layers: str | list[int],
    head: str,
) -> TimmBackbone:
    """A backbone, with its weights.

    Args:
        name: timm's of it.
        pretrained: fetch timm's weights, or what carries weights: a package's name, or a file.
        options: more arguments of `timm.create_model`.
        layers: which four of a plain transformer's; see `choose`.
        head: what reads the maps, as a sentence calls it.

    Raises:
        UserError: timm has no such backbone, or it gives no four maps, or there are no weights for it.
        MissingFileError: the weights cannot be fetched.
    """
    package = weights_of(pretrained, name) if isinstance(pretrained, str) else None
    network, any_size = create_backbone(name, pretrained is True, options, head)
    described: list[dict[str, Any]] = list(network.feature_info)
    plain = len({stage["reduction"] for stage in described}) == 1
    chosen = choose(len(described), "last" if not plain else layers)
    normed = plain and not hasattr(network, "neck")  # SAM's makes other maps than layers
    stages = network.prune_intermediate_layers(chosen, prune_norm=not normed)
    if package is not None:
        package.load_into(network)
    known = {**network.pretrained_cfg, **({} if package is None else vars(package))}
    if isinstance(package, WeightsFile):
        known["license"] = None
    return TimmBackbone(
        network=network,
        stages=stages,
        channels=[int(described[i]["num_chs"]) for i in chosen],
        strides=[int(described[i]["reduction"]) for i in chosen],
        plain=plain,
        normed=normed,
        only_size=None if any_size else fixed_size(network, options),
        with_weights=bool(pretrained) or "checkpoint_path" in options,
        mean=tuple(known["mean"]),
        std=tuple(known["std"]),
        license=known.get("license") if pretrained else None,
        origin=pretrained if isinstance(pretrained, str) else "timm" if pretrained else "random",
    )


def plain_options(options: dict[str, Any]) -> dict[str, Any]:
    """Those that read no file, as a config.json may hold them."""
    return {k: v for k, v in options.items() if k not in PATHS}


def create_backbone(name: str, pretrained: bool, options: dict[str, Any], head: str) -> tuple[Any, bool]:
    """timm's network without a classifier, and whether it runs at any size.

    Args:
        name: timm's.
        pretrained: whether timm's weights are fetched.
        options: more arguments of `timm.create_model`.
        head: whose four maps they are, in sentences.

    Raises:
        UserError: timm has no such network or no weights for it, or it gives no four maps.
        MissingFileError: its weights cannot be fetched.
    """
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        close = get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"; it has {', '.join(close)}" if close else ""
        raise UserError(f"timm has no backbone '{name}'{hint}")
    taken = sorted(OWN & set(options))
    if taken:
        raise UserError(f"options of a backbone cannot set {', '.join(taken)}, which depthkd sets itself")
    options = dict(options)
    for key in PATHS & set(options):
        options[key] = str(user_path(options[key]))
    if (file := options.get("checkpoint_path")) is not None:
        read_weights(file)  # for its sentences: timm's are others
    arguments = {"pretrained": pretrained, "num_classes": 0, **options}
    network: Any
    try:
        try:
            network = timm.create_model(name, dynamic_img_size=True, **arguments)
            any_size = True
        except TypeError as error:
            if "dynamic_img_size" not in str(error):
                raise
            network = timm.create_model(name, **arguments)
            loose = not getattr(getattr(network, "patch_embed", None), "strict_img_size", True)  # SAM's
            any_size = loose or not network.pretrained_cfg.get("fixed_input_size", False)
    except OSError as error:
        raise MissingFileError(
            f"timm's weights of '{name}' cannot be fetched: check the network and HF_HUB_OFFLINE"
        ) from error
    except (RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"timm cannot build '{name}': {reason}") from error
    if pretrained or file is not None:
        refuse_broken(network.state_dict(), f"timm's weights of '{name}'")
    stages = len(getattr(network, "feature_info", ()))
    if stages < STAGES or not hasattr(network, "forward_intermediates"):
        raise UserError(f"the backbone '{name}' gives {stages} maps; {head} reads four")
    return network, any_size


def weights_of(name: str, backbone: str) -> Any:
    """What a word or a path for `pretrained` means."""
    return WeightsFile(name) if "/" in name or name.endswith(SUFFIXES) else packaged(name, backbone)


def choose(count: int, layers: str | list[int]) -> list[int]:
    """Four of `count` layers, counted from 0: the last, at each quarter of the depth, or those given.

    Raises:
        UserError: those given are not four, rising, of as many layers.
    """
    if not isinstance(layers, str):
        if len(layers) != STAGES or sorted({*layers}) != layers or not 0 <= layers[0] <= layers[-1] < count:
            raise UserError(
                f"layers would be 'spread', 'last' or four rising numbers from 0 to {count - 1}, not {layers}"
            )
        return layers
    if layers == "last":
        return list(range(count - STAGES, count))
    return [(k + 1) * count // STAGES - 1 for k in range(STAGES)]


def fixed_size(network: Any, options: dict[str, Any]) -> tuple[int, int]:
    """Height and width of the only size at which a network runs."""
    size = options.get("img_size", network.pretrained_cfg["input_size"][-2:])
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)
