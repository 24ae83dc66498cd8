"""The motion network: noise in, a path through motion space out.

A recurrent cell turns a noise sequence into hidden states; a linear layer and a batch norm
turn every hidden state into the motion code of one frame (Tulyakov et al. 2018, section 3.1,
the network R_M; linear layer and batch norm as in ECE 417 MP6).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

from .errors import UsageError
from .layers import GRUCell, Linear, LSTMCell, LSTMState

State = Tensor | LSTMState
"""What is carried from frame to frame: (h, c) for an LSTM, h for a GRU."""


class MotionNetwork(nn.Module):
    """Noise and, optionally, an action become motion codes, one a frame.

    Members: ``lstm`` (or ``gru``), the cell; ``linear``, hidden to motion; ``bn``, batch norm
    over the motion code without learned scale; ``hidden_size``.

    To change what the cell computes, put one in its place whose ``project`` and ``step`` do it:
    these are what the network calls, with gradients and without, and never the cell's
    ``forward``.

    Args:
        noise: length of a noise vector.
        hidden: length of the hidden state.
        motion: length of a motion code.
        categories: number of actions. Their one-hot vector enters the cell beside the noise
            at every frame: the paper found that better than giving it to the generator
            (Motion Control Score 0.581 against 0.355, table 4).
        cell: "lstm", or "gru" for networks that others trained.
        head: whether a linear layer and a batch norm follow the cell. Without them the
            hidden state is the motion code, as in the authors' own network.

    Raises:
        UsageError: the cell is neither.
    """

    def __init__(
        self,
        noise: int,
        hidden: int,
        motion: int,
        categories: int = 0,
        cell: str = "lstm",
        head: bool = True,
    ) -> None:
        super().__init__()
        if cell not in ("lstm", "gru"):
            raise UsageError(f"unknown cell {cell!r}: use lstm or gru")
        self.noise_size = noise
        self.hidden_size = hidden
        self.motion_size = motion if head else hidden
        self.categories = categories
        if cell == "lstm":
            self.lstm = LSTMCell(noise + categories, hidden)
        else:
            self.gru = GRUCell(noise + categories, hidden)
        self.linear = Linear(hidden, motion) if head else None
        self.bn = nn.BatchNorm1d(motion, affine=False) if head else None

    @property
    def cell(self) -> LSTMCell | GRUCell:
        return self.lstm if hasattr(self, "lstm") else self.gru

    def reset_parameters(self, forget_bias: float = 1.0) -> None:
        """Initialise all weights anew; ``forget_bias`` as in ``LSTMCell.reset_parameters``."""
        if hasattr(self, "lstm"):
            self.lstm.reset_parameters(forget_bias)
        else:
            self.gru.reset_parameters()
        if self.linear is not None:
            self.linear.reset_parameters()

    def initial_state(self, batch_size: int) -> State:
        """A state of zeros: h (and c), each (batch_size, hidden_size)."""
        return self.cell.initial_state(batch_size)

    def forward(
        self,
        noise: Tensor,
        n_frames: int | None = None,
        category: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        """Motion codes of (n_frames, batch, motion): :meth:`unroll` without the last state."""
        return self.unroll(noise, n_frames, category, state)[0]

    def unroll(
        self,
        noise: Tensor,
        n_frames: int | None = None,
        category: Tensor | None = None,
        state: State | None = None,
    ) -> tuple[Tensor, State]:
        """Run the network over time.

        Args:
            noise: (n_frames, batch, noise), one vector a frame, or (batch, noise), one vector
                a clip that is repeated at every frame.
            n_frames: frames to make; may be left out when the noise tells it.
            category: (batch,) action indices, with a network that has categories.
            state: where to go on, as returned by an earlier call; zeros when left out.

        Returns:
            The motion codes, (n_frames, batch, motion), and the state after the last frame:
            10 frames and then 10 more from the state are the same as 20 at once.

        Raises:
            ValueError: the noise's shape or the number of frames does not fit, or the
                category is missing or not wanted.

        In training mode every frame is normalised with its own batch statistics, as in the
        course; in eval mode with the running ones.
        """
        constant = noise.dim() == 2
        if not constant and n_frames not in (None, len(noise)):
            raise ValueError(f"noise for {len(noise)} frames, but {n_frames} frames are wanted")
        if n_frames is None:
            if constant:
                raise ValueError("n_frames is needed when one noise vector serves the whole clip")
            n_frames = len(noise)
        _check_frames(n_frames)
        batch = noise.shape[-2]
        if state is None:
            state = self.initial_state(batch)
        cell, inputs = self.cell, self._with_category(noise, category)

        # Autograd and autocast both need steps that return new tensors.
        in_place = not (torch.is_grad_enabled() or torch.is_autocast_enabled(noise.device.type))
        if in_place and _is_lstm(cell) and isinstance(state, tuple):
            hidden, state = cell.unroll_in_place(inputs, n_frames, state)
            return self._codes(hidden), state

        # One matrix product for the inputs of all frames; the loop keeps only the recurrence.
        projected = cell.project(inputs).expand(n_frames, -1, -1)
        steps: list[Tensor] = []
        for frame in projected.unbind(0):
            state = cell.step(frame, state)  # type: ignore[arg-type]
            steps.append(state if isinstance(state, Tensor) else state[0])
        return self._codes(torch.stack(steps)), state

    def feed_back(
        self,
        noise: Tensor,
        n_frames: int,
        category: Tensor | None = None,
        state: tuple[Tensor, State] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, State]]:
        """Unroll with the network's own output as its input, as DLHacks/mocogan does.

        The first frame's input is ``noise`` (batch, noise), every later one's the linear
        output before it, ahead of the batch norm; so motion and noise are of one length.

        Returns the motion codes, (n_frames, batch, motion), and the pair of next input and
        state to go on from.

        Raises:
            ValueError: as :meth:`unroll`.
        """
        _check_frames(n_frames)
        inputs, inner = state or (noise, self.initial_state(len(noise)))
        cell, readout = self.cell, self._readout()
        outputs: list[Tensor] = []
        for _ in range(n_frames):
            projected = cell.project(self._with_category(inputs, category))
            inner = cell.step(projected, inner)  # type: ignore[arg-type]
            inputs = readout(inner if isinstance(inner, Tensor) else inner[0])
            outputs.append(inputs)
        return self._normalise(torch.stack(outputs)), (inputs, inner)

    def _with_category(self, noise: Tensor, category: Tensor | None) -> Tensor:
        if noise.shape[-1] != self.noise_size:
            raise ValueError(f"noise vectors of length {noise.shape[-1]}, not {self.noise_size}")
        if not self.categories:
            if category is not None:
                raise ValueError("this motion network has no categories")
            return noise
        if category is None:
            raise ValueError(f"a category of 0 to {self.categories - 1} is needed for every clip")
        one_hot = functional.one_hot(category, self.categories).to(noise)
        return torch.cat([noise, one_hot.expand(*noise.shape[:-1], -1)], dim=-1)

    def _readout(self) -> Callable[[Tensor], Tensor]:
        return self.linear if self.linear is not None else nn.Identity()

    def _codes(self, hidden: Tensor) -> Tensor:
        return self._normalise(self._readout()(hidden))

    def _normalise(self, codes: Tensor) -> Tensor:
        """Batch norm of (n_frames, batch, motion), frame by frame where that matters."""
        if self.bn is None:
            return codes
        if self.bn.training:
            return torch.stack([self.bn(frame) for frame in codes])
        return self.bn(codes.flatten(0, 1)).view_as(codes)


def _is_lstm(cell: LSTMCell | GRUCell) -> TypeGuard[LSTMCell]:
    return isinstance(cell, LSTMCell) and not cell.is_overridden


def _check_frames(n_frames: int) -> None:
    if n_frames < 1:
        raise ValueError(f"{n_frames} frames: at least 1 is needed")


class LSTM(MotionNetwork):
    """The course's motion network: no categories, and motion codes as long as the noise."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(noise=input_size, hidden=hidden_size, motion=input_size)
