import json
import re
from pathlib import Path

import numpy as np
import pytest

from depthkd.batch import METRIC_DEPTH
from depthkd.data.stream import ShardSource
from depthkd.errors import UserError
from depthkd.formats.depth import encode_depth
from depthkd.formats.images import encode_jpeg, encode_png, image_size
from depthkd.formats.sample import Sample
from depthkd.formats.shard_samples import decode_sample, encode_sample
from depthkd.formats.tar import index_tar
from depthkd.formats.writing import write_tar
from depthkd.verbs import shards
from depthkd.verbs.configs import Command
from depthkd.verbs.shards.inspect import inspect
from depthkd.verbs.shards.pack import pack
from depthkd.verbs.shards.verify import verify

SIZE = (24, 32)


def photos(folder: Path, names: list[str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in names:
        image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        (folder / name).write_bytes(encode_png(image) if name.endswith("png") else encode_jpeg(image))
    return [folder / name for name in names]


def depths(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    """16-bit millimeters, 0 and 65535 invalid."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    maps = {name: rng.integers(500, 9000, SIZE, dtype=np.uint16) for name in names}
    for name, numbers in maps.items():
        numbers[0, 0], numbers[0, 1] = 0, 65535
        (folder / name).write_bytes(encode_png(numbers))
    return maps


def read(tar: Path, labelled: bool) -> list[Sample]:
    index = index_tar(tar)
    return [decode_sample(key, index.read(i), str(tar), labelled) for i, key in enumerate(index.keys)]


def run(*words: object) -> int:
    return shards.main(Command([str(word) for word in words]))


def test_photographs_are_packed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = photos(tmp_path / "in", ["b.jpg", "a.jpg", "c.png", "d.e.jpg"])
    out = tmp_path / "out" / "photos-%03d.tar"
    assert run("pack", "--images", tmp_path / "in", "--out", out, "--samples_per_shard", 3) == 0
    words = ("pack", "--images", *given[:2], "--out", tmp_path / "two.tar")  # as a shell spells a pattern
    assert run(*words) == 0 and list(index_tar(tmp_path / "two.tar").keys) == ["b", "a"]
    first, second = (index_tar(tmp_path / "out" / f"photos-00{n}.tar") for n in range(2))
    assert ([*first.keys], [*second.keys]) == (["a", "b", "c"], ["d"])
    assert first.read(0)["jpg"] == given[1].read_bytes()
    assert first.read(2)["png"] == given[2].read_bytes()
    about = json.loads(second.read(0)["json"])["image"]
    assert about == {"image_id": 3, "width": 32, "height": 24, "file_name": "d.e.jpg"}
    assert "4 samples, 2 tars" in capsys.readouterr().out
    assert run("verify", tmp_path / "out") == 0
    assert run("inspect", tmp_path / "out") == 0
    table = capsys.readouterr().out
    assert re.search(r"photos-000\.tar +3 +\d+ +jpg:2 json:3 png:1 +24x32 +- +-\n", table)


def test_the_same_photographs_give_the_same_bytes(tmp_path: Path) -> None:
    photos(tmp_path / "in", ["a.jpg", "b.jpg"])
    for name in ("one.tar", "two.tar"):
        pack(str(tmp_path / "in"), str(tmp_path / name), format="img2dataset")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert list(index_tar(tmp_path / "one.tar").keys) == ["000000000", "000000001"]
    assert set(index_tar(tmp_path / "one.tar").read(0)) == {"jpg", "txt", "json"}


def test_depth_is_packed_with_its_meaning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"frame-{n:06d}" for n in range(0, 50, 10)]
    photos(tmp_path / "in", [f"{name}.color.jpg" for name in names])
    maps = depths(tmp_path / "in", [f"{name}.depth.png" for name in names])
    pattern = f"{tmp_path}/in/frame-{{000010..000030..10}}"
    words = ("--format", "labelled", "--images", f"{pattern}.color.jpg", "--depth", f"{pattern}.depth.png")
    raw = ("--scale", "1/1000", "--invalid", "0,65535", "--intrinsics", "585,584.5,16,12")
    tar = tmp_path / "out.tar"
    assert run("pack", *words, *raw, "--out", tar) == 0
    samples = read(tar, labelled=True)
    assert [sample.key for sample in samples] == names[1:4]
    for sample in samples:
        numbers = maps[f"{sample.key}.depth.png"]
        assert np.array_equal(sample.mask, ~np.isin(numbers, (0, 65535)))
        assert np.abs(sample.depth - numbers / 1000)[sample.mask].max() < 1e-4 * 8.5
        assert sample.space == METRIC_DEPTH
        assert np.array_equal(sample.intrinsics, [[585, 0, 16], [0, 584.5, 12], [0, 0, 1]])
    assert run("inspect", tar) == 0
    assert re.search(r"depth\.png:3 .* 24x32 +metric depth +0\.5\d*\.\.8\.\d+\n", capsys.readouterr().out)
    assert run("verify", tar) == 0


def test_files_are_paired_by_name_and_in_order_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def keys_and_depths(images: str, maps: str, out: str, **settings: str) -> list[tuple[str, str]]:
        patterns = f"{tmp_path}/{images}", f"{tmp_path}/{out}", "labelled", f"{tmp_path}/{maps}"
        pack(*patterns, scale=1e-3, **settings)
        index = index_tar(tmp_path / out)
        sources = [json.loads(index.read(i)["json"])["source"] for i in range(len(index))]
        return list(zip(index.keys, [source["depth"] for source in sources], strict=True))

    photos(tmp_path / "rgb", ["1.rgb.jpg", "2.rgb.jpg"])
    depths(tmp_path / "by_name", ["2.depth.png", "1.depth.png"])
    assert keys_and_depths("rgb", "by_name", "a.tar") == [("1", "1.depth.png"), ("2", "2.depth.png")]
    depths(tmp_path / "by_order", ["d_8.png", "d_9.png"])
    with pytest.raises(UserError, match=r"1\.rgb\.jpg has no partner .* --pair order"):
        keys_and_depths("rgb", "by_order", "b.tar")
    in_order = keys_and_depths("rgb", "by_order", "b.tar", pair="order")
    assert in_order == [("1", "d_8.png"), ("2", "d_9.png")]
    assert re.search(r"paired in order: .*1\.rgb\.jpg with .*d_8\.png first, ", capsys.readouterr().out)
    depths(tmp_path / "other", ["1.png", "3.png"])
    with pytest.raises(UserError, match=r"2\.rgb\.jpg has no partner"):
        keys_and_depths("rgb", "other", "c.tar")
    depths(tmp_path / "more", ["1.png", "2.png", "3.png"])
    with pytest.raises(UserError, match=r"3\.png has no partner"):
        keys_and_depths("rgb", "more", "c.tar")
    with pytest.raises(UserError, match="2 images and 3 depth files cannot be paired in order"):
        keys_and_depths("rgb", "more", "c.tar", pair="order")


def test_equal_names_get_longer_keys(tmp_path: Path) -> None:
    photos(tmp_path / "in", ["holiday.1.jpg", "holiday.2.jpg"])
    pack(f"{tmp_path}/in", f"{tmp_path}/a.tar")
    assert list(index_tar(tmp_path / "a.tar").keys) == ["holiday_1", "holiday_2"]
    for scene in ("s1", "s2"):
        photos(tmp_path / scene / "rgb", ["0.jpg"])
        depths(tmp_path / scene / "depth", ["0.png"])
    (tmp_path / "list.txt").write_text(f"{tmp_path}/s2/rgb/0.jpg\n\n{tmp_path}/s1/rgb/0.jpg\n")
    pack(f"@{tmp_path}/list.txt", f"{tmp_path}/b.tar", "labelled", f"{tmp_path}/s*/depth/*", scale=0.001)
    index = index_tar(tmp_path / "b.tar")
    assert list(index.keys) == ["s2-rgb-0", "s1-rgb-0"]
    first = decode_sample(index.keys[0], index.read(0), "b", labelled=True)
    assert first.depth.max() > 0


def test_few_broken_files_are_left_out_and_many_stop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = photos(tmp_path / "in", [f"{n}.jpg" for n in range(10)])
    given[3].write_bytes(given[3].read_bytes()[:300])
    packed = pack(f"{tmp_path}/in", f"{tmp_path}/a-%d.tar", samples_per_shard=4)
    assert (packed.samples, len(packed.paths), len(packed.bad)) == (9, 3, 1)
    assert re.search(r"1 of 10 are bad:\n.*3\.jpg is broken", capsys.readouterr().out)
    given[7].write_bytes(b"not an image")
    with pytest.raises(
        ValueError, match=r"2 of 10 samples are bad, and max_bad allows 1: .*7\.jpg is not a JPEG"
    ):
        pack(f"{tmp_path}/in", f"{tmp_path}/b-%d.tar", samples_per_shard=4)
    assert not list(tmp_path.glob("b-*"))
    assert pack(f"{tmp_path}/in", f"{tmp_path}/c.tar", max_bad=0.2).samples == 8
    with pytest.raises(ValueError, match="1 of 10 samples are bad, and max_bad allows 0"):
        pack(f"{tmp_path}/in", f"{tmp_path}/d.tar", max_bad=0)
    with pytest.raises(ValueError, match="none of 1 samples can be used"):
        pack(str(given[7]), f"{tmp_path}/e.tar")


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    photos(tmp_path / "in", ["a.jpg"])
    assert run("pack", "--images=~/in", "--out=~/out/a-%d.tar") == 0
    assert run("scenes", "--out=~/scenes", "--count", 1, "--height", 16, "--width", 16) == 0
    source = ShardSource(["~/out", "~/scenes/*"], cache=Path("~/cache"))
    assert len(source.open("s", 0)) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cache", "in", "out", "scenes"]


def test_tars_are_replaced_only_on_request(tmp_path: Path) -> None:
    photos(tmp_path / "in", ["a.jpg", "b.jpg", "c.jpg"])
    out, images = f"{tmp_path}/x-%02d.tar", f"{tmp_path}/in"
    pack(images, out, samples_per_shard=1)
    index_tar(tmp_path / "x-02.tar")
    with pytest.raises(FileExistsError, match=r"x-00\.tar exists already; --overwrite true replaces it"):
        pack(images, out)
    (tmp_path / "broken.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="none of 1 samples can be used"):
        pack(f"{tmp_path}/broken.jpg", out, overwrite=True)
    assert len(list(tmp_path.glob("x-*.tar"))) == 3
    pack(images, out, samples_per_shard=2, overwrite=True)
    assert sorted(file.name for file in tmp_path.glob("x-*.tar*")) == [
        "x-00.tar", "x-00.tar.index", "x-01.tar", "x-01.tar.index",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": "labelled"}, "--format labelled needs depth"),
        ({"format": "sa1b", "depth": "a.npy", "scale": 1}, "and the others have none; leave --format out"),
        ({"depth": "d"}, "--scale is missing"),
        ({"out": None}, "--out is missing"),
        ({"images": None}, "nothing is given to pack: --images, or --dataset with its --root"),
        ({"root": "x"}, "--root and --split are of a data set, and no --dataset is given"),
        ({"dataset": "hypersim"}, "--dataset knows its own files: leave out --images"),
        (
            {"images": None, "dataset": "hypersim"},
            "--root is missing: the folder, tar or zip that holds hypersim",
        ),
        (
            {"images": None, "dataset": "hyper", "root": "x"},
            "'hyper' is not a data set that depthkd can read; it",
        ),
        (
            {"images": None, "dataset": "kitti", "root": "x", "split": "trian"},
            "there is no list trian; its splits",
        ),
        (
            {"images": None, "dataset": "kitti", "root": "x"},
            "data set 'kitti': there is no x; it would be a folder",
        ),
        ({"intrinsics": "c.csv"}, "there is no file c.csv with intrinsics"),
        ({"out": "a-%d-%d.tar"}, "is no pattern for shards"),
        ({"out": "a.zip"}, "is no pattern for shards"),
        ({"samples_per_shard": 0}, "samples_per_shard must be at least 1"),
        ({"codec": "exr"}, "codec 'exr' does not exist; it would be one of png16, npy"),
        ({"format": "labelled", "depth": "d"}, "--scale is missing"),
        ({"format": "labelled", "depth": "d", "scale": "1/0"}, "scale '1/0' is not a number"),
        ({"format": "labelled", "depth": "d", "scale": 1, "space": "depth"}, "'depth' is not a depth space"),
        ({"format": "labelled", "depth": "d", "scale": 1, "invalid": "0;1"}, "invalid '0;1' is not a list"),
        ({"intrinsics": "1,2,3"}, "intrinsics 1,2,3 would be fx,fy,cx,cy"),
        ({"intrinsics": "0,1,2,3"}, "intrinsics 0,1,2,3 would be fx,fy,cx,cy"),
        ({"intrinsics": "nan,1,2,3"}, "intrinsics nan,1,2,3 would be fx,fy,cx,cy"),
        ({"max_bad": float("nan")}, "max_bad is a share from 0 to 1, and not nan"),
        ({"images": ["a.jpg", "a.png"]}, "a.jpg and a.png have the same name up to their suffixes"),
        ({"out": "a.jpg/b.tar"}, "a.jpg/b.tar cannot be written: "),
        ({"images": []}, "no images are given"),
        ({"images": ["a.jpg", "a.jpg"]}, "a.jpg is given 2 times"),
        ({"max_depth": 9}, "--max_depth and --pair are about depth files"),
        ({"format": "labelled", "depth": "d", "scale": 1, "max_depth": 0}, "max_depth is a depth above 0"),
        (
            {"format": "labelled", "depth": "d", "scale": 1, "space": "affine depth", "max_depth": 9},
            "max_depth needs metric values or scale depth; 'affine depth' has no such limit",
        ),
    ],
)
def test_bad_settings_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    photos(tmp_path, ["a.jpg", "a.png"])
    np.save(tmp_path / "a.npy", np.ones((32, 48), np.float32))
    with pytest.raises(ValueError, match=re.escape(sentence)):
        pack(**{"images": "a.jpg", "out": "out.tar", **change})


def test_verify_counts_what_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    depth = np.full(SIZE, 2, np.float32)
    good = encode_sample(Sample("a", np.zeros((*SIZE, 3), np.uint8), depth, None, None, METRIC_DEPTH))
    without_depth = {"jpg": good["jpg"], "json": b"{}"}
    without_image = {word: data for word, data in good.items() if word != "jpg"}
    cut = {**good, "jpg": good["jpg"][:-50]}
    members = [("good", good), ("bare", without_depth), ("blind", without_image), ("cut", cut)]
    write_tar(members, tmp_path / "a.tar")
    (tmp_path / "b.tar").write_bytes(b"not a tar")
    assert run("verify", tmp_path) == 1
    told = capsys.readouterr().out
    assert "1 of 5 samples are good" in told
    for sentence in (
        "'bare' has no 'depth'",
        "'blind' has no image",
        "'cut', its .jpg, is broken",
        "b.tar is empty or",
    ):
        assert sentence in told
    write_tar([("blind", without_image)], tmp_path / "labels.tar")
    assert run("verify", tmp_path / "labels.tar") == 0
    [row] = inspect(str(tmp_path / "labels.tar"))
    assert (row["height x width"], row["range"], row["codec"]) == ("-", "2..2", "log16")


def test_inspect_lists_what_is_bad_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = {"jpg": encode_jpeg(np.zeros((*SIZE, 3), np.uint8))}
    write_tar([("a", photo), ("b", {"jpg": b"no picture"})], tmp_path / "1.tar")
    write_tar([], tmp_path / "2.tar")
    (tmp_path / "3.tar").write_bytes(b"text" * 200)
    (tmp_path / "4.tar.gz").write_bytes(b"\x1f\x8b" + bytes(600))
    write_tar([(key, {"left.jpg": b"", "right.jpg": b""}) for key in "xyz"], tmp_path / "5.tar")
    write_tar([("c", photo)], tmp_path / "6.tar")
    assert run("inspect", tmp_path) == 1
    told = capsys.readouterr().out
    lines = [line.split() for line in told.splitlines()[1:7]]
    assert [Path(line[0]).name for line in lines] == ["1.tar", "2.tar", "3.tar", "4.tar.gz", "5.tar", "6.tar"]
    assert [line[-2:] == ["1", "bad"] for line in lines] == [True, True, True, True, True, False]
    for sentence in (
        "5 are bad:",
        r"1\.tar: sample 'b' is not a JPEG",
        r"2\.tar holds no sample",
        r"3\.tar is not a tar",
        r"4\.tar\.gz is compressed",
        r"5\.tar holds .* in \.left\.jpg \(3\), \.right\.jpg \(3\).* \.jpg, \.jpeg, \.png, \.webp are read",
    ):
        assert re.search(sentence, told), sentence
    assert run("inspect", tmp_path / "6.tar") == 0
    assert run("inspect", tmp_path / "6.tar", tmp_path / "1.tar", "--samples", 1) == 0  # b is not opened
    assert run("verify", tmp_path / "6.tar", tmp_path / "1.tar", "--workers", 1) == 1
    with pytest.raises(
        UserError, match=r"data\.train\.s\.urls: .*5\.tar holds no .* end in \.left\.jpg \(3\)"
    ):
        ShardSource(str(tmp_path / "5.tar")).open("s", 0)


def test_inspect_tells_how_depth_is_distributed_and_draws_a_sheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.full((*SIZE, 3), 90, np.uint8)
    depth = np.full(SIZE, 2, np.float32)
    depth[0] = 0.0  # not valid: 1 row of 24
    depth[1:13] = 8.0
    label = encode_sample(Sample("a", image, depth, None, None, METRIC_DEPTH))
    broken = {**label, "depth.png": label["depth.png"][:-30]}
    write_tar([("a", label), ("b", label), ("c", broken)], tmp_path / "1.tar")
    write_tar([("d", {"jpg": encode_jpeg(image)})], tmp_path / "2.tar")
    sheet = tmp_path / "new/sheet.png"
    assert run("inspect", tmp_path, "--sheet", sheet) == 1
    told = capsys.readouterr().out
    quantiles = "in m: 1 % below 2, 50 % below 8, 99 % below 8; 95.8 % of pixels are valid\n"
    assert f"metric depth of 2 maps, {quantiles}  2 █" in told and "█ 8 (log scale)\n" in told
    assert f"3 samples on {sheet}\n1 are bad:\n  {tmp_path}/1.tar: sample 'c', its .depth.png," in told
    assert image_size(sheet.read_bytes(), "the sheet")[1] > 1500
    assert run("inspect", tmp_path / "2.tar") == 0
    assert "valid" not in capsys.readouterr().out
    with pytest.raises(UserError, match=r"sheet 'a\.tar' would end in \.png or \.jpg or \.jpeg"):
        run("inspect", tmp_path, "--sheet", "a.tar")


def test_verify_tells_of_depth_that_its_codec_erased(tmp_path: Path) -> None:
    depth = np.geomspace(1, 10, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.float32)
    depth[6:12] = 1e10
    image = {"jpg": encode_jpeg(np.zeros((*SIZE, 3), np.uint8))}
    suffix, data, meta = encode_depth(depth, None, "png16")  # as depthkd packed it once
    about = {"depth": {"space": "metric depth", "unit": "m", **meta}}
    write_tar([("a", {**image, suffix: data, "json": json.dumps(about).encode()})], tmp_path / "a.tar")
    [fault] = verify(str(tmp_path / "a.tar"))
    assert "'a' has values from 1 to 1e+10 in linear steps of 1.53e+05, which erase the small ones" in fault
