"""Reading folders of clips: every layout, every kind of bad input, one clear sentence each."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from mocogen.errors import MocogenError, UsageError
from mocogen.training.data import load_clips
from mocogen.training.sampling import FrameSampler, back_and_forth


def frames(n: int = 16, size: int = 32, seed: int = 0) -> np.ndarray:
    """A bright square that moves over a plain ground: (n, size, size, 3)."""
    images = np.full((n, size, size, 3), 40 + 10 * seed, np.uint8)
    for k in range(n):
        at = k % (size - 8)
        images[k, 8:16, at : at + 8] = 220
    return images


def write_strip(path: Path, images: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(list(images), axis=1)).save(path)


def write_folder(path: Path, images: np.ndarray) -> None:
    path.mkdir(parents=True)
    for k, image in enumerate(images):
        Image.fromarray(image).save(path / f"{k:03}.png")


def test_greys_of_16_bits_are_scaled_and_floats_skipped(tmp_path: Path) -> None:
    grey = frames()[..., 0].astype(np.uint16) * 257
    (tmp_path / "walk").mkdir()
    Image.fromarray(np.concatenate(list(grey), axis=1)).save(tmp_path / "walk" / "a.png")
    Image.fromarray(np.zeros((32, 512), np.float32)).save(tmp_path / "walk" / "b.tif")
    write_strip(tmp_path / "walk" / "c.png", frames())
    clips = load_clips(tmp_path, 32)
    np.testing.assert_array_equal(clips.frames, np.concatenate([frames()] * 2))
    assert len(clips.skipped) == 1
    assert "b.tif: its pixels have 32 bits" in clips.skipped[0]


def test_every_format_gives_the_same_clips(tmp_path: Path) -> None:
    images = frames()
    write_strip(tmp_path / "walk" / "strip.png", images)
    write_folder(tmp_path / "walk" / "folder", images)
    iio.imwrite(tmp_path / "walk" / "gif.gif", images, plugin="pillow", duration=40, loop=0)
    iio.imwrite(
        tmp_path / "walk" / "webp.webp", images, plugin="pillow", duration=40, lossless=True
    )
    (tmp_path / "run").mkdir()
    for name, codec in (("mp4.mp4", "libx264"), ("avi.avi", "mpeg4")):
        iio.imwrite(tmp_path / "run" / name, images, plugin="pyav", codec=codec)
    clips = load_clips(tmp_path, 32)
    assert clips.actions == ("run", "walk")
    assert [clip.path for clip in clips.clips] == [
        "run/avi.avi",
        "run/mp4.mp4",
        "walk/folder",
        "walk/gif.gif",
        "walk/strip.png",
        "walk/webp.webp",
    ]
    assert clips.skipped == []
    for clip in clips.clips:
        assert clip.length == 16
        read = clips.frames[clip.start : clip.start + clip.length].astype(int)
        assert np.abs(read - images).mean() < (12 if clip.action == "run" else 3)
    assert len({clip.sha256 for clip in clips.clips}) == 6


def test_groups_from_stems_and_mirrored(tmp_path: Path) -> None:
    for action in ("a", "b"):
        for person in ("x", "y"):
            write_strip(tmp_path / action / f"{person}.png", frames())
    clips = load_clips(tmp_path, 32, mirror=True)
    assert clips.groups == (("x", False), ("y", False), ("x", True), ("y", True))
    assert clips.people == ("x", "y")
    assert len(clips.clips) == 8
    assert len(clips.frames) == 4 * 16, "mirrored clips share the memory of the others"
    assert len(clips.listing()) == 4


def test_attributes_become_normal_scores_by_their_rank(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = [f"{name}.png,g,{size},7" for name, size in zip("abcd", (5, 80, 20, 20), strict=True)]
    table.write_text("\n".join(["path,group,size,same", *rows]), encoding="utf-8")
    for name in "abcd":
        write_strip(tmp_path / "d" / f"{name}.png", frames(16, 32, 0))
    clips = load_clips(tmp_path / "d", 32, groups=str(table), attributes=("size", "same"))
    assert [clip.attributes for clip in clips.clips] == [(5, 7), (80, 7), (20, 7), (20, 7)]
    # One quarter of N(0, 1) for each; the middle of a quarter, and of the two that are equal.
    wanted = [[-1.1503, 0], [1.1503, 0], [0, 0], [0, 0]]
    np.testing.assert_allclose(clips.scores(), wanted, atol=1e-3)
    assert load_clips(tmp_path / "d", 32).scores().shape == (4, 0)


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [("stem", "name it with data.groups"), ("table.csv", "columns path, group and size is wanted")],
)
def test_attributes_need_a_table_that_has_them(tmp_path: Path, groups: str, sentence: str) -> None:
    for name in "ab":
        write_strip(tmp_path / "d" / f"{name}.png", frames(16, 32, 0))
    (tmp_path / "table.csv").write_text("path,group\na.png,x\nb.png,y\n", encoding="utf-8")
    where = str(tmp_path / groups) if groups.endswith(".csv") else groups
    with pytest.raises(UsageError, match=sentence):
        load_clips(tmp_path / "d", 32, groups=where, attributes=("size",))


def test_clips_of_one_group_are_brought_into_one_light(tmp_path: Path) -> None:
    colours = {"a": (100, 110, 120), "b": (100, 112, 118), "c": (150, 110, 60)}
    for action, colour in colours.items():
        clip = np.full((16, 32, 32, 3), colour, np.uint8)
        clip[:, 8:16, 8:16] = 20  # clothes
        write_strip(tmp_path / action / "p.png", clip)
    write_strip(tmp_path / "a" / "other.png", np.full((16, 32, 32, 3), 200, np.uint8))
    kept = load_clips(tmp_path, 32)
    found = load_clips(tmp_path, 32, light="match")
    for clip, before in zip(found.clips, kept.clips, strict=True):
        frames = found.frames[clip.start : clip.start + clip.length]
        median = tuple(np.median(frames.reshape(-1, 3), axis=0))
        assert median == ((200, 200, 200) if clip.group == "other" else (100, 110, 118))
        assert frames[0, 12, 12, 0] in (20, 200, round(20 * 100 / 150))
        if clip.group == "other":
            old = kept.frames[before.start : before.start + before.length]
            assert np.array_equal(frames, old)


def test_another_look_is_a_group_that_comes_after(tmp_path: Path) -> None:
    for action, level in {"a": 100, "b": 104, "jump": 180}.items():
        for person in ("x", "y"):
            write_strip(
                tmp_path / action / f"{person}.png", np.full((16, 32, 32, 3), level, np.uint8)
            )
    clips = load_clips(tmp_path, 32, mirror=True, light="match", other_look=("jump/x",))
    assert clips.groups == (("x", False), ("y", False), ("x", True), ("y", True))
    assert clips.other_looks == (("x", False), ("x", True))
    levels = {}
    for clip in clips.clips:
        index = {"x": 0, "y": 1}[clip.group] + 2 * clip.mirrored
        if other := clip.path == "jump/x.png":
            index = 4 + clip.mirrored
        assert clip.other_look == other
        assert clips.group_index(clip) == index
        levels[clip.path] = int(clips.frames[clip.start, 0, 0, 0])
    assert set(levels.values()) == {104}, "another look is no other light"
    sampler = FrameSampler(clips, torch.device("cpu"))
    assert sampler.host.tolist() == [0, 1, 2, 3, 0, 2]
    assert sampler.person.tolist() == [0, 1, 0, 1, 0, 0]
    assert sampler.mirrored.tolist() == [False, False, True, True, False, True]
    assert sampler.seen.tolist()[::4] == [[True, True, False], [False, False, True]]
    random = torch.Generator().manual_seed(0)
    assert set(sampler.draw_pairs(64, random)[1].tolist()) == {0, 1, 2, 3, 4, 5}
    write_strip(tmp_path / "jump" / "x.png", np.full((16, 32, 32, 3), 240, np.uint8))
    clips = load_clips(tmp_path, 32, mirror=True, other_look=("jump/x",))
    windows, action = FrameSampler(clips, torch.device("cpu")).draw_clips(64, 4, 1, random)
    shown = {round(level) for level in ((windows + 1) * 127.5).unique().tolist()}
    assert shown == {100, 104, 180}, "no content of the prior has another look"
    assert set(action.tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("length", "expected"),
    [(4, [0, 1, 2, 3, 2, 1, 0, 1]), (2, [0, 1, 0, 1, 0, 1, 0, 1]), (1, [0] * 8)],
)
def test_a_short_clip_goes_back_and_forth(length: int, expected: list[int]) -> None:
    assert back_and_forth(torch.arange(8), length).tolist() == expected


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        (("a/z",), "no clip 'a/z' to look otherwise: give its path .* as a/x"),
        (("a/x.png", "b/x"), "all clips of 'x' are said to look otherwise"),
    ],
)
def test_another_look_needs_a_clip_and_a_usual_one(
    tmp_path: Path, named: tuple[str, ...], sentence: str
) -> None:
    for path in ("a/x", "a/y", "b/x"):
        write_strip(tmp_path / f"{path}.png", frames())
    with pytest.raises(UsageError, match=sentence):
        load_clips(tmp_path, 32, other_look=named)


def test_groups_from_a_table(tmp_path: Path) -> None:
    for name in ("1", "2"):
        write_strip(tmp_path / "d" / "a" / f"{name}.png", frames())
    table = tmp_path / "groups.csv"
    table.write_text("path,group\na/1.png,ann\na/2.png,bob\n", "utf-8")
    clips = load_clips(tmp_path / "d", 32, groups=str(table))
    assert load_clips(tmp_path / "d", 32, groups="../groups.csv").groups == clips.groups
    assert [clip.group for clip in clips.clips] == ["ann", "bob"]
    # As spreadsheets write it, with lines that end early and a group that is none.
    table.write_text("group,path\nann,a/1.png\nbob\n ,a/2.png\n", "utf-8-sig")
    write_strip(tmp_path / "d" / "a" / "3.png", frames())
    with pytest.raises(MocogenError, match="only one clip"):
        load_clips(tmp_path / "d", 32, groups=str(table))
    table.write_text("path,group\na/1.png,ann\na/2.png\na/3.png,bob\n", "utf-8-sig")
    clips = load_clips(tmp_path / "d", 32, groups=str(table))
    assert [clip.group for clip in clips.clips] == ["ann", "bob"]
    assert clips.skipped == [f"a/2.png: {table} names no group for it"]
    table.write_text("path,person\na/1.png,ann\n", "utf-8")
    with pytest.raises(UsageError, match="columns path and group"):
        load_clips(tmp_path / "d", 32, groups=str(table))


def test_bad_clips_are_named_and_skipped(tmp_path: Path) -> None:
    for name in ("good1", "good2"):
        write_strip(tmp_path / "a" / f"{name}.png", frames())
    write_strip(tmp_path / "a" / "short.png", frames(5))
    (tmp_path / "a" / "broken.mp4").write_bytes(b"no video at all")
    (tmp_path / "a" / "cut.png").write_bytes((tmp_path / "a" / "good1.png").read_bytes()[:60])
    mixed = tmp_path / "a" / "mixed"
    write_folder(mixed, frames())
    Image.new("RGB", (40, 40)).save(mixed / "999.png")
    (tmp_path / "a" / "notes.xyz").write_text("?")
    clips = load_clips(tmp_path, 32)
    assert [clip.path for clip in clips.clips] == ["a/good1.png", "a/good2.png"]
    reasons = dict(line.split(": ", 1) for line in clips.skipped)
    assert set(reasons) == {"a/short.png", "a/broken.mp4", "a/cut.png", "a/mixed", "a/notes.xyz"}
    assert "only 5 frames" in reasons["a/short.png"]
    assert "differ in size (32x32 and 40x40)" in reasons["a/mixed"]


def test_hopeless_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        load_clips(tmp_path / "nowhere", 32)
    with pytest.raises(MocogenError, match="no clip in"):
        load_clips(tmp_path, 32)
    write_strip(tmp_path / "a" / "one.png", frames())
    with pytest.raises(MocogenError, match="only one clip"):
        load_clips(tmp_path, 32)
    write_strip(tmp_path / "a" / "two.png", frames())
    with pytest.raises(MocogenError, match="memory"):
        load_clips(tmp_path, 256, memory_mb=1)
    with pytest.raises(UsageError, match="no folder for action 'b'"):
        load_clips(tmp_path, 32, actions=("b",))
    write_strip(tmp_path / "loose.png", frames())
    with pytest.raises(MocogenError, match="beside the action folders"):
        load_clips(tmp_path, 32)


def test_clips_without_actions(tmp_path: Path) -> None:
    write_strip(tmp_path / "one.png", frames())
    write_strip(tmp_path / "two.png", frames())
    clips = load_clips(tmp_path, 32)
    assert clips.actions == ()
    assert [clips.action_index(clip) for clip in clips.clips] == [0, 0]


def test_the_weizmann_clips(data: Path) -> None:
    clips = load_clips(data / "weizmann", 32, ("wave1", "wave2", "jack", "bend"), mirror=True)
    assert (len(clips.clips), len(clips.groups), len(clips.frames)) == (72, 18, 2645)
    assert clips.skipped == []
