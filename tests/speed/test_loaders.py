"""The comparison of loaders, for those two that depthkd's own environment has."""

from itertools import repeat
from pathlib import Path

import pytest
import torch

from tests.speed import exactness, loaders, stream
from tests.speed.exactness import Difference, difference, resumed, samples
from tests.speed.loaders.depthkd import Depthkd
from tests.speed.loaders.webdataset import WebDataset


def test_samples_that_repeat_and_are_missing_are_counted() -> None:
    expected = [["a", "b"], ["c", "d"], ["e", "f"]]
    assert str(difference(expected, [["b", "a"], ["d", "c"], ["e", "f"]])) == "exact"
    found = difference(expected, [["a", "b"], ["c", "a"], ["f", "e"]])
    assert found == Difference(["a"], ["d"], 1, 3)
    assert str(found) == "1 repeat, 1 missing; 1 of 3 batches differ"
    assert (
        str(difference(expected, [["c", "d"], ["a", "b"], ["e", "f"]]))
        == "0 repeat, 0 missing; 2 of 3 batches differ"
    )


def test_ours_resumes_exactly_with_other_ranks_and_webdataset_with_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exactness, "FIRST", (2, 1))
    monkeypatch.setattr(exactness, "RESUMED", ((2, 1), (1, 1)))
    monkeypatch.setattr(exactness, "SAVED", 2)
    monkeypatch.setattr(exactness, "STEPS", 6)
    sources = samples({"a": 16, "b": 24})
    (ours,) = Depthkd().streams(tmp_path / "ours", sources).values()
    assert [str(result) for result in resumed(ours)] == ["exact", "exact"]
    (theirs,) = WebDataset().streams(tmp_path / "theirs", sources).values()
    same, other = resumed(theirs)
    assert str(same) == "exact"
    assert isinstance(other, Difference) and other.batches > 0


@pytest.fixture(scope="module")
def photo() -> bytes:
    return stream.photo(0)


def test_decoders_make_crops_of_560(photo: bytes) -> None:
    for decode in stream.DECODERS.values():
        crop = decode(photo)
        assert (crop.shape, crop.dtype) == ((3, 560, 560), torch.uint8)


def test_loaders_make_batches(tmp_path: Path, photo: bytes) -> None:
    keys = dict.fromkeys(map(str, range(8)), photo)
    makes = stream.makers([Depthkd(), WebDataset()], keys, tmp_path)
    assert {stream.USUAL, stream.AUTO} < set(makes)
    assert next(makes[stream.AUTO](0))["photos"].image.shape == (8, 3, 560, 560)
    urls = str(tmp_path / "webdataset" / "{0..3}.tar")
    # in a process of its own: webdataset leaves its tars open
    (sizes,) = next(WebDataset().images(urls, lambda data: torch.tensor(len(data)), 1))
    assert sizes.tolist() == [len(photo)] * 8


def test_a_bare_decode_has_the_scale_that_its_crop_needs(photo: bytes) -> None:
    # seed 0 draws a side of 1372 of the 1500 pixels, whose 560 need 613: half of the size has more
    assert [image.shape for image in next(stream.bare_decodes({"0": photo}))] == [(750, 1125, 3)] * 8


def test_rates_become_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    rates = {(stream.USUAL, 0): 20.0, (stream.USUAL, 2): 18.0}
    rates |= {(stream.AUTO, 0): 50.0, (stream.AUTO, 2): 45.0, (stream.BARE, 0): 80.0}
    stream.report(rates)
    lines = capsys.readouterr().out.splitlines()
    assert lines[3:] == [
        "| depthkd | `auto` | 50 | 45 | 2.50 | 62% |",
        "| bare decodes | simplejpeg | 80 | - | 4.00 | 100% |",
    ]


def test_a_round_is_counted_after_its_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(stream, "processor_seconds", lambda: float(len(taken)))  # a batch takes a second
    batches = (taken.append(0) for _ in repeat(0))
    assert stream.images_per_second(batches, images=32, warm=16) == 8.0
    assert len(taken) == 6


def test_loaders_that_are_not_installed_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loaders, "find_spec", lambda name: None if name != "webdataset" else "there")
    assert [loader.name for loader in loaders.installed()] == ["depthkd", "webdataset"]
    assert "not installed: litdata, grain, array-record, megatron-energon. " in capsys.readouterr().out
