"""Depth as pictures and latents: ranges, cuts, masks, and two codecs."""

import numpy as np
import pytest
import torch
from skimage import data

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.benchmarks.protocol import Protocol
from depthkd.datasets.scenes import scenes
from depthkd.models.latent_diffusion.depth_codec import as_depth, as_picture, depth_range, latent_mask
from depthkd.models.latent_diffusion.fiffdepth import FiffDepth
from depthkd.models.latent_diffusion.transform_codec import COLORS, TransformCodec


def test_a_range_is_numpys_percentiles_of_the_valid_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    depth = torch.rand(3, 20, 30, generator=generator) * torch.tensor([1.0, 1e-3, 1e4])[:, None, None]
    mask = torch.rand(3, 20, 30, generator=generator) > 0.4
    low, high = depth_range(depth, mask, (0.02, 0.9))
    for i in range(3):
        values = depth[i][mask[i]].double().numpy()
        expected = np.quantile(values, [0.02, 0.9])
        np.testing.assert_allclose([float(low[i]), float(high[i])], expected, rtol=1e-5)


def test_a_map_without_valid_pixels_or_without_extent_is_finite() -> None:
    depth = torch.full((2, 4, 4), torch.nan)
    depth[1] = 7.0
    mask = torch.stack([torch.zeros(4, 4, dtype=torch.bool), torch.ones(4, 4, dtype=torch.bool)])
    low, high = depth_range(depth, mask)
    assert (float(low[0]), float(high[0])) == (0.0, 1.0)
    picture = as_picture(depth, low, high, mask, elsewhere=1.0)
    assert bool((picture[0] == 1.0).all()) and bool((picture[1] == -1.0).all())


def test_pictures_and_depth_are_inverse_up_to_the_cut() -> None:
    depth = torch.linspace(1.0, 5.0, 101).view(1, 1, 101)
    mask = torch.ones_like(depth, dtype=torch.bool)
    mask[..., 100] = False
    low, high = depth_range(depth, mask, (0.1, 0.9))
    picture = as_picture(depth, low, high, mask, elsewhere=-1.0)
    assert picture.shape == (1, 3, 1, 101) and float(picture.min()) == -1.0 and float(picture.max()) == 1.0
    back = as_depth(picture, low, high)
    inside = (depth >= low) & (depth <= high) & mask
    torch.testing.assert_close(back[inside], depth[inside])
    torch.testing.assert_close(back[0, 0, 0], low[0])
    assert float(picture[0, 0, 0, 100]) == -1.0


def test_a_latent_is_valid_where_its_whole_block_is() -> None:
    mask = torch.ones(1, 16, 24, dtype=torch.bool)
    mask[0, 7, 8] = mask[0, 15, 23] = False
    expected = torch.tensor([[[True, False, True], [True, True, False]]])
    assert torch.equal(latent_mask(mask, 8), expected)


@pytest.mark.parametrize(("block", "keep"), [(8, 4), (8, 8), (4, 2), (1, 1)])
def test_the_transform_is_orthonormal_and_loses_only_what_it_drops(block: int, keep: int) -> None:
    codec = TransformCodec(block, keep)
    flat = codec.patterns.flatten(1).double()
    torch.testing.assert_close(flat @ flat.T, torch.eye(len(flat), dtype=torch.float64), atol=1e-6, rtol=0)
    image = torch.from_numpy(data.astronaut()[:64, :96]).permute(2, 0, 1)[None].float() / 127.5 - 1
    latents = codec.encode(image).latents
    assert latents.shape == (1, codec.config.latent_channels, 64 // block, 96 // block)
    again = codec.encode(codec.decode(latents).sample).latents
    torch.testing.assert_close(again, latents, atol=1e-4, rtol=0)


def test_all_frequencies_of_gray_pictures_are_all_of_them() -> None:
    codec = TransformCodec(8, 8)
    gray = torch.rand(1, 1, 24, 16, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1)
    torch.testing.assert_close(codec.decode(codec.encode(gray).latents).sample, gray, atol=1e-5, rtol=0)
    colors = COLORS / COLORS.norm(dim=1, keepdim=True)
    torch.testing.assert_close(colors @ colors.T, torch.eye(3))


@pytest.mark.parametrize(("block", "keep"), [(6, 2), (8, 9), (8, 0), (0, 0)])
def test_blocks_that_make_no_sense_get_a_sentence(block: int, keep: int) -> None:
    with pytest.raises(ValueError, match="block must be a power of 2 and keep at most that"):
        TransformCodec(block, keep)


def test_the_truth_through_the_codec_is_nearly_the_truth() -> None:
    """The floor of the embedded data: an AbsRel of .03 at most."""
    network = FiffDepth(size="tiny")
    protocol = Protocol.named("marigold", max_depth=40.0)
    errors = []
    for scene in scenes(2, 4, "studio", 192, 252):
        sample = scene.sample
        assert sample.depth is not None and sample.mask is not None
        depth, mask = torch.tensor(sample.depth)[None], torch.tensor(sample.mask)[None]
        answer = network.encode_decode_truth(depth, mask, METRIC_DEPTH)
        assert answer.shape == depth.shape
        metrics = protocol.score(answer, AFFINE_DISPARITY, depth, METRIC_DEPTH, mask)
        errors.append(float(metrics["abs_rel"]))
    assert 0.001 < np.mean(errors) < 0.03
