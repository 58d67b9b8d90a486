import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn

from depthkd.models import DepthModel, Frozen, GenPercept
from depthkd.models.latent_diffusion.latent import noise_like
from depthkd.models.latent_diffusion.latent_files import (
    empty_text,
    load_autoencoder,
    load_unet,
    read_embedding,
)
from tests.models.checks import assert_state_dict_restores
from tests.models.stable_diffusion import (
    WIDTH,
    autoencoder,
    genpercept,
    nothing,
    photographs,
    stable_diffusion,
    text_encoder,
    unet,
)

WEIGHTS = "diffusion_pytorch_model.safetensors"


def model(folder: Path, longest: int | None = None) -> GenPercept:
    source = genpercept(folder / "genpercept-models")
    return GenPercept(source, base=stable_diffusion(folder / "base"), longest=longest)


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.system, ("touch exploded",))


class Student(nn.Module):
    def __init__(self, teacher: Frozen) -> None:
        super().__init__()
        self.own = nn.Linear(2, 2)
        self.teacher = teacher


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_one_teaches_and_no_checkpoint_holds_it(dtype: torch.dtype, tmp_path: Path) -> None:
    plain = model(tmp_path, longest=64)
    teacher = Frozen(lambda: model(tmp_path / "frozen", longest=64), dtype=dtype)
    images = photographs(40, 56, 2)
    with torch.autocast("cpu", torch.bfloat16):
        output = teacher(images)
    assert (output.depth.shape, output.depth.dtype, output.features) == ((2, 40, 56), torch.float32, None)
    assert not output.depth.requires_grad
    expected = plain(images).depth.detach()
    atol = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(output.depth, expected, atol=atol, rtol=0)
    assert set(Student(teacher).state_dict()) == {"own.weight", "own.bias"}


def test_the_autoencoder_stays_in_float32_and_loses_nothing(tmp_path: Path) -> None:
    changed, kept = model(tmp_path), autoencoder().state_dict()
    changed.half().bfloat16()
    assert {p.dtype for p in changed.unet.parameters()} == {torch.bfloat16}
    assert changed.text.dtype == torch.bfloat16
    assert all(torch.equal(tensor, kept[name]) for name, tensor in changed.vae.state_dict().items())
    assert {p.device.type for p in changed.to("meta").vae.parameters()} == {"meta"}
    assert list(dict(changed.named_children())) == ["unet", "vae"]


@torch.no_grad()
def test_autocast_does_not_reach_the_autoencoder(tmp_path: Path) -> None:
    one, images = model(tmp_path), photographs(16, 24)
    latent = one.encode(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(one.encode(images), latent)
        depth = one.decode(latent)
    assert torch.equal(depth, one.decode(latent))


def test_all_but_the_autoencoder_can_be_trained(tmp_path: Path) -> None:
    one = model(tmp_path)
    one(photographs(16, 16)).depth.mean().backward()
    gradients = [p.grad for p in one.unet.parameters()]
    assert all(g is not None for g in gradients)
    assert sum(float(g.abs().sum()) for g in gradients if g is not None) > 0
    assert all(p.grad is None for p in one.vae.parameters())
    assert len(list(one.encoder_parameters())) == len(list(one.parameters()))
    assert not list(one.head_parameters())
    assert isinstance(one, DepthModel)


def test_a_state_dict_brings_back_the_whole_model(tmp_path: Path) -> None:
    one, other = model(tmp_path), model(tmp_path / "other")
    assert_state_dict_restores(one, other, photographs(16, 16))
    assert torch.equal(other.text, nothing(tmp_path / "base"))


def test_noise_is_the_same_in_any_batch() -> None:
    torch.manual_seed(0)
    batch = noise_like(torch.zeros(3, 4, 1, 3))
    torch.manual_seed(0)
    assert torch.equal(batch, torch.cat([noise_like(torch.zeros(1, 4, 1, 3)) for _ in range(3)]))
    assert batch.std() > 0.5


def test_the_empty_prompt_comes_from_the_text_encoder_a_file_or_zeros(tmp_path: Path) -> None:
    text_encoder(tmp_path / "whole")
    embedding = nothing(tmp_path / "whole")
    assert embedding.shape == (1, 2, WIDTH)
    torch.testing.assert_close(empty_text(str(tmp_path / "whole"), WIDTH), embedding)
    np.save(tmp_path / "empty_text_embed.npy", embedding[0].numpy().astype(np.float16))
    torch.testing.assert_close(empty_text(str(tmp_path), WIDTH), embedding.half().float())
    save_file({"any": embedding + 1}, tmp_path / "empty_text_embed.safetensors")
    torch.testing.assert_close(empty_text(str(tmp_path), WIDTH), embedding + 1)
    named = empty_text(str(tmp_path / "whole"), WIDTH, str(tmp_path / "empty_text_embed.npy"))
    torch.testing.assert_close(named, embedding.half().float())
    assert torch.equal(empty_text(str(tmp_path / "whole"), 5, "zeros"), torch.zeros(1, 2, 5))


def test_files_may_name_their_tensors_as_the_hub_s_old_ones_do(tmp_path: Path) -> None:
    """Stable Diffusion's autoencoder has its attention's old names, its text encoder a prefix."""
    stable_diffusion(tmp_path)
    embedding, file = nothing(tmp_path), tmp_path / "text_encoder" / "model.safetensors"
    prefixed = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in load_file(file).items()}
    save_file(prefixed, file, {"format": "pt"})
    assert torch.equal(empty_text(str(tmp_path), WIDTH), embedding)
    old, file = {}, tmp_path / "vae" / WEIGHTS
    for name, tensor in load_file(file).items():
        if ".attentions." in name:
            for new, former in (("q", "query"), ("k", "key"), ("v", "value"), ("out.0", "proj_attn")):
                name = name.replace(f".to_{new}.", f".{former}.")
        old[name] = tensor
    assert "encoder.mid_block.attentions.0.query.weight" in old
    save_file(old, file, {"format": "pt"})
    expected = autoencoder().state_dict()
    loaded = load_autoencoder(str(tmp_path)).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.items())


def test_an_empty_prompt_that_cannot_be_had_gives_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^'.*' has neither a text_encoder nor empty_text_embed.safetensors"
    ):
        empty_text(str(tmp_path), WIDTH)
    with pytest.raises(FileNotFoundError, match=r"^there is no file 'none.npy' with the empty prompt's emb"):
        empty_text(str(tmp_path), WIDTH, "none.npy")
    file = tmp_path / "e.npy"
    np.save(file, np.array([Bomb()], dtype=object))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(b"1234567890")
    for path in (file, cut):
        with pytest.raises(ValueError, match=r"is no (.npy or .safetensors file of numbers|file of weights)"):
            read_embedding(str(path))
    for array in (np.zeros(3, np.float32), np.zeros((2, 3), np.int64)):
        np.save(file, array)
        with pytest.raises(
            ValueError, match=r"e.npy' holds \[.*\]; an embedding would be one array \[1, tok"
        ):
            read_embedding(str(file))
    text_encoder(tmp_path / "t")
    (tmp_path / "t" / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"t' has no readable text_encoder/model.safetensors: pickled"):
        empty_text(str(tmp_path / "t"), WIDTH)


def test_an_embedding_of_another_width_is_refused(tmp_path: Path) -> None:
    source, base = genpercept(tmp_path / "g"), stable_diffusion(tmp_path / "base")
    np.save(tmp_path / "e.npy", np.zeros((77, 9), np.float32))
    with pytest.raises(ValueError, match=r"embedding is \[1, 77, 9\]; this UNet takes \[1, tokens, 8\]$"):
        GenPercept(source, base=base, text=str(tmp_path / "e.npy"))


@pytest.mark.parametrize("longest", [0, 7, -768])
def test_a_longest_side_below_one_latent_is_refused(longest: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^the longest side must be at least 8 pixels, not {longest}$"):
        model(tmp_path, longest)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    sentence = r"^'{}' is no folder or hub repository from which {}/config.json can be had: check the name"
    for source in ("/nowhere/at/all", "nobody/nothing", str(tmp_path)):
        with pytest.raises(FileNotFoundError, match=sentence.format(source, "vae")) as caught:
            load_autoencoder(source)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"from which unet/diffusion_pytorch_model.safetensors can"):
        load_unet(str(tmp_path), "unet", (4,), base=str(tmp_path))


def test_pickled_weights_are_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source, base = genpercept(tmp_path / "g"), stable_diffusion(tmp_path / "base")
    for part in (tmp_path / "g" / "unet_disparity_v2", tmp_path / "base" / "vae"):
        weights = (part / WEIGHTS).read_bytes()
        (part / WEIGHTS).unlink()
        for name in ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.ckpt"):
            (part / name).write_bytes(pickle.dumps({"conv_in.weight": Bomb()}))
        with pytest.raises(
            ValueError, match=rf"^'.*' has no readable {part.name}/{WEIGHTS}: pickled weig"
        ) as c:
            GenPercept(source, base=base)
        assert "\n" not in str(c.value)
        (part / WEIGHTS).write_bytes(weights)
    assert not Path("exploded").exists()
    GenPercept(source, base=base)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    stable_diffusion(tmp_path)
    file = tmp_path / "vae" / WEIGHTS
    whole = load_file(file)
    save_file({k: v for k, v in whole.items() if k != "decoder.conv_out.bias"}, file)
    with pytest.raises(ValueError, match=r"lack 1 tensors, 'decoder.conv_out.bias' among them$"):
        load_autoencoder(str(tmp_path))
    save_file({**whole, "decoder.conv_out.bias": torch.zeros(7)}, file)
    with pytest.raises(
        ValueError, match=r"do not fit its vae/config.json: .*decoder.conv_out.bias"
    ) as caught:
        load_autoencoder(str(tmp_path))
    assert "\n" not in str(caught.value)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"has no readable vae/{WEIGHTS}"):
        load_autoencoder(str(tmp_path))


def test_a_unet_without_a_configuration_is_checked_too(tmp_path: Path) -> None:
    source, base = tmp_path / "genpercept", tmp_path / "base"
    genpercept(source, "unet")
    (source / "unet" / "config.json").rename(tmp_path / "config.json")
    base.mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"^'.*unet' has no config.json, and '.*' no unet/config.json$"
    ):
        load_unet(str(source), "unet", (4,), base=str(base))
    (base / "unet").mkdir()
    (tmp_path / "config.json").rename(base / "unet" / "config.json")
    assert isinstance(load_unet(str(source), "unet", (4,), base=str(base)), UNet2DConditionModel)
    file = source / "unet" / WEIGHTS
    whole = load_file(file)
    save_file({k: v for k, v in whole.items() if k != "conv_in.bias"}, file)
    with pytest.raises(ValueError, match=r"lack 1 tensors, 'conv_in.bias' among them$"):
        load_unet(str(source), "unet", (4,), base=str(base))
    save_file({**whole, "conv_in.bias": torch.zeros(7)}, file)
    with pytest.raises(ValueError, match=r"does not fit the UNet of '.*': size mismatch for conv_in.bias"):
        load_unet(str(source), "unet", (4,), base=str(base))
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"is no file of weights: it is empty$"):
        load_unet(str(source), "unet", (4,), base=str(base))


def test_a_unet_of_another_kind_is_refused(tmp_path: Path) -> None:
    unet(8).save_pretrained(tmp_path / "unet")
    with pytest.raises(ValueError, match=r"^the UNet in '.*' takes 8 channels; it would be 4$"):
        load_unet(str(tmp_path), "unet", (4,))
    assert isinstance(load_unet(str(tmp_path), "unet", (4, 8)), UNet2DConditionModel)
    stable_diffusion(tmp_path)
    assert isinstance(load_autoencoder(str(tmp_path)), AutoencoderKL)
