"""ECE 417 MP6 under the course's own names: ``import mocogen.mp6 as mp6`` in its notebook.

The layers are mocogen's. Only the motion network differs in manner: the course keeps the
state in the module (``h``, ``c``), and every call starts from it and moves it on.
"""

from __future__ import annotations

from torch import Tensor

from . import motion
from .layers import Linear as MyLinear
from .layers import LSTMCell as MyLSTMCell

__all__ = ["LSTM", "MyLSTMCell", "MyLinear"]


class LSTM(motion.LSTM):
    """The course's ``LSTM(input_size, hidden_size)``, which remembers its state.

    Attributes:
        h, c: hidden and cell state, (batch, hidden_size); set by :meth:`initHidden`, and None
            before. They go where the network goes (``.to()``, ``.double()``), but are no part
            of its ``state_dict()``.
    """

    h: Tensor
    c: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.register_buffer("h", None, persistent=False)
        self.register_buffer("c", None, persistent=False)

    def initWeight(self, init_forget_bias: float = 1) -> None:
        """Xavier-uniform weights; forget-gate biases ``init_forget_bias``, other biases 0."""
        self.reset_parameters(init_forget_bias)

    def initHidden(self, batch_size: int) -> None:
        """Set ``h`` and ``c`` to zeros of (batch_size, hidden_size)."""
        self.h, self.c = self.lstm.initial_state(batch_size)

    def forward(self, inputs: Tensor, n_frames: int) -> Tensor:  # type: ignore[override]
        """Motion codes (n_frames, batch, input_size) from ``inputs`` (batch, input_size).

        Starts from ``h`` and ``c`` (zeros if :meth:`initHidden` was never called) and leaves
        the last ones there. In training mode each frame is normalised with its own batch
        statistics.
        """
        if self.h is None:
            self.initHidden(inputs.shape[-2])
        codes, (self.h, self.c) = self.unroll(inputs, n_frames, state=(self.h, self.c))
        return codes
