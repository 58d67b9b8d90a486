"""What img2dataset leaves in a folder is no trouble: failed downloads, tables and counts beside the tars."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from depthkd.cli import main
from depthkd.data.stream import ShardSource, StreamBatches
from depthkd.errors import UserError
from depthkd.formats.images import encode_jpeg
from depthkd.formats.tar import index_tar
from tests.data.shards import write_tar


def members(key: str, status: str) -> dict[str, bytes]:
    record = {"url": f"https://example.org/{key}", "key": key, "status": status, "error_message": None}
    if status == "success":
        image = np.random.default_rng(int(key)).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        told = json.dumps({**record, "width": 32, "height": 24}, indent=4).encode()
        return {"jpg": encode_jpeg(image), "txt": b"a room", "json": told}
    record["error_message"] = "HTTP Error 404: Not Found"
    return {"json": json.dumps(record, indent=4).encode()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tars of three images and two failures, as a downloader leaves them."""
    for shard in range(2):
        statuses = ["success", "failed_to_download", "success", "failed_to_resize", "success"]
        keys = [f"{shard:05}{i:04}" for i in range(5)]
        samples = {key: members(key, status) for key, status in zip(keys, statuses, strict=True)}
        write_tar(tmp_path / f"{shard:05}.tar", samples)
        (tmp_path / f"{shard:05}.parquet").write_bytes(b"PAR1")
        counts = {"count": 5, "successes": 3, "failed_to_download": 1, "failed_to_resize": 1}
        (tmp_path / f"{shard:05}_stats.json").write_text(json.dumps(counts))
    return tmp_path


def test_training_sees_the_images_alone(folder: Path) -> None:
    source = ShardSource(str(folder)).open("s", 0)
    batches = StreamBatches({"s": source}, 6)
    assert sorted(batches.batch(0)["s"].keys) == [f"{shard:05}{i:04}" for shard in (0, 1) for i in (0, 2, 4)]
    assert not batches.batch(0)["s"].skipped


def test_the_verbs_find_no_fault(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "index", str(folder)]) == 0
    assert capsys.readouterr().out == "6 samples with an image in 2 tars\n"
    assert main(["shards", "verify", str(folder)]) == 0
    assert capsys.readouterr().out == "6 of 6 samples are good; 4 more are downloads that failed\n"
    assert main(["shards", "inspect", str(folder)]) == 0
    assert re.search(r"00001\.tar +5 +\d+ +jpg:3 txt:3 json:5 +24x32", capsys.readouterr().out)


@pytest.mark.parametrize("record", [b'{"status": "success"}', b'{"status": ', b"[]"])
def test_an_image_that_is_missing_is_a_fault(
    folder: Path, record: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    key = "000000001"
    write_tar(folder / "00000.tar", {key: {"json": record}, "000000000": members("0", "success")})
    assert main(["shards", "verify", f"{folder}/00000.tar"]) == 1
    assert f"sample '{key}' has no image among .json" in capsys.readouterr().out


def test_a_tar_of_failures_alone_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tar(folder / "00000.tar", {"0": members("0", "failed_to_download")})
    with pytest.raises(UserError, match=r"^data\.train\.s\.urls: .*00000\.tar holds no sample with an image"):
        ShardSource(str(folder)).open("s", 0)
    assert len(ShardSource(str(folder), max_bad_shards=1).open("s", 0)) == 3
    assert main(["shards", "verify", str(folder)]) == 1
    told = capsys.readouterr().out
    assert f"{folder}/00000.tar holds no image: it has failed downloads alone, 1 of them\n" in told


def test_a_quarantine_leaves_no_tar_of_failures_alone(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bad = {"jpg": b"no image"}
    write_tar(folder / "00000.tar", {"0": members("0", "failed_to_download"), "1": bad})
    write_tar(folder / "00002.tar", {"0": members("0", "failed_to_download")})
    write_tar(
        folder / "00003.tar", {"0": members("0", "success"), "1": bad, "2": members("2", "failed_to_x")}
    )
    quarantine = tmp_path_factory.mktemp("bad")
    assert main(["shards", "verify", str(folder), "--quarantine", str(quarantine)]) == 0
    assert sorted(tar.name for tar in folder.glob("*.tar")) == ["00001.tar", "00003.tar"]
    assert sorted(tar.name for tar in quarantine.glob("*.tar")) == ["00000.tar", "00002.tar", "00003.tar"]
    assert list(index_tar(folder / "00003.tar", images=False).keys) == ["0", "2"]
    assert len(ShardSource(str(folder)).open("s", 0)) == 4
