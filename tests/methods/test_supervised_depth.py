"""Depth Anything V2's first stage: what is learned of data sets of several spaces, and of their sky."""

import numpy as np
import pytest
import torch

from depthkd.batch import Batch, DepthSpace
from depthkd.data import ResizeCrop, ShardSource
from depthkd.data.stream import StreamBatches
from depthkd.errors import UserError
from depthkd.methods.depth_anything_v2 import SupervisedDepth, SupervisedWeights, with_sky
from depthkd.models.dpt.depth_anything import DepthAnything
from depthkd.verbs.shards.pack import pack
from tests.datasets.files import npy, picture, png, write
from tests.datasets.test_training_sets import pfm

SIZE = 32


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """TartanAir and Virtual KITTI 2 with a sky, and BlendedMVS of unknown scale with a hole."""
    folder = tmp_path_factory.mktemp("sets")
    ramp = np.linspace(2, 20, 40 * 48, dtype=np.float32).reshape(40, 48)
    far, hole, frames = ramp.copy(), ramp.copy(), ramp * 100
    far[:10], hole[:10], frames[:10] = 10000, 0, 65535
    far[10, 0] = np.nan
    files = {
        "tartanair": {
            "a/Easy/P001/image_left/000000_left.png": picture(40, 48),
            "a/Easy/P001/depth_left/000000_left_depth.npy": npy(far),
        },
        "virtual_kitti_2": {
            "Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg": picture(40, 48, jpeg=True),
            "Scene01/clone/frames/depth/Camera_0/depth_00000.png": png(frames.astype(np.uint16)),
        },
        "blendedmvs": {
            "s/blended_images/00000000.jpg": picture(40, 48, jpeg=True),
            "s/rendered_depth_maps/00000000.pfm": pfm(hole),
            "s/cams/00000000_cam.txt": b"intrinsic\n5 0 2\n0 5 1\n0 0 1\n",
        },
    }
    lists = {"virtual_kitti_2": folder / "vkitti.txt"}
    lists["virtual_kitti_2"].write_text(" ".join(files["virtual_kitti_2"]))
    for name, content in files.items():
        split = str(lists[name]) if name in lists else None
        out = f"{folder}/{name}.tar"
        pack(dataset=name, root=str(write(folder / name, content)), split=split, out=out, workers=1)
    return [f"{folder}/{name}.tar" for name in files]


def opened(urls: list[str], space: str | None = "scale depth") -> StreamBatches:
    source = ShardSource(urls, labelled=True, space=space, transform=ResizeCrop(SIZE, flip=0.0))
    return StreamBatches({"synthetic": source.open("synthetic", 0)}, len(urls))


def test_data_sets_of_several_spaces_are_concatenated(shards: list[str]) -> None:
    part = opened(shards).batch(0)["synthetic"]
    assert part.space == DepthSpace.parse("scale depth") and len(set(part.keys)) == 3
    assert part.data_sets == ["BlendedMVS", "TartanAir", "Virtual KITTI 2"]
    assert part.depth is not None and part.mask is not None
    for key, depth, mask in zip(part.keys, part.depth, part.mask, strict=True):
        assert not mask[:7].any() and mask[9:].all()
        sky = torch.inf if "blended" not in key else 0.0
        assert (depth[:7] == sky).all() and depth[9:].isfinite().all()


def test_a_space_that_does_not_include_the_labels_is_a_sentence(shards: list[str]) -> None:
    with pytest.raises(UserError, match=r"data\.train\.synthetic: a batch must be alike.* depth space"):
        opened(shards, None).batch(0)
    for space in ("metric depth", "affine disparity"):
        with pytest.raises(UserError, match=f"data.train.synthetic.space is '{space}', but .*which is none"):
            opened(shards[2:], space).batch(0)
    with pytest.raises(UserError, match="space of a ShardSource: 'depth' is not a depth space"):
        ShardSource("x.tar", space="depth")


def oracle(student: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """MiDaS' losses of one image, pixel by pixel: scale and shift invariant, and gradients at four scales."""

    def normalized(depth: np.ndarray) -> np.ndarray:
        values = np.sort(depth[mask])
        shift = values[(len(values) - 1) // 2]
        return (depth - shift) / np.abs(values - shift).mean()

    difference = normalized(student) - normalized(truth)
    gradient = 0.0
    for scale in range(4):
        rest, valid = difference[:: 2**scale, :: 2**scale], mask[:: 2**scale, :: 2**scale]
        total = 0.0
        for y, x in zip(*np.nonzero(valid), strict=True):
            for below, right in ((y + 1, x), (y, x + 1)):
                if below < valid.shape[0] and right < valid.shape[1] and valid[below, right]:
                    total += abs(rest[below, right] - rest[y, x])
        gradient += total / valid.sum()
    return float(np.abs(difference[mask]).mean()), gradient


@pytest.mark.parametrize("sky", ["masked", "zero"])
def test_the_sky_counts_at_disparity_0_where_it_is_known(shards: list[str], sky: str) -> None:
    torch.manual_seed(0)
    batch = opened(shards).batch(0)
    method = SupervisedDepth(DepthAnything(size="tiny"), sky=sky)  # type: ignore[arg-type]
    losses = method.losses(batch)
    part = batch["synthetic"]
    assert part.depth is not None and part.mask is not None
    expected = []
    for said, depth, mask in zip(method.student_depth(part.images()), part.depth, part.mask, strict=True):
        truth, valid = np.zeros(depth.shape), mask.numpy().copy()
        truth[valid] = 1 / depth.numpy().astype(np.float64)[valid]
        if sky == "zero":
            valid |= depth.isinf().numpy()
        expected.append(oracle(said.detach().double().numpy(), truth, valid))
    found = [losses[term].item() for term in ("scale_shift_invariant", "gradient")]
    assert found == pytest.approx(np.mean(expected, 0).tolist(), rel=1e-4)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    gradients = [p.grad for p in method.student.parameters() if p.grad is not None]
    assert gradients and all(bool(g.isfinite().all()) for g in gradients)
    method.finiteness.note(batch, losses)
    (usable,) = method.finiteness.read(1, method.student, False)
    assert (usable.samples, usable.sentences) == (3, [])


def test_an_image_of_nothing_but_sky_has_nothing_to_learn() -> None:
    sky = torch.tensor([[[True, True]], [[True, False]]])
    disparity = torch.full((2, 1, 2), 0.5)
    truth, valid = with_sky(disparity, ~sky, sky)
    assert valid.tolist() == [[[False, False]], [[True, True]]]
    assert truth[1].tolist() == [[0.0, 0.5]]


def test_a_sky_of_zero_is_of_disparity() -> None:
    weights = SupervisedWeights(gradient=0.5)
    with pytest.raises(UserError, match="sky is 'zero', but the student predicts metric depth"):
        SupervisedDepth(DepthAnything(size="tiny", metric_max_depth=20), weights, sky="zero")


def test_labels_are_needed() -> None:
    method = SupervisedDepth(DepthAnything(size="tiny"), sky="zero")
    with pytest.raises(UserError, match=r"data\.train\.photos has no depth"):
        method.losses({"photos": Batch(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), ["a"])})
