"""What the shell offers for an option's value, when Tab is pressed.

Imports nothing slow: every press of Tab is a process of its own.
"""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path

import typer

from .. import checkpoint, flow_checkpoint
from ..errors import MocogenError
from ..spec import SAMPLER

GPUS = Path("/proc/driver/nvidia/gpus")


def checkpoints(incomplete: str) -> list[str]:
    """The shipped names, and the checkpoint files and folders that begin so."""
    return _names(incomplete, (SAMPLER, flow_checkpoint.KIND))


def samplers(incomplete: str) -> list[str]:
    """As :func:`checkpoints`, of the names those that clips are sampled from."""
    return _names(incomplete, (SAMPLER,))


def flows(incomplete: str) -> list[str]:
    """As :func:`checkpoints`, of the names those that clips are smoothed with."""
    return _names(incomplete, (flow_checkpoint.KIND,))


def _names(incomplete: str, kinds: tuple[str, ...]) -> list[str]:
    shipped = checkpoint.shipped().items()
    names = [n for n, path in shipped if n.startswith(incomplete) and _kind(path) in kinds]
    start = incomplete.rpartition("/")[0] + "/" if "/" in incomplete else ""
    beside = Path(start or ".")
    if beside.is_dir():
        for path in sorted(beside.iterdir()):
            text = start + path.name + ("/" if path.is_dir() else "")
            fits = path.is_dir() or path.suffix == ".safetensors"
            hidden = path.name.startswith(".") and not incomplete.endswith(".")
            if fits and not hidden and text.startswith(incomplete):
                names.append(text)
    return names


def _kind(path: Path) -> str:
    """A checkpoint's kind; "" for a damaged one, of which its own command will tell."""
    try:
        return flow_checkpoint.kind_of(path)
    except MocogenError:
        return ""


def actions(context: typer.Context, incomplete: str) -> list[str]:
    """The actions of the checkpoint that the line names, or of the default one."""
    named = context.params.get("checkpoint") or checkpoint.DEFAULT
    try:
        spec = checkpoint.read_spec(checkpoint.find(named))
    except MocogenError:
        return []  # the command itself will say what is wrong
    return [name for name in spec.actions if name.startswith(incomplete)]


def devices(incomplete: str) -> list[str]:
    """The devices that this machine has, as far as can be told without torch."""
    names = ["auto", "cpu"]
    gpus = len(list(GPUS.iterdir())) if GPUS.is_dir() else 0
    if gpus:
        names += ["cuda", *(f"cuda:{k}" for k in range(gpus))]
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        names.append("mps")
    return [name for name in names if name.startswith(incomplete)]


def backends(incomplete: str) -> list[str]:
    """The backends that are installed."""
    from ..backend_choice import CPU_ONLY, NAMES

    packages = {"auto": "mocogen", **CPU_ONLY}
    there = [n for n in NAMES if importlib.util.find_spec(packages.get(n, n)) is not None]
    return [name for name in there if name.startswith(incomplete)]
