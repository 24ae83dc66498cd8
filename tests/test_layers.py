"""The linear layer and the cells: what they compute, and from what."""

from __future__ import annotations

import ast
import inspect
import re

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mocogen import layers, motion
from mocogen.layers import GRUCell, Linear, LSTMCell


@pytest.fixture(autouse=True)
def fixed_random_numbers() -> None:
    torch.manual_seed(417)


def test_linear_is_weights_times_input_plus_bias() -> None:
    layer = Linear(2, 3)
    layer.load_state_dict(
        {"weight": torch.tensor([[1.0, 2], [3, 4], [5, 6]]), "bias": torch.tensor([1.0, 0, -1])}
    )
    assert_close(layer(torch.tensor([1.0, 10])), torch.tensor([22.0, 43, 64]))


@pytest.mark.parametrize("shape", [(5,), (1, 5), (7, 5), (3, 7, 5)])
def test_linear_maps_the_last_dimension(shape: tuple[int, ...]) -> None:
    assert Linear(5, 2)(torch.randn(shape)).shape == (*shape[:-1], 2)


def test_linear_refuses_vectors_of_another_length() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Linear(5, 2)(torch.randn(5, 10))


@pytest.mark.parametrize(
    ("ours", "theirs", "state"),
    [
        (LSTMCell(3, 4), nn.LSTMCell(3, 4), (torch.randn(6, 4), torch.randn(6, 4))),
        (GRUCell(3, 4), nn.GRUCell(3, 4), torch.randn(6, 4)),
    ],
    ids=["lstm", "gru"],
)
def test_weights_move_freely_between_torch_and_us(
    ours: nn.Module, theirs: nn.Module, state: object
) -> None:
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(6, 3)
    assert_close(ours(x, state), theirs(x, state))


def test_forget_bias_stands_in_both_biases_and_nowhere_else() -> None:
    cell = LSTMCell(2, 3)
    cell.reset_parameters(forget_bias=12)
    expected = torch.tensor([0.0] * 3 + [12] * 3 + [0] * 6)
    assert_close(cell.bias_ih.data, expected)
    assert_close(cell.bias_hh.data, expected)


def test_xavier_bound_counts_the_rows_of_all_gates() -> None:
    weight = LSTMCell(30, 50).weight_ih
    bound = (6 / (30 + 4 * 50)) ** 0.5
    assert 0.95 * bound < weight.abs().max() <= bound


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_place_steps_do_what_single_steps_do(
    constant: bool, batch: int, dtype: torch.dtype
) -> None:
    cell = LSTMCell(3, 4).to(dtype)
    nn.init.normal_(cell.bias_hh)
    x = torch.randn(*(() if constant else (5,)), batch, 3, dtype=dtype)
    state = start = torch.randn(batch, 4, dtype=dtype), torch.randn(batch, 4, dtype=dtype)
    before = [part.clone() for part in start]
    hidden, last = cell.unroll_in_place(x, 5, start)
    for k in range(5):
        state = cell(x if constant else x[k], state)
        assert_close(hidden[k], state[0])
    assert_close(last, state)
    assert_close(list(start), before, rtol=0, atol=0)


@pytest.mark.parametrize("batch", [1, 2])
def test_in_place_steps_go_on_from_a_state_that_has_gradients(batch: int) -> None:
    cell = LSTMCell(3, 4)
    x = torch.randn(5, batch, 3)
    start = cell(torch.randn(batch, 3), cell.initial_state(batch))
    assert start[1].requires_grad
    hidden, (_, c) = cell.unroll_in_place(x, 5, start)
    assert not hidden.requires_grad
    state = start
    for frame in x:
        state = cell(frame, state)
    assert_close(c, state[1].detach())


@pytest.mark.parametrize("batch", [1, 2])
def test_layers_keep_their_precision_whatever_the_default_is(batch: int) -> None:
    cell, x = LSTMCell(4, 8), torch.randn(5, batch, 4)
    state = cell.initial_state(batch)
    with torch.no_grad():
        hidden, _ = cell.unroll_in_place(x, 5, state)
        torch.set_default_dtype(torch.float64)
        try:
            again, _ = cell.unroll_in_place(x, 5, state)
        finally:
            torch.set_default_dtype(torch.float32)
    assert torch.equal(again, hidden)


READY_MADE = re.compile(r"(torch|nn|functional|F|_VF)\b.*\.(linear|bilinear|lstm|gru|rnn)\w*", re.I)


def ready_made(source: str) -> list[str]:
    """Uses of PyTorch's own linear and recurrent layers, as modules or functions."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            names.append(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if READY_MADE.fullmatch(name)]


@pytest.mark.parametrize("module", [layers, motion])
def test_layers_are_written_by_hand(module: object) -> None:
    assert not ready_made(inspect.getsource(module))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line",
    [
        "nn.Linear(3, 4)",
        "torch.nn.LSTM(3, 4)",
        "nn.functional.linear(x, w)",
        "torch.lstm_cell(x, s, w, u)",
        "torch.gru(x)",
        "from torch.nn import GRUCell",
        "from torch.nn.functional import linear",
    ],
)
def test_a_ready_made_layer_would_be_found(line: str) -> None:
    assert ready_made(line)
