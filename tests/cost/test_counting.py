"""Parameters and multiply-adds: hand-counted, by closed formula, and what cannot be counted."""

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import timm
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import Tensor, nn

from depthkd.batch import AFFINE_DISPARITY
from depthkd.cost.counting import multiply_adds, parameter_count, weight_bytes
from depthkd.cost.onnx_initializers import initializer_sizes
from depthkd.models import AlignedDepth, DepthAnything, LightweightDepth, OnnxDepth
from depthkd.models.model import DepthModel, DepthOutput
from tests.models.graphs import mixer
from tests.models.smallest import Level

HEADS, WIDTH = 2, 8


class Small(DepthModel):
    """A convolution, attention among its pixels, and a linear layer."""

    space = AFFINE_DISPARITY

    def __init__(self, fused: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 1)
        self.register_buffer("ones", torch.ones(5))
        self.fused = fused

    def forward(self, image: Tensor) -> DepthOutput:
        maps = F.gelu(self.conv(image))
        tokens = self.norm(maps.flatten(2).mT)
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(tokens).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v) if self.fused else (q @ k.mT).softmax(-1) @ v
        depth = self.head(mixed.transpose(1, 2).flatten(2))
        return DepthOutput(depth[..., 0].unflatten(1, image.shape[-2:]))

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return self.conv.parameters()


@pytest.mark.parametrize("fused", [True, False])
def test_a_small_network_counted_by_hand(fused: bool) -> None:
    model = Small(fused).eval()
    parameters = (3 * 9 * WIDTH + WIDTH) + WIDTH * 3 * WIDTH + 2 * WIDTH + (WIDTH + 1)
    assert parameter_count(model) == parameters == 441
    assert weight_bytes(model) == 4 * (parameters + 5)
    pixels = 6 * 10
    convolution = pixels * 3 * 9 * WIDTH
    attention = 2 * pixels**2 * WIDTH  # queries with keys, and weights with values, over all heads
    with torch.no_grad():
        found = multiply_adds(lambda: model(torch.rand(1, 3, 6, 10)))
        twice = multiply_adds(lambda: model(torch.rand(2, 3, 6, 10)))
    assert found.count == convolution + pixels * WIDTH * 3 * WIDTH + attention + pixels * WIDTH == 82_560
    assert twice.count == 2 * found.count
    assert found.uncounted == {}


def test_a_vision_transformer_by_the_closed_formula() -> None:
    width, depth, patch, side, classes = 24, 3, 8, 64, 10
    vit = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=side,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=3,
        num_classes=classes,
    ).eval()
    patches = (side // patch) ** 2
    tokens = patches + 1
    block = 4 * tokens * width**2 + 2 * tokens**2 * width + 8 * tokens * width**2
    expected = patches * 3 * patch**2 * width + depth * block + width * classes
    with torch.no_grad():
        found = multiply_adds(lambda: vit(torch.rand(1, 3, side, side)))
    assert found.count == expected
    assert found.uncounted == {}


def test_what_has_no_formula_is_told() -> None:
    library = torch.library.Library("depthkd_test", "DEF")
    library.define("product(Tensor a, Tensor b) -> Tensor")
    library.impl("product", lambda a, b: a @ b, "CompositeExplicitAutograd")
    a = torch.rand(4, 4)

    def run() -> None:
        for _ in range(2):
            torch.ops.depthkd_test.product(a, a)
        torch.fft.rfft(a)
        torch.mm(a, a)

    with torch.no_grad():
        found = multiply_adds(run)
    assert found.count >= 4**3
    assert found.uncounted.pop("depthkd_test.product.default") == 2
    assert found.uncounted == {"aten._fft_r2c.default": 1}
    library._destroy()


@pytest.mark.parametrize("name", ["mobilenetv4_conv_small", "fastvit_t8", "topformer_tiny"])
def test_usual_networks_have_nothing_uncounted(name: str) -> None:
    network = LightweightDepth(name) if "topformer" in name else timm.create_model(name, num_classes=0)
    network.eval()
    with torch.no_grad():
        found = multiply_adds(lambda: network(torch.rand(1, 3, 64, 64)))
    assert found.count > 0 and found.uncounted == {}


def test_companions_count_once() -> None:
    relative, metric = DepthAnything(size="tiny"), Level()
    alone = sum(p.numel() for p in relative.parameters())
    assert parameter_count(relative) == alone
    assert parameter_count(AlignedDepth(relative, metric)) == alone


def test_a_graphs_parameters_are_its_initializers(tmp_path: Path) -> None:
    file = tmp_path / "mixer.onnx"
    mixer(file)
    graph = onnx.load(file).graph
    expected = sum(onnx.numpy_helper.to_array(t).size for t in graph.initializer)
    assert sum(initializer_sizes(file)) == parameter_count(OnnxDepth(str(file))) == expected > 0
    assert weight_bytes(OnnxDepth(str(file))) == file.stat().st_size


def test_initializers_of_subgraphs_count_and_whole_numbers_do_not(tmp_path: Path) -> None:
    def tensor(name: str, kind: int, *sides: int) -> TensorProto:
        numbers = int(torch.tensor(sides).prod())
        return helper.make_tensor(name, kind, sides, [0] * numbers)

    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 300])
    inner = helper.make_graph([], "inner", [], [output], [tensor("y", TensorProto.FLOAT, 4, 300)])
    choice = helper.make_node("If", ["condition"], ["y"], then_branch=inner, else_branch=inner)
    condition = helper.make_tensor_value_info("condition", TensorProto.BOOL, [])
    held = [tensor("shape", TensorProto.INT64, 3), tensor("half", TensorProto.FLOAT16, 7)]
    model = helper.make_model(
        helper.make_graph([choice], "outer", [condition], [output], [*held, tensor("b", TensorProto.INT8, 2)])
    )
    onnx.save(model, tmp_path / "a.onnx")
    assert list(initializer_sizes(tmp_path / "a.onnx")) == [1200, 1200, 7, 2]


def test_a_graph_without_initializers_has_no_known_parameters(tmp_path: Path) -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])
    depth = helper.make_tensor_value_info("depth", TensorProto.FLOAT, [1, 1, 8, 8])
    mean = helper.make_node("ReduceMean", ["image"], ["depth"], axes=[1])
    model = helper.make_model(
        helper.make_graph([mean], "mean", [image], [depth]), opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 8
    onnx.save(model, tmp_path / "mean.onnx")
    assert parameter_count(OnnxDepth(str(tmp_path / "mean.onnx"))) is None
