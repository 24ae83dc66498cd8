"""Clips read back from files, frame by frame, so that their length costs no memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import provenance
from .errors import MocogenError
from .files import ffmpeg_name
from .sources import rgb
from .spec import FASTEST, SLOWEST
from .video import WRITERS

if TYPE_CHECKING:
    from PIL import Image

Frame = NDArray[np.uint8]

VIDEO_SUFFIXES = (".gif", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")
SUFFIXES = (*VIDEO_SUFFIXES, ".webp", ".apng", ".png", ".npy")
"""What :func:`open_frames` reads: all that mocogen writes, and what else PyAV decodes."""

DEFAULT_FPS = 25.0
MOST_FRAMES = 10_000_000
"""A record that speaks of more is not believed."""

LONGEST_STILL = 10_000
"""Frames for which one picture may stand; a file whose times ask for more is damaged."""


@dataclass(frozen=True)
class Reading:
    """A clip that is being read; :func:`open_frames` makes it.

    Attributes:
        frames: yields uint8 (height, width, 3), once. Damage that shows itself on the way
            raises MocogenError.
        fps: frames a second.
        record: what made the clip, or None where the file does not say.
        plays_anywhere: whether browsers play the file as it is (H.264, yuv420p, in MP4).
    """

    frames: Iterator[Frame]
    fps: float
    record: provenance.Record | None
    plays_anywhere: bool = False


def open_frames(path: Path) -> Reading:
    """Start to read a clip.

    Raises:
        MocogenError: it is missing, no clip, or damaged; some damage is found only when its
            frames are read.
    """
    if not path.is_file():
        raise MocogenError(f"no such file: {path}")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise MocogenError(f"{path} is no clip: clips end in {', '.join(SUFFIXES)}")
    if suffix == ".npy":
        return Reading(_array_frames(path), DEFAULT_FPS, None)
    record = _record(path)
    if suffix in VIDEO_SUFFIXES:
        return _open_video(path, record)
    if suffix in (".webp", ".apng"):
        return _open_webp(path, record)
    return Reading(_strip_frames(path, record), _fps(path, record, DEFAULT_FPS), record)


def _record(path: Path) -> provenance.Record | None:
    """A clip's record; a file that has none, or cannot be read at all, is not judged here."""
    try:
        return provenance.read(path)
    except MocogenError:
        return None


def _fps(path: Path, record: provenance.Record | None, otherwise: float) -> float:
    """The rate that the record asks for, as the format can play it, or else ``otherwise``, or the
    nearest that a clip may be asked for."""
    fps: Any = (record or {}).get("fps")
    frames: Any = (record or {}).get("frames")
    known = type(fps) in (int, float) and type(frames) is int
    if known and SLOWEST <= fps <= FASTEST and 0 < frames <= MOST_FRAMES:
        return WRITERS[path.suffix.lower()].real_fps(frames, fps)
    return min(max(otherwise, SLOWEST), FASTEST)


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Turn what a decoder finds wrong with a file into a sentence; they raise whatever they like.

    Raises:
        MocogenError: the body could not make sense of the file.
    """
    try:
        yield
    except MocogenError:
        raise
    except Exception:
        raise _damaged(path) from None


def _damaged(path: Path) -> MocogenError:
    return MocogenError(f"cannot read {path}: it is damaged, or is no {path.suffix} file")


def _open_video(path: Path, record: provenance.Record | None) -> Reading:
    import av

    with damage_told(path), av.open(ffmpeg_name(path)) as container:
        if not container.streams.video:
            raise MocogenError(f"{path} has no picture in it")
        stream = container.streams.video[0]
        codec = stream.codec_context
        plays = path.suffix.lower() == ".mp4" and (codec.name, codec.pix_fmt) == (
            "h264",
            "yuv420p",
        )
        rate = stream.average_rate
    fps = _fps(path, record, float(rate) if rate else DEFAULT_FPS)
    return Reading(_video_frames(path), fps, record, plays)


def _video_frames(path: Path) -> Iterator[Frame]:
    import av

    count = hidden = 0
    with damage_told(path), av.open(ffmpeg_name(path)) as container:
        stream = container.streams.video[0]
        promised = stream.frames  # 0 where the format does not say
        for packet in container.demux(stream):
            hidden += packet.is_discard  # of a video that was trimmed without a new encoding
            for frame in packet.decode():
                count += 1
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    due = max(promised - hidden, 1)
    if count < due:
        raise MocogenError(f"{path} is cut off: it has {count} of {due} frames")
    if path.suffix.lower() == ".gif" and not _gif_has_end(path):
        raise MocogenError(f"{path} is cut off: it has no end")


def _gif_has_end(path: Path) -> bool:
    """Whether the last byte is a GIF's trailer; some programs write zeros after it."""
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 1024), os.SEEK_END)
        return file.read().rstrip(b"\0").endswith(b";")


def _open_webp(path: Path, record: provenance.Record | None) -> Reading:
    from PIL import Image

    with damage_told(path), Image.open(path) as image:
        image.load()
        milliseconds = float(image.info.get("duration", 0))
    fps = _fps(path, record, 1000 / milliseconds if milliseconds else DEFAULT_FPS)
    return Reading(_webp_frames(path, fps), fps, record)


def _webp_frames(path: Path, fps: float) -> Iterator[Frame]:
    """Frames at a steady rate: equal neighbours, which the format merges, are told apart."""
    from PIL import Image

    shown, elapsed = 0, 0.0
    with damage_told(path), Image.open(path) as image:
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frame = _rgb(path, image)
            elapsed += float(image.info.get("duration", 0))
            due = max(round(elapsed * fps / 1000), shown + 1)
            if due - shown > LONGEST_STILL:
                raise _damaged(path)
            for _ in range(due - shown):
                yield frame
            shown = due


def _rgb(path: Path, image: Image.Image) -> Frame:
    try:
        return np.asarray(rgb(image))
    except MocogenError as error:
        raise MocogenError(f"cannot read {path}: {error}") from None


def _strip_frames(path: Path, record: provenance.Record | None) -> Iterator[Frame]:
    """The frames of a strip: as many as its record says, or else squares."""
    from PIL import Image

    with damage_told(path), Image.open(path) as image:
        strip = _rgb(path, image)
    height, width = strip.shape[:2]
    count: Any = (record or {}).get("frames")
    if not isinstance(count, int) or count < 1 or width % count:
        if width % height:
            raise MocogenError(
                f"{path} is no filmstrip: its width ({width}) is no multiple of its height "
                f"({height})"
            )
        count = width // height
    yield from np.split(strip, count, axis=1)


def _array_frames(path: Path) -> Iterator[Frame]:
    with damage_told(path), np.errstate(over="ignore"):  # of a shape that cannot be
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(frames, np.ndarray):  # an archive of several
            raise _damaged(path)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        raise MocogenError(
            f"{path} is no clip: it holds {frames.dtype} of {frames.shape} instead of uint8 of "
            "(frames, height, width, 3)"
        )
    for frame in frames:
        yield np.array(frame)
