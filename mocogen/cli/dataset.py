"""``mocogen dataset``: clips to train on, made from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import common

dataset = typer.Typer(no_args_is_help=True)


@dataset.callback()
def options() -> None:
    """Make a synthetic data set."""


@dataset.command()
def shapes(
    out: Annotated[
        Path,
        typer.Option(help="The folder to write: OUT/ACTION/NUMBER.png.", callback=common.on_disk),
    ],
    clips: Annotated[int, typer.Option(help="How many clips.")] = 4000,
    frames: Annotated[int, typer.Option(help="Length of a clip in frames.")] = 16,
    seed: Annotated[int, typer.Option(help="The same seed makes the same clips.")] = 0,
    size: Annotated[int, typer.Option(help="Height and width of a frame in pixels.")] = 64,
    quiet: common.Quiet = False,
) -> None:
    """Circles and squares that move from left to right or from top to bottom."""
    from ..shapes import write

    with common.clips_bar("drawing", clips, quiet) as on_clip:
        write(out, clips, frames, seed, size, on_clip)
    if not quiet:
        common.say(f"{out}: {clips} clips of {frames} frames of {size}x{size}, seed {seed}")
