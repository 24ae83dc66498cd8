"""Files: what players, browsers and numpy will find in them."""

import gc
import io
import os
import re
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image, ImageSequence
from PIL.PngImagePlugin import PngInfo

import mocogen
from mocogen import MocogenError, UsageError, provenance
from mocogen.reading import open_frames
from mocogen.video import WRITERS, ClipFormat, GifWriter, open_clip, pipe_writer

RECORD = {"mocogen": "1", "checkpoint": "naïve & <odd>", "seed": 7, "note": "x" * 700}


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """A bright square on a still, textured ground; it moves a little at every frame."""
    ground = np.random.default_rng(0).integers(60, 120, (1, 96, 96, 1), dtype=np.uint8)
    clip = ground.repeat(30, axis=0).repeat(3, axis=3)
    for i, frame in enumerate(clip):
        frame[20:50, 10 + 2 * i : 30 + 2 * i] = (250, 80, 10)
    return clip


def write(path: Path, frames: np.ndarray, fps: float = 25, pieces: int = 7) -> Path:
    form = ClipFormat(len(frames), frames.shape[1], frames.shape[2], fps, RECORD)
    with open_clip(str(path), form) as writer:  # a text is as good as a path
        for start in range(0, len(frames), pieces):
            writer.write(frames[start : start + pieces])
    return path


@pytest.mark.parametrize("suffix", WRITERS)
def test_the_bytes_do_not_depend_on_the_pieces(suffix: str, frames: np.ndarray, tmp_path: Path):
    one = write(tmp_path / f"one{suffix}", frames, pieces=30)
    many = write(tmp_path / f"many{suffix}", frames, pieces=4)
    assert one.read_bytes() == many.read_bytes()


@pytest.mark.parametrize("suffix", WRITERS)
def test_small_clips_are_the_same_bytes_every_time(suffix: str, tmp_path: Path):
    """Often, for x264 used to differ in one clip of ten, by where in memory it worked."""
    moving = np.asarray(mocogen.load("shapes").sample(16, seed=4))
    written = set()
    for k in range(100 if suffix == ".mp4" else 3):
        somewhere_else = np.ones(1 + 977 * k)
        written.add(write(tmp_path / f"clip{suffix}", moving).read_bytes())
        del somewhere_else
    assert len(written) == 1


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".webp", ".png"])
def test_the_record_comes_back(suffix: str, frames: np.ndarray, tmp_path: Path):
    assert provenance.read(write(tmp_path / f"clip{suffix}", frames)) == RECORD


def test_a_gif_in_a_pipe_is_the_file(frames: np.ndarray, tmp_path: Path):
    """Record and all, though a pipe cannot be gone back in."""
    stream = io.BytesIO()
    with pipe_writer(stream, "gif", ClipFormat(len(frames), 96, 96, 25, RECORD)) as writer:
        writer.write(frames)
    assert stream.getvalue() == write(tmp_path / "clip.gif", frames).read_bytes()


@pytest.mark.parametrize(
    ("value", "word"), [(25.0, "25"), (12.5, "12.5"), ("model-1.0", "model-1.0"), ("a b", "'a b'")]
)
def test_a_command_names_values_as_they_are(value: object, word: str):
    assert provenance.command({"mocogen": "1", "x": value}) == f"mocogen sample --x {word}"


def test_a_command_doubles_the_braces_of_a_name():
    assert provenance.command({"out": "{odd}.gif"}).endswith("--out '{{odd}}.gif'")


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_single_frame(suffix: str, frames: np.ndarray, tmp_path: Path):
    path = write(tmp_path / f"clip{suffix}", frames[:1])
    shown = np.load(path) if suffix == ".npy" else np.asarray(iio.imread(path, plugin=None))
    assert shown.size == frames[0].size


def test_mp4_is_what_browsers_play(frames: np.ndarray, tmp_path: Path):
    path = write(tmp_path / "clip.mp4", frames, fps=24)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        codec = stream.codec_context
        colours = (codec.color_primaries, codec.color_trc, codec.colorspace)
        assert colours == (6, 6, 6), "BT.601, said aloud"
        assert stream.profile in ("Constrained Baseline", "Main", "High")
        assert (stream.width, stream.height) == (96, 96)
        assert stream.average_rate == Fraction(24)
    raw = path.read_bytes()
    assert raw.index(b"moov") < raw.index(b"mdat"), "the index must come first (faststart)"
    # Read back with another program than the one that wrote it.
    shown = iio.imread(path, plugin="FFMPEG")
    assert shown.shape == frames.shape
    assert np.abs(shown.astype(int) - frames).mean() < 5
    inside = shown[0, 25:45, 15:25].mean(axis=(0, 1))
    assert np.abs(inside - (250, 80, 10)).max() < 6, "the colours of the square are right"


@pytest.mark.parametrize(("height", "width"), [(31, 32), (32, 31), (31, 29)])
def test_an_mp4_of_odd_size_repeats_its_last_row_or_column(
    height: int, width: int, frames: np.ndarray, tmp_path: Path
):
    cut = frames[:, :height, :width]
    shown = np.stack(list(open_frames(write(tmp_path / "clip.mp4", cut)).frames))
    odd = (0, height % 2), (0, width % 2)
    expected = np.pad(cut, ((0, 0), *odd, (0, 0)), mode="edge")
    assert shown.shape == expected.shape
    error = np.abs(shown.astype(int) - expected)
    assert max(error.mean(), error[:, -1].mean(), error[:, :, -1].mean()) < 5


def test_ffmpeg_finds_nothing_to_complain_of(frames: np.ndarray, tmp_path: Path):
    for suffix in (".mp4", ".gif"):
        path = write(tmp_path / f"clip{suffix}", frames)
        program = imageio_ffmpeg.get_ffmpeg_exe()
        done = subprocess.run(
            [program, "-v", "warning", "-i", path, "-f", "null", "-"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""


@pytest.mark.parametrize(("fps", "real"), [(25, 25), (24, 24), (30, 30), (10, 10), (100, 50)])
def test_gif_keeps_its_rate_on_the_whole(
    fps: float, real: float, frames: np.ndarray, tmp_path: Path
):
    path = write(tmp_path / "clip.gif", frames, fps=fps)
    with Image.open(path) as image:
        assert image.info["loop"] == 0  # for ever
        delays = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert len(delays) == 30
    assert min(delays) >= 20, "viewers slow a faster frame down"
    assert max(delays) - min(delays) <= 10
    assert sum(delays) == pytest.approx(30 * 1000 / real, abs=10)
    assert GifWriter.real_fps(30, fps) == pytest.approx(30_000 / sum(delays))


def test_webp_keeps_its_length_where_frames_are_shorter_than_its_clock(
    frames: np.ndarray, tmp_path: Path
):
    with Image.open(write(tmp_path / "clip.webp", frames, fps=600)) as image:
        durations = []
        for k in range(image.n_frames):
            image.seek(k)
            image.load()
            durations.append(image.info["duration"])
    assert sum(durations) == 50  # milliseconds
    assert WRITERS[".webp"].real_fps(30, 600) == pytest.approx(30_000 / sum(durations))


def test_gif_palette_does_not_flicker(frames: np.ndarray, tmp_path: Path):
    """Where the clip stands still, the picture does, to the last bit."""
    path = write(tmp_path / "clip.gif", frames)
    with Image.open(path) as image:
        shown = np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(image)])
    assert np.ptp(shown[:, 60:], axis=0).max() == 0
    assert np.abs(shown.astype(int) - frames).mean() < 8
    # One palette for all: no picture block brings a table of its own (bit 7 of its flags).
    blocks = re.findall(rb"\x2c\x00\x00\x00\x00\x60\x00\x60\x00(.)", path.read_bytes(), re.DOTALL)
    assert blocks
    assert not any(flags[0] & 0x80 for flags in blocks)


def test_gif_stands_still_where_a_clip_only_trembles(tmp_path: Path):
    """A wall whose pixels move by a grey level: nearest colours alone would jump at borders."""
    numbers = np.random.default_rng(1)
    wall = numbers.integers(40, 215, (1, 96, 96, 1)) + numbers.integers(-1, 2, (20, 96, 96, 1))
    clip = wall.astype(np.uint8).repeat(3, axis=3)
    with Image.open(write(tmp_path / "clip.gif", clip)) as image:
        shown = np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(image)])
    moved = np.diff(shown.astype(int), axis=0).any(axis=-1)
    assert moved.mean() < 0.1
    error = np.abs(shown.astype(int) - clip)
    # Standing still costs a few grey levels, and they do not add up.
    assert abs(error[-1].mean() - error[0].mean()) < 1


def test_gif_has_colours_for_what_is_small(tmp_path: Path):
    """A small blue square on a wide wall of greys, in many shades of its own."""
    numbers = np.random.default_rng(2)
    clip = numbers.integers(0, 256, (10, 96, 96, 1), dtype=np.uint8).repeat(3, axis=3)
    clip[:, 40:48, 40:48] = (20, 20, 0)
    clip[:, 40:48, 40:48, 2] = numbers.integers(100, 250, (10, 8, 8))
    with Image.open(write(tmp_path / "clip.gif", clip)) as image:
        shown = np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(image)])
    error = np.abs(shown.astype(int) - clip)[:, 40:48, 40:48]
    assert error.mean() < 5


def test_webp_and_npy_and_png_lose_nothing(frames: np.ndarray, tmp_path: Path):
    webp = write(tmp_path / "clip.webp", frames)
    with Image.open(webp) as image:
        shown = [np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(image)]
        assert image.info["loop"] == 0
    assert np.array_equal(np.stack(shown), frames)
    assert np.array_equal(np.load(write(tmp_path / "clip.npy", frames)), frames)
    strip = np.asarray(Image.open(write(tmp_path / "clip.png", frames)))
    assert np.array_equal(strip, np.concatenate(list(frames), axis=1))


def test_a_failure_leaves_the_old_file_and_nothing_else(frames: np.ndarray, tmp_path: Path):
    path = write(tmp_path / "clip.mp4", frames)
    before = path.read_bytes()
    form = ClipFormat(30, 96, 96, 25, RECORD)
    with (  # noqa: PT012 - the interruption comes in the middle
        pytest.raises(KeyboardInterrupt),
        open_clip(path, form) as writer,
    ):
        writer.write(frames[:5])
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_name_with_a_colon_is_a_name(
    suffix: str, frames: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """FFmpeg takes what is ahead of one for a protocol."""
    monkeypatch.chdir(tmp_path)
    path = write(Path(f"T12:30{suffix}"), frames)
    read = np.stack(list(open_frames(path).frames))
    assert read.shape == frames.shape
    if suffix != ".npy":
        assert provenance.read(path) == RECORD


def test_what_a_link_points_to_is_written(frames: np.ndarray, tmp_path: Path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.gif"
    link.symlink_to("real/clip.gif")
    for count in (10, 20):  # there, or not yet
        write(link, frames[:count])
        assert link.is_symlink()
        assert len(list(open_frames(tmp_path / "real" / "clip.gif").frames)) == count
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["clip.gif"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_not_replaced(frames: np.ndarray, tmp_path: Path):
    os.mkfifo(tmp_path / "clip.gif")
    with pytest.raises(MocogenError, match="is a device or a pipe, no file"):
        write(tmp_path / "clip.gif", frames)
    assert (tmp_path / "clip.gif").is_fifo()


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.filterwarnings("error")
def test_a_failure_leaves_no_file_open(suffix: str, frames: np.ndarray, tmp_path: Path):
    """Not every system removes files that are open."""
    with (  # noqa: PT012 - the failure comes in the middle
        pytest.raises(KeyboardInterrupt),
        open_clip(tmp_path / f"clip{suffix}", ClipFormat(60, 96, 96, 25, RECORD)) as writer,
    ):
        for _ in range(2):
            writer.write(frames[:25])
        held = getattr(writer, "_file", None)
        assert (held is not None) == (suffix in (".gif", ".npy"))
        raise KeyboardInterrupt
    assert held is None or held.closed
    del writer
    gc.collect()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_full_disk_is_told(suffix: str, frames: np.ndarray, tmp_path: Path):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    kind = WRITERS[suffix]
    form = ClipFormat(30, 96, 96, 25, RECORD)
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012 - any of these may find it
        writer = kind(Path("/dev/full"), form)
        writer.write(frames)
        writer.close()


def test_paths_that_cannot_be_written(frames: np.ndarray, tmp_path: Path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.gif").mkdir()
    form = ClipFormat(30, 96, 96, 25, RECORD)
    for path, error in (
        (tmp_path / "clip.mov", UsageError),
        (tmp_path / "clip", UsageError),
        (tmp_path / "file" / "clip.gif", MocogenError),
        (tmp_path / "folder.gif", MocogenError),
        (tmp_path / ("x" * 300 + ".gif"), MocogenError),
    ):
        with pytest.raises(error), open_clip(path, form) as writer:
            writer.write(frames)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.gif"]


def test_a_filmstrip_too_wide_is_refused(tmp_path: Path):
    form = ClipFormat(2000, 96, 96, 25, RECORD)
    with (
        pytest.raises(UsageError, match="at most 1041 frames"),
        open_clip(tmp_path / "clip.png", form),
    ):
        pass


def test_large_frames_do_not_wait_for_a_palette_until_memory_is_full(tmp_path: Path):
    form = ClipFormat(48, 3072, 3072, 25, RECORD)
    writer = GifWriter(tmp_path / "clip.gif", form)
    assert writer._palette_frames * 3072 * 3072 * 3 <= GifWriter.MOST_WAITING
    assert (
        GifWriter(tmp_path / "clip.gif", ClipFormat(48, 96, 96, 25, RECORD))._palette_frames == 48
    )


def test_a_webp_larger_than_memory_is_refused(tmp_path: Path):
    form = ClipFormat(10**6, 96, 96, 25, RECORD)
    with (
        pytest.raises(UsageError, match=r"at most 77672 frames .* \.mp4"),
        open_clip(tmp_path / "clip.webp", form),
    ):
        pass


def test_the_record_of_a_very_large_filmstrip(tmp_path: Path):
    text = PngInfo()
    text.add_text("mocogen", provenance.dumps(RECORD))
    Image.new("1", (98_304, 3072)).save(tmp_path / "clip.png", pnginfo=text)
    assert provenance.read(tmp_path / "clip.png") == RECORD


def test_a_record_without_end_is_damage(tmp_path: Path):
    text = PngInfo()
    text.add_text("mocogen", "[" * 100_000)
    Image.new("1", (4, 4)).save(tmp_path / "clip.png", pnginfo=text)
    with pytest.raises(MocogenError, match="damaged"):
        provenance.read(tmp_path / "clip.png")


def test_clips_without_a_record(frames: np.ndarray, tmp_path: Path):
    iio.imwrite(tmp_path / "other.gif", frames, duration=40)
    iio.imwrite(tmp_path / "other.png", frames[0])
    (tmp_path / "broken.mp4").write_text("hello")
    (tmp_path / "broken.webp").write_text("hello")
    for name, said in (
        ("other.gif", "no record"),
        ("other.png", "no record"),
        ("broken.mp4", "damaged"),
        ("broken.webp", "damaged"),
        ("missing.gif", "no such file"),
    ):
        with pytest.raises(MocogenError, match=said):
            provenance.read(tmp_path / name)


class Interrupted(io.BytesIO):
    """A stream during one of whose writes Ctrl-C is pressed."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def write(self, data) -> int:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().write(data)


@pytest.mark.parametrize(("kind", "at"), [("gif", 3), ("mp4", 1)])
def test_ctrl_c_while_bytes_are_written_is_heard(kind: str, at: int, frames: np.ndarray) -> None:
    """What is raised inside PyAV's own writing, it prints and forgets."""
    form = ClipFormat(len(frames), 96, 96, 25, RECORD)
    with pytest.raises(KeyboardInterrupt), pipe_writer(Interrupted(at), kind, form) as writer:
        writer.write(frames)
