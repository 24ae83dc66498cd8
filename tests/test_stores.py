"""Clips into object stores: fsspec's memory and local file systems, and a server of S3."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

import mocogen
from mocogen import batch
from mocogen.errors import DiskFullError, MocogenError, UsageError
from mocogen.jobs import plan
from mocogen.manifest import Manifest
from mocogen.requests import Request
from mocogen.shards import ShardSink
from mocogen.sinks import FileSink, Sink
from mocogen.stores import DISK, Disk, UrlStore, open_store
from mocogen.templates import home

from .test_batch import contents


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True)


def make(tiny: Path, out: str, seeds: range, shards: bool = False) -> list[batch.Outcome]:
    """A batch of .npy clips into a store, and what came of those that were still to be made."""
    model = mocogen.load(tiny, "cpu")
    store, where = open_store(out)
    requests = [Request(seed=s, index=i, frames=3, out=where) for i, s in enumerate(seeds)]
    with Manifest(home(where) / "manifest.jsonl", {}, store=store) as manifest:
        sink: Sink = FileSink(manifest, store)
        if shards:
            requests = [Request(seed=s, index=i, frames=3) for i, s in enumerate(seeds)]
            sink = ShardSink(where, 2, "npy", manifest, store)
        with sink:
            jobs = batch.remaining(plan(model, requests, {}), sink, "overwrite")
            return list(batch.render(model, jobs, sink))


def test_a_path_is_on_the_disk_and_a_url_is_not(tmp_path: Path):
    assert open_store("a/{seed}.mp4") == (DISK, "a/{seed}.mp4")
    store, where = open_store("memory://a/{action}/{seed:06d}.mp4")
    assert isinstance(store, UrlStore)
    assert where == "/a/{action}/{seed:06d}.mp4"
    assert open_store("memory://a/")[1] == "/a/"
    assert open_store(f"file://{tmp_path}/x.gif")[1] == f"{tmp_path}/x.gif"
    assert not isinstance(pickle.loads(pickle.dumps(store)), Disk)


def test_a_protocol_that_is_not_there():
    with pytest.raises(UsageError, match="nowhere:// is no protocol that fsspec knows"):
        open_store("nowhere://bucket/{seed}.gif")


@pytest.mark.parametrize("shards", [False, True])
def test_objects_are_the_files_of_a_disk(tiny: Path, tmp_path: Path, memory, shards: bool):
    name = "{shard}.tar" if shards else "{action}/{seed}.npy"
    make(tiny, f"{tmp_path}/disk/{name}", range(5), shards)
    make(tiny, f"file://{tmp_path}/url/{name}", range(5), shards)
    make(tiny, f"memory://batch/{name}", range(5), shards)
    on_disk = contents(tmp_path / "disk")
    assert contents(tmp_path / "url") == on_disk
    found = {path.removeprefix("/batch/"): memory.cat_file(path) for path in memory.find("/batch")}
    assert found == on_disk
    assert len(on_disk) == (4 if shards else 6)


def test_a_batch_in_a_store_goes_on_where_it_was(tiny: Path, memory):
    out = "memory://batch/{seed}.npy"
    assert len(make(tiny, out, range(3))) == 3
    before = memory.cat_file("/batch/manifest.jsonl")
    memory.rm_file("/batch/1.npy")
    again = make(tiny, out, range(5))
    assert [outcome.job.clip.seed for outcome in again] == [1, 3, 4]
    after = memory.cat_file("/batch/manifest.jsonl")
    assert after.startswith(before)
    assert [json.loads(line)["seed"] for line in after.splitlines()] == [0, 1, 2, 3, 4]


def test_a_manifest_is_uploaded_while_it_grows(memory, monkeypatch: pytest.MonkeyPatch):
    """So a run that is killed is gone on with, though it never came to an end."""
    monkeypatch.setattr("mocogen.manifest.UPLOAD_EVERY", 0.0)
    monkeypatch.setattr("mocogen.manifest.UPLOAD_SHARE", float("inf"))
    store, where = open_store("memory://batch/{seed}.npy")
    with Manifest(home(where) / "manifest.jsonl", {}, store=store) as kept:
        for seed in range(2):
            kept.append(Path(f"/batch/{seed}.npy"), {"seed": seed}, "0" * 64)
            assert memory.cat_file("/batch/manifest.jsonl").count(b"\n") == seed + 1


def test_an_object_is_whole_or_not_at_all(memory, tmp_path: Path):
    for store, path in (
        (UrlStore("memory"), Path("/batch/clip.npy")),
        (UrlStore("file"), tmp_path / "folder" / "clip.npy"),
    ):
        with store.writing(path) as local:
            local.write_bytes(b"first")
        with pytest.raises(ValueError, match="halfway"), store.writing(path) as local:  # noqa: PT012
            local.write_bytes(b"second")
            raise ValueError("halfway")
        store.fetch(path, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == b"first"
    assert contents(tmp_path / "folder") == {"clip.npy": b"first"}


def test_an_upload_that_fails_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = UrlStore("file")
    kind = type(store._files)

    def fail(error: Exception) -> None:
        def put_file(self: object, local: str, path: str, **_: object) -> None:
            Path(path).write_bytes(b"half")
            raise error

        monkeypatch.setattr(kind, "put_file", put_file)

    path = tmp_path / "x" / "clip.npy"
    fail(TimeoutError("the line is dead\nmore"))
    with pytest.raises(MocogenError, match=r"cannot write file:.*clip.npy: the line is dead$"):  # noqa: SIM117
        with store.writing(path) as local:
            local.write_bytes(b"whole")
    fail(OSError(28, "No space left on device"))
    with pytest.raises(DiskFullError, match="No space left"), store.writing(path) as local:
        local.write_bytes(b"whole")
    assert contents(tmp_path / "x") == {}


def test_memory_belongs_to_one_process(tiny: Path):
    from mocogen.cluster import Cluster

    sink = FileSink(None, UrlStore("memory"))
    cluster = Cluster.__new__(Cluster)  # it is refused before anybody is connected to
    with pytest.raises(UsageError, match="memory:// belongs to one process"):
        next(cluster.render([], sink))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket on an S3 server of this test's own."""
    why = "an S3 server to test with is not installed: pip install s3fs 'moto[s3]' flask flask-cors"
    pytest.importorskip("s3fs", reason=why)
    pytest.importorskip("flask_cors", reason=why)
    moto = pytest.importorskip("moto.server", reason=why)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir("some-bucket")
    yield "s3://some-bucket"
    server.stop()


def test_a_batch_in_s3(s3: str, run, tiny: Path, tmp_path: Path):
    make(tiny, f"{tmp_path}/disk/{{action}}/{{seed}}.npy", range(3))
    out = f"{s3}/set/{{action}}/{{seed}}.npy"
    make(tiny, out, range(2))
    common = ("sample", "--checkpoint", tiny, "--frames", 3, "--seeds", "0-2")
    again = run(*common, "--out", out, "--json")
    assert again.returncode == 0, again.stderr
    assert "2 were there" in again.stderr
    (line,) = map(json.loads, again.stdout.splitlines())
    assert line["file"] == f"{s3}/set/{line['action']}/2.npy"
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    found = {p.removeprefix("some-bucket/set/"): files.cat_file(p) for p in files.find(f"{s3}/set")}
    assert found == contents(tmp_path / "disk")

    nowhere = run(*common, "--out", "s3://no-such-bucket/{seed}.npy")
    assert nowhere.returncode == 1
    assert "cannot write s3://no-such-bucket/" in nowhere.stderr
    assert "Traceback" not in nowhere.stderr
