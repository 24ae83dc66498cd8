"""``mocogen grid``: contents in rows, motions or actions in columns, all playing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from ..requests import Request, Seeds
from . import common


def grid(
    contents: Annotated[str, typer.Option(help="Content seeds such as 0-5,9: a row each.")] = "0-3",
    motions: Annotated[
        str | None,
        typer.Option(help="Motion seeds: a column each. \\[default: 0-3; with --actions, 0]"),
    ] = None,
    actions: Annotated[
        str | None,
        typer.Option(help="all, or some, such as jack,bend: a column each (for each motion)."),
    ] = None,
    out: common.Out = Path("grid.mp4"),
    frames: common.Frames = 48,
    speed: common.Speed = 1.0,
    loop: common.Loop = False,
    fps: common.Fps = None,
    scale: common.Scale = 1,
    noise: common.Noise = None,
    checkpoint: common.Checkpoint = None,
    generator: common.Generator = None,
    motion: common.Motion = None,
    device: common.Device = "auto",
    backend: common.Backend = "auto",
    as_json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """One playing grid: in a row the same person, in a column the same movement."""
    asked = Request(frames=frames, noise=noise, fps=fps, scale=scale, speed=speed, loop=loop)
    rows = Seeds.parse(contents)
    columns = Seeds.parse(motions or ("0" if actions else "0-3"))
    common.check_source(checkpoint, generator, motion)
    from ..video import writer_for

    writer_for(out)
    model, source = common.load_model(checkpoint, generator, motion, device, backend)
    from .. import mosaic

    known = model.spec.actions
    named = _actions(actions, known) if actions is not None else [None]
    table = mosaic.grid(model, rows, columns, named, frames, noise, speed, loop)
    made_by = {
        **source,
        "subcommand": "grid",
        "contents": contents,
        "motions": motions,
        "actions": actions,
        "noise": table.clips[0].noise_mode,
    }
    common.write_mosaic(model, table, out, asked, made_by, as_json, quiet)


def _actions(text: str, known: tuple[str, ...]) -> list[str | None]:
    """The actions that ``text`` names, in its order."""
    if not known:
        raise UsageError("this checkpoint knows no actions: leave --actions out")
    named: list[str | None] = [*known] if text == "all" else [n.strip() for n in text.split(",")]
    if len(set(named)) < len(named):
        raise UsageError(f"actions {text}: one is there twice")
    return named
