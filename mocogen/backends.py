"""What every backend is: something that computes the two networks of a checkpoint.

A backend works on numpy arrays in blocks of one fixed shape. Latents are made before it, in
numpy, so they are the same bits for every backend, and the motion network is computed in double
precision, so that roundings do not become other movements; frames differ by one grey level at
most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Tensors = dict[str, Floats]
Inputs = Floats | NDArray[np.float64]
"""What goes into the motion network: noise, or its own outputs in the precision that they have."""

State = Any
"""What a backend carries from one block of frames to the next."""

Pending = Callable[[], NDArray[np.uint8]]
"""Frames in the making: called, it waits for them, (images, height, width, 3)."""

PRECISIONS = ("fp32", "fp16", "bf16")
"""What the image generator computes in: float32, or 16 bits, on a CUDA GPU alone."""


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
