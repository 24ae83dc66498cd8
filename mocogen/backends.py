"""What computes the networks: torch on any device, ONNX Runtime or OpenVINO on a CPU.

A backend works on numpy arrays in blocks of one fixed shape. Latents are made before it, in
numpy, so they are the same bits for every backend, and the motion network is computed in double
precision, so that roundings do not become other movements; frames differ by one grey level at
most.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import MocogenError, UsageError
from .spec import ModelSpec

Floats = NDArray[np.float32]
Tensors = dict[str, Floats]
Inputs = Floats | NDArray[np.float64]
"""What goes into the motion network: noise, or its own outputs in the precision that they have."""

State = Any
"""What a backend carries from one block of frames to the next."""

Pending = Callable[[], NDArray[np.uint8]]
"""Frames in the making: called, it waits for them, (images, height, width, 3)."""

NAMES = ("auto", "torch", "onnx", "openvino")

PRECISIONS = ("fp32", "fp16", "bf16")
"""What the image generator computes in: float32, or 16 bits, on a CUDA GPU alone."""

CPU_ONLY = {"onnx": "onnxruntime", "openvino": "openvino"}
"""The backends that run on a CPU alone, with the package of each; the best one first."""


@dataclass(frozen=True)
class Blocks:
    """The fixed shapes: the generator makes ``images`` frames at once, the motion network
    ``steps`` frames of ``clips`` clips. Chosen by measurement (``benchmarks/blocks.py``).
    """

    images: int
    clips: int
    steps: int


CPU_BLOCKS = Blocks(images=16, clips=8, steps=16)


class Backend(Protocol):
    """The two networks of a checkpoint on one device.

    Attributes:
        name: "torch", "onnx" or "openvino".
        device: what the networks run on, such as "cpu" or "cuda:0".
        precision: one of ``PRECISIONS``.
        blocks: the shapes that :meth:`unroll` and :meth:`begin_images` want.
    """

    name: str
    device: str
    precision: str
    blocks: Blocks

    def start(self, hidden: Floats | None) -> State:
        """A state before the first frame: zeros, or ``hidden`` of (clips, hidden) for h."""

    def unroll(
        self, noise: Floats, category: NDArray[np.int64] | None, state: State
    ) -> tuple[Floats, State]:
        """Noise (steps, clips, noise) and actions (clips,) to codes (steps, clips, motion),
        computed in double precision."""

    def feed_back(
        self, inputs: Inputs, category: NDArray[np.int64] | None, state: State
    ) -> tuple[Floats, Inputs, State]:
        """As :meth:`unroll` from inputs of (clips, noise), the network's output being its next
        input; returns the codes, the next inputs and the state."""

    def begin_images(self, latents: Floats) -> Pending:
        """Begin to make frames of latents (images, input), and do not wait for them."""


def open_backend(
    name: str, device: str, spec: ModelSpec, tensors: Tensors, precision: str = "fp32"
) -> Backend:
    """A backend for the networks of a checkpoint.

    ``auto`` on a CPU is the first of ``CPU_ONLY`` that is installed: they start a second
    sooner than torch and are as fast afterwards (docs/speed.md). It never depends on what is
    to be sampled, for a clip is its seed.

    Args:
        name: one of ``NAMES``.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        spec: sizes of the networks.
        tensors: their parameters, as :func:`mocogen.checkpoint.read` gives them.
        precision: one of ``PRECISIONS``.

    Raises:
        UsageError: unknown names, or a backend or a precision that cannot be had on the device.
        MocogenError: the backend or the device is not there.
    """
    if name not in NAMES:
        raise UsageError(f"unknown backend {name!r}: use one of {', '.join(NAMES)}")
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}: use one of {', '.join(PRECISIONS)}")
    if name == "auto":
        on_cpu = device == "cpu" or (device == "auto" and not _may_have_gpu())
        # Torch says itself why a CPU has no other precision.
        on_cpu = on_cpu and precision == "fp32"
        name = next(filter(_installed, CPU_ONLY), "torch") if on_cpu else "torch"
    elif name in CPU_ONLY:
        if device not in ("auto", "cpu"):
            raise UsageError(f"backend {name} runs on the CPU, not on {device}: use torch there")
        if precision != "fp32":
            raise UsageError(f"precision {precision} needs a CUDA GPU: backend {name} has fp32")
        if not _installed(name):
            raise MocogenError(f"backend {name} is not there: run `pip install {CPU_ONLY[name]}`")
    if name == "onnx":
        from .onnx_backend import OnnxBackend

        return OnnxBackend(spec, tensors)
    if name == "openvino":
        from .openvino_backend import OpenVinoBackend

        return OpenVinoBackend(spec, tensors)
    from .torch_backend import TorchBackend

    return TorchBackend(spec, tensors, device, precision)


def _installed(name: str) -> bool:
    return importlib.util.find_spec(CPU_ONLY[name]) is not None


def _may_have_gpu() -> bool:
    """Whether torch should be asked for a GPU: a look that takes no second, unlike torch."""
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None
