"""``mocogen interpolate``: a walk between two seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from ..requests import Request, check_seed, check_steps
from . import common

WHAT = ("content", "motion", "both")


def interpolate(
    start: Annotated[int, typer.Option("--from", help="The seed to begin with.")],
    end: Annotated[int, typer.Option("--to", help="The seed to end with.")],
    what: Annotated[
        str, typer.Option(help=f"What walks: {', '.join(WHAT)}. The rest stays as in --from.")
    ] = "both",
    steps: Annotated[
        int | None,
        typer.Option(help="Stations, the ends included. \\[default: a clip's frames; a strip's 8]"),
    ] = None,
    strip: Annotated[
        bool,
        typer.Option(
            "--strip",
            help="A clip at every station, side by side (in a .png: one below the other, time "
            "running to the right), instead of one clip that walks.",
        ),
    ] = False,
    out: common.Out = Path("walk.gif"),
    action: Annotated[
        str | None, typer.Option(help="What they do all the way. \\[default: as --from has it]")
    ] = None,
    frames: common.Frames = 48,
    speed: common.Speed = 1.0,
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
    """Walk between two seeds of one checkpoint: somebody turns into another, still moving."""
    asked = Request(frames=frames, action=action, noise=noise, fps=fps, scale=scale, speed=speed)
    if what not in WHAT:
        raise UsageError(f"--what {what}: use one of {', '.join(WHAT)}")
    for name, seed in (("from", start), ("to", end)):
        check_seed(seed, f"--{name}")
    if start == end:
        raise UsageError(f"--from and --to are both {start}: a walk needs two seeds")
    count = steps if steps is not None else 8 if strip else frames
    check_steps(count, "--frames" if steps is None else "--steps")
    common.check_source(checkpoint, generator, motion)
    from ..video import writer_for

    writer_for(out)
    model, source = common.load_model(checkpoint, generator, motion, device, backend)
    from .. import mosaic
    from ..steering import Walk

    walk = Walk(end, what in ("content", "both"), what in ("motion", "both"), steps=count)
    clip = model.clip(
        start,
        frames=frames,
        action=action,
        noise_mode=noise,
        speed=speed,
        walk=None if strip else walk,
    )
    if strip:
        table = mosaic.stations(model, clip, walk, count, upright=out.suffix.lower() == ".png")
    else:
        table = mosaic.Mosaic((clip,), ("",), ("",))
    made_by = {
        **source,
        "subcommand": "interpolate",
        "from": start,
        "to": end,
        "what": what,
        "steps": count,
        "strip": strip,
        "action": model.spec.actions[clip.action] if clip.action is not None else None,
        "noise": clip.noise_mode,
    }
    common.write_mosaic(model, table, out, asked, made_by, as_json, quiet)
