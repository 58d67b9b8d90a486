"""What a folder of data sets holds."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from depthkd.benchmarks.public import DIODEIndoor, NYUv2
from depthkd.benchmarks.roots import NAMED_ONLY, Holding, found_below_roots, holdings, listing
from depthkd.datasets.dataset import shipped_split
from tests.conftest import CommandLine
from tests.datasets.files import hdf5, mat, picture, png, write

PLACES = [kind for kind in found_below_roots() if kind not in NAMED_ONLY]
NYU = [line.split()[:2] for line in shipped_split("nyuv2_test_654.txt")]


def of(root: Path, name: str) -> Holding:
    (found,) = [h for h in holdings(root) if h.name == name]
    return found


def test_an_empty_root_says_what_would_stand_where(tmp_path: Path) -> None:
    found = holdings(tmp_path)
    assert [h.kind for h in found] == PLACES
    assert all(h.place is None and h.missing is None and h.sentence for h in found)
    counts = {h.name: h.samples for h in found}
    assert (counts["nyuv2"], counts["kitti"], counts["vkitti2"]) == (654, 652, 5364)
    assert counts["hypersim"] is counts["da2k"] is None
    sentence = of(tmp_path, "nyuv2").sentence
    assert sentence is not None
    assert "none of nyuv2/nyu_labeled_extracted.tar" in sentence
    assert "one would hold {test,train}/<scene>/{rgb,depth,filled}_NNNN.png" in sentence


def test_a_whole_tar_is_found(tmp_path: Path) -> None:
    files = {name: b"" for line in NYU for name in line}
    place = write(tmp_path / "nyuv2/nyu_labeled_extracted.tar", files, "tar")
    assert of(tmp_path, "nyuv2") == Holding("nyuv2", NYUv2, place, 654, 0)


def test_some_benchmarks_with_lists_of_their_own(tmp_path: Path) -> None:
    few = {name: b"" for line in NYU[:3] for name in line}
    place = write(tmp_path / "nyuv2", few)
    short = tmp_path / "short.txt"
    short.write_text("\n".join(" ".join(line) for line in NYU[:3]))
    found = holdings(tmp_path, ["nyuv2", "kitti"], {"nyuv2": str(short)})
    assert [(h.name, h.place, h.samples, h.missing) for h in found] == [
        ("nyuv2", place, 3, 0),
        ("kitti", None, 652, None),
    ]
    with pytest.raises(
        ValueError, match="'nyu' is not a benchmark that a root can hold; these are nyuv2, kitti"
    ):
        holdings(tmp_path, ["nyu"])
    with pytest.raises(ValueError, match="'x' is not a benchmark"):
        listing(tmp_path, splits={"x": "y"})


def test_a_part_is_looked_for_where_it_is_named(tmp_path: Path) -> None:
    lines = [line.split() for line in shipped_split("diode_val_771.txt")]
    indoor = {name: b"" for line in lines if line[0].startswith("indoors") for name in line}
    place = write(tmp_path / "diode", indoor)
    (found,) = holdings(tmp_path, ["diode_indoor"])
    assert found == Holding("diode_indoor", DIODEIndoor, place, 325, 0)
    assert of(tmp_path, "diode").missing == 446
    benchmark = found.kind(place)
    assert (benchmark.name, len(benchmark), benchmark.data_set) == ("diode_indoor", 325, "DIODE")


def test_what_is_missing_is_counted_and_the_fullest_place_counts(tmp_path: Path) -> None:
    few = {name: b"" for line in NYU[:3] for name in line}
    write(tmp_path / "nyuv2/nyu_labeled_extracted.tar", few, "tar")
    more = {name: b"" for line in NYU[:-2] for name in line} | {NYU[-1][0]: b""}
    place = write(tmp_path / "nyuv2/nyu_labeled_extracted", more)
    found = of(tmp_path, "nyuv2")
    assert (found.place, found.samples, found.missing) == (place, 654, 2)
    assert found.sentence is not None
    assert f"lacks files of 2 of 654 samples, such as {NYU[-2][0]}; it would hold " in found.sentence


def test_benchmarks_whose_lists_are_their_data(tmp_path: Path) -> None:
    depth = png(np.ones((4, 4), np.uint16))
    prepared = {"ai_1/rgb_cam_00_fr0001.png": picture(4, 4), "ai_1/depth_plane_cam_00_fr0001.png": depth}
    write(tmp_path / "hypersim/hypersim_processed_val.tar", prepared, "tar")
    pairs = {"images/indoor/a.jpg": [], "images/indoor/b.jpg": []}
    write(
        tmp_path / "DA-2K.zip",
        {"annotations.json": json.dumps(pairs).encode(), "images/indoor/a.jpg": picture(4, 4)},
        "zip",
    )
    assert (of(tmp_path, "hypersim").samples, of(tmp_path, "hypersim").missing) == (1, 0)
    assert (of(tmp_path, "da2k").samples, of(tmp_path, "da2k").missing) == (2, 1)


@pytest.mark.parametrize(
    ("name", "place", "first"),
    [
        ("ibims1", "ibims1/ibims1_core_mat/corridor_01.mat", mat(data=1)),
        ("spring", "spring/train/0001/disp1_left/disp1_left_0015.dsp5", hdf5("disparity", np.ones((2, 2)))),
        ("vkitti2", "vkitti/rgb/Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg", b""),
        ("sintel", "MPI-Sintel-complete/training/final/market_5/frame_0001.png", b""),
        ("diode", "diode/val/indoors/a.png", b""),
    ],
)
def test_the_owners_folders_are_looked_through(name: str, place: str, first: bytes, tmp_path: Path) -> None:
    write(tmp_path, {place: first})
    found = of(tmp_path, name)
    assert found.place is not None and found.sentence is not None
    assert place.startswith(found.place.relative_to(tmp_path).as_posix())
    assert found.missing == (99 if name == "ibims1" else found.samples)


def test_a_broken_file_is_a_sentence_and_does_not_stop_the_others(tmp_path: Path) -> None:
    write(tmp_path, {"eth3d/eth3d.tar": b"nothing", "DA-2K/annotations.json": b"nothing"})
    found = {h.name: h for h in holdings(tmp_path)}
    assert found["da2k"].sentence is not None and "is not JSON" in found["da2k"].sentence
    assert found["eth3d"].place == tmp_path / "eth3d/eth3d.tar"
    assert found["eth3d"].sentence is not None and "no plain tar" in found["eth3d"].sentence


def test_the_listing_reads_well(tmp_path: Path) -> None:
    write(tmp_path / "nyuv2/nyu_labeled_extracted.tar", {name: b"" for line in NYU for name in line}, "tar")
    lines = listing(tmp_path).splitlines()
    assert lines[0].split() == [
        "|",
        "benchmark",
        "|",
        "class",
        "|",
        "found",
        "at",
        "|",
        "samples",
        "|",
        "missing",
        "|",
    ]
    assert "nyuv2/nyu_labeled_extracted.tar |     654 |       0 |" in lines[2]
    assert len([line for line in lines if line.startswith("- ")]) == len(PLACES) - 1
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        listing(tmp_path / "nowhere")


def test_every_one_can_be_named_in_a_config(command_line: CommandLine) -> None:
    words: list[str] = []
    for kind in PLACES:
        words += [f"--benchmarks.{kind.name}", f"depthkd.benchmarks.{kind.__name__}"]
        words += [f"--benchmarks.{kind.name}.root", "/data", f"--benchmarks.{kind.name}.limit", "5"]
    words += ["--benchmarks.ibims1.max_depth", "10", "--benchmarks.vkitti2.crop", "garg"]
    status, out, err = command_line("test", *words, "--print_config")
    assert status == 0, err
    tree = yaml.safe_load(out)["benchmarks"]
    assert tree["ibims1"]["init_args"]["max_depth"] == 10
    assert tree["vkitti2"]["init_args"]["crop"] == "garg"
    assert tree["da2k"]["init_args"]["protocol"] == "depth_anything"
    assert all(tree[kind.name]["init_args"]["limit"] == 5 for kind in PLACES)
    assert len({kind.kind.title for kind in PLACES}) == len(PLACES)
