"""Smoothing clips: every layout, bounded memory, the command line, bad input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from mocogen import provenance
from mocogen.errors import MocogenError, UsageError
from mocogen.reading import open_frames
from mocogen.smoothing import Source, examine, smoothed
from mocogen.voxel_flow import VoxelFlow
from tests.conftest import Run
from tests.test_training_data import frames, write_folder, write_strip

CPU = torch.device("cpu")


def blending() -> VoxelFlow:
    """An untrained network, which blends."""
    return VoxelFlow(4).eval()


def test_a_clips_own_frames_stay_and_new_ones_lie_between() -> None:
    own = frames(4, 24)
    made = list(smoothed(blending(), CPU, own, 4))
    assert len(made) == 13
    for mine, kept in zip(own, made[::4], strict=True):
        assert np.array_equal(mine, kept)
    expected = 0.75 * own[0].astype(float) + 0.25 * own[1]
    assert np.abs(made[1] - expected).max() <= 0.51


def test_frames_are_asked_for_one_at_a_time() -> None:
    asked = []

    def endless() -> Iterator[np.ndarray]:
        while True:
            asked.append(1)
            yield np.zeros((8, 8, 3), np.uint8)

    made = smoothed(blending(), CPU, endless(), 2)
    for _ in range(9):
        next(made)
    assert len(asked) == 5


def test_every_layout_is_read(tmp_path: Path) -> None:
    images = frames(6, 32)
    write_strip(tmp_path / "strip.png", images)
    write_folder(tmp_path / "folder", images)
    Image.fromarray(np.concatenate(list(images), axis=1)).save(tmp_path / "strip.jpg")
    np.save(tmp_path / "array.npy", images)
    iio.imwrite(tmp_path / "a.gif", images, plugin="pillow", duration=50, loop=0)
    iio.imwrite(tmp_path / "a.webp", images, plugin="pillow", duration=50, lossless=True)
    iio.imwrite(tmp_path / "a.apng", images, plugin="pillow", duration=50)
    for name, codec in (("a.mp4", "libx264"), ("a.mpg", "mpeg2video")):
        iio.imwrite(tmp_path / name, images, plugin="pyav", codec=codec, fps=30)
    for path in sorted(tmp_path.iterdir()):
        source = examine(path)
        assert (source.frames, source.height, source.width) == (6, 32, 32), path
    rates = {name: examine(tmp_path / name).fps for name in ("a.gif", "a.webp", "a.apng", "a.mp4")}
    assert rates == pytest.approx({"a.gif": 20, "a.webp": 20, "a.apng": 20, "a.mp4": 30}, rel=0.01)
    assert examine(tmp_path / "folder").fps == 25


def test_the_rate() -> None:
    source = Source(Path("x.mp4"), 10, 32, 32, 30.0, None)
    assert source.smooth_frames(4) == 37
    assert source.rate(4, None, False) == 120
    assert source.rate(4, None, True) == 30
    assert source.rate(4, 12.5, False) == 12.5
    with pytest.raises(UsageError, match="--slow"):
        Source(Path("x.mp4"), 10, 32, 32, 120.0, None).rate(32, None, False)


def test_what_is_no_clip(tmp_path: Path) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(MocogenError, match=message) as caught:
            examine(path)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "none.gif", "no such file")
    np.save(tmp_path / "one.npy", frames(1, 16))
    refused(tmp_path / "one.npy", "has 1 frame")
    (tmp_path / "text.txt").write_text("no clip")
    refused(tmp_path / "text.txt", "is no clip")
    write_folder(tmp_path / "clips" / "inner", frames(3, 16))
    refused(tmp_path / "clips", "no folder of frames")
    write_folder(tmp_path / "mixed", frames(3, 16))
    Image.new("RGB", (20, 16)).save(tmp_path / "mixed" / "002.png")
    refused(tmp_path / "mixed", "differ in size")
    (tmp_path / "mixed" / "002.png").write_bytes(b"broken")
    refused(tmp_path / "mixed", "damaged")
    Image.new("RGB", (20, 16)).save(tmp_path / "still.jpg")
    refused(tmp_path / "still.jpg", "no strip")
    whole = tmp_path / "whole.mp4"
    iio.imwrite(whole, frames(20, 64), plugin="pyav", codec="libx264")
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[:-400])
    refused(tmp_path / "cut.mp4", "cut off|damaged")


def test_the_command(run: Run, tmp_path: Path) -> None:
    write_strip(tmp_path / "clip.png", frames(5, 32))
    done = run("smooth", "clip.png", "--factor", "3", "--out", "new/clip.mp4", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["frames"], told["fps"], told["width"]) == (13, 75, 32)
    assert "13 frames from 5" in done.stderr
    reading = open_frames(tmp_path / "new" / "clip.mp4")
    assert len(list(reading.frames)) == 13
    assert reading.fps == 75
    made_by = provenance.read(tmp_path / "new" / "clip.mp4")
    assert provenance.command(made_by) == (
        "mocogen smooth clip.png --checkpoint smooth --factor 3 --fps 75 --out clip.mp4"
    )


def test_slow_motion_of_an_odd_size(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", frames(4, 40)[:, :33, :35])
    done = run("smooth", "clip.npy", "--slow", "--out", "slow.mp4", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    reading = open_frames(tmp_path / "slow.mp4")
    assert reading.fps == 25
    assert [frame.shape for frame in reading.frames] == [(34, 36, 3)] * 7


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("none.mp4", "--out", "x.mp4"), 1, "no such file"),
        (("one.npy", "--out", "x.mp4"), 1, "has 1 frame"),
        (("broken.gif", "--out", "x.mp4"), 1, "damaged"),
        (("clip.npy", "--out", "x.mp4", "--factor", "1"), 2, "from 2 to 32"),
        (("clip.npy", "--out", "x.avi"), 2, "suffix"),
        (("clip.npy", "--out", "clip.npy"), 2, "replace the clip"),
        (("clip.npy", "--out", "x.mp4", "--slow", "--fps", "9"), 2, "give one of them"),
        (("clip.npy", "--out", "x.mp4", "--checkpoint", "weizmann"), 1, "cannot smooth"),
    ],
)
def test_bad_requests(
    run: Run, tmp_path: Path, words: tuple[str, ...], status: int, message: str
) -> None:
    np.save(tmp_path / "one.npy", frames(1, 16))
    np.save(tmp_path / "clip.npy", frames(3, 16))
    (tmp_path / "broken.gif").write_bytes(b"GIF89a broken")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = run("smooth", *words)
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_commands_know_the_kind(run: Run) -> None:
    shown = json.loads(run("info", "smooth", "--json").stdout)
    assert (shown["kind"], shown["name"]) == ("voxel-flow", "smooth")
    done = run("sample", "--checkpoint", "smooth", "--out", "x.gif")
    assert done.returncode == 1
    assert "voxel-flow network and no sampler" in done.stderr
    assert done.stderr.count("\n") == 1
