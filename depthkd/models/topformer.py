"""TopFormer (Zhang et al., arXiv 2204.05525): a pyramid of tokens, and a transformer over them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.drop import DropPath
from torch import Tensor, nn

from depthkd.errors import UserError
from depthkd.models.weights import misfit, read_weights

MULTIPLE = 32  # of the sides: the coarsest tokens' stride
DEPTH, KEY, VALUE, EXPANSION = 4, 16, 32, 2  # blocks; channels of a head's keys and values; of the MLP
STEM = 16
HEADS = ("decode_head.", "auxiliary_head.", "head.", "fc.", "classifier.")  # in checkpoints, of other tasks
PREFIX = "backbone."  # before the encoder's names in checkpoints of segmentation networks

Maps = Float[Tensor, "batch channels height width"]
Coarse = Float[Tensor, "batch channels coarse_height coarse_width"]


@dataclass(frozen=True)
class TopFormerSize:
    """One of the three sizes.

    Args:
        blocks: the inverted residuals of the token pyramid: kernel, expansion, channels, stride.
        tokens: after which blocks, counted from 0, the tokens of strides 4, 8, 16 and 32 are taken.
        heads: of each attention.
        width: channels of the maps that the semantics are injected into.
    """

    blocks: tuple[tuple[int, int, int, int], ...]
    tokens: tuple[int, int, int, int]
    heads: int
    width: int

    @property
    def token_channels(self) -> list[int]:
        """Channels of the tokens, the finest first."""
        return [self.blocks[i][2] for i in self.tokens]


def _blocks(*channels: int, last: int | None = None) -> tuple[tuple[int, int, int, int], ...]:
    """What the three sizes share: kernels, expansions and strides of nine blocks, and of a tenth, `last`."""
    kernels, expansions = (3, 3, 3, 5, 5, 3, 3, 5, 5), (1, 4, 3, 3, 3, 3, 3, 6, 6)
    rows = tuple(zip(kernels, expansions, channels, (1, 2, 1, 2, 1, 2, 1, 2, 1), strict=True))
    return rows if last is None else (*rows, (3, 6, last, 1))


SIZES = {
    "topformer_tiny": TopFormerSize(_blocks(16, 16, 16, 32, 32, 64, 64, 96, 96), (2, 4, 6, 8), 4, 128),
    "topformer_small": TopFormerSize(
        _blocks(16, 24, 24, 48, 48, 96, 96, 128, 128, last=128), (2, 4, 6, 9), 6, 192
    ),
    "topformer_base": TopFormerSize(
        _blocks(16, 32, 32, 64, 64, 128, 128, 160, 160, last=160), (2, 4, 6, 9), 8, 256
    ),
}


class TopFormer(nn.Module):
    """The encoder of TopFormer, by the names of the authors' code, so that their weights load.

    Its token pyramid makes tokens of strides 4, 8, 16 and 32. All of them, averaged to stride 64 and joined,
    pass through four transformer blocks (semantics extraction), and what comes of it is injected into the
    tokens of strides 8, 16 and 32.

    Args:
        size: "topformer_tiny", "topformer_small" or "topformer_base".
        scaled_attention: divide the products of queries and keys by the root of their channels. The authors'
            code computes that factor and never multiplies by it, and their weights have learned without.
        drop_path: the share of images for which the last block is skipped in training; less in those before.

    Raises:
        UserError: there is no such size, or an option is not what it could be.
    """

    def __init__(
        self, size: str = "topformer_small", scaled_attention: Any = False, drop_path: Any = 0.1
    ) -> None:
        super().__init__()
        if size not in SIZES:
            raise UserError(f"TopFormer's size would be one of {', '.join(SIZES)}, not '{size}'")
        if isinstance(drop_path, bool) or not isinstance(drop_path, int | float) or not 0 <= drop_path < 1:
            raise UserError(f"drop_path of TopFormer would be a share from 0 to below 1, not {drop_path!r}")
        if not isinstance(scaled_attention, bool):
            raise UserError(f"scaled_attention of TopFormer would be true or false, not {scaled_attention!r}")
        self.size = SIZES[size]
        tokens = self.size.token_channels
        self.tpm = TokenPyramid(self.size)
        self.trans = SemanticsExtraction(sum(tokens), self.size.heads, scaled_attention, drop_path)
        injections = [SemanticsInjection(channels, self.size.width) for channels in tokens[1:]]
        self.SIM = nn.ModuleList([nn.Identity(), *injections])  # nothing is injected at stride 4
        self.initialize()

    @property
    def channels(self) -> list[int]:
        """Of the maps that `forward` returns."""
        return [self.size.token_channels[0], *[self.size.width] * 3]

    def forward(self, normalized: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """Normalized images, whose sides are multiples of 32 -> maps of strides 4, 8, 16 and 32.

        The finest are the tokens themselves, of which the authors' networks make no further use; the others
        have seen the whole image.
        """
        tokens = self.tpm(normalized)
        semantics = self.trans(pooled_tokens(tokens)).split(self.size.token_channels, dim=1)
        injections = zip(self.SIM, tokens, semantics, strict=True)
        return [tokens[0], *[inject(own, whole) for inject, own, whole in list(injections)[1:]]]

    def initialize(self) -> None:
        """Begin as the authors do: convolutions by their fan-out, and each attention as nothing, by a last
        batch normalization of weight 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, 0.0, math.sqrt(2 * module.groups / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, Attention):
                nn.init.zeros_(cast(Convolution, module.proj[1]).bn.weight)

    def load_weights(self, path: str) -> str:
        """Take the weights of a .pth or .safetensors file with the authors' names.

        Both kinds that the authors publish are read: of a segmentation network ("backbone.tpm...."), whose
        head is left out; and of ImageNet, whose classifier is left out, and which has no semantics injection.

        Returns:
            What was left out, or was not there and so begins at random, as the end of a sentence; or "".

        Raises:
            MissingFileError: there is no such file.
            UserError: it cannot be read, or is of another network or size.
        """
        tensors, left_out = encoder_tensors(read_weights(path), f"'{path}'")
        own = self.state_dict()
        injected = any(name.startswith("SIM.") for name in tensors)
        wanted = {name: t for name, t in own.items() if injected or not name.startswith("SIM.")}
        refuse_others(tensors, wanted, f"'{path}'")
        self.load_state_dict({**own, **tensors})
        told = [f"{count} tensors of '{head}' are left out" for head, count in left_out.items()]
        return ", and ".join(told + ([] if injected else ["its injection (SIM) begins at random"]))


class Convolution(nn.Sequential):
    """A convolution without bias and batch normalization, by the names `c` and `bn`, or others."""

    def __init__(
        self, inside: int, outside: int, kernel: int = 1, stride: int = 1, groups: int = 1, name: str = "c"
    ) -> None:
        super().__init__()
        convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.add_module(name, convolution)
        self.bn = nn.BatchNorm2d(outside)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: a wider depthwise convolution between two of one pixel, and the input added where
    it has the output's shape."""

    def __init__(self, inside: int, outside: int, kernel: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inside * expansion
        widen = [Convolution(inside, hidden), nn.ReLU()] if expansion > 1 else []
        depthwise = Convolution(hidden, hidden, kernel, stride, groups=hidden)
        self.conv = nn.Sequential(*widen, depthwise, nn.ReLU(), Convolution(hidden, outside))
        self.adds = stride == 1 and inside == outside

    def forward(self, x: Maps) -> Float[Tensor, "batch outside new_height new_width"]:
        """Maps at the block's stride."""
        out: Tensor = self.conv(x)
        return x + out if self.adds else out


class TokenPyramid(nn.Module):
    """The token pyramid module: inverted residuals, of which four give tokens."""

    def __init__(self, size: TopFormerSize) -> None:
        super().__init__()
        self.stem = nn.Sequential(Convolution(3, STEM, 3, 2), nn.ReLU())
        inside = STEM
        for number, (kernel, expansion, channels, stride) in enumerate(size.blocks, start=1):
            block = InvertedResidual(inside, channels, kernel, expansion, stride)
            self.add_module(f"layer{number}", block)
            inside = channels
        self.taken = size.tokens

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """Tokens of strides 4, 8, 16 and 32."""
        x, tokens = image, []
        for number, (_, layer) in enumerate(self.named_children(), start=-1):  # the stem is before 0
            x = layer(x)
            if number in self.taken:
                tokens.append(x)
        return tokens


class Attention(nn.Module):
    """Self-attention whose projections are convolutions of one pixel with batch normalization."""

    def __init__(self, channels: int, heads: int, scaled: bool) -> None:
        super().__init__()
        self.heads, self.factor = heads, KEY**-0.5 if scaled else 1.0
        self.to_q, self.to_k = (Convolution(channels, KEY * heads) for _ in range(2))
        self.to_v = Convolution(channels, VALUE * heads)
        self.proj = nn.Sequential(nn.ReLU6(), Convolution(VALUE * heads, channels))

    def forward(self, x: Maps) -> Maps:
        """What the positions say to each other, of the input's shape."""
        q, k, v = (
            to(x).flatten(2).unflatten(1, (self.heads, -1)) for to in (self.to_q, self.to_k, self.to_v)
        )
        weights = (q.transpose(2, 3) @ k * self.factor).softmax(-1)  # batch head queries keys
        seen = v @ weights.transpose(2, 3)
        joined: Tensor = self.proj(seen.flatten(1, 2).reshape(x.shape[0], -1, *x.shape[2:]))
        return joined


class MLP(nn.Module):
    """Two convolutions of one pixel, and a depthwise one between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = EXPANSION * channels
        self.fc1 = Convolution(channels, hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.ReLU6()
        self.fc2 = Convolution(hidden, channels)

    def forward(self, x: Maps) -> Maps:
        """Maps of the input's shape."""
        out: Tensor = self.fc2(self.act(self.dwconv(self.fc1(x))))
        return out


class Block(nn.Module):
    """Attention and MLP, each added to its input."""

    def __init__(self, channels: int, heads: int, scaled: bool, drop_path: float) -> None:
        super().__init__()
        self.attn = Attention(channels, heads, scaled)
        self.drop_path = DropPath(drop_path)
        self.mlp = MLP(channels)

    def forward(self, x: Maps) -> Maps:
        """Maps of the input's shape."""
        x = x + self.drop_path(self.attn(x))
        out: Tensor = x + self.drop_path(self.mlp(x))
        return out


class SemanticsExtraction(nn.Module):
    """The transformer over the pooled tokens of all scales."""

    def __init__(self, channels: int, heads: int, scaled: bool, drop_path: float) -> None:
        super().__init__()
        shares = [drop_path * k / (DEPTH - 1) for k in range(DEPTH)]
        self.transformer_blocks = nn.Sequential(*[Block(channels, heads, scaled, p) for p in shares])

    def forward(self, tokens: Maps) -> Maps:
        """Scale-aware semantics, of the tokens' shape."""
        semantics: Tensor = self.transformer_blocks(tokens)
        return semantics


class SemanticsInjection(nn.Module):
    """The semantics injection module: a gate and a summand of what the transformer saw, for each token."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.local_embedding, self.global_embedding, self.global_act = (
            Convolution(inside, outside, name="conv") for _ in range(3)
        )

    def forward(self, tokens: Maps, semantics: Coarse) -> Tensor:
        """local(tokens) * up(h_sigmoid(gate(semantics))) + up(global(semantics)), at the tokens' size."""
        size = tokens.shape[-2:]
        gate = enlarged(F.hardsigmoid(self.global_act(semantics)), size)
        gated: Tensor = self.local_embedding(tokens) * gate
        return gated + enlarged(self.global_embedding(semantics), size)


def enlarged(maps: Coarse, size: Any) -> Tensor:
    """Bilinear, as the authors enlarge."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def pooled_tokens(tokens: list[Tensor]) -> Tensor:
    """Tokens of all scales, averaged to half of the coarsest one's size (rounded up), joined by channels.

    The averages are those of `F.adaptive_avg_pool2d`, whose windows overlap where sizes are no multiples of
    one another; written as products with matrices, which ONNX has for any size.

    Args:
        tokens: the finest first.
    """
    height, width = ((side + 1) // 2 for side in tokens[-1].shape[-2:])
    return torch.cat([averaged(one, height, width) for one in tokens], dim=1)


def averaged(maps: Maps, height: int, width: int) -> Tensor:
    """Maps averaged to a height and a width, as `F.adaptive_avg_pool2d` does."""
    rows, columns = (
        averages(inside, outside, maps)
        for inside, outside in ((maps.shape[-2], height), (maps.shape[-1], width))
    )
    return rows @ maps @ columns.T


def averages(inside: int, outside: int, like: Tensor) -> Float[Tensor, "outside inside"]:
    """The matrix whose rows average over the windows of `outside` cells in `inside` values.

    Window i reaches from floor(i * inside / outside) to below ceil((i + 1) * inside / outside).

    Args:
        inside, outside: counts of values.
        like: a tensor of the device and precision that is wanted.
    """
    window = torch.arange(outside, device=like.device)[:, None]
    value = torch.arange(inside, device=like.device)
    begin, end = window * inside // outside, ((window + 1) * inside + outside - 1) // outside
    within = ((value >= begin) & (value < end)).to(like.dtype)
    return within / within.sum(dim=1, keepdim=True)


def encoder_tensors(tensors: Mapping[str, Tensor], whose: str) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The encoder's part of the authors' checkpoints, and how many tensors of other parts there were.

    Args:
        tensors: by name.
        whose: what a sentence calls them.

    Raises:
        UserError: nothing in them is an encoder's.
    """
    left_out: dict[str, int] = {}
    found = {}
    for name, tensor in tensors.items():
        head = next((head for head in HEADS if name.removeprefix(PREFIX).startswith(head)), None)
        if head is None:
            found[name.removeprefix(PREFIX)] = tensor
        else:
            left_out[head.removesuffix(".")] = left_out.get(head.removesuffix("."), 0) + 1
    if not any(name.startswith("tpm.") for name in found):
        first = next(iter(tensors), "nothing")
        raise UserError(f"{whose} holds no TopFormer, whose names begin with 'tpm.': its first is '{first}'")
    return found, left_out


def refuse_others(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], whose: str) -> None:
    """Refuse weights whose names or shapes are not those that are wanted.

    Args:
        tensors, wanted: by name.
        whose: what a sentence calls them.

    Raises:
        UserError: one differs; the sentence names it.
    """
    if (wrong := misfit(tensors, wanted)) is not None:
        raise UserError(f"{whose} is of another TopFormer: {wrong}{size_of(tensors)}")
    if others := sorted(tensors.keys() - wanted.keys()):
        raise UserError(f"{whose} is of another TopFormer: it has '{others[0]}', which this one has not")


def size_of(tensors: Mapping[str, Tensor]) -> str:
    """Which size weights are of, as the end of a sentence; "" where they are of none."""
    query = tensors.get("trans.transformer_blocks.0.attn.to_q.c.weight")
    shape = None if query is None else tuple(query.shape[:2])
    for name, size in SIZES.items():
        if shape == (KEY * size.heads, sum(size.token_channels)):
            return f"; these are {name}'s"
    return ""
