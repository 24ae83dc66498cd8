"""What the backends outside torch share: the motion network, and the blocks of a CPU."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from .backends import CPU_BLOCKS, Floats, Inputs, Pending, Tensors
from .numpy_motion import NumpyMotion, Parts
from .spec import ModelSpec


class CpuBackend(ABC):
    """Most of a :class:`mocogen.backends.Backend` that works on numpy arrays."""

    name: str
    device = "cpu"
    precision = "fp32"
    blocks = CPU_BLOCKS

    def __init__(self, spec: ModelSpec, tensors: Tensors) -> None:
        self._spec = spec
        self._motion = NumpyMotion(spec, tensors)

    def start(self, hidden: Floats | None) -> Parts:
        zeros = np.zeros((self.blocks.clips, self._spec.hidden))
        h = zeros if hidden is None else hidden.astype(np.float64)
        return (h, zeros) if self._spec.cell == "lstm" else (h,)

    def unroll(
        self, noise: Floats, category: NDArray[np.int64] | None, state: Parts
    ) -> tuple[Floats, Parts]:
        codes, _, after = self._motion(noise, category, state)
        return codes, after

    def feed_back(
        self, inputs: Inputs, category: NDArray[np.int64] | None, state: Parts
    ) -> tuple[Floats, Inputs, Parts]:
        made = []
        for _ in range(self.blocks.steps):
            codes, raw, state = self._motion(inputs[None], category, state)
            inputs = raw[0]
            made.append(codes)
        return np.concatenate(made), inputs, state

    @abstractmethod
    def begin_images(self, latents: Floats) -> Pending: ...
