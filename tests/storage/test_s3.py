"""Shards in a bucket: s3fs against moto's S3 server, through a connection that fails."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from depthkd.cli import main
from depthkd.data.stream import OpenSource, ShardSource
from depthkd.errors import UserError
from depthkd.runs.folder import read_checkpoint
from depthkd.storage import remote
from tests.data.shards import write_shards
from tests.processes import run
from tests.storage.server import FAULTS, FaultyServer, serving
from tests.storage.test_remote_shards import assert_same, samples
from tests.test_resume import assert_same as assert_same_state
from tests.test_resume import configured

URLS = "s3://bucket/data/s_{00..02}.tar"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labelled shards with indexes and a manifest."""
    folder = tmp_path_factory.mktemp("bucket") / "s"
    folder.mkdir()
    write_shards(folder, [3, 4, 5], labelled=True)
    assert main(["shards", "index", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def moto(folder: Path) -> Iterator[int]:
    """The port of an S3 server that holds them."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import s3fs

        bucket = s3fs.S3FileSystem(endpoint_url=f"http://127.0.0.1:{port}", skip_instance_cache=True)
        bucket.mkdir("bucket")
        for path in folder.iterdir():
            bucket.put_file(str(path), f"bucket/data/{path.name}")
        yield port
    server.stop()


@pytest.fixture
def server(moto: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(remote, "PATIENCE", 1.0)
    monkeypatch.setattr(remote, "_systems", {})
    monkeypatch.setenv("DEPTHKD_CACHE", str(tmp_path / "cache"))
    with serving(tmp_path, upstream=moto) as running:
        running.stall = 1.3
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running


def local(folder: Path) -> OpenSource:
    return ShardSource(f"{folder}/s_{{00..02}}.tar", labelled=True).open("photos", 0)


def far(access: str = "range") -> OpenSource:
    return ShardSource(URLS, labelled=True, access=access).open("photos", 0)


@pytest.mark.parametrize("access", ["range", "cache"])
def test_the_stream_is_that_of_a_local_folder(server: FaultyServer, folder: Path, access: str) -> None:
    opened = far(access)
    assert opened.fingerprint() == local(folder).fingerprint()
    opened.expect(range(12))
    assert_same(samples(opened), samples(local(folder)))


@pytest.mark.parametrize("fault", FAULTS)
def test_every_read_outlives_every_fault(server: FaultyServer, folder: Path, fault: str) -> None:
    server.plan = lambda number: fault if number % 9 == 0 else ""
    assert_same(samples(far()), samples(local(folder)))


def test_a_bucket_is_listed(server: FaultyServer, folder: Path) -> None:
    for urls in ("s3://bucket/data/", "s3://bucket/data/*.tar", "s3://bucket/data/s_0[0-2].tar"):
        assert ShardSource(urls).open("photos", 0).paths == [
            f"s3://bucket/data/s_{n:02}.tar" for n in range(3)
        ]


def test_what_is_not_there_or_has_changed_is_said(
    server: FaultyServer, moto: int, folder: Path, tmp_path: Path
) -> None:
    for urls, reason in (
        ("s3://bucket/data/x.tar", "is not there"),
        ("s3://none/x.tar", "is not there|may not"),
    ):
        with pytest.raises(UserError, match=rf"^data\.train\.photos\.urls: {urls} ({reason})"):
            ShardSource(urls).open("photos", 0)
    opened = far()
    samples(opened)
    shutil.copy(folder / "s_01.tar", tmp_path / "s_00.tar")
    import s3fs

    bucket = s3fs.S3FileSystem(endpoint_url=f"http://127.0.0.1:{moto}", skip_instance_cache=True)
    bucket.put_file(str(tmp_path / "s_00.tar"), "bucket/data/s_00.tar")
    try:
        with pytest.raises(UserError, match=r"^s3://bucket/data/s_00\.tar has changed since the run began"):
            samples(opened)
    finally:
        bucket.put_file(str(folder / "s_00.tar"), "bucket/data/s_00.tar")


@pytest.mark.parametrize("access", [pytest.param("range", marks=pytest.mark.long), "cache"])
def test_a_run_from_a_bucket_resumes_bitwise_with_a_cold_cache(
    moto: int, folder: Path, tmp_path: Path, access: str
) -> None:
    (tmp_path / "local").mkdir()
    beside = {"urls": write_shards(tmp_path / "local", [6, 7]), "share": 0.5}
    transform = yaml.safe_load(configured(folder, tmp_path).read_text())["data"]["train"]["photos"][
        "transform"
    ]

    def config(name: str, urls: str) -> str:
        tree = yaml.safe_load(configured(folder, tmp_path).read_text())
        tree["data"]["train"] = {
            "bucket": {"urls": urls, "share": 0.5, "transform": transform, "access": access},
            "local": {**beside, "transform": transform},
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(tree))
        return str(tmp_path / f"{name}.yaml")

    here, there = config("here", f"{folder}/s_{{00..02}}.tar"), config("there", URLS)
    aws = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    aws["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{moto}"
    kill = ["--trainer.callbacks+", "tests.processes.KillAfter", "--trainer.callbacks.batches", "11"]
    whole, output = run(["fit", "--config", here, "--run", "whole"], tmp_path)
    assert whole == [0], output
    killed, output = run(
        ["fit", "--config", there, "--run", "parts", "--data.workers", "1", *kill],
        tmp_path,
        more={**aws, "DEPTHKD_CACHE": str(tmp_path / "first")},
    )
    assert killed == [-9], output
    resumed, output = run(
        ["fit", "--config", there, "--run", "parts", "--ckpt_path", "last"],
        tmp_path,
        more={**aws, "DEPTHKD_CACHE": str(tmp_path / "second")},
    )
    assert resumed == [0], output
    one, two = (read_checkpoint(tmp_path / f"{name}/checkpoints/last.ckpt") for name in ("whole", "parts"))
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "ShardDataModule"):
        assert_same_state(one[part], two[part], part)
    assert (tmp_path / "second/shards").exists() == (access == "cache")
