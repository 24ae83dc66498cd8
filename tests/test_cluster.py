"""A batch on a Ray cluster: the same files as those of one process, though a node dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .test_batch import contents

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'mocogen[ray]'")

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Two nodes of one core each, on this machine."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Each process of a node would take a thread pool for every core of the machine.
        patch.setenv("OMP_NUM_THREADS", "1")
        head = {**NODE, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            cluster.add_node(**NODE)
            yield cluster
        finally:
            cluster.shutdown()


def start(tiny: Path, folder: Path, *words: str, **pipes: Any) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "mocogen", "sample", "--checkpoint", str(tiny), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, text=True, env=environment, **pipes)


def test_a_batch_survives_the_death_of_a_node(nodes: Any, tiny: Path, tmp_path: Path):
    batch = ("--count", "192", "--frames", "64", "--seed", "0", "--out", "{action}/{seed:03d}.gif")
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    assert start(tiny, alone, *batch, "--quiet").wait(timeout=120) == 0
    many = start(
        tiny, spread, *batch, "--engine", "ray", "--address", nodes.address, stderr=subprocess.PIPE
    )
    deadline = time.time() + 120
    while len(list(spread.glob("*/*.gif"))) < 20 and time.time() < deadline:
        assert many.poll() is None, many.communicate()[1]
        time.sleep(0.01)
    nodes.remove_node(nodes.list_all_nodes[-1], allow_graceful=False)
    made = len(list(spread.glob("*/*.gif")))
    assert made < 192, "the node was removed too late to show anything"
    _, said = many.communicate(timeout=120)
    assert many.returncode == 0, said
    assert "192 clips, 12288 frames" in said
    assert contents(spread) == contents(alone)
