"""``mocogen verify-layers``: whole layers pass, and every way of breaking one is seen."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter
from typer.testing import CliRunner

from mocogen import mp6, verify
from mocogen.cli.app import app
from mocogen.errors import MocogenError
from mocogen.layers import GRUCell, Linear, LSTMCell, affine
from mocogen.motion import MotionNetwork
from mocogen.verify import Report, read_solutions, run_checks


@pytest.fixture(scope="module")
def report() -> Report:
    return run_checks("cpu")


CHECKED = {
    "Linear: ": ("output", "gradients", "one SGD step (lr 0.5, MSE)"),
    "LSTMCell: ": ("h and c", "gradients"),
    "GRUCell: ": ("h", "gradients"),
    "Motion: ": (
        "training, noise per frame",
        "training, constant noise",
        "eval, noise per frame",
        "eval, constant noise",
        "own output fed back",
        "gradients, training",
        "zero initial state",
        "10 frames + 10 more = 20",
        "one clip alone or among 33",
    ),
    "mp6: ": ("the LSTM keeps its own state",),
    "gradcheck: ": ("Linear", "LSTMCell", "GRUCell", "motion, training", "motion, eval"),
    "Initial ": ("weights: Xavier's bound", "weights: how uniform", "biases"),
}


def test_whole_layers_pass(report: Report) -> None:
    assert report.passed
    assert not [result for result in report.results if not result.passed]
    expected = {layer + what for layer, checks in CHECKED.items() for what in checks}
    assert {result.name for result in report.results} == expected


def test_both_precisions_are_checked_and_gradcheck_in_the_finer_one(report: Report) -> None:
    precisions = {
        name: {result.precision for result in report.results if result.name == name}
        for name in {result.name for result in report.results}
    }
    assert all(
        found == ({"float64"} if name.startswith("gradcheck") else {"float32", "float64"})
        for name, found in precisions.items()
    )


def test_torch_is_left_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    with torch.no_grad():
        assert run_checks("cpu", precisions=[torch.float32]).passed
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


# ------------------------------------------------------------- ways to get a layer wrong


def transposed(self: Linear, x: Tensor) -> Tensor:
    return x @ self.weight + self.bias


def stored_transposed(self: Linear, in_features: int, out_features: int) -> None:
    nn.Module.__init__(self)
    self.weight = Parameter(torch.empty(in_features, out_features))
    self.bias = Parameter(torch.empty(out_features))


def untrained_bias(self: Linear, x: Tensor) -> Tensor:
    return affine(x, self.weight, self.bias.detach())


def half_weight_gradient(self: Linear, x: Tensor) -> Tensor:
    return affine(x, (self.weight + self.weight.detach()) / 2, self.bias)


def not_a_number(self: Linear, x: Tensor) -> Tensor:
    return affine(x, self.weight, self.bias) * math.nan


def keeps_a_batch(self: Linear, x: Tensor) -> Tensor:
    y = affine(x, self.weight, self.bias)
    return y[None] if x.dim() == 1 else y


def forget_gate_first(self: LSTMCell, projected: Tensor, state: Any) -> Any:
    h, c = state
    f, i, g, o = (projected + h @ self.weight_hh.t()).chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def no_tanh_on_the_way_out(self: LSTMCell, projected: Tensor, state: Any) -> Any:
    h, c = state
    i, f, g, o = (projected + h @ self.weight_hh.t()).chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c, c


def one_bias_forgotten(self: LSTMCell, x: Tensor) -> Tensor:
    return affine(x, self.weight_ih, self.bias_ih)


def forget_bias_in_one_place(self: LSTMCell, forget_bias: float = 1.0) -> None:
    for parameter in self.parameters():
        nn.init.xavier_uniform_(parameter) if parameter.dim() == 2 else nn.init.zeros_(parameter)
    self.bias_ih.data[self.hidden_size : 2 * self.hidden_size] = forget_bias


def torch_default_weights(self: LSTMCell, forget_bias: float = 1.0) -> None:
    for parameter in self.parameters():
        nn.init.uniform_(parameter, -(self.hidden_size**-0.5), self.hidden_size**-0.5)


def normal_weights(self: Linear) -> None:
    nn.init.xavier_normal_(self.weight)
    nn.init.zeros_(self.bias)


sampled_well = LSTMCell.unroll_in_place


def sampled_from_zero(self: LSTMCell, x: Tensor, n_frames: int, state: Any) -> Any:
    return sampled_well(self, x, n_frames, self.initial_state(len(state[0])))


def reset_ahead_of_the_product(self: GRUCell, projected: Tensor, h: Tensor) -> Tensor:
    rows = [2 * self.hidden_size, self.hidden_size]
    (w, w_n), (b, b_n) = self.weight_hh.split(rows), self.bias_hh.split(rows)
    x, x_n = projected.split(rows, dim=1)
    reset, update = (x + affine(h, w, b)).sigmoid().chunk(2, dim=1)
    candidate = (x_n + affine(reset * h, w_n, b_n)).tanh()
    return candidate + update * (h - candidate)


def update_upside_down(self: GRUCell, projected: Tensor, h: Tensor) -> Tensor:
    x_r, x_z, x_n = projected.chunk(3, dim=1)
    h_r, h_z, h_n = affine(h, self.weight_hh, self.bias_hh).chunk(3, dim=1)
    candidate = (x_n + (x_r + h_r).sigmoid() * h_n).tanh()
    return h + (x_z + h_z).sigmoid() * (candidate - h)


def starts_at_one(self: LSTMCell, batch_size: int) -> Any:
    ones = self.weight_hh.new_ones(batch_size, self.hidden_size)
    return ones, ones


unrolled_well = MotionNetwork.unroll


def state_forgotten(
    self: MotionNetwork, noise: Tensor, n_frames: Any = None, category: Any = None, _: Any = None
) -> Any:
    return unrolled_well(self, noise, n_frames, category)


def clips_mixed_in_eval(self: MotionNetwork, codes: Tensor) -> Tensor:
    return codes - codes.mean(dim=1, keepdim=True)


def all_frames_normalised_at_once(self: MotionNetwork, codes: Tensor) -> Tensor:
    assert self.bn is not None
    return self.bn(codes.flatten(0, 1)).view_as(codes)


def no_running_statistics(self: MotionNetwork, codes: Tensor) -> Tensor:
    if not self.training:
        return all_frames_normalised_at_once(self, codes)
    mean, var = codes.mean(dim=1, keepdim=True), codes.var(dim=1, correction=0, keepdim=True)
    return (codes - mean) / (var + 1e-5).sqrt()


inputs_put_together_well = MotionNetwork._with_category


def category_ignored(self: MotionNetwork, noise: Tensor, category: Any) -> Tensor:
    if category is not None:
        category = torch.zeros_like(category)
    return inputs_put_together_well(self, noise, category)


def state_left_behind(self: mp6.LSTM, inputs: Tensor, n_frames: int) -> Tensor:
    return self.unroll(inputs, n_frames, state=(self.h, self.c))[0]


def hidden_at_one(self: mp6.LSTM, batch_size: int) -> None:
    self.h = self.c = self.lstm.weight_hh.new_ones(batch_size, self.hidden_size)


@pytest.mark.parametrize(
    ("layer", "method", "broken", "seen_by"),
    [
        (Linear, "forward", transposed, "Linear: output"),
        (Linear, "__init__", stored_transposed, "Linear: output"),
        (Linear, "forward", not_a_number, "Linear: output"),
        (Linear, "forward", keeps_a_batch, "Linear: output"),
        (Linear, "forward", untrained_bias, "Linear: gradients"),
        (Linear, "forward", half_weight_gradient, "Linear: gradients"),
        (Linear, "forward", half_weight_gradient, "Linear: one SGD step (lr 0.5, MSE)"),
        (Linear, "forward", half_weight_gradient, "gradcheck: Linear"),
        (Linear, "reset_parameters", normal_weights, "Initial weights: Xavier's bound"),
        (Linear, "reset_parameters", normal_weights, "Initial weights: how uniform"),
        (LSTMCell, "step", forget_gate_first, "LSTMCell: h and c"),
        (LSTMCell, "step", no_tanh_on_the_way_out, "LSTMCell: h and c"),
        (LSTMCell, "project", one_bias_forgotten, "LSTMCell: h and c"),
        (LSTMCell, "project", one_bias_forgotten, "LSTMCell: gradients"),
        (LSTMCell, "reset_parameters", forget_bias_in_one_place, "Initial biases"),
        (LSTMCell, "reset_parameters", torch_default_weights, "Initial biases"),
        (
            LSTMCell,
            "reset_parameters",
            torch_default_weights,
            "Initial weights: how uniform",
        ),
        (LSTMCell, "initial_state", starts_at_one, "Motion: zero initial state"),
        (LSTMCell, "unroll_in_place", sampled_from_zero, "Motion: 10 frames + 10 more = 20"),
        (LSTMCell, "unroll_in_place", sampled_from_zero, "Motion: eval, noise per frame"),
        (GRUCell, "step", reset_ahead_of_the_product, "GRUCell: h"),
        (GRUCell, "step", update_upside_down, "GRUCell: h"),
        (GRUCell, "step", update_upside_down, "GRUCell: gradients"),
        (MotionNetwork, "unroll", state_forgotten, "Motion: 10 frames + 10 more = 20"),
        (mp6.LSTM, "forward", state_left_behind, "mp6: the LSTM keeps its own state"),
        (mp6.LSTM, "initHidden", hidden_at_one, "mp6: the LSTM keeps its own state"),
        (MotionNetwork, "_normalise", clips_mixed_in_eval, "Motion: one clip alone or among 33"),
        (
            MotionNetwork,
            "_normalise",
            all_frames_normalised_at_once,
            "Motion: training, noise per frame",
        ),
        (MotionNetwork, "_normalise", no_running_statistics, "Motion: training, constant noise"),
        (MotionNetwork, "_with_category", category_ignored, "Motion: eval, constant noise"),
        (MotionNetwork, "_with_category", category_ignored, "Motion: own output fed back"),
        (MotionNetwork, "_with_category", category_ignored, "Motion: gradients, training"),
    ],
)
def test_a_broken_layer_is_seen(
    monkeypatch: pytest.MonkeyPatch,
    layer: type[nn.Module],
    method: str,
    broken: Callable[..., Any],
    seen_by: str,
) -> None:
    monkeypatch.setattr(layer, method, broken)
    only(monkeypatch, seen_by)
    report = run_checks("cpu")
    assert report.results
    assert not any(result.passed for result in report.results)
    assert not report.passed


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Leave out all checks but these."""
    checks = [check for check in verify.CHECKS if check.name in names]
    assert len(checks) == len(names)
    monkeypatch.setattr(verify, "CHECKS", checks)


def test_nothing_checked_is_nothing_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "CHECKS", [])
    assert not run_checks("cpu").passed


def test_a_layer_that_raises_fails_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Linear, "forward", transposed)
    only(monkeypatch, "Linear: output")
    (result,) = run_checks("cpu", precisions=[torch.float32]).results
    assert (result.passed, result.difference) == (False, None)
    assert result.note.startswith("RuntimeError: ")


# --------------------------------------------------------------------- the course's values


@pytest.fixture
def solutions_file(data: Path) -> Path:
    return data / "course" / "solutions.json"


def test_the_courses_values_are_met(monkeypatch: pytest.MonkeyPatch, solutions_file: Path) -> None:
    monkeypatch.setattr(verify, "CHECKS", [])
    report = run_checks("cpu", read_solutions(solutions_file))
    assert len(report.results) == 8
    assert report.passed


@pytest.mark.parametrize(
    ("layer", "method", "broken", "seen_by"),
    [
        (Linear, "forward", transposed, "Course: MyLinear output"),
        (LSTMCell, "step", forget_gate_first, "Course: MyLSTMCell h and c"),
        (LSTMCell, "step", forget_gate_first, "Course: LSTM, 6 frames, training"),
        (
            MotionNetwork,
            "_normalise",
            all_frames_normalised_at_once,
            "Course: LSTM, 6 frames, training",
        ),
        (
            LSTMCell,
            "reset_parameters",
            forget_bias_in_one_place,
            "Course: initWeight's forget bias",
        ),
    ],
)
def test_a_broken_layer_misses_the_courses_values(
    monkeypatch: pytest.MonkeyPatch,
    solutions_file: Path,
    layer: type[nn.Module],
    method: str,
    broken: Callable[..., Any],
    seen_by: str,
) -> None:
    monkeypatch.setattr(layer, method, broken)
    monkeypatch.setattr(verify, "CHECKS", [])
    report = run_checks("cpu", read_solutions(solutions_file))
    assert not any(result.passed for result in report.results if result.name == seen_by)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*: No such file"),
        ("not json", "is not a JSON file"),
        ("[" * 100_000, "is not a JSON file"),
        (
            json.dumps(dict.fromkeys(verify.SOLUTION_KEYS, 10**400)),
            "linear_weight is not an array of numbers",
        ),
        ("[1, 2]", "it lacks linear_weight, linear_bias,"),
        (
            json.dumps({key: 0 for key in verify.SOLUTION_KEYS if key != "lstm_h"}),
            "it lacks lstm_h$",
        ),
        (
            json.dumps(dict.fromkeys(verify.SOLUTION_KEYS, "many")),
            "linear_weight is not an array of numbers",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "solutions.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(MocogenError, match=message):
        read_solutions(path)


# ------------------------------------------------------------------------ the command line


def test_the_command_shows_a_table_on_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "Linear: output", "GRUCell: h")
    result = CliRunner().invoke(app, ["verify-layers", "--device", "cpu"])
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "Linear: output" in result.stderr
    assert "4 of 4 checks passed on cpu" in result.stderr


def test_the_command_prints_one_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "Linear: output")
    result = CliRunner().invoke(app, ["verify-layers", "--device", "cpu", "--json"])
    shown = json.loads(result.stdout)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert (shown["passed"], shown["device"]) == (True, "cpu")
    assert shown["versions"]["torch"] == torch.__version__
    assert shown["checks"][0] == {
        "name": "Linear: output",
        "precision": "float32",
        "difference": shown["checks"][0]["difference"],
        "tolerance": 1e-5,
        "passed": True,
        "note": "",
    }


@pytest.mark.parametrize("broken", [transposed, not_a_number])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_command_exits_with_1_when_a_layer_is_broken(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[..., Any], options: list[str]
) -> None:
    monkeypatch.setattr(Linear, "forward", broken)
    only(monkeypatch, "Linear: output", "GRUCell: h")
    result = CliRunner().invoke(app, ["verify-layers", "--device", "cpu", *options])
    assert result.exit_code == 1
    if options:
        shown = json.loads(result.stdout, parse_constant=pytest.fail)  # NaN is no JSON
        assert [check["passed"] for check in shown["checks"]] == [False, False, True, True]
    else:
        assert "FAIL" in result.stderr
        assert "2 of 4 checks passed on cpu" in result.stderr
