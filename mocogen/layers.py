"""A linear layer and recurrent cells, written by hand on tensor arithmetic.

The exercise of ECE 417 (fall 2020), MP6: the building blocks of a recurrent network without
``nn.Linear``, ``nn.LSTMCell`` or any of their functional forms. Parameter names, shapes and
gate orders are PyTorch's, so that weights move freely between the two, and
``mocogen verify-layers`` shows that the results do too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import Parameter

LSTMState = tuple[Tensor, Tensor]


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x W^T + b``: (..., in) to (..., out), for a weight (out, in) and a bias (out,)."""
    # The product is a fresh tensor that nothing else has seen, so the bias can go in there.
    # A second tensor for the sum would take longer than the product: for many frames both
    # are several megabytes, and memory from the system is slow the first time it is touched.
    return (x @ weight.t()).add_(bias)


class Linear(nn.Module):
    """An affine map, ``y = x W^T + b``.

    Parameters (float, initialised by :meth:`reset_parameters`):
        weight: (out_features, in_features).
        bias: (out_features,).
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(torch.empty(out_features, in_features))
        self.bias = Parameter(torch.empty(out_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform weight (Glorot and Bengio 2010, eq. 16), zero bias."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` of shape (..., in_features) to (..., out_features)."""
        return affine(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"


class RecurrentCell(nn.Module):
    """What the gated cells share: stacked gate weights, and an input projection of its own.

    The input's share of the gates does not depend on the state, so :meth:`project` can be
    applied to all frames at once, and only :meth:`step` remains inside the loop over time.

    Parameters, with ``gates`` blocks of ``hidden_size`` rows one upon the other:
        weight_ih: (gates * hidden_size, input_size).
        weight_hh: (gates * hidden_size, hidden_size).
        bias_ih, bias_hh: (gates * hidden_size,).
    """

    gates: int

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        rows = self.gates * hidden_size
        self.weight_ih = Parameter(torch.empty(rows, input_size))
        self.weight_hh = Parameter(torch.empty(rows, hidden_size))
        self.bias_ih = Parameter(torch.empty(rows))
        self.bias_hh = Parameter(torch.empty(rows))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform weights, zero biases."""
        nn.init.xavier_uniform_(self.weight_ih)
        nn.init.xavier_uniform_(self.weight_hh)
        nn.init.zeros_(self.bias_ih)
        nn.init.zeros_(self.bias_hh)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class LSTMCell(RecurrentCell):
    """A long short-term memory cell (Hochreiter and Schmidhuber 1997; forget gate: Gers 2000).

    The rows of every parameter belong, a ``hidden_size`` at a time, to the input gate, the
    forget gate, the cell candidate and the output gate (i, f, g, o), as in ``nn.LSTMCell``.
    """

    gates = 4

    def reset_parameters(self, forget_bias: float = 1.0) -> None:
        """Xavier-uniform weights; both biases ``forget_bias`` at the forget gate, else 0.

        A positive forget bias lets the memory survive the first steps of training
        (Jozefowicz et al. 2015). It stands in both biases, as in the course, so the gate
        starts with twice the value.
        """
        super().reset_parameters()
        forget = slice(self.hidden_size, 2 * self.hidden_size)
        with torch.no_grad():
            self.bias_ih[forget] = forget_bias
            self.bias_hh[forget] = forget_bias

    def initial_state(self, batch_size: int) -> LSTMState:
        """Zeros for h and c, each (batch_size, hidden_size), on the parameters' device."""
        zeros = self.weight_hh.new_zeros(batch_size, self.hidden_size)
        return zeros, zeros.clone()

    def project(self, x: Tensor) -> Tensor:
        """The input's share of the gates: (..., input_size) to (..., 4 * hidden_size).

        Both biases are in it, so that a step need not add them.
        """
        return affine(x, self.weight_ih, self.bias_ih + self.bias_hh)

    def step(self, projected: Tensor, state: LSTMState) -> LSTMState:
        """One step from a projected input (batch, 4 * hidden_size) and a state (h, c)."""
        h, c = state
        gates = torch.addmm(projected, h, self.weight_hh.t())
        i, f, g, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c

    @torch.no_grad()
    def steps_in_place(self, projected: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Many steps at once, for sampling: no gradient passes through them.

        The arithmetic is :meth:`step`'s. What is saved is everything around it: the gates of
        all steps share one piece of memory, cut into i, f, g and o once. A step of one clip
        takes half the time so, one of 64 clips a sixth less (``benchmarks/motion_unroll.py``).

        Args:
            projected: (n, batch, 4 * hidden_size), from :meth:`project`; left as it is.
            state: h and c, each (batch, hidden_size); left as they are.

        Returns:
            The hidden states (n, batch, hidden_size), and h and c after the last step.
        """
        h, c = state[0], state[1].clone()
        weight = self.weight_hh.t().contiguous()
        hidden = h.new_empty(len(projected), *h.shape)
        gates = torch.empty_like(projected[0])
        i, f, g, o = gates.chunk(4, dim=1)
        candidate, squashed = torch.empty_like(c), torch.empty_like(c)
        for frame, h_next in zip(projected.unbind(0), hidden.unbind(0), strict=True):
            torch.addmm(frame, h, weight, out=gates)
            torch.tanh(g, out=candidate)
            gates.sigmoid_()  # g's part is not needed, but one call is faster than three
            c.mul_(f).addcmul_(i, candidate)
            h = torch.mul(o, torch.tanh(c, out=squashed), out=h_next)
        return hidden, (h.clone(), c)

    def forward(self, x: Tensor, state: LSTMState) -> LSTMState:
        """One step: ``x`` (batch, input_size), ``state`` = (h, c), each (batch, hidden_size)."""
        return self.step(self.project(x), state)


class GRUCell(RecurrentCell):
    """A gated recurrent unit (Cho et al. 2014), in ``nn.GRUCell``'s variant and order r, z, n.

    mocogen trains LSTMs; this cell is here for the motion networks of DLHacks/mocogan and
    of the MoCoGAN authors.
    """

    gates = 3

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros of (batch_size, hidden_size), on the parameters' device."""
        return self.weight_hh.new_zeros(batch_size, self.hidden_size)

    def project(self, x: Tensor) -> Tensor:
        """The input's share of the gates: (..., input_size) to (..., 3 * hidden_size).

        The state's bias is not in it: the reset gate scales its candidate part.
        """
        return affine(x, self.weight_ih, self.bias_ih)

    def step(self, projected: Tensor, state: Tensor) -> Tensor:
        """One step from a projected input (batch, 3 * hidden_size) and a state h."""
        h = state
        x_r, x_z, x_n = projected.chunk(3, dim=1)
        h_r, h_z, h_n = torch.addmm(self.bias_hh, h, self.weight_hh.t()).chunk(3, dim=1)
        reset = torch.sigmoid(x_r + h_r)
        update = torch.sigmoid(x_z + h_z)
        candidate = torch.tanh(x_n + reset * h_n)
        return candidate + update * (h - candidate)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """One step: ``x`` (batch, input_size), ``state`` (batch, hidden_size)."""
        return self.step(self.project(x), state)
