"""Progress bars. Importing them imports rich."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


@contextmanager
def frames_bar(total: int, verb: str = "sampling") -> Iterator[Callable[[int], None]]:
    """A bar over ``total`` frames on standard error; yields what to call with each advance."""
    columns = (
        TextColumn(verb),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed} of {task.total} frames"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(verb, total=total)
        yield lambda frames: progress.advance(task, frames)


@contextmanager
def clips_bar(total: int, verb: str) -> Iterator[Callable[[], None]]:
    """A bar over ``total`` clips on standard error; yields what to call after each."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(verb, total=total)
        yield lambda: progress.advance(task)


Show = Callable[[int, int | None, str], None]
"""Takes the frames made, of how many (or None), and how fast in words."""


@contextmanager
def batch_bar() -> Iterator[Show]:
    """A bar over the frames of a batch, whose number may change; yields what to call.

    It fits into 80 columns.
    """
    columns = (
        BarColumn(bar_width=16),
        TaskProgressColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("sampling", total=None, speed="")
        yield lambda made, total, speed: progress.update(
            task, completed=made, total=total, speed=speed
        )
