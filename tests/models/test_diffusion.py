import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from diffusers import DDIMScheduler, LCMScheduler, MarigoldDepthPipeline
from torch import Tensor

from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY, DepthSpace
from depthkd.models import GenPercept, Lotus, Marigold
from depthkd.models.latent_diffusion.diffusion import space_by_name
from tests.conftest import CommandLine
from tests.models.stable_diffusion import (
    autoencoder,
    fiffdepth,
    genpercept,
    lotus,
    lotus_unet,
    marigold,
    nothing,
    photographs,
    stable_diffusion,
    unet,
)

KNOWN = ("Hypersim", "Virtual KITTI 2")


def gen_percept(folder: Path, **arguments: Any) -> GenPercept:
    source, base = genpercept(folder / "genpercept-models"), stable_diffusion(folder / "base")
    return GenPercept(source, base=base, **arguments)


def latent_of(image: Tensor) -> Tensor:
    """The first half of the encoder's moments, scaled as Stable Diffusion's are."""
    vae = autoencoder()
    return vae.quant_conv(vae.encoder(2 * image - 1))[:, :4] * 0.18215


def picture_of(latent: Tensor) -> Tensor:
    vae = autoencoder()
    return vae.decoder(vae.post_quant_conv(latent / 0.18215))


@torch.no_grad()
def test_genpercept_is_one_pass_over_the_image_s_latent(tmp_path: Path) -> None:
    model, image = gen_percept(tmp_path, longest=None), photographs(32, 48)
    latent = latent_of(image)
    said = unet(4)(latent, torch.tensor([1]), nothing(tmp_path / "base")).sample
    picture = picture_of(-said)
    expected = (picture.mean(1).clip(-1, 1) + 1) / 2
    depth = model(image).depth
    assert depth.shape == (1, 32, 48)
    assert 0 < (expected == 0).float().mean() + (expected == 1).float().mean() < 0.9  # some are cut
    torch.testing.assert_close(depth, expected)
    torch.testing.assert_close(model.predict(image), expected)


def test_genpercept_s_sign_is_what_its_noise_schedule_makes_of_a_v_prediction() -> None:
    scheduler = DDIMScheduler(
        beta_start=1.0,
        beta_end=1.0,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
    scheduler.set_timesteps(1)
    assert scheduler.timesteps.tolist() == [1]
    said, latent = torch.randn(2, 1, 4, 8, 8).unbind()
    assert torch.equal(scheduler.step(said, 1, latent).pred_original_sample, -said)


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "longest", "runs_at"),
    [
        ((50, 90), 64, (32, 64)),
        ((90, 50), 64, (64, 32)),
        ((21, 30), 64, (48, 64)),
        ((30, 61), None, (32, 64)),
    ],
)
def test_sizes_are_rounded_and_come_back(
    size: tuple[int, int], longest: int | None, runs_at: tuple[int, int], tmp_path: Path
) -> None:
    """21 x 30 is enlarged to 45 x 64, and 45 rounded to 48."""
    model, image = gen_percept(tmp_path, longest=longest), photographs(*size)
    assert model.runs_at(*size) == runs_at
    small = F.interpolate(image, runs_at, mode="bilinear", antialias=True)
    answer = model.infer(image)
    torch.testing.assert_close(answer, gen_percept(tmp_path / "same", longest=None)(small).depth)
    assert answer.shape[-2:] == runs_at
    expected = F.interpolate(answer[:, None], size, mode="bilinear")[:, 0]
    torch.testing.assert_close(model.predict(image), expected)
    assert model(image).depth.shape[-2:] == (runs_at if longest is None else size)


@torch.no_grad()
def test_a_request_wins_over_the_longest_side(tmp_path: Path) -> None:
    """Which is where it runs if nobody asks, or if the request leaves that to such models."""
    model, image = gen_percept(tmp_path, longest=None), photographs(50, 90)
    own = gen_percept(tmp_path / "own", longest=64)
    for one in (model, own):
        assert one.infer(image, 32).shape == (1, 32, 56)
        assert one.infer(image, "longer 104").shape == (1, 56, 104)
        assert one.infer(image, "native").shape == (1, 48, 88)
    assert own.infer(image).shape == own.infer(image, "16 or own").shape == (1, 32, 64)
    assert model.infer(image, "16 or own").shape == (1, 16, 32)
    assert own.infer(image, scale=2.0).shape == (1, 72, 128)
    assert own(image).depth.shape == (1, 50, 90)
    torch.testing.assert_close(own.infer(image, 32), model.infer(image, 32))
    small = F.interpolate(image, (32, 56), mode="bilinear", antialias=True)
    torch.testing.assert_close(own.infer(image, 32), model(small).depth)


@torch.no_grad()
def test_a_batch_answers_as_single_images_do(tmp_path: Path) -> None:
    images = photographs(40, 24, 3)
    for model in (
        gen_percept(tmp_path / "g", longest=None),
        Lotus(lotus(tmp_path / "l"), space="affine depth"),
        Marigold(marigold(tmp_path / "m"), longest=None, ensemble=3),
    ):
        torch.manual_seed(0)
        batched = model.predict(images)
        torch.manual_seed(0)
        single = torch.cat([model.predict(image[None]) for image in images])
        torch.testing.assert_close(batched, single, atol=1e-5, rtol=0)
        assert (batched[0] - batched[1]).abs().max() > 0.01


def test_what_genpercept_s_folders_are_called_says_what_they_mean(tmp_path: Path) -> None:
    base = stable_diffusion(tmp_path / "base")
    source = genpercept(tmp_path / "genpercept-models")
    genpercept(tmp_path / "genpercept-models", "unet_depth_v2")
    old = genpercept(tmp_path / "genpercept-disparity", "unet")
    root = genpercept(tmp_path / "plain", ".")
    assert GenPercept(source, base=base).space == AFFINE_DISPARITY
    assert GenPercept(source, "unet_depth_v2", base).space == AFFINE_DEPTH
    assert GenPercept(old, "unet", base).space == AFFINE_DISPARITY
    assert GenPercept(root, ".", base, space="affine depth").space == AFFINE_DEPTH
    with pytest.raises(ValueError, match=r"^'plain/\.' is called after neither depth nor disparity: set"):
        GenPercept(root, ".", base)
    with pytest.raises(
        ValueError, match=r"^'genpercept-models/unet_disparity_dpt_head_v2' is .*GenPerceptDPT"
    ):
        GenPercept(unet="unet_disparity_dpt_head_v2")
    assert space_by_name("lotus-depth-g-v2-1-disparity") == AFFINE_DISPARITY
    assert space_by_name("lotus-depth-d-v1-1") == AFFINE_DEPTH


def test_weights_without_a_configuration_take_stable_diffusion_s(tmp_path: Path) -> None:
    model, image = gen_percept(tmp_path, longest=None), photographs(16, 16)
    config = tmp_path / "genpercept-models" / "unet_disparity_v2" / "config.json"
    (tmp_path / "base" / "unet").mkdir()
    config.rename(tmp_path / "base" / "unet" / "config.json")
    other = GenPercept(
        str(tmp_path / "genpercept-models"), base=str(tmp_path / "base"), text="zeros", longest=None
    )
    other.text.copy_(model.text)
    assert torch.equal(other.predict(image), model.predict(image))


def test_provenance_and_license_are_known_by_the_id(tmp_path: Path) -> None:
    def cached(owner: str, name: str) -> Path:
        return tmp_path / f"models--{owner}--{name}" / "snapshots" / name

    base = stable_diffusion(tmp_path / "base")
    source = genpercept(cached("guangkaixu", "genpercept-models"))
    (Path(source) / "README.md").write_text("---\nlicense: bsd-2-clause\n---\n")
    model = GenPercept(source, base=base)
    assert (model.training_sets, model.license) == (KNOWN, "bsd-2-clause")
    assert model.source == f"{source}/unet_disparity_v2"
    assert Lotus(lotus(cached("jingheya", "lotus-depth-g-v1-0"))).training_sets == KNOWN
    assert Marigold(marigold(cached("prs-eth", "marigold-depth-v1-1"))).training_sets == KNOWN
    other = GenPercept(source, base=base, training_sets=["KITTI"], license="mit")
    assert (other.training_sets, other.license) == (("KITTI",), "mit")


@torch.no_grad()
@pytest.mark.parametrize("channels", [4, 8])
def test_lotus_is_one_pass_from_its_task_and_perhaps_noise(channels: int, tmp_path: Path) -> None:
    folder = tmp_path / "lotus-depth-v2-1-disparity"
    model, image = Lotus(lotus(folder, channels)), photographs(24, 40, 2)
    assert (model.space, model.chooses_size, model.generative) == (AFFINE_DISPARITY, False, channels == 8)
    latent = latent_of(image)
    torch.manual_seed(7)
    noise = torch.stack([torch.randn(4, 3, 5), torch.randn(4, 3, 5)])
    whole = torch.cat([latent, noise], 1) if channels == 8 else latent
    task = torch.tensor([[0.84147098, 0.0, 0.54030231, 1.0]] * 2)  # sin 1, sin 0, cos 1, cos 0
    text = nothing(folder).repeat(2, 1, 1)
    said = lotus_unet(channels)(whole, 999, text, class_labels=task).sample
    expected = (picture_of(said) / 2 + 0.5).clamp(0, 1).mean(1)
    torch.manual_seed(7)
    depth = model.predict(image)
    torch.testing.assert_close(depth, expected)
    torch.manual_seed(7)
    assert torch.equal(model.predict(image), depth)
    assert torch.equal(model.predict(image), depth) == (channels == 4)  # later noise is other noise


def test_lotus_is_not_taken_for_stable_diffusion(tmp_path: Path) -> None:
    folder = tmp_path / "lotus-depth"
    stable_diffusion(folder)
    unet(4).save_pretrained(folder / "unet")
    with pytest.raises(ValueError, match=r"has no class embedding of type 'projection', so it is not Lotus"):
        Lotus(str(folder))


@pytest.mark.parametrize(
    ("size", "longest", "ensemble", "steps"),
    [((50, 90), 64, 1, None), ((45, 31), None, 1, 1), ((30, 24), 64, 3, None)],
)
def test_marigold_answers_as_diffusers_pipeline_does(
    size: tuple[int, int], longest: int | None, ensemble: int, steps: int | None, tmp_path: Path
) -> None:
    source, image = marigold(tmp_path), photographs(*size, count=2)
    pipeline = MarigoldDepthPipeline.from_pretrained(source)
    pipeline.set_progress_bar_config(disable=True)
    options = {"ensemble_size": ensemble, "batch_size": 3, "output_type": "pt"}
    model = Marigold(source, steps, ensemble, longest=longest)
    assert (model.space, model.steps) == (AFFINE_DEPTH, steps or 2)
    height, width = (size[0] * 64 // max(size), size[1] * 64 // max(size)) if longest else size
    torch.manual_seed(5)
    noise = torch.stack([torch.randn(4, -(-height // 8), -(-width // 8)) for _ in range(2 * ensemble)])
    how = {"num_inference_steps": steps, "processing_resolution": longest or 0, **options}
    # Image by image, as ours: a batch rounds otherwise. An ensemble is aligned by an optimizer that takes its
    # gradients from differences of float32, which makes much of what processors round differently.
    pairs = zip(torch.split(image, 1), torch.split(noise, ensemble), strict=True)
    expected = torch.cat([pipeline(one, latents=draws, **how).prediction[:, 0] for one, draws in pairs])
    torch.manual_seed(5)
    depth = model.predict(image)
    torch.testing.assert_close(depth, expected, atol=1e-5 if ensemble == 1 else 0.02, rtol=0)
    assert depth.std() > 0.01
    assert model.infer(image).shape[-2:] == (height, width)


def test_marigold_s_index_says_what_it_predicts(tmp_path: Path) -> None:
    source = marigold(tmp_path, None, prediction_type="disparity", shift_invariant=False)
    with pytest.raises(ValueError, match=r"^Marigold's steps and ensemble must be above 0, not None and 1$"):
        Marigold(source)
    model = Marigold(source, steps=1, ensemble=3, longest=None)
    assert model.space == DepthSpace.parse("scale disparity")
    assert model.predict(photographs(16, 16)).max() == 1.0  # a median that is scaled, but not shifted
    scheduler = tmp_path / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("DDIMScheduler", "PNDMScheduler"))
    with pytest.raises(ValueError, match=r"says 'PNDMScheduler'; for Marigold it would be DDIMScheduler or"):
        Marigold(source, steps=1)


def test_marigold_s_lcm_draws_all_its_noise_from_one_generator(tmp_path: Path) -> None:
    source, image = marigold(tmp_path), photographs(16, 24)
    LCMScheduler(prediction_type="v_prediction").save_pretrained(tmp_path / "scheduler")
    model = Marigold(source, steps=3, longest=None)
    assert model.identity() == Marigold(source, steps=3, longest=None).identity()
    LCMScheduler(prediction_type="sample").save_pretrained(tmp_path / "scheduler")
    assert model.identity() != Marigold(source, steps=3, longest=None).identity()
    torch.manual_seed(1)
    first = model.predict(image)
    torch.manual_seed(1)
    assert torch.equal(model.predict(image), first)
    assert not torch.equal(model.predict(image), first)


def test_the_command_line_tests_them_all(tmp_path: Path, command_line: CommandLine) -> None:
    base = stable_diffusion(tmp_path / "base")
    options: dict[str, dict[str, Any]] = {
        "GenPercept": {"source": genpercept(tmp_path / "g"), "base": base, "longest": 64, "license": "mine"},
        "Lotus": {"source": lotus(tmp_path / "l"), "space": "affine depth", "longest": 64},
        "Marigold": {"source": marigold(tmp_path / "m"), "longest": 64},
        "FiffDepth": {"source": fiffdepth(tmp_path / "f"), "longest": 64},
    }
    models = {k: {"class_path": f"depthkd.models.{k}", "init_args": v} for k, v in options.items()}
    benchmarks = {"motorcycle": {"class_path": "depthkd.benchmarks.Motorcycle"}}
    config = tmp_path / "all.yaml"
    config.write_text(yaml.safe_dump({"models": models, "benchmarks": benchmarks}))
    words = ["test", "--config", config, "--photographs", "false", "--pictures", 0]
    seen = []
    for out in ("one", "two"):
        status, _, err = command_line(*words, "--out", out)
        assert status == 0, err
        results = json.loads(Path(out, "results.json").read_text())
        metrics = results["benchmarks"]["motorcycle"]["metrics"]
        assert set(options) <= set(metrics)
        assert len({metrics[name]["abs_rel"] for name in options}) == 4
        assert results["models"]["GenPercept"]["license"] == "mine"
        seen.append({name: metrics[name] for name in options})
    assert seen[0] == seen[1]  # the noise begins anew for every image
