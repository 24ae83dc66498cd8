"""The checks behind ``mocogen verify-layers``: do the hand-written layers do what PyTorch's do?

Every check builds a layer of ours and its counterpart from ``torch.nn``, gives both the same
random weights by name, and measures the largest absolute difference between the two. All
sizes differ from each other and no bias is zero, so that a transposed weight, a swapped gate
or a bias set in one place only cannot go unseen. Torch's global random state is left alone.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from . import __version__, layers, motion, mp6
from .errors import MocogenError

State = motion.State


@dataclass(frozen=True)
class Result:
    """What one check found.

    Attributes:
        name: what was compared.
        precision: "float32" or "float64".
        difference: largest absolute difference; None where the check broke off.
        tolerance: the largest difference that passes.
        passed: whether the difference is a number of at most the tolerance.
        note: what is wrong if it is not the size of the difference, else empty.
    """

    name: str
    precision: str
    difference: float | None
    tolerance: float
    passed: bool
    note: str = ""


@dataclass(frozen=True)
class Report:
    """The results of all checks on one device, and what had to be left out."""

    device: torch.device
    results: list[Result]
    notes: list[str]

    @property
    def passed(self) -> bool:
        """Whether every check passed (and there was one)."""
        return bool(self.results) and all(result.passed for result in self.results)

    def record(self) -> dict[str, Any]:
        """The report for JSON: passed, device, versions, notes, and the checks as objects.

        A difference that is no finite number is None, since JSON has no NaN.
        """
        checks = [asdict(result) for result in self.results]
        for check in checks:
            if check["difference"] is not None and not math.isfinite(check["difference"]):
                check["difference"] = None
        return {
            "passed": self.passed,
            "device": str(self.device),
            "versions": {
                "mocogen": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "notes": self.notes,
            "checks": checks,
        }


@dataclass(frozen=True)
class Setting:
    """Where a check runs, and its own source of random numbers."""

    device: torch.device
    dtype: torch.dtype
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(417))

    def normal(self, *shape: int) -> Tensor:
        """A draw from N(0, 1); the same numbers on every device and in both precisions."""
        values = torch.randn(*shape, generator=self.generator, dtype=torch.float64)
        return values.to(self.dtype).to(self.device)  # in this order, for MPS has no float64

    def category(self, batch: int, categories: int) -> Tensor:
        """Action indices of (batch,)."""
        values = torch.randint(categories, (batch,), generator=self.generator)
        return values.to(self.device)

    def place(self, *modules: nn.Module) -> None:
        """Move modules to the setting's device and precision, in place."""
        for module in modules:
            module.to(self.device, self.dtype)

    def equip(self, ours: nn.Module, reference: nn.Module) -> None:
        """Place both modules, and give them the same random parameters and statistics.

        Raises:
            RuntimeError: the two do not have the same names and shapes.
        """
        self.place(ours, reference)
        with torch.no_grad():
            for parameter in reference.parameters():
                parameter.copy_(0.5 * self.normal(*parameter.shape))
            for name, buffer in reference.named_buffers():
                if name.endswith("running_mean"):
                    buffer.copy_(self.normal(*buffer.shape))
                elif name.endswith("running_var"):
                    buffer.copy_(0.5 + self.normal(*buffer.shape) ** 2)
        ours.load_state_dict(reference.state_dict())


@dataclass(frozen=True)
class Check:
    """A comparison; ``run`` returns the largest absolute difference, and may raise.

    Attributes:
        float32, float64: tolerance in that precision, or None where the check is not run.
            They leave room for another device's order of summation: ten times or more what
            a CPU shows, and still far below what a wrong formula does.
    """

    name: str
    run: Callable[[Setting], float]
    float32: float | None
    float64: float | None


CHECKS: list[Check] = []
"""All checks that need no reference file, in the order of the table."""


def _check(
    name: str, float32: float | None = 1e-5, float64: float | None = 1e-12
) -> Callable[[Callable[[Setting], float]], Callable[[Setting], float]]:
    def register(run: Callable[[Setting], float]) -> Callable[[Setting], float]:
        CHECKS.append(Check(name, run, float32, float64))
        return run

    return register


def largest_difference(ours: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """Largest absolute difference between two lists of tensors; NaN if there is one anywhere.

    Raises:
        ValueError: the lists' lengths or two tensors' shapes are not the same (nothing is
            broadcast: a result of the wrong shape is a wrong result).
    """
    largest = []
    for a, b in zip(ours, reference, strict=True):
        if a.shape != b.shape:
            raise ValueError(f"shape {tuple(a.shape)} where {tuple(b.shape)} is right")
        largest.append((a - b).abs().max().cpu().double())
    return torch.stack(largest).max().item()


Outputs = Callable[[Any], Sequence[Tensor]]
"""Runs a layer, ours or the reference, on a check's inputs."""


def _leaves(module: nn.Module, inputs: Sequence[Tensor] = ()) -> list[Tensor]:
    """Inputs and parameters, in an order that is the same for a layer and its counterpart."""
    for tensor in inputs:
        tensor.requires_grad_()
    return [*inputs, *(parameter for _, parameter in sorted(module.named_parameters()))]


def _weighted(outputs: Sequence[Tensor], s: Setting) -> Tensor:
    """The outputs in one number: a random weighting, which is the same at every call."""
    weights = Setting(s.device, s.dtype)
    return torch.stack([(part * weights.normal(*part.shape)).sum() for part in outputs]).sum()


def _compare_gradients(
    s: Setting, ours: nn.Module, reference: nn.Module, inputs: list[Tensor], outputs: Outputs
) -> float:
    """Difference of the gradients with respect to all inputs and parameters."""
    gradients = []
    for module in (ours, reference):
        leaves = _leaves(module, inputs)
        gradients.append(torch.autograd.grad(_weighted(outputs(module), s), leaves))
    return largest_difference(*gradients)


def _check_gradients(s: Setting, ours: nn.Module, inputs: list[Tensor], outputs: Outputs) -> float:
    """``torch.autograd.gradcheck`` with respect to all inputs and parameters.

    It only says yes or no; so that the table has a figure, the gradient of the weighted
    outputs is held against its central differences beside it.

    Raises:
        torch.autograd.gradcheck.GradcheckError: a derivative is wrong.
    """
    leaves = _leaves(ours, inputs)
    # gradcheck changes the leaves in place, and the closure sees that.
    torch.autograd.gradcheck(lambda *_: tuple(outputs(ours)), leaves)

    step = 1e-6
    numerical = [torch.zeros_like(leaf) for leaf in leaves]
    for leaf, slopes in zip(leaves, numerical, strict=True):
        values, out = leaf.detach().view(-1), slopes.view(-1)  # detached, but the same memory
        for k, value in enumerate(values.tolist()):
            values[k] = value + step
            above = _weighted(outputs(ours), s).item()
            values[k] = value - step
            out[k] = (above - _weighted(outputs(ours), s).item()) / (2 * step)
            values[k] = value
    return largest_difference(torch.autograd.grad(_weighted(outputs(ours), s), leaves), numerical)


# ---------------------------------------------------------------------------------- Linear


def _linears(s: Setting) -> tuple[layers.Linear, nn.Linear]:
    pair = layers.Linear(17, 9), nn.Linear(17, 9)
    s.equip(*pair)
    return pair


@_check("Linear: output")
def _linear_output(s: Setting) -> float:
    ours, reference = _linears(s)
    inputs = [s.normal(17), s.normal(1, 17), s.normal(33, 17), s.normal(4, 3, 17)]
    return largest_difference([ours(x) for x in inputs], [reference(x) for x in inputs])


@_check("Linear: gradients")
def _linear_gradients(s: Setting) -> float:
    x = s.normal(33, 17)
    return _compare_gradients(s, *_linears(s), [x], lambda layer: [layer(x)])


@_check("Linear: one SGD step (lr 0.5, MSE)")
def _linear_sgd(s: Setting) -> float:
    pair = _linears(s)
    x, target = s.normal(33, 17), s.normal(33, 9)
    for layer in pair:
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
        mse_loss(layer(x), target).backward()
        optimiser.step()
    return largest_difference(*(_leaves(layer) for layer in pair))


# ----------------------------------------------------------------------------------- cells


def _lstm_cells(
    s: Setting, inputs: int = 5, hidden: int = 7
) -> tuple[layers.LSTMCell, nn.LSTMCell]:
    pair = layers.LSTMCell(inputs, hidden), nn.LSTMCell(inputs, hidden)
    s.equip(*pair)
    return pair


def _gru_cells(s: Setting, inputs: int = 5, hidden: int = 7) -> tuple[layers.GRUCell, nn.GRUCell]:
    pair = layers.GRUCell(inputs, hidden), nn.GRUCell(inputs, hidden)
    s.equip(*pair)
    return pair


@_check("LSTMCell: h and c")
def _lstm_output(s: Setting) -> float:
    ours, reference = _lstm_cells(s)
    cases = [(s.normal(n, 5), (s.normal(n, 7), s.normal(n, 7))) for n in (1, 33)]
    return largest_difference(
        [part for case in cases for part in ours(*case)],
        [part for case in cases for part in reference(*case)],
    )


@_check("LSTMCell: gradients")
def _lstm_gradients(s: Setting) -> float:
    x, h, c = s.normal(33, 5), s.normal(33, 7), s.normal(33, 7)
    return _compare_gradients(s, *_lstm_cells(s), [x, h, c], lambda cell: cell(x, (h, c)))


@_check("GRUCell: h")
def _gru_output(s: Setting) -> float:
    ours, reference = _gru_cells(s)
    cases = [(s.normal(n, 5), s.normal(n, 7)) for n in (1, 33)]
    return largest_difference([ours(*c) for c in cases], [reference(*c) for c in cases])


@_check("GRUCell: gradients")
def _gru_gradients(s: Setting) -> float:
    x, h = s.normal(33, 5), s.normal(33, 7)
    return _compare_gradients(s, *_gru_cells(s), [x, h], lambda cell: [cell(x, h)])


# -------------------------------------------------------------------------- motion network

NOISE, HIDDEN, MOTION, CATEGORIES, FRAMES = 5, 7, 4, 3, 48


class ReferenceMotion(nn.Module):
    """The motion network from PyTorch's own parts, one frame after the other."""

    def __init__(self, noise: int, hidden: int, motion: int, categories: int, cell: str) -> None:
        super().__init__()
        self.categories = categories
        self.is_lstm = cell == "lstm"
        if self.is_lstm:
            self.lstm = nn.LSTMCell(noise + categories, hidden)
        else:
            self.gru = nn.GRUCell(noise + categories, hidden)
        self.linear = nn.Linear(hidden, motion)
        self.bn = nn.BatchNorm1d(motion, affine=False)

    def unroll(
        self,
        noise: Tensor,
        n_frames: int,
        category: Tensor | None = None,
        state: State | None = None,
        feed_back: bool = False,
    ) -> tuple[Tensor, State]:
        """Codes and last state, as of ``MotionNetwork.unroll`` or, if so asked, ``feed_back``."""
        if state is None:
            h = noise.new_zeros(noise.shape[-2], self.linear.in_features)
            state = (h, torch.zeros_like(h)) if self.is_lstm else h
        codes = []
        inputs = noise
        for k in range(n_frames):
            x = inputs if inputs.dim() == 2 else noise[k]
            if category is not None:
                x = torch.cat([x, torch.eye(self.categories).to(x)[category]], dim=1)
            state = self.lstm(x, state) if self.is_lstm else self.gru(x, state)
            assert state is not None
            linear = self.linear(state if isinstance(state, Tensor) else state[0])
            codes.append(self.bn(linear))
            if feed_back:
                inputs = linear
        return torch.stack(codes), state


def _motions(
    s: Setting,
    cell: str = "lstm",
    categories: int = 0,
    motion_size: int = MOTION,
    training: bool = False,
) -> tuple[motion.MotionNetwork, ReferenceMotion]:
    ours = motion.MotionNetwork(NOISE, HIDDEN, motion_size, categories, cell)
    reference = ReferenceMotion(NOISE, HIDDEN, motion_size, categories, cell)
    s.equip(ours, reference)
    ours.train(training)
    reference.train(training)
    return ours, reference


def _flat(codes: Tensor, state: Any) -> list[Tensor]:
    return [codes, state] if isinstance(state, Tensor) else [codes, *state]


def _in_two_parts(
    network: Any, noise: Tensor, n_frames: int, category: Tensor | None = None
) -> list[Tensor]:
    """All codes and the last state, unrolled in two calls of which the second goes on."""
    half = n_frames // 2
    parts = (noise, noise) if noise.dim() == 2 else noise.split(half)
    start, state = network.unroll(parts[0], half, category)
    end, state = network.unroll(parts[1], n_frames - half, category, state)
    return _flat(torch.cat([start, end]), state)


def _compare_motion(s: Setting, training: bool, constant: bool) -> float:
    """Codes, last state and running statistics, over cells, categories and batch sizes."""
    found: list[Tensor] = []
    expected: list[Tensor] = []
    # Batch statistics of a single clip are not defined, so one clip is for eval mode.
    for cell, categories, batch in product(
        ("lstm", "gru"), (0, CATEGORIES), (33,) if training else (1, 33)
    ):
        ours, reference = _motions(s, cell, categories, training=training)
        noise = s.normal(batch, NOISE) if constant else s.normal(FRAMES, batch, NOISE)
        category = s.category(batch, categories) if categories else None
        outcome = _in_two_parts(reference, noise, FRAMES, category)
        found += [*_in_two_parts(ours, noise, FRAMES, category), *ours.buffers()]
        expected += [*outcome, *reference.buffers()]
        if not training:
            # Sampling takes another way through the LSTM than anything with gradients.
            with torch.no_grad():
                found += _in_two_parts(ours, noise, FRAMES, category)
            expected += outcome
    return largest_difference(found, expected)


@_check("Motion: training, noise per frame", float32=1e-4)
def _training_per_frame(s: Setting) -> float:
    return _compare_motion(s, training=True, constant=False)


@_check("Motion: training, constant noise", float32=1e-4)
def _training_constant(s: Setting) -> float:
    return _compare_motion(s, training=True, constant=True)


@_check("Motion: eval, noise per frame", float32=1e-4)
def _eval_per_frame(s: Setting) -> float:
    return _compare_motion(s, training=False, constant=False)


@_check("Motion: eval, constant noise", float32=1e-4)
def _eval_constant(s: Setting) -> float:
    return _compare_motion(s, training=False, constant=True)


@_check("Motion: own output fed back", float32=1e-4)
def _fed_back(s: Setting) -> float:
    found: list[Tensor] = []
    expected: list[Tensor] = []
    for cell in ("lstm", "gru"):
        ours, reference = _motions(s, cell, CATEGORIES, motion_size=NOISE)
        noise, category = s.normal(33, NOISE), s.category(33, CATEGORIES)
        start, state = ours.feed_back(noise, FRAMES // 2, category)
        end, state = ours.feed_back(noise, FRAMES // 2, category, state)
        found += _flat(torch.cat([start, end]), state[1])
        expected += _flat(*reference.unroll(noise, FRAMES, category, feed_back=True))
    return largest_difference(found, expected)


@_check("Motion: gradients, training", float32=5e-3, float64=1e-10)
def _motion_gradients(s: Setting) -> float:
    noise, category = s.normal(FRAMES, 33, NOISE), s.category(33, CATEGORIES)
    networks = _motions(s, categories=CATEGORIES, training=True)
    return _compare_gradients(
        s, *networks, [noise], lambda network: _flat(*network.unroll(noise, FRAMES, category))
    )


@_check("Motion: zero initial state", 0, 0)
def _zero_state(s: Setting) -> float:
    found: list[Tensor] = []
    expected: list[Tensor] = []
    for cell, batch in product(("lstm", "gru"), (1, 33)):
        ours = _motions(s, cell)[0]
        zeros = torch.zeros(batch, HIDDEN, device=s.device, dtype=s.dtype)
        state = (zeros, zeros) if cell == "lstm" else zeros
        noise = s.normal(3, batch, NOISE)
        found += _flat(ours.unroll(noise)[0], ours.initial_state(batch))
        expected += _flat(ours.unroll(noise, state=state)[0], state)
    return largest_difference(found, expected)


@_check("Motion: 10 frames + 10 more = 20", float32=1e-4)
def _carried_state(s: Setting) -> float:
    found: list[Tensor] = []
    expected: list[Tensor] = []
    for cell, constant in product(("lstm", "gru"), (False, True)):
        ours = _motions(s, cell)[0]
        noise = s.normal(33, NOISE) if constant else s.normal(20, 33, NOISE)
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients):
                found += _in_two_parts(ours, noise, 20)
                expected += _flat(*ours.unroll(noise, 20))
    return largest_difference(found, expected)


@_check("mp6: the LSTM keeps its own state", float32=1e-4)
def _state_in_the_module(s: Setting) -> float:
    """Zeros from ``initHidden``, then two calls of which the second goes on."""
    found: list[Tensor] = []
    expected: list[Tensor] = []
    for training in (True, False):
        ours, reference = mp6.LSTM(NOISE, HIDDEN), ReferenceMotion(NOISE, HIDDEN, NOISE, 0, "lstm")
        s.equip(ours, reference)
        ours.train(training)
        reference.train(training)
        noise = s.normal(33, NOISE)
        ours.initHidden(33)
        found += [ours.h, ours.c]
        expected += [torch.zeros_like(ours.h)] * 2
        found += [torch.cat([ours(noise, 10), ours(noise, 10)]), ours.h, ours.c]
        expected += _flat(*reference.unroll(noise, 20))
    return largest_difference(found, expected)


@_check("Motion: one clip alone or among 33", float32=1e-4)
def _alone_or_among_many(s: Setting) -> float:
    found: list[Tensor] = []
    expected: list[Tensor] = []
    for cell in ("lstm", "gru"):
        ours = _motions(s, cell)[0]
        noise = s.normal(FRAMES, 33, NOISE)
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients):
                together = ours(noise)
                for k in (0, 13, 32):
                    found.append(ours(noise[:, k : k + 1]))
                    expected.append(together[:, k : k + 1])
    return largest_difference(found, expected)


# ------------------------------------------------------------------------------- gradcheck


@_check("gradcheck: Linear", None, 1e-6)
def _gradcheck_linear(s: Setting) -> float:
    ours, _ = _linears(s)
    x = s.normal(2, 17)
    return _check_gradients(s, ours, [x], lambda layer: [layer(x)])


@_check("gradcheck: LSTMCell", None, 1e-6)
def _gradcheck_lstm(s: Setting) -> float:
    ours, _ = _lstm_cells(s, inputs=2, hidden=3)
    x, h, c = s.normal(4, 2), s.normal(4, 3), s.normal(4, 3)
    return _check_gradients(s, ours, [x, h, c], lambda cell: cell(x, (h, c)))


@_check("gradcheck: GRUCell", None, 1e-6)
def _gradcheck_gru(s: Setting) -> float:
    ours, _ = _gru_cells(s, inputs=2, hidden=3)
    x, h = s.normal(4, 2), s.normal(4, 3)
    return _check_gradients(s, ours, [x, h], lambda cell: [cell(x, h)])


def _gradcheck_motion(s: Setting, training: bool) -> float:
    ours = motion.MotionNetwork(noise=2, hidden=3, motion=4, categories=2)
    s.equip(ours, ReferenceMotion(2, 3, 4, 2, "lstm"))
    ours.train(training)
    noise, category = s.normal(3, 5, 2), s.category(5, 2)
    return _check_gradients(s, ours, [noise], lambda network: [network(noise, 3, category)])


@_check("gradcheck: motion, training", None, 1e-6)
def _gradcheck_training(s: Setting) -> float:
    return _gradcheck_motion(s, training=True)


@_check("gradcheck: motion, eval", None, 1e-6)
def _gradcheck_eval(s: Setting) -> float:
    return _gradcheck_motion(s, training=False)


# -------------------------------------------------------------------------- initialisation


def _initialised(s: Setting) -> Iterator[tuple[motion.MotionNetwork, float]]:
    """Networks with the forget bias that they should have: a new one, and one set anew."""
    for forget_bias in (1.0, -2.5):
        network = motion.MotionNetwork(noise=60, hidden=90, motion=80, categories=4)
        if forget_bias != 1:
            s.equip(network, ReferenceMotion(60, 90, 80, 4, "lstm"))
            network.reset_parameters(forget_bias)
        s.place(network)
        yield network, forget_bias


def _weights_on_bound(s: Setting) -> Iterator[Tensor]:
    """All weights, divided by the Xavier-uniform bound sqrt(6 / (fan_in + fan_out))."""
    for network, _ in _initialised(s):
        for parameter in network.parameters():
            if parameter.dim() == 2:
                yield parameter.detach().cpu().double().flatten() / math.sqrt(
                    6 / sum(parameter.shape)
                )


@_check("Initial weights: Xavier's bound", 1e-6, 1e-6)
def _xavier_bound(s: Setting) -> float:
    excess = [weights.abs().max() - 1 for weights in _weights_on_bound(s)]
    return torch.stack(excess).max().clamp(min=0).item()


@_check("Initial weights: how uniform", 0.03, 0.03)
def _xavier_spread(s: Setting) -> float:
    """Kolmogorov-Smirnov: the largest distance between the weights' distribution function
    and the uniform one. The smallest layer has 7,200 weights; true draws from the uniform
    distribution pass 0.03 five times in a million.
    """
    distances = []
    for weights in _weights_on_bound(s):
        uniform = (weights.sort().values.clamp(-1, 1) + 1) / 2
        ranks = torch.arange(len(weights) + 1, dtype=torch.float64) / len(weights)
        distances += [(uniform - ranks[:-1]).max(), (ranks[1:] - uniform).max()]
    return torch.stack(distances).max().item()


@_check("Initial biases", 0, 0)
def _initial_biases(s: Setting) -> float:
    found: list[Tensor] = []
    expected: list[Tensor] = []
    for network, forget_bias in _initialised(s):
        right = torch.zeros(4, 90, device=s.device, dtype=s.dtype)
        right[1] = forget_bias
        parameters = dict(network.named_parameters())
        found += [parameters[name] for name in ("lstm.bias_ih", "lstm.bias_hh", "linear.bias")]
        expected += [right.flatten(), right.flatten(), right.new_zeros(80)]
    gru = layers.GRUCell(5, 7)
    s.place(gru)
    found += [gru.bias_ih, gru.bias_hh]
    expected += [torch.zeros(21, device=s.device, dtype=s.dtype)] * 2
    return largest_difference(found, expected)


# ------------------------------------------------------------------------ the course's values

_KEYS = {
    "linear": "weight bias input output",
    "lstmcell": "weight_ih weight_hh bias_ih bias_hh input h_init c_init output cout",
    "lstm": "linear_weight linear_bias inputs h c output forget_bias",
}
SOLUTION_KEYS = [f"{layer}_{name}" for layer, names in _KEYS.items() for name in names.split()]
"""What the course's file of reference values must hold; it may hold more."""

Solutions = dict[str, Tensor]


def read_solutions(path: Path) -> Solutions:
    """The reference values that came with the course's exercise, as float64 tensors.

    Args:
        path: a JSON object with the keys of ``SOLUTION_KEYS``, each a number or nested lists.

    Raises:
        MocogenError: there is no such file, or it is not what is expected.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MocogenError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise MocogenError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(values, dict):
        values = {}
    missing = [key for key in SOLUTION_KEYS if key not in values]
    if missing:
        raise MocogenError(
            f"{path} is not a file of the course's values: it lacks {', '.join(missing)}"
        )
    solutions = {}
    for key in SOLUTION_KEYS:
        try:
            solutions[key] = torch.tensor(values[key], dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise MocogenError(f"{path}: {key} is not an array of numbers ({error})") from error
    return solutions


def _course_linear(values: Solutions, s: Setting) -> float:
    weight = values["linear_weight"]
    layer = mp6.MyLinear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": values["linear_bias"]})
    s.place(layer)
    return largest_difference([layer(values["linear_input"])], [values["linear_output"]])


def _course_cell(values: Solutions) -> mp6.MyLSTMCell:
    rows, inputs = values["lstmcell_weight_ih"].shape
    cell = mp6.MyLSTMCell(inputs, rows // 4)
    cell.load_state_dict({name: values[f"lstmcell_{name}"] for name in cell.state_dict()})
    return cell


def _course_lstmcell(values: Solutions, s: Setting) -> float:
    cell = _course_cell(values)
    s.place(cell)
    state = (values["lstmcell_h_init"], values["lstmcell_c_init"])
    h, c = cell(values["lstmcell_input"], state)
    # The file has the new states as plain vectors.
    return largest_difference([h[0], c[0]], [values["lstmcell_output"], values["lstmcell_cout"]])


def _course_lstm(values: Solutions, s: Setting) -> float:
    outputs, hidden = values["lstm_linear_weight"].shape
    network = mp6.LSTM(outputs, hidden)
    cell = {f"lstm.{name}": value for name, value in _course_cell(values).state_dict().items()}
    linear = {f"linear.{name}": values[f"lstm_linear_{name}"] for name in ("weight", "bias")}
    network.load_state_dict(network.state_dict() | cell | linear)
    s.place(network)
    network.h, network.c = values["lstm_h"], values["lstm_c"]
    expected = values["lstm_output"]
    return largest_difference([network(values["lstm_inputs"], len(expected))], [expected])


def _course_forget_bias(values: Solutions, s: Setting) -> float:
    network = mp6.LSTM(9, 15)
    s.place(network)
    network.initWeight(init_forget_bias=values["lstm_forget_bias"].item())
    right = torch.zeros(4, 15).to(values["lstm_forget_bias"])
    right[1] = values["lstm_forget_bias"]
    cell = network.lstm
    return largest_difference([cell.bias_ih, cell.bias_hh], [right.flatten()] * 2)


def _course_checks(solutions: Solutions) -> list[Check]:
    def check(name: str, run: Callable[[Solutions, Setting], float], tolerance: float) -> Check:
        def on_device(s: Setting) -> float:
            values = {key: value.to(s.dtype).to(s.device) for key, value in solutions.items()}
            return run(values, s)

        return Check(name, on_device, tolerance, tolerance)

    return [
        # The file's values were computed in float32, so float64 comes no closer.
        check("Course: MyLinear output", _course_linear, 1e-5),
        check("Course: MyLSTMCell h and c", _course_lstmcell, 1e-5),
        # Eight clips of one noise vector each come so close to one another that some batch
        # variances are tiny. Dividing by them enlarges the rounding in the file's own float32
        # values, and nothing can agree with it better than to 3e-4 to 7e-4.
        check("Course: LSTM, 6 frames, training", _course_lstm, 2e-3),
        check("Course: initWeight's forget bias", _course_forget_bias, 0),
    ]


# -------------------------------------------------------------------------------- all of it


def run_checks(
    device: str | torch.device = "cpu",
    solutions: Solutions | None = None,
    precisions: Sequence[torch.dtype] = (torch.float32, torch.float64),
) -> Report:
    """Run every check on a device, and leave torch's global state as it was.

    Args:
        device: where the layers run. MPS has no float64: those checks are left out there, and
            the report notes it.
        solutions: the course's values, from :func:`read_solutions`, for the checks of them.
        precisions: torch.float32, torch.float64 or both. gradcheck is run in float64 only.

    A check that raises counts as failed, with the exception's text as its note.
    """
    device = torch.device(device)
    checks = CHECKS + (_course_checks(solutions) if solutions is not None else [])
    notes = []
    if device.type == "mps" and torch.float64 in precisions:
        precisions = [dtype for dtype in precisions if dtype != torch.float64]
        notes.append("float64 and gradcheck were left out: MPS has no float64")
    results = []
    with _undisturbed():
        for check, dtype in product(checks, precisions):
            tolerance = check.float32 if dtype == torch.float32 else check.float64
            if tolerance is not None:
                results.append(_run(check, Setting(device, dtype), tolerance))
    return Report(device, results, notes)


def _run(check: Check, s: Setting, tolerance: float) -> Result:
    precision = str(s.dtype).removeprefix("torch.")
    try:
        difference = check.run(s)
    except Exception as error:
        note = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return Result(check.name, precision, None, tolerance, False, note)
    note = "" if math.isfinite(difference) else "the results are not finite"
    return Result(check.name, precision, difference, tolerance, difference <= tolerance, note)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """What the checks need of torch's global state; all is as before afterwards."""
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        # Layers draw their initial weights from the CPU's global generator, and only from there.
        torch.default_generator.manual_seed(417)
        torch.set_float32_matmul_precision("highest")  # no TF32
        torch.set_num_threads(1)  # for layers this small, threads cost more than they bring
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)
            torch.set_num_threads(threads)
