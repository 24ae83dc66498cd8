"""``mocogen sample``: clips from seeds."""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from ..spec import NOISE_MODES
from . import common

if TYPE_CHECKING:
    from ..batch import Written


def sample(
    frames: Annotated[int, typer.Option(help="Length of a clip in frames.")] = 48,
    out: Annotated[
        str,
        typer.Option(
            help="A file (.gif .mp4 .webp .png = filmstrip .npy), a folder, or a name with "
            "{seed}, {index}, {action}, {checkpoint} in it."
        ),
    ] = "clip.gif",
    seed: Annotated[
        int | None, typer.Option(help="Makes the clip repeatable. [default: random, printed]")
    ] = None,
    count: Annotated[int, typer.Option(help="How many clips, of seeds SEED, SEED + 1, ...")] = 1,
    action: Annotated[
        str | None, typer.Option(help="What they do. [default: as the seed has it]")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames a second. [default: the checkpoint's]")
    ] = None,
    scale: Annotated[int, typer.Option(help="Enlarge every pixel this many times.")] = 1,
    noise: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(NOISE_MODES)}. [default: the checkpoint's]"),
    ] = None,
    checkpoint: common.Checkpoint = None,
    generator: common.Generator = None,
    motion: common.Motion = None,
    device: common.Device = "auto",
    as_json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Sample clips: a person or a shape that moves, made from noise."""
    _check(frames, count, fps, scale)
    common.check_source(checkpoint, generator, motion)
    from ..batch import check_fields, plan, render
    from ..latents import MAX_SEED, random_seed

    template = check_fields(out, count)
    first = random_seed() if seed is None else seed
    if not 0 <= first <= MAX_SEED - count + 1:
        raise UsageError(f"seed {first}: use whole numbers from 0 to {MAX_SEED}")

    model, source = common.load_model(checkpoint, generator, motion, device)
    jobs = plan(
        model,
        template,
        seeds=range(first, first + count),
        source=source,
        frames=frames,
        action=action,
        noise_mode=noise,
        fps=fps,
        scale=scale,
    )
    started = time.perf_counter()
    with _progress(count * frames, quiet) as on_frames:
        for written in render(model, jobs, on_frames):
            if as_json:
                print(json.dumps(_fields(written)), flush=True)
            elif not quiet and count == 1:
                common.say(_line(written))
    if count > 1 and not quiet:
        seconds = time.perf_counter() - started
        last = first + count - 1
        common.say(
            f"{count} clips, seeds {first} to {last}, {seconds:.1f} s "
            f"({count * frames / seconds:.0f} frames/s): {template}"
        )


def _check(frames: int, count: int, fps: float | None, scale: int) -> None:
    if frames < 1:
        raise UsageError(f"--frames {frames}: a clip has at least 1 frame")
    if count < 1:
        raise UsageError(f"--count {count}: ask for at least 1 clip")
    if fps is not None and not 0.1 <= fps <= 1000:
        raise UsageError(f"--fps {fps:g}: use a rate from 0.1 to 1000 frames a second")
    if not 1 <= scale <= 32:
        raise UsageError(f"--scale {scale}: use a whole number from 1 to 32")


def _line(written: Written) -> str:
    made_by = written.job.made_by
    action = f", {made_by['action']}" if made_by["action"] else ""
    return (
        f"{written.job.path}: seed {made_by['seed']}{action}, {made_by['frames']} frames, "
        f"{written.width}x{written.height}, {written.fps:.4g} frames/s"
    )


def _fields(written: Written) -> dict[str, Any]:
    return {
        **written.job.made_by,
        "file": str(written.job.path),
        "width": written.width,
        "height": written.height,
        "fps": written.fps,
    }


def _progress(frames: int, quiet: bool) -> Any:
    """A bar on long work, for those who look at a terminal."""
    if quiet or frames < 500 or not sys.stderr.isatty():
        return nullcontext(lambda _: None)
    from .progress import frames_bar

    return frames_bar(frames)
