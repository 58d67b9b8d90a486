from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    DepthProConfig,
    DepthProForDepthEstimation,
    DepthProImageProcessor,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
    ZoeDepthImageProcessor,
    pipeline,
)

from depthkd.batch import METRIC_DEPTH
from depthkd.models import DepthModel, DepthPro, Frozen, ZoeDepth
from tests.models.families import DEPTH_PRO, ZOEDEPTH, ZOEDEPTH_OF_TWO

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


def zoedepth(folder: Path, config: dict[str, Any] = ZOEDEPTH, **processor: Any) -> str:
    """A tiny ZoeDepth's folder, whose depth varies with the image."""
    torch.manual_seed(0)
    network = ZoeDepthForDepthEstimation(ZoeDepthConfig.from_dict(config))
    lively(network)
    network.save_pretrained(folder)
    settings = {"size": {"height": 96, "width": 128}, "ensure_multiple_of": 32, **processor}
    ZoeDepthImageProcessor(**settings).save_pretrained(folder)
    return str(folder)


def depth_pro(folder: Path, **changes: Any) -> str:
    torch.manual_seed(0)
    network = DepthProForDepthEstimation(DepthProConfig.from_dict({**DEPTH_PRO, **changes}))
    with torch.no_grad():
        network.head.layers[-2].weight.mul_(0.01)
        network.head.layers[-2].bias.fill_(2.0)  # above the ReLU that ends it
        if network.fov_model is not None:
            network.fov_model.head.layers[-1].bias.fill_(40.0)  # degrees
    network.save_pretrained(folder)
    DepthProImageProcessor(size={"height": 128, "width": 128}).save_pretrained(folder)
    return str(folder)


def lively(network: torch.nn.Module) -> None:
    """Transformers starts at nearly constant maps."""
    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            module.reset_parameters()
            with torch.no_grad():
                module.weight.mul_(3)


def picture(height: int, width: int, count: int = 1) -> torch.Tensor:
    """Random, in steps of 1/255, as files are."""
    bytes_ = torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(1))
    return bytes_.float() / 255


def piped(folder: str, image: torch.Tensor) -> torch.Tensor:
    """What transformers' own pipeline says."""
    array = (image[0] * 255).round().byte().permute(1, 2, 0).numpy()
    predicted = pipeline("depth-estimation", model=folder, device="cpu")(Image.fromarray(array))
    depth: torch.Tensor = predicted["predicted_depth"]
    return depth


@pytest.mark.parametrize("size", [(90, 130), (150, 60), (96, 128)])
@pytest.mark.parametrize(
    "processor",
    [
        {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
        {"do_pad": False},
        {"keep_aspect_ratio": False},
    ],
)
def test_zoedepth_agrees_with_the_pipeline(size: tuple[int, int], processor: Any, tmp_path: Path) -> None:
    folder = zoedepth(tmp_path, **processor)
    expected = piped(folder, picture(*size))
    assert expected.std() > 0.05
    model = ZoeDepth(folder)
    depth = model.predict(picture(*size))[0]
    assert depth.shape == size
    torch.testing.assert_close(depth, expected, **CLOSE)
    # With gradients other kernels run, whose rounding this random head amplifies on some processors.
    torch.testing.assert_close(model.eval()(picture(*size)).depth[0], expected, rtol=1e-3, atol=1e-3)


def test_zoedepth_averages_flips_as_its_processor_does(tmp_path: Path) -> None:
    folder, image = zoedepth(tmp_path), picture(90, 130)
    network = ZoeDepthForDepthEstimation.from_pretrained(folder).eval()
    processor = ZoeDepthImageProcessor.from_pretrained(folder)
    pixels = processor(images=image[0], do_rescale=False, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        both = [network(pixel_values=p) for p in (pixels, pixels.flip(-1))]
    expected = processor.post_process_depth_estimation(
        both[0], source_sizes=[(90, 130)], outputs_flipped=both[1]
    )[0]["predicted_depth"]
    model = ZoeDepth(folder)
    torch.testing.assert_close(model.predict(image, flip=True)[0], expected, **CLOSE)
    assert not torch.allclose(model.predict(image)[0], expected, atol=1e-3)


def test_the_head_of_two_votes_for_each_image_alone(tmp_path: Path) -> None:
    """Left to itself it takes one vote on the batch, and an image's depth would hang on its neighbors."""
    folder = zoedepth(tmp_path, ZOEDEPTH_OF_TWO, do_pad=False)
    images = picture(96, 128, 3)
    images[1:] = images[1:] * 0.1
    model = ZoeDepth(folder).eval()
    # A few pixels lie where these random weights magnify rounding.
    torch.testing.assert_close(model.predict(images)[0], piped(folder, images[:1]), rtol=1e-3, atol=1e-3)
    pixels = model.normalized(images)
    with torch.no_grad():
        votes = torch.cat([model.network(p[None]).domain_logits for p in pixels]).diff(dim=1)[:, 0]
        model.network.metric_head.mlp_classifier.linear2.bias[1] -= votes[:2].mean()  # now they differ
        jointly = model.network(pixels).predicted_depth
    together = model.predict(images)
    alone = torch.cat([model.predict(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(together[0], jointly[0], atol=0.1)


@pytest.mark.parametrize("size", [(90, 130), (150, 60), (128, 128)])
def test_depth_pro_agrees_with_the_pipeline(size: tuple[int, int], tmp_path: Path) -> None:
    folder = depth_pro(tmp_path)
    expected = piped(folder, picture(*size))
    assert expected.std() > 0.01
    model = DepthPro(folder)
    assert model.fixed_size == (128, 128)
    depth = model.predict(picture(*size))[0]
    assert depth.shape == size
    torch.testing.assert_close(depth, expected, **CLOSE)
    torch.testing.assert_close(model.eval()(picture(*size)).depth[0], expected, **CLOSE)


def test_depth_pro_without_a_field_of_view_knows_depth_up_to_scale(tmp_path: Path) -> None:
    folder, image = depth_pro(tmp_path, use_fov_model=False), picture(90, 130)
    network = DepthProForDepthEstimation.from_pretrained(folder).eval()
    processor = DepthProImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        output = network(**processor(images=image[0], do_rescale=False, return_tensors="pt"))
    expected = processor.post_process_depth_estimation(output, [(90, 130)])[0]["predicted_depth"]
    model = DepthPro(folder)
    assert str(model.space) == "scale depth"
    torch.testing.assert_close(model.predict(image)[0], expected, **CLOSE)


def test_depth_pro_s_answer_is_disparity_and_upsampled_as_such(tmp_path: Path) -> None:
    model, image = DepthPro(depth_pro(tmp_path)), picture(90, 130, 2)
    answer = model.infer(image)
    assert answer.shape == (2, 256, 256)  # this tiny one answers at twice the size that it runs at
    torch.testing.assert_close(model.resize_to(answer, (256, 256)), 1 / answer.clamp(1e-4))
    far = model.resize_to(torch.zeros(1, 4, 4), (8, 8))
    torch.testing.assert_close(far, torch.full((1, 8, 8), 1e4))


def test_depth_pro_batches_answer_as_single_images(tmp_path: Path) -> None:
    model, images = DepthPro(depth_pro(tmp_path)), picture(60, 80, 2)
    single = torch.cat([model.predict(one[None]) for one in images])
    torch.testing.assert_close(model.predict(images), single, **CLOSE)


def test_depth_pro_falls_back_on_the_configuration_s_size(tmp_path: Path) -> None:
    folder = depth_pro(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    assert DepthPro(folder).fixed_size == (128, 128)


@pytest.mark.parametrize("kind", [ZoeDepth, DepthPro])
def test_resolution_and_scale_leave_the_network_s_own_size(kind: type[DepthModel], tmp_path: Path) -> None:
    model = kind(zoedepth(tmp_path) if kind is ZoeDepth else depth_pro(tmp_path))
    image = picture(90, 130)
    expected = model.predict(image)
    assert model.space == METRIC_DEPTH
    assert torch.equal(model.predict(image, resolution=45, scale=2.0), expected)
    assert model.infer(image, resolution=45).shape == model.infer(image).shape


@pytest.mark.parametrize("kind", [ZoeDepth, DepthPro])
def test_files_say_license_and_arguments_override(kind: Any, tmp_path: Path) -> None:
    folder = zoedepth(tmp_path) if kind is ZoeDepth else depth_pro(tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    model = kind(folder)
    assert (model.license, model.source, model.training_sets) == ("mit", folder, None)
    model = kind(folder, license="other", training_sets=["NYUv2"])
    assert (model.license, model.training_sets) == ("other", ("NYUv2",))
    encoder, head = (list(p) for p in (model.encoder_parameters(), model.head_parameters()))
    assert len(encoder) > 0
    assert len(encoder) + len(head) == len(list(model.parameters()))


@pytest.mark.parametrize("kind", [ZoeDepth, DepthPro])
def test_they_can_be_frozen_teachers_in_half_precision(kind: Any, tmp_path: Path) -> None:
    folder = zoedepth(tmp_path) if kind is ZoeDepth else depth_pro(tmp_path)
    image = picture(90, 130)
    depth = Frozen(lambda: kind(folder), dtype=torch.float16)(image).depth
    assert depth.dtype == torch.float32
    expected = Frozen(lambda: kind(folder))(image).depth
    assert (depth - expected).abs().mean() < 0.01 * expected.mean()
    assert not torch.equal(depth, expected)


def test_the_other_kind_of_model_is_refused(tmp_path: Path) -> None:
    folder = zoedepth(tmp_path)
    with pytest.raises(ValueError, match=r"has model_type 'zoedepth'; for DepthPro it would be depth_pro$"):
        DepthPro(folder)
