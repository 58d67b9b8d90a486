import json
import math
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from depthkd.batch import METRIC_DEPTH
from depthkd.models import Metric3D, UniDepth
from depthkd.models.frozen import Frozen
from depthkd.models.unidepth_metric3d import find_clone
from depthkd.models.weights import read_weights
from tests.benchmarks.test_labelled_shards import labelled, write_shard
from tests.conftest import CommandLine
from tests.models.test_metric import depth_pro, zoedepth

UNIDEPTH = '''
dependencies = ["torch"]
import torch

class Network(torch.nn.Module):
    def __init__(self, version, backbone):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(1))
        self.built = (version, backbone)

    def infer(self, rgb, camera=None):
        """A red channel in 0..255; C, H, W in, 1, 1, H, W out."""
        assert rgb.ndim == 3 and rgb.shape[0] == 3
        self.seen = (rgb, camera)
        return {"depth": self.gain * rgb[None, :1].float(), "intrinsics": camera}

def UniDepth(version="v2", backbone="vitl14", pretrained=True):
    if pretrained:
        raise RuntimeError("it would download")
    return Network(version, backbone)
'''
METRIC3D = '''
dependencies = ["torch"]
import torch

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(1))

    def inference(self, data):
        """The normalized red channel; B, 3, H, W in, B, 1, H, W out, with a confidence."""
        self.seen = data["input"]
        with torch.no_grad():
            depth = self.gain * data["input"][:, :1]
        return depth, torch.ones_like(depth), {"prediction": depth}

def metric3d_vit_small(pretrain=False, **kwargs):
    if pretrain:
        raise RuntimeError("it would download")
    return Network()

metric3d_convnext_tiny = metric3d_vit_small

def no_network(pretrain=False):
    return "a word"
'''
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


def clone(folder: Path, code: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "hubconf.py").write_text(code)
    return str(folder)


def weights(folder: Path, gain: float = 2.0) -> str:
    path = folder / "weights.safetensors"
    save_file({"gain": torch.tensor([gain]), "more": torch.ones(1)}, path)
    return str(path)


def picture(height: int, width: int, count: int = 1) -> torch.Tensor:
    values = torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(1))
    return values.float() / 255


def unidepth(folder: Path, **arguments: Any) -> UniDepth:
    return UniDepth(clone(folder / "repo", UNIDEPTH), weights(folder), **arguments)


def metric3d(folder: Path, **arguments: Any) -> Metric3D:
    arguments = {"entry": "metric3d_vit_small", "focal_length": 500.0, **arguments}
    return Metric3D(clone(folder / "repo", METRIC3D), weights(folder), **arguments)


def test_unidepth_gets_bytes_and_its_depth_comes_back_at_the_image_s_size(tmp_path: Path) -> None:
    model, image = unidepth(tmp_path, version="v1", backbone="cnvnxtl"), picture(20, 30, 2)
    depth = model.predict(image, resolution=10, scale=2.0)
    assert (model.space, depth.shape) == (METRIC_DEPTH, (2, 20, 30))
    torch.testing.assert_close(depth, 2 * 255 * image[:, 0])
    pixels, camera = model.network.seen
    assert (pixels.dtype, camera) == (torch.uint8, None)
    torch.testing.assert_close(pixels.float(), image[1] * 255)
    assert model.network.built == ("v1", "cnvnxtl")


def test_a_night_image_stays_dark(tmp_path: Path) -> None:
    """UniDepthV1 takes floats no brighter than 5 for normalized ones."""
    model = unidepth(tmp_path)
    model.predict(torch.full((1, 3, 4, 4), 3 / 255))
    assert (model.network.seen[0] == 3).all()
    assert model.network.seen[0].dtype == torch.uint8


def test_unidepth_is_told_the_camera_in_pixels_of_the_image(tmp_path: Path) -> None:
    model = unidepth(tmp_path, focal_length=500.0)
    model.predict(picture(20, 30))
    expected = torch.tensor([[500.0, 0.0, 15.0], [0.0, 500.0, 10.0], [0.0, 0.0, 1.0]])
    assert torch.equal(model.network.seen[1], expected)


def test_unidepth_s_resolution_level_is_set_and_checked(tmp_path: Path) -> None:
    assert unidepth(tmp_path, resolution_level=9).network.resolution_level == 9
    assert not hasattr(unidepth(tmp_path).network, "resolution_level")
    with pytest.raises(ValueError, match=r"resolution_level must be 0 to 9, not 10$"):
        unidepth(tmp_path, resolution_level=10)


@pytest.mark.parametrize("shape", [(240, 320), (90, 400), (700, 300)])
@pytest.mark.parametrize(
    ("entry", "size"), [("metric3d_vit_small", (616, 1064)), ("metric3d_convnext_tiny", (544, 1216))]
)
def test_metric3d_s_input_is_what_its_hubconf_makes_with_opencv(
    entry: str, size: tuple[int, int], shape: tuple[int, int], tmp_path: Path
) -> None:
    model, image = metric3d(tmp_path, entry=entry), picture(*shape)
    model.predict(image)
    pixels = image[0].permute(1, 2, 0).numpy() * 255
    scale = min(size[0] / shape[0], size[1] / shape[1])
    inner = (int(shape[0] * scale), int(shape[1] * scale))
    resized = cv2.resize(pixels, inner[::-1], interpolation=cv2.INTER_LINEAR)
    rows, columns = size[0] - inner[0], size[1] - inner[1]
    borders = (rows // 2, rows - rows // 2, columns // 2, columns - columns // 2)
    padded = cv2.copyMakeBorder(resized, *borders, cv2.BORDER_CONSTANT, value=MEAN.tolist())
    expected = torch.from_numpy((padded - MEAN) / STD).permute(2, 0, 1).float()
    assert model.network.seen.shape == (1, 3, *size)
    torch.testing.assert_close(model.network.seen[0], expected, atol=2e-3, rtol=0)


def test_metric3d_s_depth_is_scaled_by_the_focal_length_that_the_network_sees(tmp_path: Path) -> None:
    """A gray image, so that the answer is one number: gain x red x focal length x enlargement / 1000."""
    model = metric3d(tmp_path, focal_length=500.0)
    depth = model.predict(torch.full((2, 3, 154, 266), 200 / 255))
    assert depth.shape == (2, 154, 266)
    value = 2 * (200 - MEAN[0]) / STD[0] * 500 * 4 / 1000  # 154 x 266 is enlarged four times
    torch.testing.assert_close(depth, torch.full_like(depth, value), rtol=1e-5, atol=0)


def test_metric3d_cuts_depth_at_nothing_and_at_300_meters(tmp_path: Path) -> None:
    image = torch.zeros(1, 3, 154, 266)
    image[..., 133:] = 1.0
    depth = metric3d(tmp_path, focal_length=1e6).predict(image)
    assert (depth.min(), depth.max()) == (0.0, 300.0)


def test_metric3d_s_map_lies_where_the_image_does(tmp_path: Path) -> None:
    """A ramp must come back from edge to edge: a border left in, or cut unevenly, would shift it."""
    ramp = torch.linspace(0.6, 1.0, 90).view(1, 1, 90, 1).expand(1, 3, 90, 400)
    model = metric3d(tmp_path, focal_length=100.0)
    depth = model.predict(ramp)[0]
    inner = model.infer(ramp)
    assert inner.shape == (1, int(90 * 1064 / 400), 1064)
    expected = 2 * (255 * ramp[0, 0] - MEAN[0]) / STD[0] * 100 * (1064 / 400) / 1000
    torch.testing.assert_close(depth[2:-2], expected[2:-2].float(), rtol=1e-3, atol=0)


def test_a_field_of_view_stands_for_a_focal_length(tmp_path: Path) -> None:
    focal_length = 0.5 * 266 / math.tan(math.radians(60) / 2)
    image = picture(154, 266)
    by_focal_length = metric3d(tmp_path, focal_length=focal_length).predict(image)
    torch.testing.assert_close(
        metric3d(tmp_path, focal_length=None, fov=60.0).predict(image), by_focal_length
    )


def test_metric3d_must_know_the_camera(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one of focal_length and fov, not both"):
        metric3d(tmp_path, focal_length=500.0, fov=60.0)
    model = metric3d(tmp_path, focal_length=None)
    with pytest.raises(ValueError, match=r"metric for one focal length, .*: give focal_length, .* or fov"):
        model.predict(picture(30, 40))


def test_an_image_s_own_camera_counts_for_more_than_settings(tmp_path: Path) -> None:
    """Also when the image is resized, mirrored, or seen by a copy that stands for the network."""
    image, cameras = picture(20, 30), torch.tensor([[[300.0, 0, 12], [0, 310.0, 8], [0, 0, 1]]])
    model = unidepth(tmp_path, focal_length=500.0)
    model.predict(image, intrinsics=cameras)
    expected = torch.tensor([[300.0, 0, 12.5], [0, 310.0, 8.5], [0, 0, 1]])  # from the image's corner
    torch.testing.assert_close(model.network.seen[1], expected)
    model.predict(image, flip=True, intrinsics=cameras)
    assert float(model.network.seen[1][0, 2]) == 29 - 12 + 0.5
    known = metric3d(tmp_path, focal_length=300.0).predict(image)
    other = metric3d(tmp_path, fov=20.0, focal_length=None)
    torch.testing.assert_close(other.predict(image, intrinsics=cameras), known)
    frozen = Frozen(lambda: metric3d(tmp_path, focal_length=None))
    torch.testing.assert_close(frozen(image, cameras).depth, known)


def test_an_answer_of_another_size_is_refused(tmp_path: Path) -> None:
    halved = METRIC3D.replace("return depth, torch", "depth = depth[..., ::2, ::2]; return depth, torch")
    model = Metric3D(
        clone(tmp_path / "r", halved), weights(tmp_path), entry="metric3d_vit_small", focal_length=1.0
    )
    with pytest.raises(ValueError, match=r"answered \[1, 1, 308, 532\] to \[1, 3, 616, 1064\]; it would be"):
        model.predict(picture(30, 40))
    cut = UNIDEPTH.replace("rgb[None, :1]", "rgb[None, :1, 1:]")
    with pytest.raises(ValueError, match=r"answered \[1, 1, 29, 40\] to an image of 30x40; it would be"):
        UniDepth(clone(tmp_path / "u", cut), weights(tmp_path)).predict(picture(30, 40))


def test_they_say_what_they_are(tmp_path: Path) -> None:
    model = unidepth(tmp_path)
    assert model.license == "cc-by-nc-4.0"
    assert model.training_sets is not None
    assert "ScanNet++" in model.training_sets
    assert "UniDepth of" in model.source
    other = metric3d(tmp_path, license="mit", training_sets=["KITTI"])
    assert (other.license, other.training_sets) == ("mit", ("KITTI",))
    assert "HM3D" in (metric3d(tmp_path).training_sets or ())
    assert len(list(model.encoder_parameters())) == 1
    with torch.no_grad():
        assert torch.equal(model(picture(8, 9)).depth, model.predict(picture(8, 9)))


def test_code_is_never_fetched_and_cached_code_must_be_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_: pytest.fail("it fetches"))
    with pytest.raises(FileNotFoundError, match=r"depthkd fetches no code: clone https://github.com/a/b and"):
        find_clone("a/b", trust=True)
    old, new = (clone(tmp_path / f"A_b_{branch}", UNIDEPTH) for branch in ("old", "main"))
    os.utime(Path(old) / "hubconf.py", (0, 0))
    os.utime(old, (0, 0))
    with pytest.raises(ValueError, match=r"^'a/b' is in .*, but loading it runs its code: .*trust: true"):
        find_clone("a/b")
    assert find_clone("a/b", trust=True) == Path(new)


def test_a_clone_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"^the folder '{tmp_path}' is no torch.hub repository"):
        UniDepth(str(tmp_path), weights(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"^there is no folder '/nowhere/at/all'; it would be a clone"
    ):
        UniDepth("/nowhere/at/all", weights(tmp_path))


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import a_package_that_nobody_has", r"needs the package 'a_package_that_nobody_has', which is not"),
        (UNIDEPTH.replace('["torch"]', "['a_package_that_nobody_has']"), r"Missing dependencies: a_pack"),
        ("import torch", r"could not build 'UniDepth': .*UniDepth"),
        ("def UniDepth(**options):\n    raise KeyError", r"could not build 'UniDepth': KeyError$"),
        (
            "def UniDepth(**options):\n    return 5",
            r"^'UniDepth' in '.*' is a int; it would be a torch module",
        ),
    ],
)
def test_code_that_does_not_run_gives_one_sentence(code: str, sentence: str, tmp_path: Path) -> None:
    repo = clone(tmp_path / "repo", code)
    with pytest.raises(ValueError, match=sentence) as caught:
        UniDepth(repo, weights(tmp_path))
    assert "\n" not in str(caught.value)


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.system, ("touch exploded",))


def test_weights_are_read_without_running_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"gain": Bomb()}, "bomb.pth")
    ran = tmp_path / "ran"
    repo = clone(tmp_path / "repo", f"open({str(ran)!r}, 'w')\n" + UNIDEPTH)
    with pytest.raises(ValueError, match=r"^'bomb.pth' holds more than tensors and plain values"):
        UniDepth(repo, "bomb.pth")
    assert not Path("exploded").exists()
    assert not ran.exists()  # the weights are read before any of the repository's code runs


@pytest.mark.parametrize("wrapper", [None, "model_state_dict", "model", "state_dict"])
def test_checkpoints_may_wrap_their_tensors(wrapper: str | None, tmp_path: Path) -> None:
    tensors = {"module.gain": torch.tensor([3.0])}
    path = tmp_path / "weights.pth"
    torch.save(tensors if wrapper is None else {wrapper: tensors, "step": 5}, path)
    assert read_weights(str(path)) == {"gain": torch.tensor([3.0])}
    model = UniDepth(clone(tmp_path / "repo", UNIDEPTH), str(path))
    assert model.network.gain.item() == 3.0


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    repo = clone(tmp_path / "repo", UNIDEPTH)
    with pytest.raises(FileNotFoundError, match=r"^there is no file of weights '.*none.pth'$"):
        UniDepth(repo, str(tmp_path / "none.pth"))
    path = tmp_path / "other.safetensors"
    save_file({"other": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=r"lack 1 parameters, 'gain' among them$"):
        UniDepth(repo, str(path))
    save_file({"gain": torch.ones(7)}, path)
    with pytest.raises(ValueError, match=r"are of another network: size mismatch for gain"):
        UniDepth(repo, str(path))
    for content in (b"", b"no tensors at all", path.read_bytes()[:20]):
        for name in ("cut.pth", "cut.safetensors"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ValueError, match=rf"{name}' (is no file of weights|holds more than)"):
                read_weights(str(tmp_path / name))
    torch.save({"epoch": 3}, tmp_path / "no.pth")
    with pytest.raises(ValueError, match=r"holds no state dict: no tensors by name"):
        read_weights(str(tmp_path / "no.pth"))


def test_the_command_line_tests_them_all(tmp_path: Path, command_line: CommandLine) -> None:
    shard = write_shard(tmp_path / "floor.tar", [labelled(f"s{i}", i) for i in range(2)])
    options: dict[str, dict[str, Any]] = {
        "ZoeDepth": {"source": zoedepth(tmp_path / "zoe"), "training_sets": ["NYUv2", "KITTI"]},
        "DepthPro": {"source": depth_pro(tmp_path / "pro"), "license": "apple-amlr"},
        "UniDepth": {"repo": clone(tmp_path / "u", UNIDEPTH), "weights": weights(tmp_path), "version": "v1"},
        "Metric3D": {"repo": clone(tmp_path / "m", METRIC3D), "weights": weights(tmp_path), "fov": 60},
    }
    options["Metric3D"]["entry"] = "metric3d_vit_small"
    models = {k: {"class_path": f"depthkd.models.{k}", "init_args": v} for k, v in options.items()}
    benchmarks = {
        "class_path": "depthkd.benchmarks.ShardBenchmark",
        "init_args": {"urls": str(shard), "protocol": "metric", "resolution": 12},
    }
    config = tmp_path / "all.yaml"
    config.write_text(yaml.safe_dump({"models": models, "benchmarks": {"floor": benchmarks}}))
    status, _, err = command_line("test", "--config", config, "--photographs", "false", "--out", "out")
    assert status == 0, err
    results = json.loads(Path("out/results.json").read_text())
    metrics = results["benchmarks"]["floor"]["metrics"]
    assert set(metrics) == set(options)
    assert len({metrics[name]["abs_rel"] for name in options}) == 4
    assert results["models"]["DepthPro"]["license"] == "apple-amlr"
