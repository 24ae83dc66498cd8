"""The moving shapes: what is drawn, and that a seed always draws it."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mocogen import shapes
from mocogen.cli.dataset import dataset
from mocogen.errors import MocogenError, UsageError
from mocogen.evaluation.measures import content_distance, shape_centres, shape_pixels
from mocogen.training.data import load_clips


def test_a_clip_is_the_same_on_every_machine() -> None:
    pixels = b"".join(shapes.make(7, k, 40).frames(64).tobytes() for k in range(4))
    assert hashlib.sha256(pixels).hexdigest() == (
        "bc4299fc58d2b7a5e2618941ae96a81ae12b84e823329c499b435bcc324455b6"
    )


def test_a_longer_clip_begins_with_the_shorter_one() -> None:
    short, long = shapes.make(3, 5, 16), shapes.make(3, 5, 100)
    np.testing.assert_array_equal(long.path[:16], short.path)
    np.testing.assert_array_equal(long.frames(64)[:16], short.frames(64))


def test_clips_differ_by_index_and_by_seed() -> None:
    clips = [shapes.make(seed, index) for seed in (0, 1) for index in (0, 2, 4)]
    assert len({clip.colour for clip in clips}) == len(clips)


@pytest.mark.parametrize("index", range(12))
def test_the_first_crossing_goes_from_side_to_side_in_one_direction(index: int) -> None:
    clip = shapes.make(1, index, 16)
    along = clip.path[:, shapes.ACTIONS.index(clip.action)]
    assert (np.diff(along) > 0).all()
    assert along[0] == pytest.approx(shapes.MARGIN)
    assert along[-1] == pytest.approx(1 - shapes.MARGIN)


@pytest.mark.parametrize("index", range(12))
def test_a_shape_keeps_off_the_edges_and_never_jumps(index: int) -> None:
    clip = shapes.make(2, index, 300)
    assert len(clip.path) == 300
    assert clip.path.min() >= shapes.MARGIN - 1e-9
    assert clip.path.max() <= 1 - shapes.MARGIN + 1e-9
    seen = shape_pixels(clip.frames(64))
    assert not seen[:, [0, -1]].any()
    assert not seen[:, :, [0, -1]].any()
    assert np.abs(np.diff(clip.path, axis=0)).max() < 0.2


def test_sideways_movement_goes_on_through_a_turn() -> None:
    compared = 0
    for index in range(60):
        clip = shapes.make(4, index, 31)
        aside = clip.path[:, 1 - index % 2]
        before, after = np.diff(aside)[14], np.diff(aside)[15]
        # Where the speed would lead beyond the margin within a third of the crossing, it drops.
        if shapes.MARGIN + 0.05 < aside[15] + before * 5 < 0.95 - shapes.MARGIN:
            assert abs(after - before) < 0.05
            compared += 1
    assert compared > 20


def test_every_pixel_is_ground_or_the_shape_in_its_one_colour() -> None:
    for index in range(20):
        clip = shapes.make(0, index, 16)
        frames = clip.frames(64)
        colours = {tuple(c) for c in np.unique(frames.reshape(-1, 3), axis=0).tolist()}
        assert colours == {(0, 0, 0), clip.colour}
        assert min(clip.colour) >= shapes.DARKEST
        assert content_distance(frames) == 0.0


def test_a_shape_has_the_area_of_its_kind() -> None:
    for index in range(20):
        clip = shapes.make(5, index, 2)
        area = shape_pixels(clip.frames(256))[0].mean()
        factor = np.pi if clip.shape == "circle" else 4
        assert area == pytest.approx(factor * clip.radius**2, rel=0.05)


def test_measured_centres_follow_the_path() -> None:
    clip = shapes.make(0, 3, 16)
    centres = (shape_centres(clip.frames(64)) + 0.5) / 64
    np.testing.assert_allclose(centres, clip.path, atol=0.5 / 64)


def test_both_shapes_turn_up() -> None:
    assert {shapes.make(0, k, 2).shape for k in range(40)} == set(shapes.SHAPES)


def test_a_written_set_is_read_back_as_it_was_drawn(tmp_path: Path) -> None:
    shapes.write(tmp_path, clips=11, frames=20, seed=6)
    table = str(tmp_path / shapes.LISTING)
    looks = ("red", "green", "blue", "radius")
    found = load_clips(tmp_path, 64, shapes.ACTIONS, groups=table, attributes=looks)
    assert len(found.clips) == 11
    assert found.skipped == []
    for clip in found.clips:
        made = shapes.make(6, int(Path(clip.path).stem), 20)
        assert (clip.action, clip.group) == (made.action, made.shape)
        assert clip.attributes == pytest.approx((*made.colour, 64 * made.radius), abs=1e-3)
        read = found.frames[clip.start : clip.start + clip.length]
        np.testing.assert_array_equal(read, made.frames(64))
    with (tmp_path / shapes.LISTING).open(encoding="utf-8") as file:
        assert [row["path"] for row in csv.DictReader(file)][:3] == [
            "horizontal/00.png",
            "vertical/01.png",
            "horizontal/02.png",
        ]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"clips": 1}, "clips 1: use a whole number from 2"),
        ({"frames": 1}, "frames 1:"),
        ({"seed": -1}, "seed -1:"),
        ({"size": 8}, "size 8:"),
        ({"size": 5000}, "from 16 to 1024"),
    ],
)
def test_numbers_out_of_range_are_refused(
    tmp_path: Path, options: dict[str, int], part: str
) -> None:
    with pytest.raises(UsageError, match=part):
        shapes.write(tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_clips_is_refused_and_left_alone(tmp_path: Path) -> None:
    shapes.write(tmp_path, clips=12, frames=2)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="already holds"):
        shapes.write(tmp_path, clips=4, frames=2)
    assert sorted(tmp_path.rglob("*")) == before
    shapes.write(tmp_path, clips=12, frames=2)  # the same set again is welcome


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(MocogenError, match="is a file"):
        shapes.write(tmp_path / "out", clips=2, frames=2)
    assert (tmp_path / "out").read_text() == "mine"


def test_the_command_writes_and_says_so_on_stderr(tmp_path: Path) -> None:
    out = tmp_path / "set"
    result = CliRunner().invoke(
        dataset, ["shapes", "--out", str(out), "--clips", "3", "--size", "32", "--seed", "9"]
    )
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "3 clips of 16 frames of 32x32, seed 9" in result.stderr
    assert len(list(out.glob("*/*.png"))) == 3


def test_the_command_module_loads_nothing_heavy() -> None:
    code = (
        "import sys, mocogen.cli.dataset; "
        "print({'torch', 'numpy', 'rich', 'imageio', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
