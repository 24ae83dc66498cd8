"""Clips of strangers: whatever is wrong with a file, a sentence says so."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mocogen import gallery, provenance, reading
from mocogen.cli.info import info
from mocogen.errors import MocogenError
from mocogen.smoothing import Source, _open, write
from mocogen.video import ClipFormat, open_clip
from mocogen.voxel_flow import VoxelFlow


def frames(count: int = 4, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)


def clip(path: Path, record: dict[str, Any] | None = None, count: int = 4) -> Path:
    form = ClipFormat(count, 8, 8, 25.0, {"mocogen": "1", **(record or {})})
    with open_clip(path, form) as writer:
        writer.write(frames(count))
    return path


def array_header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def bomb() -> bytes:
    """A PNG of a few bytes that says it is of 20,000 x 20,000 pixels."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"0"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def archive() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=frames(), b=frames())
    return stream.getvalue()


def png_with(key: str) -> bytes:
    """A picture with a text chunk of a name that Pillow uses itself."""
    info, stream = PngInfo(), io.BytesIO()
    info.add_text(key, "words")
    Image.fromarray(frames(1)[0]).save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


HOSTILE = {
    "no-archive.npy": b"PK\x03\x04garbage",
    "archive.npy": archive(),
    "unclosed.npy": array_header("{'descr': '|u1', ("),
    "endless.npy": array_header(
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000000, 1000000000, 8, 3)}"
    ),
    "bomb.apng": bomb(),
    "bomb.png": bomb(),
    "duration.apng": png_with("duration"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_damage_of_any_kind_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(HOSTILE[name])
    with pytest.raises(MocogenError, match=r"is damaged, or is no \.(npy|a?png) file"):
        list(reading.open_frames(path).frames)
    assert isinstance(next(gallery.gather(tmp_path, [path])), gallery.Skipped)


def test_a_video_of_an_unknown_codec(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(MocogenError, match="is damaged"):
        list(reading.open_frames(path).frames)


def test_a_video_that_was_trimmed_without_a_new_encoding_is_whole(tmp_path: Path) -> None:
    """Frames ahead of the cut are in the file, hidden: the next ones need them."""
    whole, trimmed = clip(tmp_path / "whole.mp4", count=40), tmp_path / "trimmed.mp4"
    cut = ["-v", "error", "-ss", "0.6", "-i", str(whole), "-c", "copy", str(trimmed)]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *cut], check=True)
    shown = list(reading.open_frames(trimmed).frames)
    assert len(shown) == 25
    expected = list(reading.open_frames(whole).frames)[15:]
    np.testing.assert_array_equal(shown, expected)
    damaged = trimmed.read_bytes()
    at = damaged.index(b"mdat") + 3000
    trimmed.write_bytes(damaged[:at] + bytes(len(damaged) - at))
    with pytest.raises(MocogenError, match=r"cut off|damaged"):
        list(reading.open_frames(trimmed).frames)


def test_zeros_after_the_end_of_a_gif_are_no_damage(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.gif")
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(3))
    assert len(list(reading.open_frames(path).frames)) == 4
    path.write_bytes(whole[:-1] + bytes(3))
    with pytest.raises(MocogenError, match=r"it has no end|is damaged"):
        list(reading.open_frames(path).frames)


def test_greys_of_16_bits_keep_their_highest_eight(tmp_path: Path) -> None:
    values = np.arange(0, 65536, 256, dtype=np.uint16).reshape(8, 32)
    Image.fromarray(values).save(tmp_path / "strip.png")
    shown = np.concatenate(list(reading.open_frames(tmp_path / "strip.png").frames), axis=1)
    np.testing.assert_array_equal(shown, np.stack([values >> 8] * 3, axis=2))


def test_pictures_of_no_known_range_are_told(tmp_path: Path) -> None:
    path = tmp_path / "strip.tif"
    Image.fromarray(np.full((8, 32), 0.5, np.float32)).save(path)
    with pytest.raises(MocogenError, match="no known range: save it with 8 or 16"):
        list(_open(path).frames)


def test_a_text_that_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_with("xmp"))
    with pytest.raises(MocogenError, match=r"damaged|no record"):
        provenance.read(path)
    assert len(list(reading.open_frames(path).frames)) == 1


def test_what_a_record_says_is_shown_not_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nested = json.loads("[" * 900 + "1" + "]" * 900)
    odd = {"\x1b]0;x\x07": 1, "nested": nested, "subcommand": 5, "out": 6}
    info(str(clip(tmp_path / "a.png", odd)), as_json=False)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert r"\x1b]0;x\x07" in shown
    assert "mocogen 5 " in shown


@pytest.mark.parametrize(
    "record",
    [
        {"fps": 1e-320, "frames": 4},
        {"fps": float("inf"), "frames": 4},
        {"fps": 25.0, "frames": 10**400},
        {"fps": True, "frames": 4},
    ],
)
def test_a_record_that_cannot_be_true_is_not_believed(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    read = reading.open_frames(clip(tmp_path / "a.gif", record))
    assert read.fps == pytest.approx(25)
    assert len(list(read.frames)) == 4


@pytest.mark.parametrize(("suffix", "fps"), [(".png", 100), (".gif", 50)])
def test_a_record_tells_the_rate_and_where_a_strip_is_cut(
    tmp_path: Path, suffix: str, fps: float
) -> None:
    """As the format can play it: no GIF is faster than 50 frames a second."""
    path = tmp_path / f"a{suffix}"
    record = {"mocogen": "1", "fps": 100.0, "frames": 4}
    with open_clip(path, ClipFormat(4, 8, 12, 100.0, record)) as writer:
        writer.write(frames(4, 8, 12))
    read = reading.open_frames(path)
    assert np.stack(list(read.frames)).shape == (4, 8, 12, 3)
    assert read.fps == pytest.approx(fps)


def test_a_webp_has_its_equal_neighbours_back(tmp_path: Path) -> None:
    """The format keeps one of them, and shows it for longer."""
    path = tmp_path / "a.webp"
    still = frames(3)[[0, 0, 1, 2, 2, 2]]
    record = {"mocogen": "1", "fps": 25.0, "frames": 6}
    with open_clip(path, ClipFormat(6, 8, 8, 25.0, record)) as writer:
        writer.write(still)
    with Image.open(path) as image:
        assert image.n_frames == 3
    np.testing.assert_array_equal(list(reading.open_frames(path).frames), still)


def test_browsers_play_no_video_of_whole_colours(tmp_path: Path) -> None:
    path, options = tmp_path / "a.mp4", {"codec": "libx264", "out_pixel_format": "yuv444p"}
    iio.imwrite(path, frames(4, 32, 32), plugin="pyav", fps=30, **options)
    assert not reading.open_frames(path).plays_anywhere


def test_one_picture_does_not_stand_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    first, second = (Image.fromarray(frame) for frame in frames(2))
    first.save(path, save_all=True, append_images=[second], duration=[1, 16_777_215])
    with pytest.raises(MocogenError, match="is damaged"):
        list(reading.open_frames(path).frames)


@pytest.mark.parametrize(
    "line",
    [
        '{"file": ["x"], "checkpoint": "y"}',
        '{"file": 5, "checkpoint": "y"}',
        '{"file": "a.npy", "checkpoint": ["y"]}',
        '{"file": "a.npy", "checkpoint": "y", "fps": "fast"}',
        '{"file": "a.npy", "checkpoint": "y", "action": NaN}',
        '{"file": "a.npy", "checkpoint": "y", "subcommand": 5, "out": 6}',
        "[" * 100_000,
    ],
)
def test_a_line_of_a_manifest_takes_no_page_down(tmp_path: Path, line: str) -> None:
    np.save(tmp_path / "a.npy", frames())
    (tmp_path / "manifest.jsonl").write_text(line + "\n", "utf-8")
    out = tmp_path / "page.html"
    shown = gallery.write(
        out, "t", gallery.gather(tmp_path, [tmp_path / "a.npy"]), on_clip=lambda: None
    )
    assert shown == 1
    assert "NaN" not in out.read_text("utf-8").partition('"clips"')[2]


def test_a_name_that_is_no_text_is_shown_all_the_same(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", frames())
    path = (tmp_path / "a.npy").rename(tmp_path / "caf\udce9.npy")
    out = tmp_path / "page.html"
    entries = gallery.gather(tmp_path, [path])
    assert gallery.write(out, "caf\udce9", entries, on_clip=lambda: None) == 1


@pytest.mark.parametrize("now", [3, 6])
def test_a_clip_that_changed_meanwhile_leaves_no_file(tmp_path: Path, now: int) -> None:
    path, out = tmp_path / "a.npy", tmp_path / "out.npy"
    np.save(path, frames(now))
    source = Source(path, 5, 8, 8, 25.0, None)
    network, device = VoxelFlow(2).eval(), torch.device("cpu")
    with pytest.raises(MocogenError, match="has changed while it was smoothed"):
        write(source, network, device, 2, 25.0, out, {}, on_frame=lambda _: None)
    assert not out.exists()
