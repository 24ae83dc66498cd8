"""A checkpoint's tensors as the runtimes outside torch want them, in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .backends import Floats, Tensors

_BN_EPSILON = np.float32(1e-5)  # torch's own
_Array = TypeVar("_Array", Floats, NDArray[np.float64])


@dataclass(frozen=True)
class Layer:
    """One transposed convolution of the generator, with the batch norm after it folded in.

    Attributes:
        kernel: (inputs, outputs, height, width).
        shift: (outputs,), to add before the ReLU; None at the last layer, which has neither.
        stride, pad: in pixels, along both axes.
    """

    kernel: Floats
    shift: Floats | None
    stride: int
    pad: int


def generator_layers(tensors: Tensors) -> list[Layer]:
    """The generator's five layers, from the latent to the pixels."""
    layers = []
    for index in (0, 3, 6, 9, 12):
        kernel = tensors[f"generator.main.{index}.weight"]
        shift = None
        if index < 12:
            norm = f"generator.main.{index + 1}"
            scale = tensors[f"{norm}.weight"] / np.sqrt(
                tensors[f"{norm}.running_var"] + _BN_EPSILON
            )
            shift = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
            kernel = kernel * scale[None, :, None, None]
        layers.append(Layer(kernel, shift, *((1, 0) if index == 0 else (2, 1))))
    return layers


def motion_spread(variance: _Array) -> _Array:
    """What the motion network's batch norm divides by, in eval mode, of its running variance:
    (motion,) both."""
    return np.sqrt(variance + variance.dtype.type(_BN_EPSILON))


def gate_rows(hidden: int, order: tuple[int, ...]) -> NDArray[np.int64]:
    """Indices that put a cell's gates, ``hidden`` rows each, into another order."""
    return np.concatenate([np.arange(hidden) + gate * hidden for gate in order])
