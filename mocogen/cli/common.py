"""Options and manners that several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..checkpoint import DEFAULT
from ..errors import UsageError

if TYPE_CHECKING:
    from ..backends import Tensors
    from ..spec import ModelSpec
    from ..synthesis import Model

Checkpoint = Annotated[
    str | None,
    typer.Option(help=f"A shipped checkpoint's name or a file. \\[default: {DEFAULT}]"),
]
Generator = Annotated[
    Path | None, typer.Option(help="An image generator that others trained, as a state dict.")
]
Motion = Annotated[
    Path | None, typer.Option(help="The motion network that belongs to --generator.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Backend = Annotated[str, typer.Option(help="auto, torch or openvino (CPU).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def say(text: str) -> None:
    """A line for people, on standard error."""
    print(text, file=sys.stderr)


def check_source(checkpoint: str | None, generator: Path | None, motion: Path | None) -> None:
    """Refuse options that name the networks twice or half."""
    if checkpoint is not None and (generator or motion):
        raise UsageError("give either --checkpoint or --generator and --motion, not both")
    if motion and not generator:
        raise UsageError("--motion needs the image generator that belongs to it: add --generator")


def read_networks(
    checkpoint: str | None, generator: Path | None, motion: Path | None
) -> tuple[ModelSpec, Tensors, str, dict[str, Any]]:
    """The networks that the options name, their hash, and those options for a clip's record."""
    if generator is None:
        from .. import checkpoint as own

        name = checkpoint or DEFAULT
        path = own.find(name)
        return *own.read(path), own.sha256(path), {"checkpoint": name}
    from .. import foreign

    source = {"generator": str(generator), "motion": str(motion) if motion else None}
    pair = foreign.read_pair(generator, motion)
    return *pair, foreign.pair_sha256(generator, motion), source


def load_model(
    checkpoint: str | None,
    generator: Path | None,
    motion: Path | None,
    device: str,
    backend: str,
) -> tuple[Model, dict[str, Any]]:
    """The model that the options name, and those options for a clip's record."""
    from ..backends import open_backend
    from ..synthesis import Model

    spec, tensors, sha256, source = read_networks(checkpoint, generator, motion)
    return Model(spec, open_backend(backend, device, spec, tensors), sha256), source
