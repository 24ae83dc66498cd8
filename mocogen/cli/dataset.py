"""``mocogen dataset``: clips to train on, made from nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    out: Annotated[Path, typer.Option(help="The folder to write: OUT/ACTION/NUMBER.png.")],
    clips: Annotated[int, typer.Option(help="How many clips.")] = 4000,
    frames: Annotated[int, typer.Option(help="Length of a clip in frames.")] = 16,
    seed: Annotated[int, typer.Option(help="The same seed makes the same clips.")] = 0,
    size: Annotated[int, typer.Option(help="Height and width of a frame in pixels.")] = 64,
    quiet: common.Quiet = False,
) -> None:
    """Circles and squares that move from left to right or from top to bottom."""
    from ..shapes import write

    with _progress(clips, quiet) as on_clip:
        write(out, clips, frames, seed, size, on_clip)
    if not quiet:
        common.say(f"{out}: {clips} clips of {frames} frames of {size}x{size}, seed {seed}")


@contextmanager
def _progress(clips: int, quiet: bool) -> Iterator[Callable[[], None]]:
    """A bar over the clips, for those who look at a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("drawing", total=clips)
        yield lambda: progress.advance(task)
