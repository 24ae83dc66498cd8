"""``mocogen info``: what a checkpoint is, or what made a clip."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import checkpoint, flow_checkpoint, provenance
from ..errors import printable
from ..files import sha256
from . import common, complete

LISTED = 100
"""More entries than this of one list (the files of a large data set) are for programs to read."""


def info(
    target: Annotated[
        str,
        typer.Argument(
            help="A shipped checkpoint's name, a checkpoint file, or a clip.",
            autocompletion=complete.checkpoints,
        ),
    ] = checkpoint.DEFAULT,
    as_json: common.Json = False,
) -> None:
    """Print what a checkpoint says of itself, or what made a clip and the command for it."""
    shown = _clip(Path(target)) if _is_clip(target) else _checkpoint(target)
    if as_json:
        print(json.dumps(shown))
        return
    for key, value in shown.items():
        if isinstance(value, dict):
            print(f"{printable(key)}:")
            for inner, item in value.items():
                print(f"  {printable(inner):<14} {_plain(item)}")
        else:
            print(f"{printable(key):<16} {_plain(value)}")


def _is_clip(target: str) -> bool:
    return target not in checkpoint.shipped() and Path(target).suffix.lower() in (
        ".gif",
        ".mp4",
        ".webp",
        ".png",
        ".npy",
    )


def _clip(path: Path) -> dict[str, Any]:
    made_by = provenance.read(path)
    return {"file": str(path), **made_by, "command": provenance.command(made_by)}


def _checkpoint(target: str) -> dict[str, Any]:
    path = checkpoint.find(target)
    is_flow = flow_checkpoint.kind_of(path) == flow_checkpoint.KIND
    spec = flow_checkpoint.read_spec(path) if is_flow else checkpoint.read_spec(path)
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        **asdict(spec),
    }


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple) and not any(isinstance(v, list | tuple) for v in value):
        return ", ".join(map(_plain, value)) or "none"
    if value is None or value == "":
        return "none"
    if isinstance(value, dict) and len(value) > LISTED:
        return f"{len(value)} of them (--json prints them)"
    return printable(value)
