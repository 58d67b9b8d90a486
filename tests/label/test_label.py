"""`depthkd label`: what it writes, on what its bytes depend, and what it refuses."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.data.stream import ShardSource
from depthkd.errors import UserError
from depthkd.formats.tar import index_tar
from depthkd.in_use import InUse
from depthkd.models.inference import Inference, predict_sample
from depthkd.verbs.label.manifest import read_manifest
from tests.data.shards import write_tar
from tests.label.teachers import Gray, Masked, Meters, Same, made, picture, run


def test_a_label_is_the_models_own_prediction(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "labels")
    source = ShardSource(str(images), labels=str(tmp_path / "labels")).open("photos", 0)
    seen = set()
    for position in range(40):
        sample = source.sample(position)[0]
        expected = predict_sample(Gray(), sample, Inference(), torch.device("cpu"))[0].numpy()
        assert sample.depth is not None and sample.mask is not None and sample.mask.all()
        assert sample.space == AFFINE_DISPARITY and sample.depth.shape == sample.image.shape[:2]
        np.testing.assert_allclose(sample.depth, expected, atol=2e-5)
        seen.add(sample.key)
    assert len(seen) == 14


def test_what_a_manifest_and_a_label_tell(images: Path, tmp_path: Path) -> None:
    out = run(images, tmp_path / "labels")
    assert out.labels == 14 and len(out.bad) == 1 and "sa_1.tar: sample '12'" in out.bad[0]
    manifest = read_manifest(tmp_path / "labels/sa_1.tar")
    assert manifest is not None and manifest.samples == 5 and manifest.labelled == 4
    assert list(manifest.bad) == ["12"] and manifest.damage(tmp_path / "labels/sa_1.tar") is None
    assert manifest.settings["teacher"] == {
        "name": "gray", "license": "mit", "training_sets": ["nothing"],
        "identity": f"{Gray().identity()} in torch.float32",
    }  # fmt: skip
    tar = index_tar(tmp_path / "labels/sa_0.tar", images=False)
    record = json.loads(tar.read(list(tar.keys).index("02"))["json"])
    assert record["teacher"]["name"] == "gray" and record["view"] == "whole"
    assert record["image_size"] == [50, 70] and record["ran_at"] == [48, 72] == record["depth"]["size"]


def test_parts_and_interruptions_make_the_same_bytes(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "whole")
    for part in (3, 1, 2):
        run(images, tmp_path / "parts", part=f"{part}/3")
    assert made(tmp_path / "parts") == made(tmp_path / "whole")
    assert [name for name in made(tmp_path / "whole") if name.endswith("tar")] == [
        f"sa_{n}.tar" for n in range(3)
    ]
    (tmp_path / "parts/sa_0.tar.json").write_text("{")  # no interruption leaves such a file
    with pytest.raises(UserError, match=r"sa_0\.tar exists, and no sa_0\.tar\.json says"):
        run(images, tmp_path / "parts")
    (tmp_path / "parts/sa_0.tar").unlink()  # the manifest is there before its tar
    (tmp_path / "parts/.sa_2.tar.1-1.writing").write_bytes(b"x")
    (tmp_path / "parts/sa_2.tar").unlink()
    assert run(images, tmp_path / "parts").labels == 10
    assert made(tmp_path / "parts") == made(tmp_path / "whole")
    assert run(images, tmp_path / "parts").labels == 0


def test_other_labels_are_not_replaced_unasked(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    run(images, out)
    with pytest.raises(UserError, match=r"sa_0\.tar holds labels of gray with other weights"):
        run(images, out, Gray(2.0))
    with pytest.raises(UserError, match=r"that were made with flip false, not true: .* --overwrite true"):
        run(images, out, flip=True)
    samples = {f"0{i}": {"jpg": picture(i, (40, 40))} for i in range(5)}
    write_tar(images / "sa_0.tar", samples)
    with pytest.raises(UserError, match=r"sa_0\.tar holds labels of other images than those of that name"):
        run(images, out)
    assert run(images, out, overwrite=True).labels == 5
    run(images, tmp_path / "again")
    assert made(out) == made(tmp_path / "again")


def test_two_processes_do_not_write_one_shard(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    out.mkdir()
    context = multiprocessing.get_context("fork")
    ready, end = context.Event(), context.Event()

    def hold() -> None:
        with InUse(out / ".sa_0.tar.lock", "{who}"):
            ready.set()
            end.wait(30)

    other = context.Process(target=hold)
    other.start()
    try:
        assert ready.wait(30)
        with pytest.raises(
            UserError, match=rf"sa_0\.tar is being labelled by process {other.pid} on .*: wait"
        ):
            run(images, out)
    finally:
        end.set()
        other.join()
    assert run(images, out).labels == 14


def test_scale_and_shift_are_those_of_the_metric_teacher(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "labels", metric=Meters())
    source = ShardSource(str(images), labels=str(tmp_path / "labels")).open("photos", 0)
    for position in range(10):
        sample = source.sample(position)[0]
        disparity = predict_sample(Gray(), sample, Inference(), torch.device("cpu"))[0].numpy()
        assert sample.space == METRIC_DEPTH and sample.depth is not None
        if sample.image.shape[0] != 50:  # where the reader's interpolation of depth is not that of disparity
            np.testing.assert_allclose(sample.depth, 1 / (2 * disparity + 0.1), rtol=1e-3)


def test_what_a_network_does_not_know_is_not_valid(images: Path, tmp_path: Path) -> None:
    alone, second = (
        run(images, tmp_path / "alone", Masked()),
        run(images, tmp_path / "second", metric=Masked()),
    )
    assert alone.labels == second.labels == 14
    for name, part in (("alone", 0.5), ("second", 1.0)):  # a second teacher only scales and shifts
        source = ShardSource(str(images), labels=str(tmp_path / name)).open("photos", 0)
        for position in range(6):
            mask = source.sample(position)[0].mask
            assert mask is not None and mask.mean() == pytest.approx(part, abs=0.03) and mask[-1].all()
        assert not any(b"sky.png" in path.read_bytes() for path in (tmp_path / name).glob("*.tar"))


def test_a_model_that_says_one_thing_does_not_pass(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2 of 5 samples are bad, .* sample '\d\d' has the label of '0\d'"):
        run(images, tmp_path / "labels", Same())
    with pytest.raises(UserError, match="answers with 0 everywhere"):
        run(images, tmp_path / "labels", Gray(0.0))
    with pytest.raises(UserError, match="numbers that are not finite"):
        run(images, tmp_path / "labels", Gray(float("nan")))
    assert not [*(tmp_path / "labels").glob("*.tar*")]
    with pytest.raises(UserError, match="1 of 5 samples are bad, and max_bad=0 allows 0"):
        run(images, tmp_path / "labels", max_bad=0)


def test_mistakes_are_said(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"part would be i/n .* not '4/3'"):
        run(images, tmp_path / "labels", part="4/3")
    with pytest.raises(UserError, match=r"is itself in .*: choose another folder"):
        run(images, images)
    with pytest.raises(UserError, match="metric would be a model of metric depth, and gray gives affine"):
        run(images, tmp_path / "labels", metric=Gray())
    with pytest.raises(UserError, match="codec log16 takes values above 0"):
        run(images, tmp_path / "labels", codec="log16")


def test_labels_with_their_images_are_a_labelled_shard(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "labels", copy_images=True)
    beside = ShardSource(str(images), labels=str(tmp_path / "labels")).open("photos", 0)
    alone = ShardSource(str(tmp_path / "labels"), labelled=True).open("photos", 0)
    assert len(alone) == 14
    by_key = {sample.key: sample for sample in (beside.sample(i)[0] for i in range(40))}
    for position in range(14):
        sample = alone.sample(position)[0]
        assert np.array_equal(sample.image, by_key[sample.key].image)
        assert np.array_equal(sample.depth, by_key[sample.key].depth)


def test_a_label_keeps_the_camera_and_the_data_set_of_its_image(tmp_path: Path) -> None:
    about = {"intrinsics": [30.0, 31.0, 32.0, 23.0], "source": {"data_set": "rooms"}, "caption": "a room"}
    samples = {f"{i}": {"jpg": picture(i, (48, 64)), "json": json.dumps(about).encode()} for i in range(3)}
    (tmp_path / "images").mkdir()
    write_tar(tmp_path / "images/a.tar", samples)
    run(tmp_path / "images", tmp_path / "labels")
    source = ShardSource(str(tmp_path / "images"), labels=str(tmp_path / "labels")).open("photos", 0)
    sample = source.sample(0)[0]
    assert sample.data_set == "rooms" and sample.intrinsics is not None
    assert sample.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]].tolist() == about["intrinsics"]
    samples["1"]["json"] = b'{"intrinsics": [0, 0, 0, 0]}'
    write_tar(tmp_path / "images/a.tar", samples)
    [bad] = run(tmp_path / "images", tmp_path / "again").bad
    assert "sample '1' has intrinsics [0, 0, 0, 0]" in bad


def test_large_jpegs_are_decoded_at_a_part_of_their_size(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    samples = {f"{i}": {"jpg": picture(i, (768, 1024))} for i in range(2)}
    write_tar(tmp_path / "images/a.tar", samples)
    for scaled in (True, False):
        run(tmp_path / "images", tmp_path / str(scaled), resolution=96, scaled_decoding=scaled)
    maps = []
    for scaled in (True, False):
        opened = ShardSource(str(tmp_path / "images"), labels=str(tmp_path / str(scaled))).open("photos", 0)
        maps.append(opened.sample(0)[0].depth)
    assert not np.array_equal(*maps) and float(np.abs(maps[0] - maps[1]).max()) < 0.02


def test_a_label_does_not_join_an_image_that_took_the_place_of_its_own(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "labels")
    write_tar(images / "sa_0.tar", {f"0{i}": {"jpg": picture(50 + i, (48, 64))} for i in range(5)})
    source = ShardSource(str(images / "sa_0.tar"), labels=str(tmp_path / "labels/sa_0.tar"))
    with pytest.raises(UserError, match=r"is the label of another image than '0\d' is now"):
        source.open("photos", 0).sample(0)


def test_an_image_that_would_become_huge_has_no_label(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    sizes = {"a": (48, 64), "narrow": (300, 1), "long": (4, 64)}
    samples = {key: {"jpg": picture(i, size)} for i, (key, size) in enumerate(sizes.items())}
    write_tar(tmp_path / "images/0.tar", samples)
    found = run(tmp_path / "images", tmp_path / "labels", resolution=16, max_bad=0.5)
    assert found.labels == 2
    assert "sample 'narrow' is of 1 x 300: images may be 16 times as long as wide" in found.bad[0]


@pytest.mark.parametrize("wrong", [{"max_bad": 2.0}, {"max_bad": -0.1}, {"workers": 0}, {"workers": -3}])
def test_numbers_that_cannot_be(images: Path, tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        run(images, tmp_path / "labels", **wrong)
    assert not (tmp_path / "labels").exists()
