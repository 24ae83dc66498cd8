"""``mocogen smooth``: new frames between those of a clip."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from .. import flow_checkpoint
from ..errors import UsageError
from . import common, complete


def smooth(
    clip: Annotated[
        Path,
        typer.Argument(help="A video, animation, filmstrip, .npy, or a folder of images."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="The file to write (.gif .mp4 .webp .png = filmstrip .npy).",
            callback=common.on_disk,
        ),
    ],
    factor: Annotated[int, typer.Option(help="How many times as many frames: 2 to 32.")] = 2,
    slow: Annotated[
        bool, typer.Option("--slow", help="Keep the frame rate: slow motion, not smoother motion.")
    ] = False,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Frames a second. \\[default: FACTOR times the clip's, so it lasts as long]"
        ),
    ] = None,
    checkpoint: Annotated[
        str,
        typer.Option(help="A voxel flow network, by name or file.", autocompletion=complete.flows),
    ] = flow_checkpoint.DEFAULT,
    device: common.Device = "auto",
    as_json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Put new frames between those of any clip, made or filmed: smoother, or slower."""
    from .. import provenance, smoothing
    from ..checkpoint import find
    from ..files import sha256
    from ..requests import check_fps
    from ..video import writer_for

    if factor not in smoothing.FACTORS:
        raise UsageError(
            f"--factor {factor}: use a whole number from {smoothing.FACTORS[0]} to "
            f"{smoothing.FACTORS[-1]}"
        )
    if slow and fps is not None:
        raise UsageError("--slow keeps the clip's rate and --fps sets another: give one of them")
    if fps is not None:
        check_fps(fps)
    smoothing.check_target(clip, out)
    path = find(checkpoint)
    flow_checkpoint.read_spec(path)
    source = smoothing.examine(clip)
    rate = source.rate(factor, fps, slow)

    from ..devices import choose_device

    target = choose_device(device)
    network = flow_checkpoint.load(path)[1].to(target)
    frames = source.smooth_frames(factor)
    options = {
        "subcommand": "smooth",
        "clip": str(clip),
        "factor": factor,
        "fps": rate,
        "frames": frames,
        "out": out.name,
        "source": source.record,
    }
    made_by = provenance.record({"checkpoint": checkpoint}, sha256(path), options)
    with _progress(frames, quiet) as on_frame:
        smoothing.write(source, network, target, factor, rate, out, made_by, on_frame)

    real = writer_for(out).real_fps(frames, rate)
    if not quiet:
        common.say(
            f"{out}: {frames} frames from {source.frames}, {source.width}x{source.height}, "
            f"{real:.4g} frames/s, {frames / real:.3g} s (was {source.frames / source.fps:.3g} s)"
        )
        common.tell_if_slower(out, real, rate)
    if as_json:
        shown = {"file": str(out), "width": source.width, "height": source.height, "fps": real}
        print(json.dumps({**made_by, **shown}))


def _progress(frames: int, quiet: bool) -> AbstractContextManager[Callable[[int], None]]:
    """A bar over the frames, for those who look at a terminal."""
    if not common.watched(quiet):
        return nullcontext(lambda _: None)
    from .progress import frames_bar

    return frames_bar(frames, "smoothing")
