"""Checkpoints of voxel flow networks: the same format as a sampler's, of another kind.

One safetensors file: the tensors of :class:`~mocogen.voxel_flow.VoxelFlow` under ``flow.*``,
and a :class:`FlowSpec` as JSON in the metadata entry that :mod:`mocogen.checkpoint` uses.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import KEY, check_values, fill, read_metadata, whole_tensors
from .errors import MocogenError
from .files import atomic_path
from .spec import FORMAT, PLAIN, SAMPLER, is_plain, values_of

if TYPE_CHECKING:
    from .voxel_flow import VoxelFlow

KIND = "voxel-flow"
DEFAULT = "smooth"
"""The shipped checkpoint."""

_WIDEST = 256
"""Of the channels: a small file must not ask for gigabytes of memory."""
_PREFIX = "flow."


@dataclass(frozen=True)
class FlowSpec:
    """What a checkpoint of a voxel flow network says of itself.

    Attributes:
        width: channels of the network at full size.
        name: what the network is called.
        data: what it was trained on.
        license: the terms of the weights, as far as they are known.
        training: how it was trained (recipe, seed, hours, versions, ...), free of form.
        kind: always ``KIND``.
        format: version of the metadata.
    """

    width: int
    name: str = "unnamed"
    data: str = "unknown"
    license: str = "unknown"
    training: dict[str, Any] = field(default_factory=dict)
    kind: str = KIND
    format: int = FORMAT

    def check(self) -> None:
        """Refuse values that no network can be built from.

        Raises:
            MocogenError: names one.
        """
        if type(self.width) is not int or not 0 < self.width <= _WIDEST:
            raise MocogenError(f"impossible value: width = {self.width!r}")
        if not is_plain(self.name):
            raise MocogenError(f"impossible value: name = {self.name!r} ({PLAIN})")

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def kind_of(path: Path) -> str:
    """The kind of a checkpoint: a sampler, or a voxel flow network.

    Raises:
        MocogenError: the file is no checkpoint of mocogen's.
    """
    try:
        values = json.loads(read_metadata(path))
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise MocogenError(f"cannot use {path}: its metadata cannot be read: it is damaged")
    return str(values.get("kind", SAMPLER))


def read_spec(path: Path) -> FlowSpec:
    """The metadata alone, without torch.

    Raises:
        MocogenError: the file is no checkpoint of mocogen's, of another kind, of a later
            format, or its metadata makes no sense.
    """
    try:
        values = values_of(read_metadata(path))
    except MocogenError as error:
        raise MocogenError(f"cannot use {path}: {error}") from None
    kind = values.get("kind", SAMPLER)
    if kind == SAMPLER:
        raise MocogenError(
            f"{path} samples clips and cannot smooth them: give a checkpoint of the recipe "
            f"{KIND}, or leave --checkpoint out"
        )
    if kind != KIND:
        raise MocogenError(f"cannot use {path}: it is of a kind {kind!r} that is unknown here")
    known = {f.name for f in fields(FlowSpec)}
    try:
        spec = FlowSpec(**{key: value for key, value in values.items() if key in known})
    except TypeError:
        raise MocogenError(f"cannot use {path}: its metadata lacks the width") from None
    try:
        spec.check()
    except MocogenError as error:
        raise MocogenError(f"cannot use {path}: its metadata has an {error}") from None
    return spec


def load(path: Path) -> tuple[FlowSpec, VoxelFlow]:
    """A checkpoint's spec and its network, on the CPU, in eval mode.

    Raises:
        MocogenError: as :func:`read_spec`, or tensors are missing, unexpected, of another
            shape than the metadata says, or have values that are not finite.
    """
    import torch
    from safetensors.torch import load_file

    from .voxel_flow import VoxelFlow

    spec = read_spec(path)
    with whole_tensors(path):
        tensors = {
            key.removeprefix(_PREFIX): value.float() for key, value in load_file(path).items()
        }
    with torch.random.fork_rng(devices=[]):
        network = VoxelFlow(spec.width)
    fill(network, tensors, str(path))
    check_values({key: value.numpy() for key, value in tensors.items()}, str(path))
    return spec, network.eval().requires_grad_(False)


def save(path: Path, spec: FlowSpec, network: VoxelFlow) -> None:
    """Write a checkpoint, whole or not at all: kernels in float16, biases in float32.

    Raises:
        MocogenError: it cannot be written.
    """
    import torch
    from safetensors.torch import save_file

    # Contiguous: the package refuses other layouts, such as channels-last.
    tensors = {}
    for key, value in network.state_dict().items():
        kind = torch.float16 if value.ndim > 1 else torch.float32
        tensors[_PREFIX + key] = value.detach().to("cpu", kind).contiguous()
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={KEY: spec.to_json()})
