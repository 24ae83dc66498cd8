"""``mocogen export``: the networks for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..checkpoint import DEFAULT
from ..errors import UsageError
from . import common


def export(
    checkpoint: Annotated[
        str, typer.Argument(help="A shipped checkpoint's name or a file.")
    ] = DEFAULT,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write: with model.onnx, model-motion.onnx and model-generator.onnx. "
            "\\[default: the checkpoint's name]",
            callback=common.on_disk,
        ),
    ] = None,
    quiet: common.Quiet = False,
) -> None:
    """Write the motion network and the image generator as two ONNX files."""
    from .. import checkpoint as checkpoints
    from .. import onnx_models

    spec, tensors = checkpoints.read(checkpoints.find(checkpoint))
    target = Path(f"{spec.name}.onnx") if out is None else out
    if target.suffix != ".onnx":
        raise UsageError(f"--out {target}: an ONNX file's name ends in .onnx")
    for path in onnx_models.write(target, spec, tensors):
        if not quiet:
            common.say(str(path))
