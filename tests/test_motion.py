"""The motion network: noise in, a path through motion space out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mocogen.errors import UsageError
from mocogen.layers import LSTMCell, LSTMState
from mocogen.motion import LSTM, MotionNetwork

CELLS = pytest.mark.parametrize("cell", ["lstm", "gru"])


@pytest.fixture(autouse=True)
def fixed_random_numbers() -> None:
    torch.manual_seed(417)


def network(cell: str = "lstm", categories: int = 0) -> MotionNetwork:
    """An eval-mode network of noise 3, hidden 5, motion 2, with statistics of its own."""
    made = MotionNetwork(3, 5, 2, categories, cell).eval()
    assert made.bn is not None
    made.bn.running_mean = torch.tensor([1.0, -2])
    made.bn.running_var = torch.tensor([4.0, 0.25])
    return made


def parts(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else list(state)


def test_one_motion_code_a_frame() -> None:
    assert network()(torch.randn(7, 4, 3)).shape == (7, 4, 2)


def test_members_have_the_names_that_checkpoints_use() -> None:
    assert set(LSTM(10, 100).state_dict()) == {
        *("lstm.weight_ih", "lstm.weight_hh", "lstm.bias_ih", "lstm.bias_hh"),
        *("linear.weight", "linear.bias"),
        *("bn.running_mean", "bn.running_var", "bn.num_batches_tracked"),
    }


@CELLS
def test_one_noise_vector_is_repeated_at_every_frame(cell: str) -> None:
    noise, motion = torch.randn(4, 3), network(cell)
    assert_close(motion(noise, 6), motion(noise.repeat(6, 1, 1)))


@CELLS
@pytest.mark.parametrize("gradients", [True, False])
def test_ten_frames_and_ten_more_are_twenty(cell: str, gradients: bool) -> None:
    noise, motion = torch.randn(20, 4, 3), network(cell)
    with torch.set_grad_enabled(gradients):
        start, state = motion.unroll(noise[:10])
        end, last = motion.unroll(noise[10:], state=state)
        codes, whole = motion.unroll(noise)
    assert_close(torch.cat([start, end]), codes)
    assert_close(parts(last), parts(whole))


@CELLS
def test_the_state_starts_at_zero(cell: str) -> None:
    noise, motion = torch.randn(6, 4, 3), network(cell)
    zeros = motion.initial_state(4)
    assert all(part.shape == (4, 5) and not part.any() for part in parts(zeros))
    assert_close(motion(noise), motion(noise, state=zeros))


def test_sampling_without_gradients_gives_the_same_codes() -> None:
    noise, motion = torch.randn(48, 4, 3), network()
    with torch.no_grad():
        sampled = motion(noise)
    assert not sampled.requires_grad
    assert_close(sampled, motion(noise).detach())


class Leaky(LSTMCell):
    """A cell that forgets half of its output."""

    def step(self, projected: Tensor, state: LSTMState) -> LSTMState:
        h, c = super().step(projected, state)
        return h / 2, c


class Deaf(LSTMCell):
    """A cell that hears its input at a tenth."""

    def project(self, x: Tensor) -> Tensor:
        return super().project(x / 10)


@pytest.mark.parametrize("kind", [Leaky, Deaf])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_cell_of_ones_own_counts_without_gradients_too(kind: type[LSTMCell], batch: int) -> None:
    noise, motion = torch.randn(6, batch, 3), network()
    plain = motion(noise).detach()
    cell = kind(3, 5)
    cell.load_state_dict(motion.lstm.state_dict())
    motion.lstm = cell
    wanted = motion(noise).detach()
    assert (wanted - plain).abs().max() > 1e-2
    with torch.no_grad():
        assert_close(motion(noise), wanted)
        # One that is put into a cell as it is, and not into its class.
        motion.lstm = LSTMCell(3, 5)
        motion.lstm.load_state_dict(cell.state_dict())
        motion.lstm.step, motion.lstm.project = cell.step, cell.project  # type: ignore[method-assign]
        assert_close(motion(noise), wanted)


def test_a_subclass_that_adds_nothing_stays_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    class Named(LSTMCell):
        pass

    motion, called = network(), []
    motion.lstm = Named(3, 5)
    unroll = LSTMCell.unroll_in_place

    def counted(self: LSTMCell, *given: Any) -> tuple[Tensor, LSTMState]:
        called.append(self)
        return unroll(self, *given)

    monkeypatch.setattr(LSTMCell, "unroll_in_place", counted)
    with torch.no_grad():
        motion(torch.randn(6, 4, 3))
    assert called == [motion.lstm]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    "recorded",
    [
        lambda motion, noise: torch.jit.trace(motion, (noise,), check_trace=False),
        lambda motion, noise: torch.export.export(motion, (noise,)).module(),
    ],
    ids=["traced", "exported"],
)
def test_what_is_recorded_of_a_network_takes_other_noise(recorded: Any, batch: int) -> None:
    motion = network().requires_grad_(False)
    first, second = torch.randn(2, 7, batch, 3)
    with torch.no_grad():
        assert_close(recorded(motion, first)(second), motion(second))


def test_training_normalises_every_frame_by_its_own_batch() -> None:
    codes = network().train()(3 * torch.randn(6, 50, 3))
    assert_close(codes.mean(dim=1), torch.zeros(6, 2), atol=1e-5, rtol=0)
    assert_close(codes.var(dim=1, correction=0), torch.ones(6, 2), atol=1e-2, rtol=0)


def test_eval_mode_normalises_by_the_running_statistics() -> None:
    motion = network()
    assert motion.linear is not None
    noise = torch.randn(1, 4, 3)
    h, _ = motion.lstm(noise[0], motion.initial_state(4))
    expected = (motion.linear(h) - torch.tensor([1.0, -2])) / torch.tensor([2.0, 0.5])
    assert_close(motion(noise)[0], expected, atol=1e-4, rtol=0)


@CELLS
def test_output_is_fed_back_ahead_of_the_batch_norm(cell: str) -> None:
    motion = MotionNetwork(2, 5, 2, cell=cell).eval()
    assert motion.bn is not None
    motion.bn.running_mean = torch.tensor([1.0, -2])
    noise = torch.randn(4, 2)
    codes, _ = motion.feed_back(noise, 3)
    # Undoing the batch norm gives back what entered: the same as per-frame noise.
    outputs = codes * (1 + motion.bn.eps) ** 0.5 + motion.bn.running_mean
    assert_close(motion(torch.stack([noise, outputs[0], outputs[1]])), codes)


@CELLS
def test_feeding_back_can_go_on_too(cell: str) -> None:
    noise, motion = torch.randn(4, 2), MotionNetwork(2, 5, 2, cell=cell).eval()
    start, state = motion.feed_back(noise, 4)
    end, _ = motion.feed_back(noise, 4, state=state)
    assert_close(torch.cat([start, end]), motion.feed_back(noise, 8)[0])


@pytest.mark.parametrize("n_frames", [0, -1])
def test_no_frames_cannot_be_fed_back(n_frames: int) -> None:
    with pytest.raises(ValueError, match=f"{n_frames} frames: at least 1 is needed"):
        MotionNetwork(2, 5, 2).feed_back(torch.randn(4, 2), n_frames)


@pytest.mark.parametrize("cell", ["rnn", "LSTM", ""])
def test_an_unknown_cell_is_refused(cell: str) -> None:
    with pytest.raises(UsageError, match=f"unknown cell '{cell}': use lstm or gru"):
        MotionNetwork(2, 5, 2, cell=cell)


def test_a_category_changes_the_motion() -> None:
    noise, motion = torch.randn(2, 3).repeat(2, 1), network(categories=2)
    codes = motion(noise, 5, torch.tensor([0, 0, 1, 1]))
    assert not torch.allclose(codes[:, :2], codes[:, 2:])
    assert_close(codes[:, 2:], motion(noise[:2], 5, torch.tensor([1, 1])))


def test_without_a_head_the_hidden_state_is_the_motion_code() -> None:
    motion = MotionNetwork(3, 5, motion=2, cell="gru", head=False).eval()
    codes, state = motion.unroll(torch.randn(6, 4, 3))
    assert motion.motion_size == 5
    assert isinstance(state, Tensor)
    assert_close(codes[-1], state)


@pytest.mark.parametrize(
    ("categories", "arguments", "message"),
    [
        (0, {"noise": torch.zeros(4, 3)}, "n_frames is needed"),
        (0, {"noise": torch.zeros(4, 3), "n_frames": 0}, "0 frames"),
        (0, {"noise": torch.zeros(6, 4, 3), "n_frames": 7}, "noise for 6 frames, but 7"),
        (0, {"noise": torch.zeros(6, 4, 8)}, "length 8, not 3"),
        (0, {"noise": torch.zeros(6, 4, 3), "category": torch.zeros(4)}, "has no categories"),
        (2, {"noise": torch.zeros(6, 4, 3)}, "category of 0 to 1 is needed"),
    ],
)
def test_what_does_not_fit_is_refused(
    categories: int, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        network(categories=categories)(**arguments)


def test_mixed_precision_works_without_gradients() -> None:
    noise, motion = torch.randn(6, 4, 3), network()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = motion(noise)
    assert_close(rough.float(), motion(noise).detach(), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "per-frame"])
@pytest.mark.parametrize(
    "motion",
    [
        MotionNetwork(10, 100, 10),
        MotionNetwork(10, 128, 10),
        MotionNetwork(10, 100, 10, cell="gru"),
        MotionNetwork(10, 10, 10, cell="gru", head=False),
    ],
    ids=["course", "mocogen", "dlhacks", "authors"],
)
def test_a_clips_bits_depend_on_neither_its_row_nor_its_neighbours(
    motion: MotionNetwork, constant: bool
) -> None:
    """What sampling builds on: in blocks of one shape, a clip is the same wherever it stands.

    It holds for the networks in use. It does not for every size: matrix products and the
    sigmoid treat the last few numbers of a block differently, so a hidden size that is no
    multiple of 4 can give a clip other last bits in another row.
    """
    motion.eval()
    # Clips come one after the other, (batch, frames, noise), and are only viewed frame by frame.
    noise = torch.randn(8, 10) if constant else torch.randn(8, 16, 10).transpose(0, 1)
    order = torch.randperm(8)
    alone = torch.zeros_like(noise)
    alone[..., 3, :] = noise[..., 0, :]
    with torch.inference_mode():
        codes, state = motion.unroll(noise, 16)
        permuted, permuted_state = motion.unroll(noise[..., order, :], 16)
        assert torch.equal(permuted, codes[:, order])
        assert torch.equal(motion(alone, 16)[:, 3], codes[:, 0])
        # The same goes for the next block, which starts from the state.
        more = motion(noise, 16, state=state)
        permuted_more = motion(noise[..., order, :], 16, state=permuted_state)
        assert torch.equal(permuted_more, more[:, order])
