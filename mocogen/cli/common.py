"""Options and manners that several commands share."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..checkpoint import DEFAULT
from ..errors import UsageError, printable_lines
from . import complete

if TYPE_CHECKING:
    from ..backends import Tensors
    from ..mosaic import Mosaic
    from ..requests import Request
    from ..spec import ModelSpec
    from ..synthesis import Model

Checkpoint = Annotated[
    str | None,
    typer.Option(
        help=f"A shipped checkpoint's name or a file. \\[default: {DEFAULT}]",
        autocompletion=complete.samplers,
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
    str,
    typer.Option(
        help="auto, torch, onnx (CPU) or openvino (CPU).", autocompletion=complete.backends
    ),
]
Precision = Annotated[str, typer.Option(help="fp32; fp16 or bf16 on a CUDA GPU.")]


def on_disk(out: Path | None) -> Path | None:
    """Refuse a URL where a path is wanted: it would become a folder with a colon in its name."""
    if out is not None and len(out.parts) > 1 and re.fullmatch(r"[A-Za-z][\w+.-]+:", out.parts[0]):
        raise UsageError(
            f"--out {out}: this command writes to a disk, and `mocogen sample` alone to a URL"
        )
    return out


Out = Annotated[
    Path,
    typer.Option(help="The file: .mp4 .gif .webp .png (filmstrip) .npy.", callback=on_disk),
]
Frames = Annotated[int, typer.Option(help="Length of a clip in frames.")]
Fps = Annotated[float | None, typer.Option(help="Frames a second. \\[default: the checkpoint's]")]
Scale = Annotated[int, typer.Option(help="Enlarge every pixel this many times.")]
Noise = Annotated[
    str | None,
    typer.Option(
        help="What the motion network reads: per-frame (fresh noise), constant, feedback (its own "
        "output). \\[default: the checkpoint's]"
    ),
]
Speed = Annotated[float, typer.Option(help="Of time: 0.5 is half as fast, with new poses between.")]
Loop = Annotated[bool, typer.Option("--loop", help="Let the end run into the beginning.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def say(text: str) -> None:
    """A line for people, on standard error."""
    print(printable_lines(text), file=sys.stderr)


def watched(quiet: bool) -> bool:
    """Whether somebody looks at a terminal who would like to see a bar."""
    return not quiet and sys.stderr.isatty()


def tell_if_slower(file: object, real: float, asked: float) -> bool:
    """Say so where a format cannot play as fast as was asked for; whether that was said.

    Args:
        real, asked: frames a second.
    """
    slower = real < 0.9 * asked
    if slower:
        say(
            f"{file} plays slower than asked for: its format cannot show {asked:.4g} frames/s; "
            "an .mp4 can"
        )
    return slower


def clips_bar(verb: str, clips: int, quiet: bool) -> AbstractContextManager[Callable[[], None]]:
    """A bar over ``clips`` for those who look at a terminal; yields what to call after each."""
    if not watched(quiet):
        return nullcontext(lambda: None)
    from . import progress

    return progress.clips_bar(clips, verb)


def check_source(checkpoint: str | None, generator: Path | None, motion: Path | None) -> None:
    """Refuse options that name the networks twice or half."""
    if checkpoint is not None and (generator or motion):
        raise UsageError("give either --checkpoint or --generator and --motion, not both")
    if motion and not generator:
        raise UsageError("--motion needs the image generator that belongs to it: add --generator")


def read_networks(
    checkpoint: str | None,
    generator: Path | None,
    motion: Path | None,
    device: str,
    backend: str,
    precision: str = "fp32",
) -> tuple[ModelSpec, Tensors, str, dict[str, Any]]:
    """The networks that the options name, their hash, and those options for a clip's record."""
    from ..requests import computing

    asked = computing(device, backend, precision)
    if generator is None:
        from .. import checkpoint as own
        from .. import files

        name = DEFAULT if checkpoint is None else checkpoint
        path = own.find(name)
        return *own.read(path), files.sha256(path), {"checkpoint": name, **asked}
    from .. import foreign

    source = {"generator": str(generator), "motion": str(motion) if motion else None}
    pair = foreign.read_pair(generator, motion)
    return *pair, foreign.pair_sha256(generator, motion), source | asked


def load_model(
    checkpoint: str | None,
    generator: Path | None,
    motion: Path | None,
    device: str,
    backend: str,
    precision: str = "fp32",
) -> tuple[Model, dict[str, Any]]:
    """The model that the options name, and those options for a clip's record."""
    from ..synthesis import open_model

    computing = (device, backend, precision)
    spec, tensors, sha256, source = read_networks(checkpoint, generator, motion, *computing)
    return open_model(spec, tensors, sha256, *computing, source), source


def write_mosaic(
    model: Model,
    table: Mosaic,
    out: Path,
    asked: Request,
    made_by: dict[str, Any],
    as_json: bool,
    quiet: bool,
) -> None:
    """Sample a mosaic into ``out`` and tell of it.

    Args:
        asked: has the options that all its clips share.
        made_by: the options that named the networks, the command's name as ``subcommand``,
            and what it alone takes, for the record.
    """
    from ..mosaic import write
    from ..provenance import record

    rows, columns, fps = len(table.rows), len(table.columns), asked.fps or model.spec.fps
    shared = {"frames": asked.frames, "fps": fps, "scale": asked.scale, **asked.steering()}
    full = record(made_by, model.sha256, {**shared, "out": out.name})
    progress: Any = nullcontext(lambda _: None)
    if watched(quiet) and len(table.clips) * asked.frames >= 500:
        from .progress import frames_bar

        progress = frames_bar(asked.frames)
    with progress as on_frames:
        form = write(model, table, out, fps, asked.scale, full, on_frames)
    if as_json:
        told = {**full, "file": str(out), "rows": rows, "columns": columns}
        print(json.dumps({**told, "width": form.width, "height": form.height, "fps": form.fps}))
    elif not quiet:
        clips = f"{rows} x {columns} clips" if len(table.clips) > 1 else "a clip"
        say(
            f"{out}: {clips} of {form.frames} frames, {form.width}x{form.height}, "
            f"{form.fps:.4g} frames/s"
        )
        tell_if_slower(out, form.fps, fps)
