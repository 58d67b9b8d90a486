import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from depthkd.batch import AFFINE_DISPARITY
from depthkd.models import DepthModel, Frozen, GenPerceptDPT
from depthkd.models.latent_diffusion.genpercept_dpt import UNetDPT, load_head, to_unit_range
from depthkd.models.latent_diffusion.latent import UNetDepth
from tests.conftest import CommandLine
from tests.models.checks import assert_state_dict_restores
from tests.models.stable_diffusion import (
    DPT_CHANNELS,
    LEVELS,
    autoencoder,
    dpt_head,
    dpt_head_shapes,
    four_level_unet,
    genpercept_dpt,
    nothing,
    photographs,
    stable_diffusion,
)

UNET, HEAD = "unet_disparity_dpt_head_v2", "dpt_head_identity"
UNET_WEIGHTS = f"{UNET}/diffusion_pytorch_model.safetensors"
PUBLISHED = (320, 640, 1280, 1280)


def model(folder: Path, longest: int | None = None, **arguments: Any) -> GenPerceptDPT:
    source, base = genpercept_dpt(folder / "genpercept-models"), stable_diffusion(folder / "base")
    return GenPerceptDPT(source, base=base, longest=longest, **arguments)


def latent_of(image: Tensor) -> Tensor:
    vae = autoencoder()
    return vae.quant_conv(vae.encoder(2 * image - 1))[:, :4] * 0.18215


def maps_of(latent: Tensor, text: Tensor) -> list[Tensor]:
    """What each of the up blocks gives, finest first, block by block."""
    unet = four_level_unet()
    prompt = {"encoder_hidden_states": text.expand(len(latent), -1, -1)}
    time = unet.time_embedding(unet.time_proj(torch.ones(len(latent))))
    x = unet.conv_in(latent)
    skips, maps = [x], []
    for block in unet.down_blocks:
        x, new = block(x, time, **(prompt if block is not unet.down_blocks[-1] else {}))
        skips += new
    x = unet.mid_block(x, time, **prompt)
    for block in unet.up_blocks:
        taken, skips = skips[-3:], skips[:-3]
        sizes = {"upsample_size": skips[-1].shape[-2:]} if skips else {}
        x = block(x, tuple(taken), time, **sizes, **(prompt if block is not unet.up_blocks[0] else {}))
        maps.append(x)
    return maps[::-1]


def convolve(head: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    weight = head[f"{name}.weight"]
    return F.conv2d(x, weight, head.get(f"{name}.bias"), padding=weight.shape[-1] // 2)


def unit(head: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x + convolve(head, f"{name}.convolution2", convolve(head, f"{name}.convolution1", x.relu()).relu())


def twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def depth_of(maps: list[Tensor]) -> Tensor:
    """DPT's head, written out."""
    head = dpt_head()
    finest = F.interpolate(maps[0], scale_factor=2, mode="nearest")
    maps = [convolve(head, "feature_upsample_0.conv", finest), *maps[1:]]
    fused = torch.zeros(())
    for k, one in enumerate(reversed(maps)):
        layer, one = f"neck.fusion_stage.layers.{k}", convolve(head, f"neck.convs.{3 - k}", one)
        if k == 0:
            fused = one
        else:
            one = F.interpolate(one, fused.shape[-2:], mode="bilinear")
            fused = fused + unit(head, f"{layer}.residual_layer1", one)
        fused = convolve(head, f"{layer}.projection", twice(unit(head, f"{layer}.residual_layer2", fused)))
    x = twice(convolve(head, "head.head.0", convolve(head, "head.projection", fused).relu()))
    return convolve(head, "head.head.4", convolve(head, "head.head.2", x).relu())[:, 0]


def unit_range(depth: Tensor) -> Tensor:
    return torch.stack([(one - one.min()) / (one.max() - one.min()) for one in depth])


@torch.no_grad()
@pytest.mark.parametrize(("size", "answers_at"), [((64, 96), (64, 96)), ((40, 72), (64, 96))])
def test_depth_is_what_dpt_s_head_makes_of_the_up_blocks_maps(
    size: tuple[int, int], answers_at: tuple[int, int], tmp_path: Path
) -> None:
    """Of 5 x 9 of the latent the coarsest map has 2 x 3: the head's sides are multiples of 32."""
    one, images = model(tmp_path), photographs(*size, count=2)
    maps = maps_of(latent_of(images), nothing(tmp_path / "base"))
    assert [m.shape[1] for m in maps] == list(DPT_CHANNELS)
    raw = depth_of(maps)
    assert raw.shape[-2:] == answers_at
    assert raw.min() < 0 < raw.max()  # no ReLU ends it
    torch.testing.assert_close(one.predict_raw(images), unit_range(raw), atol=1e-4, rtol=0)
    expected = F.interpolate(unit_range(raw)[:, None], size, mode="bilinear")[:, 0]
    torch.testing.assert_close(one(images).depth, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(one.predict(images), expected, atol=1e-4, rtol=0)
    assert one.space == AFFINE_DISPARITY


@torch.no_grad()
@pytest.mark.parametrize(("longest", "forward_at"), [(64, (50, 90)), (None, (48, 88))])
def test_sizes_are_rounded_and_come_back(
    longest: int | None, forward_at: tuple[int, int], tmp_path: Path
) -> None:
    one, image = model(tmp_path, longest), photographs(50, 90)
    assert one(image).depth.shape[-2:] == forward_at
    assert one.predict(image).shape[-2:] == (50, 90)
    assert one.infer(image).shape[-2:] == ((32, 64) if longest else (64, 96))
    assert one.runs_at(50, 90) == ((32, 64) if longest else (48, 88))


def test_every_map_has_its_own_range_and_a_constant_one_is_0() -> None:
    maps = torch.tensor([[[3.0, 5.0], [4.0, 3.0]], [[-7.0, -7.0], [-7.0, -7.0]], [[0.0, 1e-30], [0.0, 0.0]]])
    maps.requires_grad_()
    expected = [[[0.0, 1.0], [0.5, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]]
    depth = to_unit_range(maps)
    assert depth.tolist() == expected
    depth[:2].square().sum().backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
    assert maps.grad[0].any()


class Unfilled(GenPerceptDPT):
    def __init__(self, unet: UNet2DConditionModel, vae: AutoencoderKL) -> None:
        UNetDepth.__init__(self, unet, vae, torch.empty(1, 2, 1024))


@torch.no_grad()
def test_the_head_has_the_published_layout_and_fits_stable_diffusion_s_unet() -> None:
    """The file on the hub has 73.9 MB: the coarsest map is fused with nothing, the units have no bias."""
    with torch.device("meta"):
        head = UNetDPT(PUBLISHED)
        unet = UNet2DConditionModel(
            in_channels=4,
            block_out_channels=PUBLISHED,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            **LEVELS,
        )
        shapes = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
        assert shapes == dpt_head_shapes(PUBLISHED, 256)
        assert sum(p.numel() for p in head.parameters()) == 18_474_753  # 73.899 MB in float32
        maps = Unfilled(unet, autoencoder()).maps(torch.empty(1, 4, 72, 96))
        sizes = [(72, 96), (72, 96), (36, 48), (18, 24)]
        assert [tuple(m.shape[1:]) for m in maps] == [(c, *s) for c, s in zip(PUBLISHED, sizes, strict=True)]
        fused = head.neck([head.feature_upsample_0(maps[0]), *maps[1:]])
        assert head.head(fused).shape == (1, 576, 768)


def test_training_reaches_all_of_unet_and_head(tmp_path: Path) -> None:
    student = model(tmp_path).train()
    student(photographs(64, 64, 2)).depth.square().mean().backward()
    for part in (student.unet, student.dpt):
        gradients = {name: p.grad for name, p in part.named_parameters()}
        assert [name for name, g in gradients.items() if g is None] == []  # DDP would wait for them
        assert sum(float(g.abs().sum()) for g in gradients.values() if g is not None) > 0
    assert all(p.grad is None for p in student.vae.parameters())
    head = [id(p) for p in student.head_parameters()]
    assert head == [id(p) for p in student.dpt.parameters()]
    assert len(head) + len(list(student.encoder_parameters())) == len(list(student.parameters()))
    assert isinstance(student, DepthModel)


def test_a_state_dict_brings_back_the_whole_model_and_has_no_decoder(tmp_path: Path) -> None:
    one, other = model(tmp_path), model(tmp_path / "other")
    assert_state_dict_restores(one, other, photographs(32, 32))
    idle = ("vae.decoder", "vae.post_quant_conv", "unet.conv_out", "unet.conv_norm_out")
    assert not [name for name in one.state_dict() if name.startswith(idle)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_one_teaches(dtype: torch.dtype, tmp_path: Path) -> None:
    plain = model(tmp_path, longest=64)
    teacher = Frozen(lambda: model(tmp_path / "frozen", longest=64), dtype=dtype)
    images = photographs(40, 56, 2)
    output = teacher(images)
    assert (output.depth.shape, output.depth.dtype, output.features) == ((2, 40, 56), torch.float32, None)
    atol = 1e-5 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(output.depth, plain(images).depth.detach(), atol=atol, rtol=0)
    assert len(output.depth.unique()) > 2000  # not the few values of bfloat16
    assert {p.dtype for p in teacher.model.unet.parameters()} == {dtype}
    assert {p.dtype for p in teacher.model.vae.parameters()} == {torch.float32}


@torch.no_grad()
def test_autocast_does_not_reach_what_ends_the_head(tmp_path: Path) -> None:
    one, images = model(tmp_path), photographs(32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        depth = one(images).depth
    assert depth.dtype == torch.float32
    assert len(depth.unique()) > 500
    torch.testing.assert_close(depth, one(images).depth, atol=0.1, rtol=0)


@torch.no_grad()
def test_a_batch_answers_as_single_images_do(tmp_path: Path) -> None:
    one, images = model(tmp_path), photographs(40, 24, 3)
    single = torch.cat([one.predict(image[None]) for image in images])
    torch.testing.assert_close(one.predict(images), single, atol=1e-4, rtol=0)
    assert not one.unet.up_blocks[0]._forward_hooks


def test_what_the_unet_does_not_need_may_be_in_its_file(tmp_path: Path) -> None:
    """Nor need it have a configuration of its own, or the authors' folders."""
    one, images = model(tmp_path), photographs(32, 32)
    source, base = tmp_path / "genpercept-models", tmp_path / "base"
    four_level_unet().save_pretrained(source / "unet")
    (source / HEAD).rename(source / "unet" / HEAD)
    arguments = {"base": str(base), "longest": None, "space": "affine disparity"}
    other = GenPerceptDPT(str(source), "unet", f"unet/{HEAD}", **arguments)
    torch.testing.assert_close(other.predict(images), one.predict(images))
    (base / "unet").mkdir()
    (source / UNET / "config.json").rename(base / "unet" / "config.json")
    bare = GenPerceptDPT(str(source), UNET, f"unet/{HEAD}", **arguments)
    torch.testing.assert_close(bare.predict(images), one.predict(images))


def test_what_it_is_and_where_from_is_told(tmp_path: Path) -> None:
    one = model(tmp_path, license="mine", training_sets=["KITTI"])
    assert (one.license, one.training_sets) == ("mine", ("KITTI",))
    assert one.source == f"{tmp_path}/genpercept-models/{UNET}"
    cached = tmp_path / "models--guangkaixu--genpercept-disparity-dpt-head" / "snapshots" / "a"
    other = GenPerceptDPT(genpercept_dpt(cached), base=str(tmp_path / "base"))
    assert other.training_sets == ("Hypersim", "Virtual KITTI 2")
    with pytest.raises(ValueError, match=r"^'unet_disparity_v2' is GenPercept without a DPT head: take"):
        GenPerceptDPT(unet="unet_disparity_v2")
    with pytest.raises(ValueError, match=r"^'a/unet' is called after neither depth nor disparity"):
        GenPerceptDPT(str(cached), "unet")


def test_a_head_that_does_not_fit_gives_one_sentence(tmp_path: Path) -> None:
    source = genpercept_dpt(tmp_path)
    file = tmp_path / HEAD / "model.safetensors"
    whole = dpt_head()
    cases = {
        r"lacks 1 tensors of GenPercept's DPT head, 'head.head.4.bias' among them$": {
            k: v for k, v in whole.items() if k != "head.head.4.bias"
        },
        r"lacks 36 tensors of GenPercept's DPT head, 'feature_upsample_0.conv.bias' among": {},
        r"of another network: 1 tensors have no place in GenPercept's DPT head, 'neck.x'": {
            **whole,
            "neck.x": torch.zeros(1),
        },
        r"does not fit the UNet: 'neck.convs.3.weight' is \[12, 7, 3, 3\], and would be \[12, 32, 3, 3\]$": {
            **whole,
            "neck.convs.3.weight": torch.zeros(12, 7, 3, 3),
        },
    }
    for sentence, tensors in cases.items():
        save_file(tensors, file)
        with pytest.raises(ValueError, match=rf"^'{file}' .*{sentence}") as caught:
            load_head(source, HEAD, DPT_CHANNELS)
        assert "\n" not in str(caught.value)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"model.safetensors' is no file of weights, or was cut short$"):
        load_head(source, HEAD, DPT_CHANNELS)
    save_file({k: v.half() for k, v in whole.items()}, file)
    assert {p.dtype for p in load_head(source, HEAD, DPT_CHANNELS).parameters()} == {torch.float32}


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.system, ("touch exploded",))


def test_a_pickled_head_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = genpercept_dpt(tmp_path)
    (tmp_path / HEAD / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pth"):
        (tmp_path / HEAD / name).write_bytes(pickle.dumps({"head.head.4.bias": Bomb()}))
    with pytest.raises(FileNotFoundError, match=rf"from which {HEAD}/model.safetensors can be had: check"):
        load_head(source, HEAD, DPT_CHANNELS)
    assert not Path("exploded").exists()


def test_a_unet_that_lacks_more_than_its_end_is_refused(tmp_path: Path) -> None:
    source, base = genpercept_dpt(tmp_path / "g"), stable_diffusion(tmp_path / "base")
    file = tmp_path / "g" / UNET_WEIGHTS
    whole = load_file(file)
    assert not [name for name in whole if name.startswith(("conv_out", "conv_norm_out"))]
    save_file({k: v for k, v in whole.items() if k != "conv_in.bias"}, file, {"format": "pt"})
    sentence = rf"^the weights {UNET_WEIGHTS} of '{source}' lack 1 tensors, 'conv_in.bias' among them$"
    with pytest.raises(ValueError, match=sentence):
        GenPerceptDPT(source, base=base, space="affine disparity")


def test_the_command_line_tests_it(tmp_path: Path, command_line: CommandLine) -> None:
    source, base = genpercept_dpt(tmp_path / "g"), stable_diffusion(tmp_path / "base")
    arguments = {"source": source, "base": base, "longest": 64, "license": "mine"}
    models = {"dpt": {"class_path": "depthkd.models.GenPerceptDPT", "init_args": arguments}}
    benchmarks = {"motorcycle": {"class_path": "depthkd.benchmarks.Motorcycle"}}
    Path("dpt.yaml").write_text(yaml.safe_dump({"models": models, "benchmarks": benchmarks}))
    words = ["test", "--config", "dpt.yaml", "--photographs", "false", "--pictures", 0, "--out", "out"]
    status, _, err = command_line(*words)
    assert status == 0, err
    results = json.loads(Path("out", "results.json").read_text())
    assert results["models"]["dpt"]["license"] == "mine"
    assert 0 < results["benchmarks"]["motorcycle"]["metrics"]["dpt"]["abs_rel"] < 1
