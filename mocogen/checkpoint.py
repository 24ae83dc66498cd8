"""mocogen's own checkpoint format, and the checkpoints that ship with the package.

A checkpoint is one safetensors file: the tensors ``generator.*`` and ``motion.*``,
``content.regions`` where contents are mapped (:mod:`mocogen.mapping`), and the metadata entry
``mocogen``, a JSON object that holds a :class:`~mocogen.spec.ModelSpec`. Nothing in it is code,
so opening one from a stranger is safe.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import MocogenError, printable
from .files import atomic_path
from .spec import REGIONS, ModelSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .backends import Floats, Tensors
    from .generator import Generator
    from .motion import MotionNetwork

DEFAULT = "weizmann"
KEY = "mocogen"
"""The metadata entry of a checkpoint of any kind."""

_DTYPES = ("F16", "F32")
_LONGEST_HEADER = 100_000_000
"""In bytes; the safetensors package has the same bound."""


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


def read_spec(path: str | Path) -> ModelSpec:
    """The metadata alone, without reading a tensor or importing torch.

    Raises:
        MocogenError: the file is no checkpoint of mocogen's, or of another kind.
    """
    return _spec_of(read_metadata(Path(path)), str(path))


def _spec_of(text: str, where: str) -> ModelSpec:
    try:
        return ModelSpec.from_json(text)
    except MocogenError as error:
        raise MocogenError(f"cannot use {where}: {error}") from None


def read_metadata(path: Path) -> str:
    """The JSON object that a checkpoint of any kind says of itself, as text.

    It stands in a safetensors file's header: eight bytes that tell its length, and a JSON object
    (https://huggingface.co/docs/safetensors, "Format"). Read here because the safetensors package
    imports numpy for it, which is half the time of ``mocogen info``.

    Raises:
        MocogenError: the file is no checkpoint of mocogen's.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            start = file.read(8)
            length = int.from_bytes(start, "little")
            header = file.read(length) if length <= _LONGEST_HEADER else b""
    except OSError as error:
        raise MocogenError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        entries = json.loads(header)
        metadata = entries.pop("__metadata__", {})
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        whole = size == 8 + length + end
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        whole = False
    if not whole:
        raise MocogenError(not_safetensors(path, start))
    if not isinstance(metadata, dict) or KEY not in metadata:
        raise MocogenError(
            f"{path} is a safetensors file, but not a mocogen checkpoint: "
            f"it has no {KEY!r} metadata"
        )
    return str(metadata[KEY])


def not_safetensors(path: Path, start: bytes) -> str:
    """What to say of a file that begins with these 8 bytes and is no whole safetensors file."""
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return (
            f"{path} is a torch-saved file: sample from it with --generator and --motion, or "
            "turn it into a checkpoint with `mocogen convert`"
        )
    if len(start) == 8 and 0 < int.from_bytes(start, "little") <= _LONGEST_HEADER:
        return f"{path} is a damaged or cut-off safetensors file: fetch it again"
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


def layout(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that networks of a spec's sizes have."""
    rows = {"lstm": 4, "gru": 3}[spec.cell] * spec.hidden
    shapes: dict[str, tuple[int, ...]] = {
        f"motion.{spec.cell}.weight_ih": (rows, spec.noise + spec.motion_categories),
        f"motion.{spec.cell}.weight_hh": (rows, spec.hidden),
        f"motion.{spec.cell}.bias_ih": (rows,),
        f"motion.{spec.cell}.bias_hh": (rows,),
    }
    if spec.head:
        shapes |= {
            "motion.linear.weight": (spec.motion, spec.hidden),
            "motion.linear.bias": (spec.motion,),
            "motion.bn.running_mean": (spec.motion,),
            "motion.bn.running_var": (spec.motion,),
        }
    if spec.regions:
        shapes[REGIONS] = (spec.regions, spec.content)
    inputs = spec.content + spec.motion + spec.generator_categories
    widths = [inputs, 8 * spec.width, 4 * spec.width, 2 * spec.width, spec.width, 3]
    for layer, (before, after) in enumerate(pairwise(widths)):
        kernel = spec.image_size // 16 if layer == 0 else 4
        shapes[f"generator.main.{3 * layer}.weight"] = (before, after, kernel, kernel)
        if layer < 4:
            for name in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"generator.main.{3 * layer + 1}.{name}"] = (after,)
    return shapes


@contextmanager
def whole_tensors(path: Path) -> Iterator[None]:
    """Turn what the safetensors package finds wrong with a file into a sentence.

    Raises:
        MocogenError: the body could not make sense of the file's tensors.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise MocogenError(f"cannot use {path}: its tensors are damaged ({error})") from None


def read(path: str | Path) -> tuple[ModelSpec, Tensors]:
    """A checkpoint's spec and its tensors as float32 arrays, without torch.

    Raises:
        MocogenError: the file is no checkpoint of mocogen's, tensors are missing, unexpected
            or of another shape than its metadata says, or their values are impossible.
    """
    from safetensors import safe_open

    path = Path(path)
    spec = read_spec(path)
    with whole_tensors(path), safe_open(path, framework="numpy") as file:
        kinds = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        check(layout(spec), {k: tuple(v.get_shape()) for k, v in kinds.items()}, str(path))
        strange = [k for k, v in kinds.items() if v.get_dtype() not in _DTYPES]
        if strange:
            raise MocogenError(
                f"cannot use {path}: tensors that are not of {', '.join(_DTYPES)}: {_some(strange)}"
            )
        tensors = {key: file.get_tensor(key).astype("float32") for key in kinds}
    check_values(tensors, str(path))
    return spec, tensors


def load(path: str | Path) -> tuple[ModelSpec, MotionNetwork, Generator]:
    """A checkpoint's spec and its networks in torch, on the CPU, in eval mode.

    Raises:
        MocogenError: as :func:`read`.
    """
    spec, tensors = read(path)
    return spec, *networks(spec, tensors)


def networks(spec: ModelSpec, tensors: Tensors) -> tuple[MotionNetwork, Generator]:
    """Networks in torch that hold the tensors of :func:`read`."""
    import torch

    motion, generator = build_blank(spec)
    for prefix, module in (("motion.", motion), ("generator.", generator)):
        part = {
            k.removeprefix(prefix): torch.from_numpy(v)
            for k, v in tensors.items()
            if k.startswith(prefix)
        }
        fill(module, part, prefix[:-1])
    return motion, generator


def tensors_of(motion: MotionNetwork, generator: Generator) -> Tensors:
    """The parameters of two networks, by the names that they have in a checkpoint."""
    return {
        f"{prefix}.{key}": value.detach().float().cpu().numpy()
        for prefix, module in (("motion", motion), ("generator", generator))
        for key, value in module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


def fill(module: nn.Module, tensors: dict[str, torch.Tensor], where: str) -> None:
    """Give a module of the same layout these tensors, in float32.

    They are without batch norm's ``num_batches_tracked``, which sampling never needs.

    Raises:
        MocogenError: names what is missing, unexpected or of another shape.
    """
    import torch

    own = module.state_dict()
    counters = {k for k in own if k.endswith("num_batches_tracked")}
    wanted = {k: tuple(v.shape) for k, v in own.items() if k not in counters}
    check(wanted, {k: tuple(v.shape) for k, v in tensors.items()}, where)
    floats = {key: value.float() for key, value in tensors.items()}
    zeros = {key: torch.zeros((), dtype=torch.long) for key in counters}
    module.load_state_dict({**zeros, **floats}, assign=True)


def check(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """Compare names and shapes of tensors.

    Raises:
        MocogenError: names what is missing, unexpected or of another shape.
    """
    faults = [
        f"{what} {_some(names)}"
        for what, names in (
            ("missing", [k for k in wanted if k not in found]),
            ("unexpected", [k for k in found if k not in wanted]),
            (
                "of another shape",
                [
                    f"{k} {found[k]} instead of {shape}"
                    for k, shape in wanted.items()
                    if k in found and found[k] != shape
                ],
            ),
        )
        if names
    ]
    if faults:
        raise MocogenError(f"cannot use {where}: tensors {'; '.join(faults)}")


def check_values(tensors: Tensors, where: str) -> None:
    """Refuse what no training ends in and no picture comes of.

    Raises:
        MocogenError: names tensors with values that are not finite, or variances below 0.
    """
    import numpy as np

    broken = [key for key, value in tensors.items() if not np.isfinite(value).all()]
    if broken:
        raise MocogenError(f"cannot use {where}: values that are not finite in {_some(broken)}")
    below = [k for k, v in tensors.items() if k.endswith("running_var") and (v < 0).any()]
    if below:
        raise MocogenError(f"cannot use {where}: variances below 0 in {_some(below)}")


def save(
    path: str | Path,
    spec: ModelSpec,
    motion: MotionNetwork,
    generator: Generator,
    half: bool = True,
    regions: Floats | None = None,
) -> None:
    """Write a checkpoint, whole or not at all.

    With ``half`` the weight matrices and kernels are stored in float16, which halves the
    file; biases, batch statistics and the content mapping's ``regions`` stay in float32.

    Raises:
        MocogenError: the file cannot be written, or :func:`read` would refuse it: the spec has
            impossible values, the networks or the regions are of other sizes than it says, the
            regions are missing or not wanted, or values are not finite (beyond 65504 in float16)
            or are variances below 0. Nothing is written then.
    """
    import numpy as np
    from safetensors.numpy import save_file

    metadata, where = spec.to_json(), f"the networks for {path}"
    _spec_of(metadata, where)
    found = tensors_of(motion, generator)
    if regions is not None:
        found[REGIONS] = regions
    check(layout(spec), {key: value.shape for key, value in found.items()}, where)
    with np.errstate(over="ignore"):  # told of below
        # In C's order: the package writes the memory as it lies there, whatever its strides say.
        tensors = {
            key: np.ascontiguousarray(
                value, "float16" if half and value.ndim > 1 and key != REGIONS else "float32"
            )
            for key, value in found.items()
        }
    check_values(tensors, where)
    with atomic_path(Path(path)) as temporary:
        save_file(tensors, temporary, metadata={KEY: metadata})


def _some(names: list[str], most: int = 4) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(printable, names[:most])) + rest
