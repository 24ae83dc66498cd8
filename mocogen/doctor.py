"""What mocogen finds on this machine, and whether it can sample with it.

Nothing is asked for that could be tried: every format is encoded once, every shipped checkpoint
is read, and one frame is sampled.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from . import __version__
from .checkpoint import DEFAULT

PACKAGES = ("numpy", "pillow", "av", "safetensors", "typer", "rich", "imageio")
ENCODERS = {
    ".gif": "gif by PyAV",
    ".mp4": "libx264 by PyAV",
    ".webp": "libwebp by Pillow",
    ".png": "Pillow",
    ".npy": "numpy",
}
EXTRAS = {"train": ("lightning-fabric", "tensorboard")}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        section: the group that it is shown in.
        name: what was looked at.
        says: what was found, or what is wrong.
        ok: whether it is in order.
        needed: whether sampling fails without it.
    """

    section: str
    name: str
    says: str
    ok: bool = True
    needed: bool = False


def examine(
    checkpoint: str = DEFAULT, device: str = "auto", backend: str = "auto"
) -> Iterator[Finding]:
    """Look at everything, one finding after the other; nothing that is broken stops it.

    Args:
        checkpoint, device, backend: what to sample one frame with, as ``mocogen sample`` takes
            them.
    """
    yield Finding("versions", "mocogen", __version__)
    yield Finding("versions", "python", platform.python_version())
    yield Finding("versions", "system", platform.platform())
    for name in PACKAGES:
        yield _version(name)
    yield _tried("torch", "torch", _torch)
    yield _tried("torch", "devices", _devices)
    yield _tried("backends", "installed", _backends)
    for suffix, encoder in ENCODERS.items():
        yield _tried("encoders", suffix, partial(_encode, suffix, encoder), needed=True)
    yield _tried("encoders", "ffmpeg", _ffmpeg)
    yield from _checkpoints()
    for extra, names in EXTRAS.items():
        missing = [name for name in names if _installed_version(name) is None]
        lacking = f"not installed ({', '.join(missing)}): pip install '.[{extra}]'"
        yield Finding("extras", extra, lacking if missing else "installed")
    yield _tried("sampling", checkpoint, partial(_sample, checkpoint, device, backend), needed=True)


def _tried(section: str, name: str, look: Callable[[], str], needed: bool = False) -> Finding:
    """What a look finds, or how it fails."""
    try:
        return Finding(section, name, look(), True, needed)
    except Exception as error:  # a broken installation fails in any way
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Finding(section, name, lines[0], False, needed)


def _installed_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _version(package: str) -> Finding:
    found = _installed_version(package)
    if found is None:
        return Finding("versions", package, f"missing: pip install {package}", ok=False)
    return Finding("versions", package, found)


def _torch() -> str:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    return f"{torch.__version__}, a build for {build}, {torch.get_num_threads()} threads"


def _devices() -> str:
    import torch

    names = [f"cpu ({os.cpu_count()} processors)"]
    for k in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        names.append(f"cuda:{k} ({torch.cuda.get_device_name(k)})")
    if torch.backends.mps.is_available():
        names.append("mps")
    return ", ".join(names)


def _backends() -> str:
    from .backend_choice import CPU_ONLY, NAMES

    there = [(name, _installed_version(CPU_ONLY.get(name, name))) for name in NAMES]
    return ", ".join(f"{name} {version}" for name, version in there if version)


def _encode(suffix: str, encoder: str) -> str:
    """Write two frames in a format, into a folder that goes away again."""
    import numpy as np

    from .video import ClipFormat, open_clip

    frames = np.zeros((2, 32, 32, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"clip{suffix}"
        with open_clip(path, ClipFormat(2, 32, 32, 25.0, {})) as writer:
            writer.write(frames)
        return f"{encoder}, {path.stat().st_size} bytes for two black frames"


def _ffmpeg() -> str:
    """The ffmpeg program: mocogen encodes without it, and people pipe to it."""
    path = shutil.which("ffmpeg")
    if path is None:
        return "no such program; mocogen does not need it"
    try:
        done = subprocess.run(
            [path, "-version"], capture_output=True, text=True, errors="replace", timeout=10,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return f"{path} does not run ({error}); mocogen does not need it"
    version = (done.stdout.splitlines() or ["no version"])[0].split(" Copyright")[0]
    return f"{version} at {path}"


def _checkpoints() -> Iterator[Finding]:
    from . import checkpoint

    shipped = checkpoint.shipped()
    if not shipped:
        folder = checkpoint.shipped_folder()
        yield Finding(
            "checkpoints", DEFAULT, f"no checkpoint in {folder}: install mocogen anew", False
        )

    for name, path in shipped.items():
        yield _tried("checkpoints", name, partial(_checkpoint, path))


def _checkpoint(path: Path) -> str:
    from . import checkpoint, flow_checkpoint

    if flow_checkpoint.kind_of(path) == flow_checkpoint.KIND:
        what = f"for smoothing, width {flow_checkpoint.load(path)[0].width}"
    else:
        spec, _ = checkpoint.read(path)
        what = f"{spec.image_size}x{spec.image_size}, {', '.join(spec.actions) or 'no actions'}"
    return f"{what}; {path.stat().st_size / 1e6:.1f} MB at {path}"


def _sample(checkpoint: str, device: str, backend: str) -> str:
    from . import synthesis

    start = perf_counter()
    model = synthesis.load(checkpoint, device, backend)
    model.sample(frames=1, seed=0)
    seconds = perf_counter() - start
    chosen = model.backend
    return f"one frame by backend {chosen.name} on {chosen.device}, in {seconds:.1f} s with loading"
