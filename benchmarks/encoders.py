"""Ways to write a clip of 48 frames, in turn: milliseconds a clip and bytes a file.

    python -m benchmarks.encoders [--rounds 5]

MP4, all with libx264, mocogen's options and one thread: PyAV within the process, as mocogen
writes; imageio's plugin for PyAV; imageio-ffmpeg, which starts a program for every clip. GIF:
mocogen's writer; Pillow through imageio, with a palette a frame. The clips are seeds 0 to 7 of
the shipped checkpoint.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

import mocogen
from mocogen.video import ClipFormat, Mp4Writer, open_clip

from .machine import describe

CLIPS, FRAMES, FPS = 8, 48, 25

Frames = NDArray[np.uint8]


def own(path: Path, frames: Frames) -> None:
    count, height, width, _ = frames.shape
    form = ClipFormat(count, height, width, FPS, {"mocogen": mocogen.__version__})
    with open_clip(path, form) as writer:
        writer.write(frames)


def imageio_pyav(path: Path, frames: Frames) -> None:
    with iio.imopen(path, "w", plugin="pyav") as file:
        file.init_video_stream("libx264", fps=FPS, pixel_format="yuv420p")
        stream: Any = file._video_stream
        stream.options = Mp4Writer.OPTIONS
        stream.codec_context.thread_count = 1
        for frame in frames:
            file.write_frame(frame)


def imageio_ffmpeg(path: Path, frames: Frames) -> None:
    options = [word for key, value in Mp4Writer.OPTIONS.items() for word in (f"-{key}", value)]
    iio.imwrite(
        path, frames, plugin="FFMPEG", fps=FPS, codec="libx264", quality=None, macro_block_size=2,
        ffmpeg_log_level="error", output_params=[*options, "-threads", "1"],
    )  # fmt: skip


def pillow(path: Path, frames: Frames) -> None:
    iio.imwrite(path, frames, plugin="pillow", duration=1000 / FPS, loop=0)


WAYS: dict[str, tuple[str, Callable[[Path, Frames], None]]] = {
    "mocogen, PyAV": (".mp4", own),
    "imageio, PyAV": (".mp4", imageio_pyav),
    "imageio-ffmpeg": (".mp4", imageio_ffmpeg),
    "mocogen": (".gif", own),
    "imageio, Pillow": (".gif", pillow),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.encoders", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    model = mocogen.load("weizmann", "cpu")
    clips = [np.asarray(model.sample(FRAMES, seed=seed)) for seed in range(CLIPS)]
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    size: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(options.rounds + 1):
            for name, (suffix, write) in WAYS.items():
                paths = [Path(folder) / f"{k}{suffix}" for k in range(CLIPS)]
                started = time.perf_counter()
                for path, frames in zip(paths, clips, strict=True):
                    write(path, frames)
                if round_:  # the first one imports
                    seconds[name].append((time.perf_counter() - started) / CLIPS)
                size[name] = statistics.mean(path.stat().st_size for path in paths)
    print(", ".join(f"{key} {value}" for key, value in describe().items()))
    for name, (suffix, _) in WAYS.items():
        milliseconds = 1000 * statistics.median(seconds[name])
        print(f"{suffix}  {name:16} {milliseconds:7.1f} ms a clip {size[name] / 1024:7.1f} KiB")


if __name__ == "__main__":
    main()
