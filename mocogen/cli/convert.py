"""``mocogen convert``: others' networks as one checkpoint of mocogen's."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from ..spec import PLAIN, is_plain
from . import common


def convert(
    generator: Annotated[Path, typer.Option(help="The image generator, as a state dict.")],
    out: Annotated[
        Path, typer.Option(help="The checkpoint to write (.safetensors).", callback=common.on_disk)
    ],
    motion: common.Motion = None,
    name: Annotated[str | None, typer.Option(help="A name for it. \\[default: the file's]")] = None,
    quiet: common.Quiet = False,
) -> None:
    """Write a pair of others' networks as one checkpoint, with the same samples."""
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: a checkpoint's name ends in .safetensors")
    if name is not None and not is_plain(name):
        raise UsageError(f"--name {name!r}: {PLAIN}")
    from .. import checkpoint, foreign

    spec, tensors = foreign.read_pair(generator, motion)
    spec = replace(spec, name=name or foreign.plain_name(out))
    checkpoint.save(out, spec, *checkpoint.networks(spec, tensors), half=False)
    if not quiet:
        common.say(
            f"{out}: {spec.cell.upper()} motion network, {spec.noise_mode} noise, "
            f"{spec.image_size}x{spec.image_size} generator; sample from it with "
            f"`mocogen sample --checkpoint {shlex.quote(str(out))}`"
        )
