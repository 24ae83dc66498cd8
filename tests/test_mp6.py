"""The course's notebook, cell by cell, with ``import mocogen.mp6 as mp6``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.testing import assert_close

import mocogen.mp6 as mp6


@pytest.fixture(autouse=True)
def fixed_random_numbers() -> None:
    torch.manual_seed(417)


@pytest.fixture(scope="module")
def solutions(data: Path) -> dict[str, Tensor]:
    values = json.loads((data / "course" / "solutions.json").read_text())
    return {key: torch.tensor(value) for key, value in values.items()}


def load_cell(cell: mp6.MyLSTMCell, solutions: dict[str, Tensor]) -> None:
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        setattr(cell, name, Parameter(solutions[f"lstmcell_{name}"]))


def test_linear_gives_the_solution(solutions: dict[str, Tensor]) -> None:
    layer = mp6.MyLinear(17, 9)
    layer.weight = Parameter(solutions["linear_weight"])
    layer.bias = Parameter(solutions["linear_bias"])
    assert_close(layer(solutions["linear_input"]), solutions["linear_output"])


def test_cell_gives_the_solution(solutions: dict[str, Tensor]) -> None:
    cell = mp6.MyLSTMCell(9, 15)
    load_cell(cell, solutions)
    state = solutions["lstmcell_h_init"], solutions["lstmcell_c_init"]
    h, c = cell(solutions["lstmcell_input"], state)
    assert_close(h[0], solutions["lstmcell_output"])
    assert_close(c[0], solutions["lstmcell_cout"])


def test_lstm_gives_the_solution_in_training_mode(solutions: dict[str, Tensor]) -> None:
    network = mp6.LSTM(9, 15)
    load_cell(network.lstm, solutions)
    assert network.linear is not None
    network.linear.weight = Parameter(solutions["lstm_linear_weight"])
    network.linear.bias = Parameter(solutions["lstm_linear_bias"])
    network.h, network.c = solutions["lstm_h"], solutions["lstm_c"]
    codes = network(solutions["lstm_inputs"], 6)
    # Some batch variances are tiny, and dividing by them enlarges the solution's own float32
    # rounding: in exact arithmetic the distance is 4e-4.
    assert_close(codes, solutions["lstm_output"], atol=2e-3, rtol=0)


def test_parts_are_the_students_own() -> None:
    network = mp6.LSTM(3, 4)
    assert type(network.linear) is mp6.MyLinear
    assert type(network.lstm) is mp6.MyLSTMCell
    assert type(network.bn) is torch.nn.BatchNorm1d
    assert network.hidden_size == 4


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (mp6.MyLinear(3, 4), {"weight", "bias"}),
        (mp6.MyLSTMCell(3, 4), {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}),
    ],
)
def test_gradients_arrive_at_every_parameter(layer: torch.nn.Module, names: set[str]) -> None:
    x = torch.randn(2, 3)
    is_cell = isinstance(layer, mp6.MyLSTMCell)
    out = layer(x, (torch.randn(2, 4), torch.randn(2, 4)))[0] if is_cell else layer(x)
    out.sum().backward()
    parameters = dict(layer.named_parameters())
    assert set(parameters) == names
    assert all(p.grad is not None and p.grad.any() for p in parameters.values())


def test_a_parameter_replaced_by_assignment_is_used_and_trained() -> None:
    layer = mp6.MyLinear(3, 4)
    layer.weight = Parameter(torch.ones(4, 3))
    layer(torch.tensor([1.0, 2, 3])).sum().backward()
    assert_close(layer(torch.tensor([1.0, 2, 3])), torch.full((4,), 6.0))
    assert_close(layer.weight.grad, torch.tensor([1.0, 2, 3]).expand(4, 3))


def test_init_weight_sets_the_forget_biases(solutions: dict[str, Tensor]) -> None:
    network = mp6.LSTM(9, 15)
    network.initWeight(init_forget_bias=solutions["lstm_forget_bias"].item())
    for bias in (network.lstm.bias_ih, network.lstm.bias_hh):
        assert_close(bias.view(4, 15).mean(dim=1).detach(), torch.tensor([0.0, 12, 0, 0]))


def test_init_hidden_sets_zeros() -> None:
    network = mp6.LSTM(3, 4)
    network.initHidden(5)
    assert torch.equal(network.h, torch.zeros(5, 4))
    assert torch.equal(network.c, torch.zeros(5, 4))


def test_forward_starts_from_its_state_and_moves_it_on() -> None:
    network, noise = mp6.LSTM(3, 4).eval(), torch.randn(5, 3)
    network.initHidden(5)
    whole, h, c = network(noise, 20), network.h, network.c
    network.initHidden(5)
    halves = torch.cat([network(noise, 10), network(noise, 10)])
    assert_close(halves, whole)
    assert_close([network.h, network.c], [h, c])


def test_first_call_needs_no_init_hidden() -> None:
    network, noise = mp6.LSTM(3, 4).eval(), torch.randn(5, 3)
    codes = network(noise, 6)
    network.initHidden(5)
    assert_close(codes, network(noise, 6))


def test_the_state_goes_where_the_network_goes() -> None:
    network, noise = mp6.LSTM(3, 4).eval(), torch.randn(5, 3)
    keys = list(network.state_dict())
    network.initHidden(5)
    network(noise, 6)
    before = network.h, network.c
    network.double()
    assert_close([network.h, network.c], [part.double() for part in before])
    codes = network(noise.double(), 6)
    assert {codes.dtype, network.h.dtype, network.c.dtype} == {torch.float64}
    network.to("meta")
    assert {network.h.device.type, network.c.device.type} == {"meta"}
    assert list(network.state_dict()) == keys


def test_a_state_that_has_gradients_goes_with_it_and_keeps_them() -> None:
    network, noise = mp6.LSTM(3, 4), torch.randn(5, 3)
    network(noise, 6)
    first = network.lstm.weight_hh
    network.double()
    network(noise.double(), 6).sum().backward()
    assert first.grad is not None
