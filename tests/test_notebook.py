"""Clips as arrays that a notebook shows, and the walkthrough, executed."""

from __future__ import annotations

import base64
import copy
import dataclasses
import io
import os
import pickle
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mocogen
from mocogen import UsageError, Video, Walk, provenance

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


def test_what_moves_frames_about_gives_a_video_and_what_computes_an_array(video: Video):
    moved = np.flip(video, 0), np.roll(video, 1, axis=0), np.repeat(video, 2, axis=0)
    for made in (*moved, np.tile(video, (2, 1, 1, 1))):
        assert isinstance(made, Video)
        assert made.fps == 12.5
    for made in (np.diff(video, axis=0), np.clip(video, 9, 99), np.maximum(video, 9)):
        assert type(made) is np.ndarray


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.full((1, 2, 2, 3), 0.5), "frames of float64: a video holds whole numbers"),
        (np.full((1, 2, 2, 3), 0.5, np.float32), "frames of float32"),
        (np.full((1, 2, 2, 3), "9"), "frames of <U1"),
        (np.full((1, 2, 2, 3), 300), "values from 300 to 300: a video holds 0 to 255"),
        (np.full((1, 2, 2, 3), -1), "values from -1 to -1"),
    ],
)
def test_values_that_a_video_would_lose_are_refused(values: np.ndarray, said: str):
    with pytest.raises(UsageError, match=said):
        Video(values)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), "25", True])
def test_rates_at_which_no_video_plays(video: Video, fps: Any):
    with pytest.raises(UsageError, match="use a rate from"):
        Video(video, fps)


def test_a_video_is_made_of_whole_numbers_and_of_videos(video: Video):
    wide = Video(np.asarray(video).astype(np.int64), np.int32(30))
    assert np.array_equal(wide, video)
    assert (wide.dtype, type(wide.fps), wide.fps) == (np.uint8, float, 30.0)
    assert Video(np.ones((1, 2, 2, 3), bool)).max() == 1
    assert Video(video).fps == 12.5
    assert Video(video, 50).fps == 50
    assert np.shares_memory(Video(video), video)


def test_a_sample_tells_what_was_asked_for_and_no_part_of_it_does(tiny: Path):
    model = mocogen.load(tiny)
    video = model.sample(frames=5)
    request = video.request
    assert request is not None
    assert np.array_equal(model.sample(5, request.seed), video)
    for same in (pickle.loads(pickle.dumps(video)), Video(video), Video(video, 50)):
        assert same.request == request
    changed = Video(video.copy())
    others = (video[1:], video[:, :8], np.flip(video, 0), np.sort(video, 0), video.copy())
    for other in (*others, changed, Video(np.asarray(video))):
        assert isinstance(other, Video)
        assert other.request is None
    video[0] = 0
    assert video.request is None


def test_what_was_pickled_is_of_the_same_type(video: Video):
    floats = video.astype(np.float32)
    again = pickle.loads(pickle.dumps(floats))
    assert again.dtype == np.float32
    assert np.array_equal(again, floats)


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".webp", ".png", ".npy"])
def test_a_saved_sample_is_the_commands_file(tiny: Path, tmp_path: Path, suffix: str):
    from mocogen.jobs import plan
    from mocogen.requests import Request
    from mocogen.video import ClipFormat, open_clip

    model = mocogen.load(tiny, "cpu")
    options = {"content_seed": 3, "motion_seed": 8, "speed": 0.5}
    video = model.sample(frames=5, seed=1, **options)
    video.save(str(tmp_path / "new" / f"clip{suffix}"))
    asked = Request(seed=1, frames=5, out=f"{tmp_path}/clip{suffix}", **options)
    (job,) = plan(model, [asked], {"checkpoint": str(tiny), "device": "cpu"})
    with open_clip(str(job.path), ClipFormat(5, 32, 32, job.fps, job.made_by)) as writer:
        writer.write(np.asarray(video))
    assert (tmp_path / "new" / job.path.name).read_bytes() == job.path.read_bytes()
    if suffix != ".npy":
        assert provenance.read(job.path) == job.made_by


@pytest.mark.parametrize("what", ["content", "motion", "both"])
def test_a_saved_walk_is_the_commands_file(run: Any, tiny: Path, tmp_path: Path, what: str):
    model = mocogen.load(tiny)
    walk = Walk(7, what != "motion", what != "content", steps=4)
    model.sample(frames=8, seed=3, walk=walk, speed=2).save(tmp_path / "mine" / "walk.gif")
    made_by = provenance.read(tmp_path / "mine" / "walk.gif")
    done = run(*shlex.split(provenance.command(made_by))[1:])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "walk.gif").read_bytes() == (tmp_path / "mine" / "walk.gif").read_bytes()


def test_what_no_command_makes_has_no_record(video: Video, tiny: Path, tmp_path: Path):
    model = mocogen.load(tiny)
    bare = mocogen.Model(model.spec, model.backend)
    there = Walk(7, True, False, steps=4)
    for number, unknown in enumerate(
        (
            video,
            model.sample(4, 1)[:3],
            bare.sample(4, 1),
            model.sample(4, 1, walk=dataclasses.replace(there, last=0.5)),
            model.sample(4, 1, walk=dataclasses.replace(there, steps=1)),
            model.sample(4, 7, walk=there),
            model.sample(4, 1, content_seed=2, walk=there),
        )
    ):
        path = tmp_path / f"{number}.gif"
        unknown.save(path)
        with pytest.raises(mocogen.MocogenError, match="has no record"):
            provenance.read(path)


def test_what_cannot_be_saved(video: Video, tmp_path: Path):
    with pytest.raises(UsageError, match="unknown suffix"):
        video.save(tmp_path / "clip.avi")
    with pytest.raises(UsageError, match="of float32 is no video"):
        video.astype(np.float32).save(tmp_path / "clip.gif")
    video.fps = 0
    with pytest.raises(UsageError, match="fps 0"):
        video.save(tmp_path / "clip.gif")
    assert not list(tmp_path.iterdir())


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
        # What is printed may come in parts, as the machine has time.
        client = nbclient.NotebookClient(
            notebook, timeout=300, coalesce_streams=True, resources=resources
        )
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
