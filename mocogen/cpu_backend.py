"""What the backends outside torch share: blocks, states and threads on a CPU."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from .backends import CPU_BLOCKS, Floats, Pending
from .spec import ModelSpec

Parts = tuple[Floats, ...]
"""The state of a recurrent cell: h, and c of an LSTM, each (clips, hidden)."""


class CpuBackend(ABC):
    """Most of a :class:`mocogen.backends.Backend` that works on numpy arrays."""

    name: str
    device = "cpu"
    precision = "fp32"
    blocks = CPU_BLOCKS

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec

    def start(self, hidden: Floats | None) -> Parts:
        zeros = np.zeros((self.blocks.clips, self._spec.hidden), np.float32)
        h = zeros if hidden is None else hidden
        return (h, zeros) if self._spec.cell == "lstm" else (h,)

    def unroll(
        self, noise: Floats, category: NDArray[np.int64] | None, state: Parts
    ) -> tuple[Floats, Parts]:
        codes, _, after = self._motion(noise, category, state)
        return codes, after

    def feed_back(
        self, inputs: Floats, category: NDArray[np.int64] | None, state: Parts
    ) -> tuple[Floats, Floats, Parts]:
        made = []
        for _ in range(self.blocks.steps):
            codes, raw, state = self._motion(inputs[None], category, state)
            inputs = raw[0]
            made.append(codes)
        return np.concatenate(made), inputs, state

    @abstractmethod
    def begin_images(self, latents: Floats) -> Pending: ...

    @abstractmethod
    def _motion(
        self, noise: Floats, category: NDArray[np.int64] | None, state: Parts
    ) -> tuple[Floats, Floats, Parts]:
        """Noise (steps, clips, noise), where steps is ``blocks.steps`` or 1, and actions
        (clips,) to codes (steps, clips, motion), the same ahead of the batch norm, and the
        state after."""


def threads() -> int:
    """How many threads to compute with: ``OMP_NUM_THREADS``, as torch has it, or one a core
    that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
