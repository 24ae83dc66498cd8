"""The motion network in numpy and double precision, for the backends that do without torch.

A recurrent network can make differences grow: where a movement may go on in two ways, a rounding
decides. In single precision two runtimes, which round differently, came to other movements now
and then, sometimes within two seconds. Doubles leave nine more digits to lose, and cost little
beside the image generator. The equations are those of :mod:`mocogen.layers` and
:mod:`mocogen.motion`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .backends import Floats, Inputs, Tensors
from .spec import ModelSpec
from .weights import motion_spread

Doubles = NDArray[np.float64]
Parts = tuple[Doubles, ...]
"""The state of a recurrent cell: h, and c of an LSTM, each (clips, hidden)."""


class NumpyMotion:
    """Noise and actions become motion codes.

    Args:
        spec: sizes of the network.
        tensors: its parameters, as :func:`mocogen.checkpoint.read` gives them.
    """

    def __init__(self, spec: ModelSpec, tensors: Tensors) -> None:
        part = {
            name.removeprefix(f"motion.{spec.cell}."): array.astype(np.float64)
            for name, array in tensors.items()
            if name.startswith("motion.")
        }
        self._categories = spec.motion_categories
        # A matrix for each gate, (gates, inputs, hidden): products so small stay in one thread,
        # where waiting for others would take longer than they do.
        self._from_input, self._from_state = (
            np.ascontiguousarray(part[name].reshape(-1, spec.hidden, part[name].shape[1]).mT)
            for name in ("weight_ih", "weight_hh")
        )
        self._biases = [part[n].reshape(-1, 1, spec.hidden) for n in ("bias_ih", "bias_hh")]
        self._step = self._lstm if spec.cell == "lstm" else self._gru
        self._head: tuple[Doubles, Doubles, Doubles, Doubles] | None = None
        if spec.head:
            names = ("linear.weight", "linear.bias", "bn.running_mean")
            weight, bias, mean = (part[f"motion.{name}"] for name in names)
            self._head = weight.T, bias, mean, motion_spread(part["motion.bn.running_var"])

    def __call__(
        self, noise: Inputs, category: NDArray[np.int64] | None, state: Parts
    ) -> tuple[Floats, Doubles, Parts]:
        """Noise (steps, clips, noise), actions (clips,) and the state before.

        Returns:
            Codes (steps, clips, motion), the same ahead of the batch norm, which is the next noise
            in the mode "feedback", and the state after.
        """
        inputs = np.asarray(noise, np.float64)
        if category is not None:
            one_hot = np.eye(self._categories)[category]
            wide = np.broadcast_to(one_hot, (len(inputs), *one_hot.shape))
            inputs = np.concatenate([inputs, wide], axis=2)
        hidden = []
        for projected in inputs[:, None] @ self._from_input + self._biases[0]:
            state = self._step(projected, state)
            hidden.append(state[0])
        raw = codes = np.stack(hidden)
        if self._head is not None:
            weight, bias, mean, spread = self._head
            raw = raw @ weight + bias
            codes = (raw - mean) / spread
        return codes.astype(np.float32), raw, state

    def _lstm(self, projected: Doubles, state: Parts) -> Parts:
        h, c = state
        into, forget, new, out = projected + (h @ self._from_state + self._biases[1])
        c = _sigmoid(forget) * c + _sigmoid(into) * np.tanh(new)
        return _sigmoid(out) * np.tanh(c), c

    def _gru(self, projected: Doubles, state: Parts) -> Parts:
        (h,) = state
        (reset, update, new), from_state = projected, h @ self._from_state + self._biases[1]
        reset, update = _sigmoid(reset + from_state[0]), _sigmoid(update + from_state[1])
        return ((1 - update) * np.tanh(new + reset * from_state[2]) + update * h,)


def _sigmoid(x: Doubles) -> Doubles:
    return 0.5 + 0.5 * np.tanh(0.5 * x)
