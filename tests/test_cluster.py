"""A batch on a Ray cluster: the same files as those of one process, though a node dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .test_batch import contents

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one node of one core, on this machine."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Each process of a node would take a thread pool for every core of the machine.
        patch.setenv("OMP_NUM_THREADS", "1")
        head = {**NODE, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster
        finally:
            cluster.shutdown()


def start(tiny: Path, folder: Path, *words: str, **pipes: Any) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "mocogen", "sample", "--checkpoint", str(tiny), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, text=True, env=environment, **pipes)


def test_a_batch_survives_the_death_of_a_node(cluster: Any, tiny: Path, tmp_path: Path):
    batch = ("--count", "96", "--frames", "48", "--seed", "0", "--out", "{action}/{seed:03d}.gif")
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    assert start(tiny, alone, *batch, "--quiet").wait(timeout=300) == 0
    second = cluster.add_node(**NODE)
    words = (*batch, "--engine", "ray", "--address", cluster.address)
    many = start(tiny, spread, *words, stderr=subprocess.PIPE)
    deadline = time.time() + 300
    # Two cores have four ranges in hand and at most twice as many are cut: 12 clips each.
    while len({int(clip.stem) // 12 for clip in spread.glob("*/[0-9]*.gif")}) < 2:
        assert many.poll() is None, many.communicate()[1]
        assert time.time() < deadline
        time.sleep(0.01)
    cluster.remove_node(second, allow_graceful=False)
    made = len(list(spread.glob("*/[0-9]*.gif")))
    assert made < 96, "the node was removed too late to show anything"
    _, said = many.communicate(timeout=300)
    assert many.returncode == 0, said
    assert "96 clips, 4608 frames" in said
    assert contents(spread) == contents(alone)


@pytest.mark.parametrize(("told", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_is_complete_when_interrupted_is_listed(
    cluster: Any, tiny: Path, tmp_path: Path, told: signal.Signals, status: int
):
    words = ("--count", "64", "--frames", "200", "--seed", "0", "--out", "{seed:03d}.gif")
    words = (*words, "--engine", "ray", "--address", cluster.address)
    running = start(tiny, tmp_path / "x", *words, stderr=subprocess.PIPE)
    deadline = time.time() + 300
    while not (made := list((tmp_path / "x").glob("[0-9]*.gif"))):
        assert running.poll() is None, running.communicate()[1]
        assert time.time() < deadline
        time.sleep(0.01)
    running.send_signal(told)
    _, said = running.communicate(timeout=60)
    assert running.returncode == status, said
    lines = (tmp_path / "x" / "manifest.jsonl").read_text().splitlines()
    made = sorted(file.name for file in (tmp_path / "x").glob("[0-9]*.gif"))
    assert sorted(json.loads(line)["file"] for line in lines) == made
    assert 0 < len(made) < 64
    # Going on makes the rest.
    assert start(tiny, tmp_path / "x", *words, "--quiet").wait(timeout=300) == 0
    assert len(list((tmp_path / "x").glob("[0-9]*.gif"))) == 64


def test_shards_and_going_on(cluster: Any, tiny: Path, tmp_path: Path):
    batch = ("--count", "10", "--frames", "8", "--seed", "0", "--quiet")
    batch += ("--shards", "{shard}.tar", "--shard-size", "4")
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    assert start(tiny, alone, *batch).wait(timeout=300) == 0
    words = (*batch, "--engine", "ray", "--address", cluster.address, "--num-workers", "1")
    assert start(tiny, spread, *words, "--shard-of", "1/3").wait(timeout=300) == 0
    assert sorted(contents(spread)) == ["0.tar", "manifest.jsonl"]
    assert start(tiny, spread, *words).wait(timeout=300) == 0
    assert contents(spread) == contents(alone)


def test_a_clip_that_fails_at_the_end_of_a_range_is_named(cluster: Any, tiny: Path, tmp_path: Path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "3").touch()
    words = ("--count", "4", "--frames", "4", "--seed", "0", "--out", "{seed}/clip.gif")
    # For one worker, they are cut into two ranges of two clips.
    words += ("--engine", "ray", "--address", cluster.address, "--num-workers", "1")
    running = start(tiny, tmp_path / "x", *words, stderr=subprocess.PIPE)
    _, said = running.communicate(timeout=300)
    assert running.returncode == 1, said
    assert re.search(r"^mocogen: seed 3: cannot write .*3 is a file, no folder$", said, re.M)
    assert "1 FAILED" in said
    lines = (tmp_path / "x" / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["seed"] for line in lines] == [0, 1, 2]


def test_clips_before_a_request_that_is_refused_are_made_and_listed(
    cluster: Any, tiny: Path, tmp_path: Path
):
    words = ("--seeds-from", "-", "--frames", "4", "--out", "{seed}.gif")
    words += ("--engine", "ray", "--address", cluster.address)
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = start(tiny, tmp_path / "x", *words, **pipes)
    _, said = running.communicate('{"seed":1}\n{"seed":2}\n{"seed":"x"}\n', timeout=300)
    assert running.returncode == 2, said
    assert "line 3 of the requests: seed 'x'" in said
    assert sorted(contents(tmp_path / "x")) == ["1.gif", "2.gif", "manifest.jsonl"]
    lines = (tmp_path / "x" / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["seed"] for line in lines] == [1, 2]


def test_an_address_where_nobody_answers():
    import socket

    from mocogen.cluster import Cluster, Networks
    from mocogen.errors import MocogenError
    from mocogen.spec import ModelSpec

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        networks = Networks(
            ModelSpec(content=1, noise=1, hidden=1, motion=1), {}, None, "cpu", "auto"
        )
        with pytest.raises(MocogenError, match=f"cannot reach a Ray cluster at {address}"):
            Cluster(networks, address, None)
