"""What users give as weights: known by its content, read without running it, refused with NaN in it."""

import argparse
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from depthkd.errors import UserError
from depthkd.models import DepthAnything, GenPercept, HuggingFaceDepth, Metric3D, UniDepth, ZoeDepth
from depthkd.models.latent_diffusion.genpercept_dpt import load_head
from depthkd.models.latent_diffusion.latent_files import load_autoencoder, load_unet, read_embedding
from depthkd.models.weights import bare_names, read_weights, refuse_broken
from depthkd.runs.student import TrainedDepth, read_checkpoint
from tests.models.families import DEPTH_ANYTHING
from tests.models.stable_diffusion import (
    DPT_CHANNELS,
    WIDTH,
    autoencoder,
    dpt_head,
    stable_diffusion,
    unet,
)
from tests.models.test_torch_hub import METRIC3D, UNIDEPTH, Bomb, clone, weights

TENSORS = {"head.weight": torch.arange(6.0).view(2, 3), "head.bias": torch.ones(2)}
PREFIXES = (
    "",
    "module.",
    "model.",
    "_orig_mod.",
    "network.",
    "model.module._orig_mod.",
    "module.model.module.",
)
WRAPPERS: tuple[tuple[str, ...], ...] = ((), ("state_dict",), ("model", "state_dict"), ("model_state_dict",))
UNET = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_trainers_put_around_tensors_is_taken_off(prefix: str, tmp_path: Path) -> None:
    for wrappers in WRAPPERS:
        content: Any = {f"{prefix}{name}": tensor for name, tensor in TENSORS.items()}
        for wrapper in wrappers:
            content = {wrapper: content, "epoch": 3, "hyper_parameters": {"rate": 0.1}, "callbacks": {}}
        torch.save(content, tmp_path / "w.ckpt", _use_new_zipfile_serialization=bool(wrappers))
        read = read_weights(str(tmp_path / "w.ckpt"))
        assert read.keys() == TENSORS.keys()
        assert all(torch.equal(read[name], tensor) for name, tensor in TENSORS.items())


def test_what_stands_before_some_names_alone_stays() -> None:
    tensors = {"model.a": torch.ones(1), "encoder._orig_mod.b": torch.ones(1)}
    assert list(bare_names(tensors)) == ["model.a", "encoder.b"]
    assert bare_names({}) == {}


def test_a_network_whose_own_names_all_begin_like_that_is_filled(tmp_path: Path) -> None:
    inside = "self.model = torch.nn.Module()\n        self.model.gain = torch.nn.Parameter"
    repo = clone(tmp_path / "repo", UNIDEPTH.replace("self.gain = torch.nn.Parameter", inside))
    path = str(tmp_path / "w.safetensors")
    for number, name in enumerate(("model.gain", "gain", "module.model.gain"), start=1):
        save_file({name: torch.tensor([float(number)])}, path)
        assert UniDepth(repo, path).network.model.gain.item() == number


def test_the_content_counts_and_not_the_name(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "renamed.pth")
    torch.save(TENSORS, tmp_path / "renamed.safetensors")
    for name in ("renamed.pth", "renamed.safetensors"):
        assert read_weights(str(tmp_path / name)).keys() == TENSORS.keys()


def test_a_depth_anything_is_filled_through_all_of_it(tmp_path: Path) -> None:
    """By a file whose name says nothing, in the home folder, as a compiled Lightning run saves it."""
    theirs = DepthAnything(size="tiny")
    tensors = {f"model._orig_mod.{k}": v for k, v in theirs.network.state_dict().items()}
    torch.save({"state_dict": tensors, "pytorch-lightning_version": "2.6"}, tmp_path / "epoch=3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        ours = DepthAnything(size="tiny", weights="~/epoch=3")
    assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())


class Loader:
    """A way to read weights, and the file that it reads them from."""

    def __init__(self, file: Path, load: Callable[[], object]) -> None:
        self.file, self.load = file, load


@pytest.fixture(scope="module")
def loaders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Loader]:
    place = tmp_path_factory.mktemp("loaders")
    HuggingFaceDepth(config=DEPTH_ANYTHING).save_pretrained(place / "hf")
    autoencoder().save_pretrained(place / "sd/vae")
    unet(4).save_pretrained(place / "sd/unet")
    (place / "bare").mkdir()
    shutil.copy(place / "sd/unet" / UNET, place / "bare" / UNET)
    (place / "dpt").mkdir()
    save_file(dpt_head(), place / "dpt/model.safetensors")
    save_file({"embedding": torch.ones(1, 2, WIDTH)}, place / "e.safetensors")
    save_file(TENSORS, place / "w.safetensors")
    torch.save(TENSORS, place / "w.pth")
    run = {"depthkd": {}, "state_dict": {f"student.{k}": v for k, v in TENSORS.items()}}
    torch.save(run, place / "last.ckpt")
    sd = str(place / "sd")
    return {
        "pth": Loader(place / "w.pth", lambda: read_weights(str(place / "w.pth"))),
        "safetensors": Loader(place / "w.safetensors", lambda: read_weights(str(place / "w.safetensors"))),
        "transformers": Loader(place / "hf/model.safetensors", lambda: HuggingFaceDepth(str(place / "hf"))),
        "vae": Loader(place / "sd/vae" / UNET, lambda: load_autoencoder(sd)),
        "unet": Loader(place / "sd/unet" / UNET, lambda: load_unet(sd, "unet", (4,))),
        "bare unet": Loader(place / "bare" / UNET, lambda: load_unet(str(place), "bare", (4,), base=sd)),
        "head": Loader(place / "dpt/model.safetensors", lambda: load_head(str(place), "dpt", DPT_CHANNELS)),
        "embedding": Loader(place / "e.safetensors", lambda: read_embedding(str(place / "e.safetensors"))),
        "run": Loader(place / "last.ckpt", lambda: read_checkpoint(place / "last.ckpt")),
    }


def spoilt(value: float) -> Callable[[bytes, Path], bytes]:
    """The same weights, with a number that is not finite in the middle of the second tensor."""

    def spoil(whole: bytes, file: Path) -> bytes:
        def broken(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            name = sorted(tensors)[min(1, len(tensors) - 1)]
            changed = tensors[name].clone()
            changed.view(-1)[changed.numel() // 2] = value
            return {**tensors, name: changed}

        if file.suffix == ".safetensors":
            save_file(broken(load_file(file)), file, {"format": "pt"})
        else:
            content = torch.load(file, weights_only=True)
            state = content.get("state_dict")
            torch.save({**content, "state_dict": broken(state)} if state else broken(content), file)
        return file.read_bytes()

    return spoil


FAULTS: dict[str, tuple[Callable[[bytes, Path], bytes], str]] = {
    "page": (
        lambda *_: b"\n<!DOCTYPE html>\n<html><title>Sign in</title>",
        "an HTML page, probably one to log in",
    ),
    "pointer": (
        lambda *_: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "git lfs pull",
    ),
    "error": (lambda *_: b'{"error": "Repository not found"}', 'a text that begins with \'."error": "Repo'),
    "empty": (lambda *_: b"", "is empty"),
    "cut": (lambda whole, _: whole[: len(whole) * 2 // 3], "or was cut short"),
    "nan": (
        spoilt(torch.nan),
        r"holds numbers that are not finite \(NaN or infinite\): 1 of \d+ in '[\w.]+';",
    ),
    "infinity": (spoilt(-torch.inf), r"not finite \(NaN or infinite\): 1 of \d+ in '[\w.]+';"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    "name",
    ["pth", "safetensors", "transformers", "vae", "unet", "bare unet", "head", "embedding", "run"],
)
def test_what_cannot_be_used_is_refused_by_all_loaders(
    name: str, fault: str, loaders: dict[str, Loader]
) -> None:
    spoil, sentence = FAULTS[fault]
    file, load = loaders[name].file, loaders[name].load
    whole = file.read_bytes()
    try:
        file.write_bytes(spoil(whole, file))
        with pytest.raises(UserError, match=sentence) as caught:
            load()
    finally:
        file.write_bytes(whole)
    assert file.name in str(caught.value) and "\n" not in str(caught.value)
    load()


@pytest.mark.parametrize("name", ["transformers", "vae", "unet", "bare unet", "head"])
def test_folders_may_hold_names_with_a_prefix_too(
    name: str, loaders: dict[str, Loader], capfd: pytest.CaptureFixture[str]
) -> None:
    file, load = loaders[name].file, loaders[name].load
    whole, expected = file.read_bytes(), load()
    assert isinstance(expected, nn.Module)
    tensors = load_file(file)
    try:
        save_file({f"module._orig_mod.{k}": v for k, v in tensors.items()}, file, {"format": "pt"})
        loaded = load()
        assert isinstance(loaded, nn.Module)
        state = loaded.state_dict()
        assert all(torch.equal(state[k], v) for k, v in expected.state_dict().items())
        last = sorted(tensors)[-1]
        save_file({k: v for k, v in tensors.items() if k != last}, file, {"format": "pt"})
        with pytest.raises(UserError, match=r"lacks? 1 tensors.*, '[\w.]+' among them"):
            load()
    finally:
        file.write_bytes(whole)
    assert "MISSING" not in capfd.readouterr().err


def test_a_mask_may_hold_minus_infinity_and_no_other_tensor() -> None:
    mask = torch.tensor([0.0, -torch.inf])
    refuse_broken({"attn_mask": mask, "count": torch.ones(2, dtype=torch.int64)}, "it")
    refuse_broken({"a": torch.tensor([448.0, 1.0]).to(torch.float8_e4m3fn)}, "it")
    for name, tensor in (("weight", mask), ("attn_mask", -mask), ("attn_mask", mask * 0)):
        with pytest.raises(
            UserError, match=rf"^it holds numbers .*: 1 of 2 in '{name}'; training had failed"
        ):
            refuse_broken({name: tensor}, "it")
    with pytest.raises(UserError, match=r"3 of 3 in 'a', and 1 more tensors have such; "):
        refuse_broken({"a": torch.full((3,), torch.nan), "b": mask, "c": torch.ones(1)}, "it")


def test_what_would_run_code_is_named_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": TENSORS, "hyper_parameters": argparse.Namespace(rate=1)}, "lightning.ckpt")
    torch.save(nn.Linear(2, 2), "module.pth")
    torch.save({"a": Bomb()}, "bomb.pth")
    Path("plain.pth").write_bytes(pickle.dumps({"a": Bomb()}))
    for name, sentence in (
        (
            "lightning.ckpt",
            "so it was not loaded: argparse.Namespace could run code; where you trust it, save",
        ),
        ("module.pth", "so it was not loaded: torch.nn.modules.linear.Linear could run code"),
        ("bomb.pth", "so it was not loaded: posix.system could run code"),
        ("plain.pth", "is no file of weights: it is a pickle that torch did not write, which could run code"),
    ):
        with pytest.raises(UserError, match=f"^'{name}' .*{sentence}"):
            read_weights(name)
    assert not Path("exploded").exists()


def test_archives_and_folders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("packed.pth", "w") as archive:
        archive.writestr("w.safetensors", b"12345")
    with zipfile.ZipFile("script.pt", "w") as archive:
        archive.writestr("script/constants.pkl", b"12345")
    Path("folder.pth").mkdir()
    Path("folder.pth/model.pth").touch()
    for name, sentence in (
        ("packed.pth", "is no file of weights: it is a zip archive of something else, to be unpacked first"),
        ("script.pt", "is no file of weights: it is a TorchScript program"),
        ("folder.pth", "is a folder; it would be a file of weights, such as 'folder.pth/model.pth'"),
    ):
        with pytest.raises(UserError, match=f"^'{name}' {sentence}"):
            read_weights(name)


def test_weights_in_several_files_must_all_be_there(tmp_path: Path) -> None:
    model = HuggingFaceDepth(config=DEPTH_ANYTHING)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    model.network.save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    HuggingFaceDepth(str(tmp_path))
    shards[1].write_text("<html>")
    with pytest.raises(UserError, match=rf"no readable model.safetensors: {shards[1].name} is an HTML page"):
        HuggingFaceDepth(str(tmp_path))
    shards[1].unlink()
    sentence = (
        f"no readable model.safetensors: {shards[1].name} is missing, which model.safetensors.index.json"
    )
    with pytest.raises(UserError, match=sentence):
        HuggingFaceDepth(str(tmp_path))


def test_a_run_of_depthkd_is_sent_to_the_class_that_takes_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("model: {}")
    last = run / "checkpoints/last.ckpt"
    torch.save({"depthkd": {"averaged": False}, "state_dict": {"student.a": torch.ones(1)}}, last)
    repo = clone(tmp_path / "repo", METRIC3D)
    for given, ask in (
        (run, lambda path: DepthAnything(size="tiny", weights=path)),
        (last, lambda path: DepthAnything(size="tiny", weights=path)),
        (run, HuggingFaceDepth),
        (run, ZoeDepth),
        (run, GenPercept),
        (run, lambda path: Metric3D(repo, path)),
        (last, lambda path: Metric3D(repo, path)),
    ):
        sentence = (
            rf"^'{given}' is a run of depthkd, .*depthkd.runs.TrainedDepth, init_args: {{path: {given}}}}}$"
        )
        with pytest.raises(UserError, match=sentence):
            ask(str(given))


def test_paths_are_read_as_their_users_mean_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` and file://, of every folder and file that a model takes."""
    monkeypatch.setenv("HOME", str(tmp_path))
    HuggingFaceDepth(config=DEPTH_ANYTHING).save_pretrained("~/hf")
    assert (tmp_path / "hf/model.safetensors").is_file()
    stable_diffusion(tmp_path / "sd")
    unet(4).save_pretrained(tmp_path / "sd/unet")
    save_file({"embedding": torch.ones(1, 2, WIDTH)}, tmp_path / "e.safetensors")
    clone(tmp_path / "repo", UNIDEPTH)
    weights(tmp_path)
    for home in ("~", f"file://{tmp_path}"):
        HuggingFaceDepth(f"{home}/hf")
        GenPercept(f"{home}/sd", "unet", f"{home}/sd", space="affine depth")
        GenPercept(f"{home}/sd", "unet", f"{home}/sd", f"{home}/e.safetensors", space="affine depth")
        UniDepth(f"{home}/repo", f"{home}/weights.safetensors")
    with pytest.raises(UserError, match=r"'https://example\.org/w\.pth' is remote"):
        UniDepth("~/repo", "https://example.org/w.pth")
    with pytest.raises(FileNotFoundError, match=r"^there is no file of weights '~/none\.pth'$"):
        UniDepth("~/repo", "~/none.pth")
    with pytest.raises(FileNotFoundError, match=rf"^{tmp_path}/no/run is not a run folder"):
        TrainedDepth("~/no/run")


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (torch.ones(2, 3, dtype=torch.int8), "torch.int8"),
        (torch.ones(2, 3, dtype=torch.complex64), "torch.complex64"),
        (torch.ones(2, 3).to_sparse(), "torch.sparse_coo"),
    ],
)
def test_weights_are_plain_numbers(tensor: torch.Tensor, kind: str) -> None:
    counted = {"steps": torch.ones(1, dtype=torch.int64)}  # which buffers may be
    refuse_broken(counted, "'w.pth'")
    with pytest.raises(UserError, match=f"'w.pth' holds 'head.weight' as {kind}; weights would be plain"):
        refuse_broken({**counted, "head.weight": tensor}, "'w.pth'")
