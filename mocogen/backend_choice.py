"""Which backend computes the networks: torch on any device, ONNX Runtime or OpenVINO on a CPU."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from pathlib import Path

from .backends import PRECISIONS, Backend, Tensors
from .errors import MocogenError, UsageError
from .spec import ModelSpec

NAMES = ("auto", "torch", "onnx", "openvino")

CPU_ONLY = {"onnx": "onnxruntime", "openvino": "openvino"}
"""The backends that run on a CPU alone, with the package of each; the best one first."""


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
    # Not ahead of the choice: torch takes a second to import, and the others may not be there.
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
