"""Benchmarks with mattes: AM-2k, P3M-10k and DIS5K."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from depthkd.benchmarks.public import AM2k, DIS5k, MatteBenchmark, P3M10k
from depthkd.benchmarks.roots import Holding, holdings
from depthkd.datasets.mattes import read_matte
from depthkd.formats.sample import AnnotatedSample, BadSample
from depthkd.metrics.catalogue import MetricSet
from tests.datasets.files import Root, picture, png, write

SIZE = (20, 30)
KINDS: list[tuple[type[MatteBenchmark], str, str, str]] = [
    (AM2k, "validation/original", "validation/mask", "am2k"),
    (P3M10k, "P3M-500-NP/original_image", "P3M-500-NP/mask", "p3m10k"),
    (DIS5k, "DIS-VD/im", "DIS-VD/gt", "dis5k"),
]
NAMES = ("17#Non-motor Vehicle#4#Cart#150_b1.2_o", "m_0aa9dd6a")  # as DIS5K and AM-2k name theirs


def alpha(height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    """Transparent at the top; then 25 and 26 of 255, on either side of a tenth; opaque at the bottom."""
    rows = np.repeat([0, 25, 26, 255], height // 4).astype(np.uint8)
    return np.repeat(rows[:, None], width, axis=1)


def files(images: str, mattes: str, matte: bytes | None = None) -> dict[str, bytes]:
    matte = png(alpha()) if matte is None else matte
    made = {f"{images}/{name}.jpg": picture(*SIZE, jpeg=True) for name in NAMES}
    made |= {f"{mattes}/{name}.png": matte for name in NAMES}
    return made | {f"{images}/._{NAMES[1]}.jpg": b"", f"{mattes}/.DS_Store": b"", "readme.txt": b""}


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
@pytest.mark.parametrize(("benchmark", "images", "mattes", "name"), KINDS, ids=[k[3] for k in KINDS])
def test_reads_images_and_their_mattes(
    benchmark: type[MatteBenchmark], images: str, mattes: str, name: str, kind: str, root: Root
) -> None:
    found = benchmark(root(files(images, mattes), kind))
    assert found.name == name and found.metrics == (MetricSet.MATTE,)
    assert len(found) == 2 and found.dataset.missing() == []
    samples = list(found.samples())
    assert [s.key for s in samples] == [f"{images}/{n}.jpg" for n in NAMES]
    for sample in samples:
        assert isinstance(sample, AnnotatedSample) and sample.matte is not None
        assert sample.image.shape == (*SIZE, 3) and sample.depth is None
        assert sample.digest is not None
        np.testing.assert_array_equal(sample.matte, np.repeat(np.arange(20) >= 10, 30).reshape(SIZE))


def test_the_protocol_runs_at_518_px_unless_told_otherwise() -> None:
    protocol = AM2k("nowhere").protocol
    assert (protocol.name, protocol.resolution, protocol.stand_in) == ("mattes", "518 or own", "raw")
    assert DIS5k("nowhere", part="DIS-TE1", resolution=770).protocol.resolution == 770


@pytest.mark.parametrize("folder", ["", "P3M-10k/validation/", "validation/"])
def test_other_parts_have_other_names_and_folders(folder: str, root: Root) -> None:
    place = root(files(f"{folder}P3M-500-P/blurred_image", f"{folder}P3M-500-P/mask"))
    blurred = P3M10k(place, part="P3M-500-P")
    assert (blurred.name, len(list(blurred.samples()))) == ("p3m10k_p", 2)
    with pytest.raises(FileNotFoundError, match=r"'p3m10k': .* has no P3M-500-NP/original_image/\*.jpg; it"):
        len(P3M10k(place))


def test_parts_of_dis5k_stand_beside_each_other(root: Root) -> None:
    place = root(files("DIS5K/DIS-TE4/im", "DIS5K/DIS-TE4/gt") | {"DIS5K/DIS-VD/im/a.jpg": picture(*SIZE)})
    intricate = DIS5k(place, part="DIS-TE4", limit=1)
    assert (intricate.name, [s.key for s in intricate.samples()]) == (
        "dis5k_te4",
        [f"DIS-TE4/im/{NAMES[0]}.jpg"],
    )
    assert len(DIS5k(place)) == 1


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_list_of_images_chooses_among_all_parts(kind: str, root: Root, tmp_path: Path) -> None:
    place = root(files("DIS-TR/im", "DIS-TR/gt") | files("DIS-VD/im", "DIS-VD/gt"), kind)
    split = tmp_path / "dis5k_sample_list.txt"  # as Depth Pro has it
    split.write_text(f"DIS5K/DIS-TR/im/{NAMES[0]}.jpg\nDIS5K/DIS-VD/im/{NAMES[1]}.jpg\n\n")
    chosen = DIS5k(place, split=split)
    assert [s.key for s in chosen.samples()] == [f"DIS-TR/im/{NAMES[0]}.jpg", f"DIS-VD/im/{NAMES[1]}.jpg"]


@pytest.mark.parametrize("lost", ["validation/original/m_0aa9dd6a.jpg", "validation/mask/m_0aa9dd6a.png"])
@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_a_missing_file_is_a_sentence(lost: str, kind: str, root: Root) -> None:
    left = {
        name: data for name, data in files("validation/original", "validation/mask").items() if name != lost
    }
    benchmark = AM2k(root(left, kind))
    assert len(benchmark) == 2 and benchmark.dataset.missing() == [lost]
    assert benchmark.sample(0).key == f"validation/original/{NAMES[0]}.jpg"
    with pytest.raises(BadSample, match=f"{lost}"):
        benchmark.sample(1)


@pytest.mark.parametrize(
    ("matte", "sentence"),
    [
        (png(alpha(24)), r"has 24 x 30 pixels, but its image 20 x 30"),
        (png(np.full(SIZE, 25, np.uint8)), r"is foreground \(alpha above 0.1\) nowhere; a matte needs both"),
        (png(np.full(SIZE, 26, np.uint8)), r"is foreground \(alpha above 0.1\) everywhere"),
        (png(alpha())[:60], "is broken"),
        (b"GIF89a", "is not a JPEG, PNG or WebP image"),
    ],
)
def test_a_matte_that_makes_no_sense_is_a_sentence(matte: bytes, sentence: str, root: Root) -> None:
    benchmark = DIS5k(root(files("DIS-VD/im", "DIS-VD/gt", matte)))
    with pytest.raises(BadSample, match=f"DIS-VD/gt/{NAMES[0]}.png {sentence}"):
        benchmark.sample(0)


def test_of_several_channels_the_first_counts() -> None:
    colors = np.stack([255 - alpha()] * 2 + [alpha()] + [np.full(SIZE, 255, np.uint8)], axis=2)  # BGRA
    expected = read_matte(png(alpha()), SIZE, "m.png")
    np.testing.assert_array_equal(read_matte(png(colors), SIZE, "m.png"), expected)
    deep = alpha().astype(np.uint16) * 257
    np.testing.assert_array_equal(read_matte(png(deep), SIZE, "m.png"), expected)
    assert cv2.imdecode(np.frombuffer(png(deep), np.uint8), cv2.IMREAD_UNCHANGED).dtype == np.uint16


def test_a_root_says_where_they_are_and_what_is_missing(tmp_path: Path) -> None:
    names = ["am2k", "p3m10k", "dis5k"]
    assert all(h.samples is None and h.place is None and h.sentence for h in holdings(tmp_path, names))
    inner = "P3M-10k/validation/P3M-500-NP"
    place = write(tmp_path / "P3M-10k.zip", files(f"{inner}/original_image", f"{inner}/mask"), "zip")
    write(tmp_path / "dis5k", {f"DIS5K/DIS-VD/im/{NAMES[0]}.jpg": b""})
    animals, portraits, objects = holdings(tmp_path, names)
    assert animals.sentence is not None and "none of am2k/AM-2k.zip" in animals.sentence
    assert portraits == Holding("p3m10k", P3M10k, place, 2, 0)
    assert (objects.samples, objects.missing) == (1, 1)
    assert objects.sentence is not None
    assert (
        f"lacks files of 1 of 1 samples, such as DIS-VD/gt/{NAMES[0]}.png; it would hold" in objects.sentence
    )
