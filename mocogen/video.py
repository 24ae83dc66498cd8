"""Clip writers: uint8 frames in, a file of the suffix's format out.

Every writer takes frames a few at a time and has the same two methods; :func:`open_clip`
chooses one by the file's suffix and makes the file appear whole or not at all. Encoders run
with one thread, so that the bytes of a file depend on its frames alone.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from . import provenance
from .errors import MocogenError, UsageError
from .files import atomic_path, ffmpeg_name

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class ClipFormat:
    """What a writer needs to know before the first frame.

    Attributes:
        frames: how many frames will come.
        height, width: of a frame in pixels, as it will be stored.
        fps: frames a second, above 0.
        made_by: the record to write into the file, where the format can carry one.
    """

    frames: int
    height: int
    width: int
    fps: float
    made_by: provenance.Record


class ClipWriter(ABC):
    """Takes frames, uint8 of (n, height, width, 3), and writes them to ``target``.

    Some formats can go into a pipe, too (:func:`pipe_writer`): a binary stream that cannot
    seek.
    """

    def __init__(self, target: Path | BinaryIO, form: ClipFormat) -> None:
        self.target = target
        self.form = form

    @property
    def path(self) -> Path:
        assert isinstance(self.target, Path), "this format needs a file"
        return self.target

    @classmethod  # noqa: B027 - most formats hold any clip
    def check(cls, form: ClipFormat) -> None:
        """Refuse clips that the format cannot hold, before a frame of them is made.

        Raises:
            UsageError: says what it can hold.
        """

    @abstractmethod
    def write(self, frames: Frames) -> None:
        """Add frames at the end. The array may be reused by the caller afterwards."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file."""

    def drop(self) -> None:  # noqa: B027 - most have nothing open
        """Let go of a file that will not be finished: not every system removes open ones."""

    @staticmethod
    def real_fps(frames: int, fps: float) -> float:
        """The rate at which a clip of the format will play, when ``fps`` is asked for."""
        return fps

    @staticmethod
    def held(frames: int) -> int:
        """How many frames of a clip the writer keeps in memory at once."""
        return 0


class Mp4Writer(ClipWriter):
    """H.264 in MP4 that browsers and QuickTime play: yuv420p, index at the front.

    Colours are stored at half the size, so odd heights and widths are made even: the last row
    or column is repeated. crf 18 is visually lossless for most eyes (the encoder's own
    documentation). Rate control by macroblock trees is off: with AVX-512, x264 165 then gives
    one and the same small clip other bytes now and then. PyAV encodes within the process:
    starting a program a clip takes longer than encoding a short one.
    """

    LARGEST = 16384
    # BT.601 is what the conversion from RGB makes; said aloud, no player needs to guess.
    OPTIONS: ClassVar[dict[str, str]] = {
        "crf": "18",
        "preset": "veryfast",
        "x264-params": "colorprim=smpte170m:transfer=smpte170m:colormatrix=smpte170m:mbtree=0",
    }

    def __init__(self, target: Path | BinaryIO, form: ClipFormat) -> None:
        super().__init__(target, form)
        import av

        self._frame = av.VideoFrame.from_ndarray
        self._outbox: _Outbox | None = None
        if isinstance(target, Path):
            options = {"movflags": "faststart"}
            self._container = av.open(ffmpeg_name(target), "w", format="mp4", options=options)
        else:
            # A pipe cannot be gone back in, so its index comes in fragments.
            self._outbox = _Outbox(target)
            options = {"movflags": "frag_keyframe+empty_moov"}
            self._container = self._outbox.opened("mp4", options)
        self._container.metadata["comment"] = provenance.dumps(form.made_by)
        self._stream = self._container.add_stream(
            "libx264",
            rate=Fraction(form.fps).limit_denominator(1001),
            options=self.OPTIONS,
        )
        odd = form.height % 2, form.width % 2
        self._even = ((0, odd[0]), (0, odd[1]), (0, 0)) if any(odd) else None
        self._stream.height = form.height + odd[0]
        self._stream.width = form.width + odd[1]
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.thread_count = 1

    @classmethod
    def check(cls, form: ClipFormat) -> None:
        if max(form.height, form.width) > cls.LARGEST:
            raise UsageError(
                f"frames of {form.width}x{form.height}: an .mp4 has at most {cls.LARGEST} pixels a "
                "side; use .gif or .npy, or a smaller --scale"
            )

    def write(self, frames: Frames) -> None:
        for frame in frames:
            even = np.pad(frame, self._even, mode="edge") if self._even else frame
            self._container.mux(self._stream.encode(self._frame(even, format="rgb24")))
            if self._outbox is not None:
                self._outbox.send()

    def close(self) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()
        if self._outbox is not None:
            self._outbox.send()

    def drop(self) -> None:
        with suppress(Exception):  # an encoder that has failed may do so again
            self._container.close()


class GifWriter(ClipWriter):
    """A GIF that loops for ever, with one palette for all frames, so that nothing flickers.

    The palette is made from pixels of the first frames: 48, or fewer where frames are so large
    that they would fill the memory; never as many as happen to arrive together. GIF counts in
    hundredths of a second and viewers do not go below two: frames are shown at the hundredths
    nearest to their time, so that the length of the clip stays right.
    """

    PALETTE_FRAMES = 48
    PALETTE_PIXELS = 1 << 15
    MOST_WAITING = 1 << 28  # bytes of frames that may wait for the palette
    STEADY = 2  # grey levels by which a pixel's old colour may be worse than the nearest
    FASTEST = 50.0

    def __init__(self, target: Path | BinaryIO, form: ClipFormat) -> None:
        super().__init__(target, form)
        self._container: Any = None
        self._file: BinaryIO | None = None
        self._palette: Any = None
        self._colors: Any = None
        self._shown: Frames | None = None
        self._waiting: list[Frames] = []
        fitting = self.MOST_WAITING // (form.height * form.width * 3)
        self._palette_frames = min(self.PALETTE_FRAMES, max(1, fitting))
        self._count = 0

    @classmethod
    def _time(cls, frame: int, fps: float) -> int:
        """When a frame is shown, in hundredths of a second."""
        return round(frame * 100 / min(fps, cls.FASTEST))

    @staticmethod
    def real_fps(frames: int, fps: float) -> float:
        return frames * 100 / GifWriter._time(frames, fps)

    @staticmethod
    def held(frames: int) -> int:
        return 2 * min(frames, GifWriter.PALETTE_FRAMES)  # as they came, and joined

    def write(self, frames: Frames) -> None:
        if self._colors is not None:
            self._encode(frames)
            return
        self._waiting.append(frames.copy())
        if sum(map(len, self._waiting)) >= self._palette_frames:
            self._start()

    def close(self) -> None:
        if self._colors is None:
            self._start()
        self._container.mux(self._stream.encode())
        self._container.close()
        # The encoder's library writes no comments: one is put ahead of the closing byte.
        self._outbox.send(held=1, ahead=provenance.gif_comment(self.form.made_by))
        self._outbox.send()
        self.drop()

    def drop(self) -> None:
        if self._file is not None and isinstance(self.target, Path):
            self._file.close()

    def _start(self) -> None:
        from PIL import Image

        frames = np.concatenate(self._waiting)
        self._waiting = []
        pixels = frames[: self._palette_frames].reshape(-1, 3)
        # An odd stride, so that the sample does not keep to a few columns of the frames.
        stride = len(pixels) // self.PALETTE_PIXELS | 1
        sample = Image.fromarray(_thinned(pixels[::stride])[None])
        self._palette = sample.quantize(256, method=Image.Quantize.MEDIANCUT)
        flat = np.array(self._palette.getpalette(), np.uint8).reshape(-1, 3)
        self._colors = np.zeros((256, 4), np.uint8)  # alpha, red, green, blue
        self._colors[:, 0] = 255
        self._colors[: len(flat), 1:] = flat

        last = self.form.frames - 1
        final = self._time(last + 1, self.form.fps) - self._time(last, self.form.fps)
        options = {"loop": "0", "final_delay": str(final)}
        self._file = self.target.open("wb") if isinstance(self.target, Path) else self.target
        self._outbox = _Outbox(self._file)
        self._container = self._outbox.opened("gif", options)
        self._stream = self._container.add_stream("gif", rate=100)
        self._stream.height, self._stream.width = self.form.height, self.form.width
        self._stream.pix_fmt = "pal8"
        self._stream.codec_context.time_base = Fraction(1, 100)
        self._encode(frames)

    def _encode(self, frames: Frames) -> None:
        import av
        from PIL import Image

        for frame in frames:
            # Without dithering: its pattern would crawl over a still background.
            image = Image.fromarray(frame).quantize(palette=self._palette, dither=Image.Dither.NONE)
            self._shown = self._steady(frame, np.asarray(image))
            packed = (self._shown, self._colors)
            picture: Any = av.VideoFrame.from_ndarray(packed, format="pal8")  # type: ignore[arg-type]
            picture.pts = self._time(self._count, self.form.fps)
            picture.time_base = Fraction(1, 100)
            self._count += 1
            self._container.mux(self._stream.encode(picture))
            self._outbox.send(held=1)  # it may be the closing one

    def _steady(self, frame: Frames, nearest: Frames) -> Frames:
        """The nearest colours' indices, (height, width), but the last frame's where those do.

        A wall that gets brighter by one grey level would jump to the next colour and back.
        """
        if self._shown is None:
            return nearest
        chosen = nearest.ravel().copy()
        before = self._shown.ravel()
        (changed,) = np.nonzero(chosen != before)
        # Channels first: the largest of three is slow to find along the last axis.
        wanted = frame.reshape(-1, 3).take(changed, axis=0).T.astype(np.int16, order="C")
        colors = self._colors[:, 1:].T.astype(np.int16, order="C")
        old = np.abs(colors.take(before[changed], axis=1) - wanted).max(axis=0)
        new = np.abs(colors.take(chosen[changed], axis=1) - wanted).max(axis=0)
        kept = changed[old <= new + self.STEADY]
        chosen[kept] = before[kept]
        return chosen.reshape(nearest.shape)


def _thinned(pixels: Frames) -> Frames:
    """Some of (n, 3) pixels: of those that look alike, as many as the root of their number.

    So a wide wall leaves colours of the palette for the person in front of it.
    """
    alike = (pixels >> 3).astype(np.int32) @ np.array([1 << 10, 1 << 5, 1])
    order = np.argsort(alike, kind="stable")
    _, first, count = np.unique(alike[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, count)
    step = np.ceil(np.sqrt(count)).astype(int)
    return pixels[order][rank % np.repeat(step, count) == 0]


class WebpWriter(ClipWriter):
    """A lossless animated WebP that loops for ever. Holds the clip until it is closed."""

    MOST_BYTES = 1 << 31

    @classmethod
    def check(cls, form: ClipFormat) -> None:
        fitting = cls.MOST_BYTES // (form.height * form.width * 3)
        if form.frames > fitting:
            raise UsageError(
                f"a WebP of {form.frames} frames is held in memory until it is written: ask for "
                f"at most {fitting} frames of this size, or for an .mp4"
            )

    def __init__(self, target: Path | BinaryIO, form: ClipFormat) -> None:
        super().__init__(target, form)
        self._images: list[Any] = []

    def write(self, frames: Frames) -> None:
        from PIL import Image

        self._images += [Image.fromarray(frame.copy()) for frame in frames]

    def close(self) -> None:
        ends = [round(i * 1000 / self.form.fps) for i in range(len(self._images) + 1)]
        durations = [after - before for before, after in pairwise(ends)]
        self._images[0].save(
            self.path,
            format="WEBP",
            save_all=True,
            append_images=self._images[1:],
            duration=durations,
            loop=0,
            lossless=True,
            method=2,
            xmp=provenance.xmp(self.form.made_by),
        )

    @staticmethod
    def real_fps(frames: int, fps: float) -> float:
        return frames * 1000 / max(1, round(frames * 1000 / fps))

    @staticmethod
    def held(frames: int) -> int:
        return frames


class FilmstripWriter(ClipWriter):
    """A PNG with the frames side by side, from left to right: a clip at a glance."""

    WIDEST = 100_000

    @classmethod
    def check(cls, form: ClipFormat) -> None:
        if form.frames * form.width > cls.WIDEST:
            raise UsageError(
                f"a filmstrip of {form.frames} frames is too wide for a PNG: ask for at most "
                f"{cls.WIDEST // form.width} frames, or for an .mp4"
            )

    def __init__(self, target: Path | BinaryIO, form: ClipFormat) -> None:
        super().__init__(target, form)
        self._strip = np.empty((form.height, form.frames * form.width, 3), np.uint8)
        self._column = 0

    @staticmethod
    def held(frames: int) -> int:
        return frames

    def write(self, frames: Frames) -> None:
        for frame in frames:
            self._strip[:, self._column : self._column + self.form.width] = frame
            self._column += self.form.width

    def close(self) -> None:
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_text("mocogen", provenance.dumps(self.form.made_by))
        Image.fromarray(self._strip).save(self.path, format="PNG", pnginfo=text)


class NpyWriter(ClipWriter):
    """A raw array for numpy: uint8 of (frames, height, width, 3), without loss or record."""

    def __init__(self, target: Path | BinaryIO, form: ClipFormat) -> None:
        super().__init__(target, form)
        shape = (form.frames, form.height, form.width, 3)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        self._file = self.path.open("wb")
        np.lib.format.write_array_header_1_0(self._file, header)

    def write(self, frames: Frames) -> None:
        self._file.write(np.ascontiguousarray(frames).data)

    def close(self) -> None:
        self._file.close()

    def drop(self) -> None:
        self._file.close()


class RawWriter(ClipWriter):
    """Bare frames, three bytes a pixel (rgb24), for a pipe to another program."""

    def write(self, frames: Frames) -> None:
        assert not isinstance(self.target, Path)
        self.target.write(np.ascontiguousarray(frames).data)

    def close(self) -> None:
        """Nothing is left to write."""


class _Outbox:
    """Where PyAV writes what goes on to a stream.

    PyAV prints and forgets what is raised in the Python code that it writes through, Ctrl-C
    too. Here it writes to memory, which runs none; the stream gets it after, from :meth:`send`.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._memory = stream, io.BytesIO()

    def opened(self, kind: str, options: dict[str, str]) -> Any:
        """A PyAV container that writes here, and cannot seek."""
        import av

        bare: Any = SimpleNamespace(write=self._memory.write)
        return av.open(bare, "w", format=kind, options=options)

    def send(self, held: int = 0, ahead: bytes = b"") -> None:
        """Pass on all but the last ``held`` bytes, then ``ahead``, which comes before those."""
        made = self._memory.getvalue()
        kept = len(made) - held
        self._memory.seek(0)
        self._memory.truncate()
        self._memory.write(made[kept:])
        self._stream.write(made[:kept] + ahead)


PIPE_WRITERS: dict[str, type[ClipWriter]] = {
    "mp4": Mp4Writer,
    "gif": GifWriter,
    "rgb24": RawWriter,
}

WRITERS: dict[str, type[ClipWriter]] = {
    ".gif": GifWriter,
    ".mp4": Mp4Writer,
    ".webp": WebpWriter,
    ".png": FilmstripWriter,
    ".npy": NpyWriter,
}


def writer_for(path: Path) -> type[ClipWriter]:
    """The writer of a path's suffix.

    Raises:
        UsageError: no format has this suffix.
    """
    try:
        return WRITERS[path.suffix.lower()]
    except KeyError:
        said = f"unknown suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise UsageError(f"{path} has {said}: use one of {', '.join(WRITERS)}") from None


@contextmanager
def encoding(temporary: Path, path: Path, form: ClipFormat) -> Iterator[ClipWriter]:
    """A writer to ``temporary`` in the format of ``path``, closed when the block ends well.

    Raises:
        UsageError: unknown suffix, or more frames than the format can hold.
        MocogenError: the encoder failed.
    """
    kind = writer_for(path)
    kind.check(form)
    try:
        writer = kind(temporary, form)
        try:
            yield writer
            writer.close()
        except BaseException:
            writer.drop()
            raise
    except (ValueError, RuntimeError) as error:
        if isinstance(error, MocogenError):
            raise
        raise MocogenError(f"cannot encode {path}: {error}") from error


@contextmanager
def open_clip(path: str | Path, form: ClipFormat) -> Iterator[ClipWriter]:
    """A writer for ``path``; the file is there when the block has ended well, and only then.

    Raises:
        UsageError: unknown suffix, or more frames than the format can hold.
        MocogenError: the folder is unwritable, the disk is full or the encoder failed.
    """
    path = Path(path)
    with atomic_path(path) as temporary, encoding(temporary, path, form) as writer:
        yield writer


@contextmanager
def pipe_writer(stream: BinaryIO, kind: str, form: ClipFormat) -> Iterator[ClipWriter]:
    """A writer of one of ``PIPE_WRITERS``' formats into a stream, as the frames come."""
    writer = PIPE_WRITERS[kind](stream, form)
    yield writer
    writer.close()


def mp4_bytes(frames: Frames, fps: float, made_by: provenance.Record) -> bytes:
    """A whole clip, uint8 of (n, height, width, 3), as an MP4 in memory for a web page."""
    stream, (count, height, width) = io.BytesIO(), frames.shape[:3]
    with pipe_writer(stream, "mp4", ClipFormat(count, height, width, fps, made_by)) as writer:
        writer.write(frames)
    return stream.getvalue()


def enlarged(frames: Frames, scale: int) -> Iterator[Frames]:
    """Every pixel of (n, height, width, 3) as a square of scale x scale pixels.

    Comes one frame at a time, so that large clips need no more memory than one large frame.
    """
    if scale == 1:
        yield frames
    else:
        for frame in frames:
            yield frame.repeat(scale, axis=0).repeat(scale, axis=1)[None]
