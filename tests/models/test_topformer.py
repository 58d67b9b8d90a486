"""TopFormer against slow second implementations, its published size, and weights by its authors' names."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from depthkd.errors import MissingFileError, UserError
from depthkd.models.topformer import SIZES, Convolution, TopFormer, averaged, pooled_tokens

PUBLISHED = {  # parameters in millions and multiply-adds in G, with the head of 150 classes, at 512 x 512
    "topformer_tiny": (1.4, 0.6),
    "topformer_small": (3.1, 1.2),
    "topformer_base": (5.1, 1.8),
}
ENCODER = {  # of the encoder alone
    "topformer_tiny": (1.37, 0.45),
    "topformer_small": (2.97, 0.84),
    "topformer_base": (4.96, 1.33),
}


class SimpleHead(nn.Module):
    """The authors' segmentation head: the sum of the maps, a convolution of one pixel, and the classes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_fuse = Convolution(width, width, name="conv")
        self.conv_seg = nn.Conv2d(width, 150, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        size = maps[0].shape[-2:]
        total = sum(F.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps)
        return self.conv_seg(F.relu(self.linear_fuse(total)))


def lively(size: str = "topformer_tiny", **options: object) -> TopFormer:
    """A TopFormer in eval mode, none of whose normalizations is the identity or nothing."""
    torch.manual_seed(0)
    network = TopFormer(size, **options).eval()
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.ndim == 1:
            tensor.normal_(0.0 if name.endswith(("bias", "mean")) else 1.0, 0.2)
    return network


def image(height: int = 96, width: int = 160, count: int = 2) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def convolved(x: Tensor, tensors: dict[str, Tensor], name: str, c: str = "c") -> Tensor:
    """A convolution of one pixel and its batch normalization, written out, in float64."""
    out = torch.einsum("oi,bihw->bohw", tensors[f"{name}.{c}.weight"][:, :, 0, 0], x)
    mean, var = (tensors[f"{name}.bn.running_{s}"].view(-1, 1, 1) for s in ("mean", "var"))
    weight, bias = (tensors[f"{name}.bn.{s}"].view(-1, 1, 1) for s in ("weight", "bias"))
    return (out - mean) / (var + 1e-5).sqrt() * weight + bias


def doubles(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("scaled", [False, True])
def test_attention_is_a_sum_over_all_positions(scaled: bool) -> None:
    attention = lively(scaled_attention=scaled).trans.transformer_blocks[1].attn
    x = torch.randn(2, 208, 2, 3)
    tensors, wide = doubles(attention), x.double()
    q, k, v = (convolved(wide, tensors, f"to_{letter}").flatten(2) for letter in "qkv")
    seen = torch.zeros_like(v)
    for b in range(2):
        for head in range(4):
            for i in range(6):
                keys, query = k[b, 16 * head : 16 * head + 16], q[b, 16 * head : 16 * head + 16, i]
                score = torch.stack([query @ keys[:, j] for j in range(6)]) / (4 if scaled else 1)
                share = score.exp() / score.exp().sum()
                for j in range(6):
                    channels = slice(32 * head, 32 * head + 32)
                    seen[b, channels, i] += share[j] * v[b, channels, j]
    expected = convolved(seen.view(2, -1, 2, 3).clamp(0, 6), tensors, "proj.1")
    torch.testing.assert_close(attention(x).double(), expected, rtol=1e-5, atol=1e-5)


def test_semantics_are_injected_as_a_gate_and_a_summand() -> None:
    inject = lively().SIM[2]
    local, whole = torch.randn(2, 64, 6, 10), torch.randn(2, 64, 2, 3)
    tensors = doubles(inject)
    gate = (convolved(whole.double(), tensors, "global_act", "conv") + 3).clamp(0, 6) / 6
    added = convolved(whole.double(), tensors, "global_embedding", "conv")
    gate, added = (F.interpolate(m, (6, 10), mode="bilinear", align_corners=False) for m in (gate, added))
    expected = convolved(local.double(), tensors, "local_embedding", "conv") * gate + added
    torch.testing.assert_close(inject(local, whole).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", [1, 3, 4, 5])
def test_an_inverted_residual_widens_filters_and_narrows(number: int) -> None:
    """Without expansion, with stride, with the input added, with 5 x 5 pixels."""
    block = getattr(lively().tpm, f"layer{number}")
    inside, stride = (16, 16, 16, 16, 32)[number - 1], (1, 2, 1, 2, 1)[number - 1]
    tensors, x = doubles(block.conv), torch.randn(2, inside, 8, 12)
    names = sorted({name.split(".")[0] for name in tensors}, key=int)
    hidden = x.double()
    if len(names) == 3:
        hidden = convolved(hidden, tensors, names[0]).clamp(min=0)
    kernel = tensors[f"{names[-2]}.c.weight"]
    side, (height, width) = kernel.shape[-1], (8 // stride, 12 // stride)
    padded = F.pad(hidden, [side // 2] * 4)
    filtered = torch.zeros(2, hidden.shape[1], height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            patch = padded[:, :, stride * row : stride * row + side, stride * column : stride * column + side]
            filtered[:, :, row, column] = (patch * kernel[:, 0]).sum((2, 3))
    one = torch.eye(hidden.shape[1], dtype=torch.float64)[:, :, None, None]
    normalized = convolved(filtered, {**tensors, f"{names[-2]}.c.weight": one}, names[-2]).clamp(min=0)
    expected = convolved(normalized, tensors, names[-1])
    expected = expected + x if stride == 1 and expected.shape[1] == inside else expected
    torch.testing.assert_close(block(x).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(2, 4), (7, 5), (1, 1)])
def test_tokens_are_pooled_as_torch_pools(height: int, width: int) -> None:
    """Windows overlap where half of an odd size is asked for, as of images of 224 pixels."""
    tokens = [torch.randn(2, 3, height * k, width * k) for k in (8, 4, 2, 1)]
    half = ((height + 1) // 2, (width + 1) // 2)
    expected = torch.cat([F.adaptive_avg_pool2d(t, half) for t in tokens], 1)
    torch.testing.assert_close(pooled_tokens(tokens), expected)
    torch.testing.assert_close(averaged(tokens[0], 3, 1), F.adaptive_avg_pool2d(tokens[0], (3, 1)))


@pytest.mark.parametrize("name", SIZES)
def test_it_has_the_published_size(name: str) -> None:
    encoder, width = TopFormer(name).eval(), SIZES[name].width
    head = SimpleHead(width).eval()
    with FlopCounterMode(display=False) as alone, torch.no_grad():
        maps = encoder(torch.zeros(1, 3, 512, 512))
    with FlopCounterMode(display=False) as after, torch.no_grad():
        head(maps[1:])
    own, heads = (sum(p.numel() for p in n.parameters()) / 1e6 for n in (encoder, head))
    parameters, multiply_adds = PUBLISHED[name]
    assert own + heads == pytest.approx(parameters, rel=0.05)
    total = alone.get_total_flops() + after.get_total_flops()
    assert total / 2e9 == pytest.approx(multiply_adds, rel=0.1)
    assert (own, alone.get_total_flops() / 2e9) == pytest.approx(ENCODER[name], abs=0.01)


def test_maps_have_the_strides_and_channels_that_it_says() -> None:
    for name in SIZES:
        network = TopFormer(name).eval()
        with torch.no_grad():
            maps = network(image(64, 96, 1))
        assert [m.shape[1] for m in maps] == network.channels
        assert [tuple(m.shape[-2:]) for m in maps] == [(64 // s, 96 // s) for s in (4, 8, 16, 32)]


def test_all_of_it_learns_and_it_begins_without_attention() -> None:
    network = TopFormer("topformer_tiny", drop_path=0.0).train()
    zero = [n for n, p in network.named_parameters() if n.endswith("bn.weight") and not p.any()]
    assert zero == [f"trans.transformer_blocks.{i}.attn.proj.1.bn.weight" for i in range(4)]
    lively_too = lively().train()
    sum(m.square().mean() for m in lively_too(image())).backward()
    assert [n for n, p in lively_too.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_blocks_are_dropped_in_training_alone_and_more_of_the_last() -> None:
    network = TopFormer("topformer_tiny", drop_path=0.3)
    shares = [block.drop_path.drop_prob for block in network.trans.transformer_blocks]
    assert shares == pytest.approx([0.0, 0.1, 0.2, 0.3])
    with torch.no_grad():
        evaluated = network.eval()
        assert all(torch.equal(a, b) for a, b in zip(evaluated(image()), evaluated(image()), strict=True))


def authors_names(size: str) -> dict[str, list[int]]:
    """Names and shapes of the authors' tensors, by their rows and nothing of ours."""
    c = {
        "tiny": (16, 32, 64, 96, 128, 4),
        "small": (24, 48, 96, 128, 192, 6),
        "base": (32, 64, 128, 160, 256, 8),
    }
    t4, t8, t16, t32, width, heads = c[size]
    rows = [(3, 1, 16), (3, 4, t4), (3, 3, t4), (5, 3, t8), (5, 3, t8), (3, 3, t16), (3, 3, t16)]
    rows += [(5, 6, t32), (5, 6, t32)] + ([] if size == "tiny" else [(3, 6, t32)])
    shapes: dict[str, list[int]] = {}

    def add(name: str, outside: int, inside: int, kernel: int, letter: str = "c") -> None:
        shapes[f"{name}.{letter}.weight"] = [outside, inside, kernel, kernel]
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{part}"] = [outside]
        shapes[f"{name}.bn.num_batches_tracked"] = []

    add("tpm.stem.0", 16, 3, 3)
    before = 16
    for number, (kernel, expansion, channels) in enumerate(rows, start=1):
        hidden, at = before * expansion, 0
        if expansion > 1:
            add(f"tpm.layer{number}.conv.0", hidden, before, 1)
            at = 2
        add(f"tpm.layer{number}.conv.{at}", hidden, 1, kernel)
        add(f"tpm.layer{number}.conv.{at + 2}", channels, hidden, 1)
        before = channels
    whole = t4 + t8 + t16 + t32
    for number in range(4):
        block = f"trans.transformer_blocks.{number}"
        for letter, outside in (("q", 16 * heads), ("k", 16 * heads), ("v", 32 * heads)):
            add(f"{block}.attn.to_{letter}", outside, whole, 1)
        add(f"{block}.attn.proj.1", whole, 32 * heads, 1)
        add(f"{block}.mlp.fc1", 2 * whole, whole, 1)
        shapes |= {
            f"{block}.mlp.dwconv.weight": [2 * whole, 1, 3, 3],
            f"{block}.mlp.dwconv.bias": [2 * whole],
        }
        add(f"{block}.mlp.fc2", whole, 2 * whole, 1)
    for number, channels in ((1, t8), (2, t16), (3, t32)):
        for name in ("local_embedding", "global_embedding", "global_act"):
            add(f"SIM.{number}.{name}", width, channels, 1, "conv")
    return shapes


def generated(size: str, before: str = "") -> dict[str, Tensor]:
    numbers = torch.Generator().manual_seed(3)
    return {
        before + name: torch.rand(shape, generator=numbers) if shape else torch.tensor(7)
        for name, shape in authors_names(size).items()
    }


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_a_segmentation_network_s_file_loads_and_its_head_is_left_out(tmp_path: Path, size: str) -> None:
    content = generated(size, "backbone.")
    head = {
        "decode_head.conv_seg.weight": torch.ones(150, 8, 1, 1),
        "decode_head.conv_seg.bias": torch.ones(150),
    }
    torch.save({"meta": {"epoch": 3}, "state_dict": {**content, **head}}, tmp_path / "segmentation.pth")
    network = TopFormer(f"topformer_{size}")
    assert (
        network.load_weights(str(tmp_path / "segmentation.pth")) == "2 tensors of 'decode_head' are left out"
    )
    own = network.state_dict()
    assert {f"backbone.{name}" for name in own} == set(content)
    assert all(torch.equal(tensor, content[f"backbone.{name}"]) for name, tensor in own.items())


@pytest.mark.parametrize("head", ["fc", "head"])
def test_imagenet_s_file_has_no_injection_and_a_classifier(tmp_path: Path, head: str) -> None:
    content = {name: t for name, t in generated("tiny").items() if not name.startswith("SIM.")}
    file = tmp_path / "topformer-T-224-66.2.pth"
    torch.save({"state_dict_ema": {**content, f"{head}.weight": torch.ones(1000, 208)}, "epoch": 3}, file)
    network = TopFormer("topformer_tiny")
    begun = {name: t.clone() for name, t in network.state_dict().items() if name.startswith("SIM.")}
    told = network.load_weights(str(file))
    assert told == f"1 tensors of '{head}' are left out, and its injection (SIM) begins at random"
    own = network.state_dict()
    assert own.keys() == content.keys() | begun.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in {**content, **begun}.items())


def test_weights_that_do_not_fit_are_refused_in_one_sentence(tmp_path: Path) -> None:
    file = str(tmp_path / "weights.pth")

    def refused(content: dict[str, Tensor], sentence: str) -> None:
        torch.save(content, file)
        with pytest.raises(UserError, match=sentence):
            TopFormer("topformer_tiny").load_weights(file)

    refused(generated("small"), r"'tpm.layer2.*would be .* and is .*; these are topformer_small's$")
    fewer = generated("tiny")
    del fewer["trans.transformer_blocks.3.mlp.fc2.bn.bias"]
    refused(fewer, r"'trans.transformer_blocks.3.mlp.fc2.bn.bias' would be \[208\], and is not there")
    refused(
        {**generated("tiny"), "neck.weight": torch.ones(2)}, "it has 'neck.weight', which this one has not"
    )
    refused(
        {"conv1.weight": torch.ones(2)},
        "holds no TopFormer, whose names begin with 'tpm.': its first is 'conv1",
    )
    broken = generated("tiny")
    broken["tpm.stem.0.c.weight"][0, 0, 0, 0] = torch.nan
    refused(broken, "not finite")
    with pytest.raises(MissingFileError, match="there is no file of weights"):
        TopFormer().load_weights(str(tmp_path / "no.pth"))


def test_a_mistyped_size_or_share_is_refused() -> None:
    with pytest.raises(UserError, match="one of topformer_tiny, topformer_small, topformer_base, not 'tiny'"):
        TopFormer("tiny")
    with pytest.raises(UserError, match=r"drop_path .* from 0 to below 1, not 1\.5"):
        TopFormer(drop_path=1.5)
