"""Options and manners that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..checkpoint import DEFAULT
from ..errors import UsageError
from . import complete

if TYPE_CHECKING:
    from ..synthesis import Model

Checkpoint = Annotated[
    str | None,
    typer.Option(
        help=f"A shipped checkpoint's name or a file. \\[default: {DEFAULT}]",
        autocompletion=complete.checkpoints,
    ),
]
Generator = Annotated[
    Path | None, typer.Option(help="An image generator that others trained, as a state dict.")
]
Motion = Annotated[
    Path | None, typer.Option(help="The motion network that belongs to --generator.")
]
Device = Annotated[
    str,
    typer.Option(help="auto, cpu, cuda, cuda:N or mps.", autocompletion=complete.devices),
]
Backend = Annotated[
    str, typer.Option(help="auto, torch or openvino (CPU).", autocompletion=complete.backends)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def say(text: str) -> None:
    """A line for people, on standard error."""
    print(text, file=sys.stderr)


@contextmanager
def clips_bar(verb: str, clips: int, quiet: bool) -> Iterator[Callable[[], None]]:
    """A bar over ``clips`` for those who look at a terminal; yields what to call after each."""
    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(verb, total=clips)
        yield lambda: progress.advance(task)


def check_source(checkpoint: str | None, generator: Path | None, motion: Path | None) -> None:
    """Refuse options that name the networks twice or half."""
    if checkpoint is not None and (generator or motion):
        raise UsageError("give either --checkpoint or --generator and --motion, not both")
    if motion and not generator:
        raise UsageError("--motion needs the image generator that belongs to it: add --generator")


def load_model(
    checkpoint: str | None,
    generator: Path | None,
    motion: Path | None,
    device: str,
    backend: str,
) -> tuple[Model, dict[str, Any]]:
    """The model that the options name, and those options for a clip's record."""
    from .. import synthesis

    if generator is None:
        name = checkpoint or DEFAULT
        return synthesis.load(name, device, backend), {"checkpoint": name}
    from .. import foreign
    from ..backends import open_backend

    spec, tensors = foreign.read_pair(generator, motion)
    networks = open_backend(backend, device, spec, tensors)
    model = synthesis.Model(spec, networks, foreign.pair_sha256(generator, motion))
    source = {"generator": str(generator), "motion": str(motion) if motion else None}
    return model, source
