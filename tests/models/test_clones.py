"""Depth Anything 3, MoGe and UniK3D: what their authors' code is given, and what is taken from it."""

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from depthkd.batch import AFFINE_DEPTH, METRIC_DEPTH
from depthkd.models import DepthAnything3, DepthModel, Frozen, MoGe, UniK3D
from depthkd.models.clones import resize_known
from depthkd.models.depth_anything_3 import MEAN, STD, metric_depth
from depthkd.runs.named_models import CLONES, named_model
from tests.conftest import CommandLine
from tests.models import stand_ins
from tests.models.test_torch_hub import picture
from tests.test_predict import photograph

PACKAGES = ("depth_anything_3", "moge", "unik3d")
CAMERA = torch.tensor([[[300.0, 0, 12], [0, 340.0, 8], [0, 0, 1]]])


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Each test has packages of its own."""
    forget()
    yield
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]


def da3(folder: Path, name: str = "da3mono-large", **arguments: Any) -> DepthAnything3:
    repo, weights = stand_ins.da3(folder, name)
    return DepthAnything3(weights, repo, **arguments)


def unik3d(folder: Path, **arguments: Any) -> UniK3D:
    repo, weights = stand_ins.unik3d(folder)
    return UniK3D(weights, repo, **arguments)


def moge(folder: Path, **arguments: Any) -> MoGe:
    repo, weights = stand_ins.moge(folder)
    return MoGe(weights, repo, **arguments)


@pytest.mark.parametrize(
    ("shape", "asked", "size"),
    [  # of 504 and a multiple of 14; ties go up: 35 is between 28 and 42, 21 between 14 and 28
        ((480, 640), None, (378, 504)),
        ((375, 1242), None, (154, 504)),
        ((1000, 700), None, (504, 350)),
        ((35, 63), "longer 63", (42, 70)),
        ((100, 200), 70, (70, 140)),
        ((20, 300), "longer 60", (14, 56)),
    ],
)
def test_da3_runs_at_the_authors_sizes(
    shape: tuple[int, int], asked: Any, size: tuple[int, int], tmp_path: Path
) -> None:
    model = da3(tmp_path)
    assert model.runs_at(*shape, asked) == size
    assert model.infer(picture(*shape), asked).shape == (1, *size)


def test_da3_sees_images_resized_by_areas_or_cubically_and_normalized(tmp_path: Path) -> None:
    """Constant images keep their value through both; blocks of two pixels are averaged."""
    model = da3(tmp_path)
    model.infer(torch.full((1, 3, 40, 60), 100 / 255))
    expected = ((100 / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).view(3, 1, 1)
    torch.testing.assert_close(model.network.seen[0, 0], expected.expand(3, 336, 504))
    blocks = torch.zeros(1, 3, 28, 56)
    blocks[..., ::2, ::2] = 80 / 255
    model.infer(blocks, "longer 28")
    means = torch.full((14, 28), 20 / 255)
    torch.testing.assert_close(model.network.seen[0, 0, 0], (means - MEAN[0]) / STD[0])


def test_da3_mono_is_depth_up_to_scale_and_shift_without_a_camera(tmp_path: Path) -> None:
    model, image = da3(tmp_path), picture(28, 42, 2)
    assert (model.space, model.takes_camera, model.license) == (AFFINE_DEPTH, False, "apache-2.0")
    depth = model.predict(image, "native")
    assert torch.equal(model.predict(image, "native", intrinsics=CAMERA.repeat(2, 1, 1)), depth)
    expected = 2 * ((image[:, 0] - MEAN[0]) / STD[0] + 3)
    torch.testing.assert_close(depth[:, 7:], expected[:, 7:])
    assert "SA-1B" in (model.training_sets or ())


def test_da3_s_sky_is_the_authors_or_left_out(tmp_path: Path) -> None:
    """Their sample of pixels is drawn; here it is the same one each time, and nothing else is drawn from."""
    model, image = da3(tmp_path), picture(28, 42)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = model.predict(image, "native")
    assert torch.equal(model.predict(image, "native"), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert (first[:, :7] >= 9).all()
    masked = da3(tmp_path, masked=True).predict(image, "native")
    assert masked[:, :7].isinf().all()
    assert torch.equal(masked[:, 7:], first[:, 7:])


def test_da3_metric_is_scaled_by_the_focal_length_that_the_network_sees(tmp_path: Path) -> None:
    """The mean of fx and fy over 300, on an image that is resized from 56 x 84 to 28 x 42."""
    model, image = da3(tmp_path, "da3metric-large"), torch.full((2, 3, 56, 84), 0.5)
    assert (model.space, model.takes_camera) == (METRIC_DEPTH, True)
    cameras = torch.cat([CAMERA, 2 * CAMERA])
    depth = model.predict(image, "longer 42", intrinsics=cameras)
    output = 2 * ((128 / 255 - MEAN[0]) / STD[0] + 3)
    for one, factor in zip(depth[:, 20:], (1, 2), strict=True):
        torch.testing.assert_close(one, torch.full_like(one, factor * output * 160 / 300))
    frozen = Frozen(lambda: da3(tmp_path, "da3metric-large"))
    assert frozen(image, cameras).depth.shape == depth.shape


def test_da3_metric_without_a_camera_asks_for_a_focal_length_or_a_field_of_view(tmp_path: Path) -> None:
    image = picture(28, 42)
    with pytest.raises(
        ValueError, match=r"^DA3METRIC-LARGE's depth is metric for one focal length, .*or fov"
    ):
        da3(tmp_path, "da3metric-large").predict(image)
    with pytest.raises(ValueError, match=r"^Depth Anything 3 takes one of focal_length and fov, not both$"):
        da3(tmp_path, "da3metric-large", focal_length=1.0, fov=60.0)
    focal = 21 / np.tan(np.radians(30))
    known = da3(tmp_path, "da3metric-large", focal_length=float(focal)).predict(image, "native")
    by_fov = da3(tmp_path, "da3metric-large", fov=60.0).predict(image, "native")
    torch.testing.assert_close(known, by_fov)
    camera = torch.tensor([[[focal, 0, 20.5], [0, focal, 13.5], [0, 0, 1.0]]]).float()
    asked = da3(tmp_path, "da3metric-large", focal_length=1.0)
    torch.testing.assert_close(asked.predict(image, "native", intrinsics=camera), known)


def test_metric_depth_is_the_authors_formula() -> None:
    depth = torch.rand(2, 3, 4).requires_grad_()
    focal = torch.tensor([[300.0, 600.0], [150.0, 150.0]])
    found = metric_depth(depth, focal)
    for b in range(2):
        for i in range(3):
            for j in range(4):
                slow = depth[b, i, j].item() * (float(focal[b, 0]) + float(focal[b, 1])) / 2 / 300
                assert found[b, i, j].item() == pytest.approx(slow)
    found.sum().backward()
    assert depth.grad is not None
    torch.testing.assert_close(depth.grad[:, 0, 0], torch.tensor([1.5, 0.5]))


def test_a_map_with_infinities_is_resized_around_them() -> None:
    raw = torch.full((1, 2, 4), 3.0)
    raw[..., 2:] = torch.inf
    resized = resize_known(raw, (4, 8))
    assert not resized.isnan().any()
    assert (resized[..., :4] == 3).all()
    assert resized[..., 4:].isinf().all()
    finite = torch.rand(1, 2, 4)
    assert resize_known(finite, (4, 8)).isfinite().all()


def test_moge_gives_z_everywhere_or_inside_its_mask(tmp_path: Path) -> None:
    image = picture(20, 30, 2)
    model = moge(tmp_path)
    depth = model.predict(image, resolution=10)
    assert (model.space, depth.is_inference()) == (METRIC_DEPTH, False)
    torch.testing.assert_close(depth, 2 * image[:, 0])
    assert model.network.seen == (9, None)
    masked = moge(tmp_path, masked=True).predict(image)
    torch.testing.assert_close(masked, torch.where(image[:, 1] > 0.5, depth, torch.inf))
    assert "ScanNet++" in (model.training_sets or ())


def test_moge_is_told_the_horizontal_field_of_view(tmp_path: Path) -> None:
    model = moge(tmp_path, focal_length=300.0, resolution_level=3)
    model.predict(picture(20, 30))
    expected = torch.tensor([2 * np.degrees(np.arctan(15 / 300))]).float()
    torch.testing.assert_close(model.network.seen[1], expected)
    assert model.network.seen[0] == 3
    model.predict(picture(20, 30), intrinsics=CAMERA / 2)
    torch.testing.assert_close(model.network.seen[1], torch.tensor([2 * np.degrees(np.arctan(0.1))]).float())


def test_moge_s_other_files_are_refused(tmp_path: Path) -> None:
    repo, weights = stand_ins.moge(tmp_path, model_config={"encoder": 2})
    with pytest.raises(ValueError, match=r"is of MoGe-1, which has no metric scale; it would be of MoGe-2$"):
        MoGe(weights, repo)
    torch.save({"gain": torch.ones(1)}, weights)
    with pytest.raises(ValueError, match=r"holds no configuration of MoGe: model.pt as published has"):
        MoGe(weights, repo)


def test_unik3d_gives_z_and_no_depth_to_what_lies_behind(tmp_path: Path) -> None:
    model, image = unik3d(tmp_path), picture(20, 30, 2)
    depth = model.predict(image)
    z = 2 * (255 * image[:, 0] - 100)
    assert (z <= 0).any()
    torch.testing.assert_close(depth, torch.where(z > 0, z, torch.inf))
    assert (model.network.backbone, model.network._seen[-1], model.license) == ("L", None, "cc-by-nc-4.0")


def test_unik3d_is_told_a_pinhole_camera_in_pixels_from_the_image_s_corner(tmp_path: Path) -> None:
    model = unik3d(tmp_path, resolution_level=9, backbone="vits", focal_length=500.0)
    model.predict(picture(20, 30))
    assert torch.equal(model.network._seen[-1].params, torch.tensor([500.0, 500.0, 15.0, 10.0]))
    model.predict(picture(20, 30), intrinsics=CAMERA)
    assert torch.equal(model.network._seen[-1].params, torch.tensor([300.0, 340.0, 12.5, 8.5]))
    assert (model.network.backbone, model.network.resolution_level) == ("S", 9)
    copy.deepcopy(model)


@pytest.mark.parametrize("make", [moge, unik3d])
def test_a_resolution_level_is_checked(make: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"resolution_level must be 0 to 9, not 10$"):
        make(tmp_path, resolution_level=10)


@pytest.mark.parametrize("kind", [DepthAnything3, MoGe, UniK3D])
def test_without_the_code_a_sentence_says_what_to_clone_and_which_key_to_set(
    kind: Any, tmp_path: Path
) -> None:
    for repo, begin in (
        (None, "needs the code of its authors"),
        ("/no/where", "there is no folder '/no/where'"),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            kind("da3mono-vitl.safetensors", repo)
        said = str(caught.value)
        assert begin in said
        assert "git clone https://github.com/" in said
        assert f"--model.class_path depthkd.models.{kind.__name__} --model.init_args.repo " in said
        assert "\n" not in said
    with pytest.raises(FileNotFoundError, match=r"is no clone of .*: it has no folder "):
        kind("da3mono-vitl.safetensors", str(tmp_path))


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import a_package_that_nobody_has", r"needs the package 'a_package_that_nobody_has', .*pip install"),
        ("import unik3d.gone", r"needs its module 'unik3d.gone', which is not there: take another commit"),
        ("raise KeyError", r"could not build the network: KeyError$"),
    ],
)
def test_code_that_does_not_run_gives_one_sentence(code: str, sentence: str, tmp_path: Path) -> None:
    repo, weights = stand_ins.unik3d(tmp_path)
    (tmp_path / "unik3d/unik3d/models/__init__.py").write_text(code)
    path = list(sys.path)
    with pytest.raises(ValueError, match=sentence) as caught:
        UniK3D(weights, repo)
    assert "\n" not in str(caught.value)
    assert sys.path == path


def test_two_clones_of_one_package_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    da3(tmp_path)
    assert capsys.readouterr().out == ""  # their code prints
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match=r"^depth_anything_3 was already imported from .*the same repo$"):
        da3(tmp_path / "other")


def test_names_of_weights_say_which_network(tmp_path: Path) -> None:
    repo, weights = stand_ins.da3(tmp_path, "da3-small")
    with pytest.raises(ValueError, match=r"does not say which network of Depth Anything 3 .*da3metric-large"):
        DepthAnything3(weights, repo)
    assert DepthAnything3(weights, repo, variant="da3metric-large").space == METRIC_DEPTH
    repo, weights = stand_ins.unik3d(tmp_path, "large")
    with pytest.raises(ValueError, match=r"does not say which backbone it has: give backbone"):
        UniK3D(weights, repo)
    for missing in ("gone/model.safetensors", "/gone/da3mono.safetensors"):
        with pytest.raises(FileNotFoundError):
            DepthAnything3(missing, str(tmp_path / "da3"), variant="da3mono-large")


def test_a_folder_with_the_weights_will_do(tmp_path: Path) -> None:
    repo, weights = stand_ins.unik3d(tmp_path)
    folder = tmp_path / "unik3d-vitl"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"has no model.safetensors and no pytorch_model.bin$"):
        UniK3D(str(folder), repo)
    Path(weights).rename(folder / "pytorch_model.bin")
    assert UniK3D(str(folder), repo).network.gain.item() == 2


@pytest.mark.parametrize(
    ("hub_id", "name"),
    [
        ("depth-anything/DA3METRIC-LARGE", "DepthAnything3"),
        ("Ruicheng/moge-2-vitl-normal", "MoGe"),
        ("lpiccinelli/unik3d-vits", "UniK3D"),
    ],
)
def test_hub_ids_name_their_class(hub_id: str, name: str, command_line: CommandLine, tmp_path: Path) -> None:
    assert name in CLONES.values()
    with pytest.raises(
        FileNotFoundError, match=rf"^{name} needs the code of its authors: depthkd fetches no"
    ):
        named_model(hub_id).load()
    photograph(tmp_path / "a.png")
    status, _, err = command_line("predict", "a.png", "--model", hub_id)
    assert (status, err.count("\n")) == (2, 1)
    assert f"--model.class_path depthkd.models.{name}" in err


def test_predict_takes_them(command_line: CommandLine, tmp_path: Path) -> None:
    repo, weights = stand_ins.da3(tmp_path, "da3metric-large")
    photograph(tmp_path / "a.png", 28, 42)
    arguments = ["--model.class_path", "depthkd.models.DepthAnything3", "--model.init_args.repo", repo]
    arguments += ["--model.init_args.weights", weights]
    status, _, err = command_line("predict", "a.png", *arguments, "--fov", "60", "--out", "o")
    assert status == 0, err
    assert np.load("o/a.npy").shape == (28, 42)


def test_they_are_known_by_their_code_too(tmp_path: Path) -> None:
    model = unik3d(tmp_path)
    before = model.identity()
    model.predict(picture(20, 30))  # while it runs it notes the image's size
    assert model.identity() == before == unik3d(tmp_path).identity()
    forget()
    repo, weights = stand_ins.unik3d(tmp_path)
    code = tmp_path / "unik3d/unik3d/utils/camera.py"
    code.write_text(f"{code.read_text()}# changed")
    assert UniK3D(weights, repo).identity() != before


def test_no_gradients_and_all_modes(tmp_path: Path) -> None:
    models: list[DepthModel] = [da3(tmp_path), moge(tmp_path), unik3d(tmp_path)]
    for model in models:
        image = picture(28, 42)
        assert model(image).depth.shape == (1, 28, 42)
        assert len(list(model.encoder_parameters())) > 0
        assert model.predict(image, flip=True).shape == (1, 28, 42)


def test_moges_own_camera_counts_in_pixels(tmp_path: Path) -> None:
    image = torch.rand(2, 3, 40, 60)
    camera = moge(tmp_path).estimated_cameras(image)
    expected = torch.tensor([[48.0, 0, 29.5], [0, 44, 19.5], [0, 0, 1]])
    torch.testing.assert_close(camera, expected.expand(2, 3, 3))
    given = moge(tmp_path, focal_length=77.0).estimated_cameras(image)
    assert given is not None and given[0, 0, 0] == given[0, 1, 1] == 77
