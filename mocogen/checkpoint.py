"""mocogen's own checkpoint format, and the checkpoints that ship with the package.

A checkpoint is one safetensors file: the tensors ``generator.*`` and ``motion.*``, and the
metadata entry ``mocogen``, a JSON object that holds a :class:`~mocogen.spec.ModelSpec`.
Nothing in it is code, so opening one from a stranger is safe.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import MocogenError
from .files import atomic_path
from .spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .generator import Generator
    from .motion import MotionNetwork

DEFAULT = "weizmann"
_KEY = "mocogen"


def shipped_folder() -> Path:
    """Where the shipped checkpoints lie: in the installed package, or beside a source tree's."""
    package = Path(__file__).parent
    inside = package / "checkpoints"
    return inside if inside.is_dir() else package.parent / "checkpoints"


def shipped() -> dict[str, Path]:
    """The shipped checkpoints by name."""
    return {path.stem: path for path in sorted(shipped_folder().glob("*.safetensors"))}


def find(name_or_path: str | Path) -> Path:
    """The file of a shipped checkpoint's name or of a path.

    Raises:
        MocogenError: there is no such name or file.
    """
    known = shipped()
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    path = Path(name_or_path)
    if not path.is_file():
        raise MocogenError(
            f"no checkpoint {str(name_or_path)!r}: give the path of a .safetensors file or one of "
            f"the shipped names ({', '.join(known) or 'none'})"
        )
    return path


def sha256(path: Path) -> str:
    """The hash that names a checkpoint's content for good, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_spec(path: Path) -> ModelSpec:
    """The metadata alone, without reading a tensor or importing torch.

    Raises:
        MocogenError: the file is no checkpoint of mocogen's.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise MocogenError(_not_safetensors(path, error)) from None
    except OSError as error:
        raise MocogenError(f"cannot read {path}: {error.strerror or error}") from None
    if _KEY not in metadata:
        raise MocogenError(
            f"{path} is a safetensors file, but not a mocogen checkpoint: "
            f"it has no {_KEY!r} metadata"
        )
    try:
        return ModelSpec.from_json(metadata[_KEY])
    except MocogenError as error:
        raise MocogenError(f"cannot use {path}: {error}") from None


def _not_safetensors(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(8)
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return (
            f"{path} is a torch-saved file: sample from it with --generator and --motion, or "
            "turn it into a checkpoint with `mocogen convert`"
        )
    if len(start) == 8 and 0 < struct.unpack("<Q", start)[0] < 100_000_000:
        return f"{path} is a damaged or cut-off safetensors file ({error}): fetch it again"
    return f"{path} is not a mocogen checkpoint (a safetensors file)"


def build(spec: ModelSpec) -> tuple[MotionNetwork, Generator]:
    """Fresh networks of a spec's sizes, in eval mode; draws from torch's random numbers."""
    from .generator import Generator
    from .motion import MotionNetwork

    motion = MotionNetwork(
        noise=spec.noise,
        hidden=spec.hidden,
        motion=spec.motion,
        categories=spec.motion_categories,
        cell=spec.cell,
        head=spec.head,
    )
    generator = Generator(
        latent_size=spec.content + spec.motion,
        categories=spec.generator_categories,
        width=spec.width,
        image_size=spec.image_size,
    )
    return motion.eval(), generator.eval()


def build_blank(spec: ModelSpec) -> tuple[MotionNetwork, Generator]:
    """Networks whose values are to be overwritten: torch's random numbers stay as they were.

    (The device "meta" would save the initialisation, but its first use imports hundreds of
    modules, which takes longer.)
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        return build(spec)


def load(path: Path) -> tuple[ModelSpec, MotionNetwork, Generator]:
    """Read a checkpoint: its spec and its networks, float32, on the CPU, in eval mode.

    Raises:
        MocogenError: the file is no checkpoint of mocogen's, or tensors are missing,
            unexpected or of another shape than its metadata says.
    """
    from safetensors.torch import load_file

    spec = read_spec(path)
    tensors = load_file(path)
    motion, generator = build_blank(spec)
    for prefix, module in (("motion.", motion), ("generator.", generator)):
        part = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        fill(module, part, f"{path} ({prefix[:-1]})")
    strangers = [k for k in tensors if not k.startswith(("motion.", "generator."))]
    if strangers:
        raise MocogenError(f"cannot use {path}: unexpected tensors {_some(strangers)}")
    return spec, motion, generator


def fill(module: nn.Module, tensors: dict[str, torch.Tensor], where: str) -> None:
    """Give a module of the same layout these tensors, in float32.

    Batch norm's ``num_batches_tracked`` may be missing: sampling never needs it, and files
    from PyTorch 0.2 do not have it.

    Raises:
        MocogenError: names what is missing, unexpected or of another shape.
    """
    import torch

    own = module.state_dict()
    optional = {key for key in own if key.endswith("num_batches_tracked")}
    missing = [key for key in own if key not in tensors and key not in optional]
    unexpected = [key for key in tensors if key not in own]
    differing = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    faults = [
        f"{what} {_some(keys)}"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", differing),
        )
        if keys
    ]
    if faults:
        raise MocogenError(f"cannot use {where}: tensors {'; '.join(faults)}")
    counters = {key: torch.zeros((), dtype=torch.long) for key in optional}
    floats = {key: tensors[key].float() for key in own if key not in optional}
    module.load_state_dict({**counters, **floats}, assign=True)


def save(
    path: Path,
    spec: ModelSpec,
    motion: MotionNetwork,
    generator: Generator,
    half: bool = True,
) -> None:
    """Write a checkpoint, whole or not at all.

    With ``half`` the weight matrices and kernels are stored in float16, which halves the
    file; biases and batch statistics stay in float32.
    """
    import torch
    from safetensors.torch import save_file

    tensors = {}
    for prefix, module in (("motion.", motion), ("generator.", generator)):
        for key, value in module.state_dict().items():
            if key.endswith("num_batches_tracked"):
                continue
            short = half and value.dim() > 1
            kept = value.detach().to("cpu", torch.float16 if short else torch.float32)
            tensors[prefix + key] = kept.contiguous()
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: spec.to_json()})


def _some(names: list[str], most: int = 4) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
