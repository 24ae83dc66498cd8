"""Clips as arrays that a notebook shows, and the walkthrough, executed."""

from __future__ import annotations

import base64
import copy
import io
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import mocogen
from mocogen import Video


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
