"""Clips as arrays that a notebook shows, and the walkthrough, executed."""

from __future__ import annotations

import base64
import copy
import io
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mocogen
from mocogen import Video

from .conftest import DATA, ROOT

WALKTHROUGH = ROOT / "docs" / "walkthrough.ipynb"


@pytest.fixture
def video() -> Video:
    frames = np.random.default_rng(0).integers(0, 256, (6, 16, 24, 3), dtype=np.uint8)
    return Video(frames, fps=12.5)


def shown(video: Video) -> np.ndarray:
    """The frames of the video that a notebook would show."""
    import av

    html = video._repr_html_()
    assert html is not None
    (content,) = re.findall(r'src="data:video/mp4;base64,([^"]+)"', html)
    assert "loop" in html
    assert "autoplay" in html
    with av.open(io.BytesIO(base64.b64decode(content))) as container:
        assert float(container.streams.video[0].average_rate or 0) == pytest.approx(video.fps)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_sample_is_an_array_that_shows_itself(tiny: Path):
    video = mocogen.load(tiny).sample(frames=5, seed=1)
    assert isinstance(video, Video)
    assert isinstance(video, np.ndarray)
    assert (video.dtype, video.shape, video.fps) == (np.uint8, (5, 32, 32, 3), 20.0)
    decoded = shown(video)
    assert decoded.shape == video.shape
    # The video stores colours at half the size and is compressed.
    assert np.abs(decoded.mean((1, 2, 3)) - np.asarray(video).mean((1, 2, 3))).max() < 6


def test_slices_of_a_video_are_videos(video: Video):
    for part in (video[1:4], video[::2], video[:, :9, 3:20], video[[0, 2]]):
        assert isinstance(part, Video)
        assert part.fps == 12.5
    assert shown(video[1:4]).shape == (3, 16, 24, 3)
    assert shown(video[:, :9, 3:20]).shape == (6, 10, 18, 3), "odd sizes are made even"


def test_what_is_no_video_is_a_plain_array(video: Video):
    for part in (video[0], video[..., 0], video[0:0], video + 1, video / 255, video.mean(axis=0)):
        assert type(part) is np.ndarray
    assert isinstance(video[0, 0, 0, 0], np.uint8)
    assert float(video.mean()) == pytest.approx(np.asarray(video).mean())
    assert video.astype(np.float32)._repr_html_() is None
    assert video.reshape(6, -1)._repr_html_() is None
    assert type(np.asarray(video)) is np.ndarray


def test_a_video_is_pickled_and_copied_whole(video: Video):
    for twin in (pickle.loads(pickle.dumps(video)), copy.deepcopy(video), video.copy()):
        assert isinstance(twin, Video)
        assert twin.fps == 12.5
        assert np.array_equal(twin, video)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The walkthrough, run from its first cell to its last; its asserts are checks of their own."""
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    notebook = nbformat.read(WALKTHROUGH, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        if DATA.is_dir():
            patch.setenv("MOCOGEN_COURSE", str(DATA / "course"))
        folder = tmp_path_factory.mktemp("walkthrough")
        resources = {"metadata": {"path": str(folder)}}
        client = nbclient.NotebookClient(notebook, timeout=300, resources=resources)
        client.execute()
    return notebook


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(notebook: Any) -> str:
    return "".join(output.get("text", "") for output in outputs(notebook))


def test_the_walkthrough_runs_and_ends_with_a_clip(executed: Any):
    pictures = [o for o in outputs(executed) if "image/png" in o.get("data", {})]
    assert len(pictures) >= 6
    assert not [o for o in outputs(executed) if o.get("name") == "stderr"]
    (last,) = executed.cells[-1].outputs
    assert "data:video/mp4;base64," in last.data["text/html"]


@pytest.mark.skipif(not DATA.is_dir(), reason="the reference data folder is not here")
def test_the_walkthrough_meets_the_courses_values(executed: Any):
    assert "the course's values are met" in printed(executed)


def test_the_walkthrough_as_it_lies_there_shows_its_results_and_no_machine(executed: Any):
    import nbformat

    there = nbformat.read(WALKTHROUGH, as_version=4)
    kinds = [[output.output_type for output in cell.get("outputs", [])] for cell in there.cells]
    anew = [[output.output_type for output in cell.get("outputs", [])] for cell in executed.cells]
    assert kinds == anew
    text = WALKTHROUGH.read_text("utf-8")
    assert not re.search(r"/(home|root|tmp|Users|work)/", text)
    assert WALKTHROUGH.stat().st_size < 500_000
