"""The networks in torch, on any device that torch knows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import checkpoint
from .backends import CPU_BLOCKS, Blocks, Floats, Inputs, Pending, Tensors
from .devices import choose_device
from .errors import UsageError
from .generator import to_pixels
from .spec import ModelSpec

_BLOCKS = {
    "cpu": CPU_BLOCKS,
    "cuda": Blocks(images=256, clips=64, steps=16),
    "mps": Blocks(images=64, clips=16, steps=16),
}
_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_SETTINGS = threading.Lock()
"""Held while cuDNN's settings are not the caller's."""


class TorchBackend:
    """See :class:`mocogen.backends.Backend`."""

    name = "torch"

    def __init__(
        self, spec: ModelSpec, tensors: Tensors, device: str, precision: str = "fp32"
    ) -> None:
        target = choose_device(device)
        check_precision(precision, target.type)
        motion, generator = checkpoint.networks(spec, tensors)
        self.device = str(target)
        self.precision = precision
        self.blocks = _BLOCKS[target.type]
        self._cell = spec.cell
        self._range = spec.pixel_range
        # In double precision, which Apple's GPUs have not; the codes are few.
        self._home = torch.device("cpu") if target.type == "mps" else target
        self._motion = motion.requires_grad_(False).double().to(self._home)
        # Channels-last is a third faster than the default layout on CPUs, and what tensor
        # cores want.
        self._type = _TYPES[precision]
        self._generator = generator.folded().to(target, self._type)
        self._generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def start(self, hidden: Floats | None) -> Any:
        if hidden is None:
            return self._motion.initial_state(self.blocks.clips)
        h = self._inputs(hidden)
        return (h, torch.zeros_like(h)) if self._cell == "lstm" else h

    @torch.inference_mode()
    def unroll(
        self, noise: Floats, category: NDArray[np.int64] | None, state: Any
    ) -> tuple[Floats, Any]:
        with _as_asked(self._home):
            codes, state = self._motion.unroll(
                self._inputs(noise), len(noise), self._category(category), state
            )
        return codes.float().cpu().numpy(), state

    @torch.inference_mode()
    def feed_back(
        self, inputs: Inputs, category: NDArray[np.int64] | None, state: Any
    ) -> tuple[Floats, Inputs, Any]:
        given = self._inputs(inputs)
        with _as_asked(self._home):
            codes, (after, state) = self._motion.feed_back(
                given, self.blocks.steps, self._category(category), (given, state)
            )
        return codes.float().cpu().numpy(), after.cpu().numpy(), state

    @torch.inference_mode()
    def begin_images(self, latents: Floats) -> Pending:
        latent = torch.from_numpy(np.ascontiguousarray(latents)).to(self.device)
        latent = latent[:, :, None, None].to(self._type)
        latent = latent.contiguous(memory_format=torch.channels_last)
        device = torch.device(self.device)
        with _as_asked(device), _exact_convolutions(device):
            # Grey levels need more bits than bfloat16 has.
            made = self._generator(latent).float()
        pixels = to_pixels(made, *self._range)
        return lambda: pixels.cpu().numpy()

    def _inputs(self, array: Inputs) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float64)).to(self._home)

    def _category(self, category: NDArray[np.int64] | None) -> Tensor | None:
        return None if category is None else torch.from_numpy(category).to(self._home)


def _as_asked(device: torch.device) -> torch.autocast:
    """Computing in the precision of the parameters, whatever the caller's autocast says: a clip
    is its seed."""
    return torch.autocast(device.type, enabled=False)


@contextmanager
def _exact_convolutions(device: torch.device) -> Iterator[None]:
    """On CUDA: exact float32, where convolutions would otherwise round to 10 bits, and the same
    bits every time."""
    if device.type != "cuda":
        yield
        return
    # The settings are the whole process's. Two threads that set and restore them at once would
    # leave one's settings behind, or restore the caller's in the middle of the other's work.
    with _SETTINGS, torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


def check_precision(precision: str, device: str) -> None:
    """Refuse 16 bits where they gain nothing.

    Raises:
        UsageError: the device has float32 alone.
    """
    if precision != "fp32" and device != "cuda":
        raise UsageError(f"precision {precision} needs a CUDA GPU: use fp32 on {device}")
