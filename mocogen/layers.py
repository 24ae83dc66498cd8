"""A linear layer and recurrent cells, written by hand on tensor arithmetic.

The exercise of ECE 417 (fall 2020), MP6: the building blocks of a recurrent network without
``nn.Linear``, ``nn.LSTMCell`` or any of their functional forms. Parameter names, shapes and
gate orders are PyTorch's, so that weights move freely between the two, and
``mocogen verify-layers`` shows that the results do too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import Parameter

LSTMState = tuple[Tensor, Tensor]


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x W^T + b``: (..., in) to (..., out), for a weight (out, in) and a bias (out,)."""
    # Product and sum in one go: for the frames of a whole clip either is several megabytes,
    # and a second such tensor would take longer to fill than the product to compute.
    rows = torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight.t())
    return rows.reshape(*x.shape[:-1], len(bias))


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
    applied to all frames at once, and only :meth:`step` remains inside the loop over time. Those
    two are what a subclass overrides to compute something else: ``forward`` is one after the
    other, and networks go without it.

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

    @property
    def is_overridden(self) -> bool:
        """Whether :meth:`project` or :meth:`step` is a subclass's or this one cell's own, so that
        :meth:`unroll_in_place` computes something else."""
        own = [getattr(method, "__func__", None) for method in (self.project, self.step)]
        return own != [LSTMCell.project, LSTMCell.step]

    @torch.no_grad()
    def unroll_in_place(
        self, x: Tensor, n_frames: int, state: LSTMState
    ) -> tuple[Tensor, LSTMState]:
        """This class's :meth:`project`, and its :meth:`step` many times, faster: no gradient
        passes through it.

        All steps share one piece of memory, which is cut into the four gates once, clips side by
        side, so that a gate is one run of numbers; and one sigmoid serves all of them:
        tanh(x) = 2 sigmoid(2x) - 1, with the doubling done in the weights, where it is exact.
        One matrix product takes the state, the input and, by a row of ones, the bias. That takes
        a third off a step of 64 clips; a single clip goes through :meth:`_unroll_one`
        (``benchmarks/motion_unroll.py``). Rounding errors stay of the size of ``nn.LSTM``'s:
        after 10,000 steps, 1e-6 where that has 5e-7.

        Args:
            x: (n_frames, batch, input_size), or (batch, input_size) for every frame alike.
            n_frames: number of steps, at least 1.
            state: h and c, each (batch, hidden_size); left as they are.

        Returns:
            The hidden states (n_frames, batch, hidden_size), and h and c after the last step.
        """
        # What is recorded or compiled is torch's operations: numpy's results would be constants.
        recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()
        on_cpu = x.device.type == "cpu" and x.dtype == torch.float32
        if len(state[0]) == 1 and on_cpu and not recorded:
            hidden, c = self._unroll_one(x.expand(n_frames, 1, -1)[:, 0], state)
            return hidden[:, None], (hidden[-1:].clone(), c)
        n, batch = self.hidden_size, len(state[0])
        bias = (self.bias_ih + self.bias_hh)[:, None]
        weight = torch.cat([self.weight_hh, self.weight_ih, bias], dim=1)
        weight[2 * n : 3 * n] *= 2

        # For every frame: the state before it, its input, and the ones that the bias counts by.
        frames = weight.new_ones(n_frames + 1, weight.shape[1], batch)
        frames[0, :n] = state[0].t()
        frames[:-1, n:-1] = x.expand(n_frames, batch, -1).transpose(1, 2)
        hidden = frames[1:, :n]
        c = state[1].t().clone(memory_format=torch.contiguous_format)
        gates, squashed = weight.new_empty(4 * n, batch), torch.empty_like(c)
        i, f, g, o = gates.chunk(4)
        for frame, h_next in zip(frames[:-1].unbind(0), hidden.unbind(0), strict=True):
            torch.mm(weight, frame, out=gates).sigmoid_()
            c.mul_(f).sub_(i).addcmul_(i, g, value=2)  # f c + i (2g - 1)
            torch.mul(o, torch.tanh(c, out=squashed), out=h_next)
        # A copy, so that the inputs need not be kept for as long as the states are.
        return hidden.transpose(1, 2).contiguous(), (hidden[-1].t().clone(), c.t().clone())

    def _unroll_one(self, x: Tensor, state: LSTMState) -> tuple[Tensor, Tensor]:
        """:meth:`unroll_in_place` of one clip on a CPU: x (n_frames, input_size) to all h, last c.

        A step is seven operations on a few hundred numbers. Torch takes longer to call one than
        the processor to compute it, and numpy a third of that. With the gates in the order i,
        f, o, g and sigmoid(x) = (1 + tanh(x/2)) / 2, one tanh serves all of them; its halving
        is done in the weights, and h stands doubled, where both are exact.
        """
        n, dtype = self.hidden_size, np.float32
        order = torch.arange(4 * n).view(4, n)[[0, 1, 3, 2]].flatten()
        halved = torch.ones(4 * n, dtype=x.dtype)
        halved[: 3 * n] = 0.5
        bias = (self.bias_ih + self.bias_hh)[:, None]
        stacked = torch.cat([self.weight_hh / 2, self.weight_ih, bias], dim=1)
        weight = (stacked[order] * halved[:, None]).t().contiguous().numpy()

        # A row a frame: the state before it, its input, and the one that the bias counts by.
        frames = torch.ones(len(x) + 1, len(weight), dtype=x.dtype)
        frames[0, :n] = 2 * state[0][0]
        frames[:-1, n:-1] = x
        rows = frames.numpy()
        sums, squashed_cell = np.empty(4 * n, dtype), np.empty(n, dtype)
        gates_and_cell = np.empty(5 * n, dtype)  # i, f, o, g and c side by side
        gates, sigmoids = gates_and_cell[: 4 * n], gates_and_cell[: 3 * n]
        in_and_forget, new_and_old = gates_and_cell[: 2 * n], gates_and_cell[3 * n :]
        output, cell = gates_and_cell[2 * n : 3 * n], gates_and_cell[4 * n :]
        cell[:] = state[1][0].detach().numpy()
        parts = np.empty((2, n), dtype)  # i g and f c, doubled
        both_parts, mean = parts.reshape(-1), np.full(2, 0.5, dtype).dot
        ones = np.ones(3 * n, dtype)
        tanh, add, multiply = np.tanh, np.add, np.multiply
        for row, h_next in zip(list(rows[:-1]), list(rows[1:, :n]), strict=True):
            row.dot(weight, sums)
            tanh(sums, gates)
            add(sigmoids, ones, sigmoids)
            multiply(in_and_forget, new_and_old, both_parts)
            mean(parts, cell)
            tanh(cell, squashed_cell)
            multiply(output, squashed_cell, h_next)
        return frames[1:, :n] / 2, torch.from_numpy(cell.copy())[None]

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
        sizes = [2 * self.hidden_size, self.hidden_size]
        x_gates, x_n = projected.split(sizes, dim=1)
        h_gates, h_n = torch.addmm(self.bias_hh, h, self.weight_hh.t()).split(sizes, dim=1)
        reset, update = torch.sigmoid(x_gates + h_gates).chunk(2, dim=1)
        candidate = torch.tanh(x_n + reset * h_n)
        return candidate + update * (h - candidate)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """One step: ``x`` (batch, input_size), ``state`` (batch, hidden_size)."""
        return self.step(self.project(x), state)
