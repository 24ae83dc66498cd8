"""Voxel flow: what the sampling does with a flow and a mask that are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mocogen import flow_checkpoint
from mocogen.errors import MocogenError
from mocogen.flow_checkpoint import FlowSpec
from mocogen.voxel_flow import VoxelFlow, between, sample, warp


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def constant_flow(across: float, down: float, height: int, width: int) -> Tensor:
    return torch.tensor([across, down])[None, :, None, None].expand(1, 2, height, width)


@pytest.mark.parametrize("time", [0.5, 0.25])
def test_no_flow_and_an_even_mask_are_the_blend(time: float) -> None:
    first, second = picture(9, 12), picture(9, 12, 1)
    flow, mask = torch.zeros(1, 2, 9, 12), torch.full((1, 1, 9, 12), 0.5)
    made = sample(first, second, torch.tensor([time]), flow, mask)
    torch.testing.assert_close(made, (1 - time) * first + time * second, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("time", "across", "down"), [(0.5, 4, -2), (0.25, -4, 8)])
def test_a_known_shift_is_recovered_inside(time: float, across: int, down: int) -> None:
    """Content that moves by whole pixels is where it must be, whichever frame is trusted."""
    first = picture(32, 40)
    second = torch.roll(first, (down, across), (2, 3))
    expected = torch.roll(first, (int(time * down), int(time * across)), (2, 3))
    flow = constant_flow(across, down, 32, 40)
    inside = (..., slice(8, -8), slice(8, -8))
    for trust in (0.5, 1e-6, 1 - 1e-6):
        mask = torch.full((1, 1, 32, 40), trust)
        made = sample(first, second, torch.tensor([time]), flow, mask)
        torch.testing.assert_close(made[inside], expected[inside], atol=1e-4, rtol=0)


def test_the_mask_says_which_frame_is_trusted() -> None:
    first, second = picture(8, 8), picture(8, 8, 1)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    made = sample(first, second, torch.tensor([0.5]), torch.zeros(1, 2, 8, 8), mask)
    torch.testing.assert_close(made[..., :4], first[..., :4], atol=1e-5, rtol=0)
    torch.testing.assert_close(made[..., 4:], second[..., 4:], atol=1e-5, rtol=0)


def test_beyond_the_edge_the_edge_goes_on() -> None:
    frame = picture(6, 6)
    seen = warp(frame, constant_flow(100.0, 0.0, 6, 6))
    torch.testing.assert_close(seen, frame[..., -1:].expand(-1, -1, -1, 6), atol=1e-5, rtol=0)


def test_an_untrained_network_blends_frames_of_any_size() -> None:
    network = VoxelFlow(4).eval()
    for height, width in ((37, 51), (5, 3), (300, 41)):
        first, second = picture(height, width), picture(height, width, 1)
        made = between(network, first, second, 0.5)
        torch.testing.assert_close(made, (first + second) / 2, atol=1e-4, rtol=0)


def test_flow_found_in_reduced_frames_counts_in_pixels_of_the_large_ones() -> None:
    network = VoxelFlow(4).eval()
    assert network.out.bias is not None
    network.out.bias.data[:] = torch.tensor([2.0 / 8, 1.0 / 8, 0.0])  # 2 and 1 reduced pixels
    first = picture(256, 512)
    made = between(network, first, torch.roll(first, (2, 4), (2, 3)), 0.5)
    expected = torch.roll(first, (1, 2), (2, 3))
    inside = (..., slice(8, -8), slice(8, -8))
    torch.testing.assert_close(made[inside], expected[inside], atol=2e-3, rtol=0)


def test_a_checkpoint_holds_the_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = VoxelFlow(4).eval()
    torch.nn.init.normal_(network.out.weight, std=0.1)
    path = tmp_path / "flow.safetensors"
    flow_checkpoint.save(path, FlowSpec(width=4, name="one", training={"seed": 3}), network)
    spec, read = flow_checkpoint.load(path)
    assert (spec.width, spec.name, spec.training) == (4, "one", {"seed": 3})
    first, second = picture(16, 16), picture(16, 16, 1)
    ours = between(network, first, second, 0.5)
    assert float((ours - (first + second) / 2).abs().max()) > 0.05
    torch.testing.assert_close(between(read, first, second, 0.5), ours, atol=0.02, rtol=0)


def test_the_layout_of_the_memory_is_not_that_of_the_file(tmp_path: Path) -> None:
    network, path = VoxelFlow(4), tmp_path / "flow.safetensors"
    flow_checkpoint.save(path, FlowSpec(width=4), network)
    before = path.read_bytes()
    network.to(memory_format=torch.channels_last)
    flow_checkpoint.save(path, FlowSpec(width=4), network)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (FlowSpec(width=8), "of another shape"),
        (FlowSpec(width=0), "width = 0"),
        (FlowSpec(width=4, name="../up"), "name"),
        (FlowSpec(width=1000), "width = 1000"),
        (FlowSpec(width=4, format=99), "update mocogen"),
        (FlowSpec(width=4, format=-1), "damaged"),
        (FlowSpec(width=4, kind="dream"), "kind 'dream'"),
    ],
)
def test_metadata_that_makes_no_sense(tmp_path: Path, spec: FlowSpec, message: str) -> None:
    path = tmp_path / "odd.safetensors"
    flow_checkpoint.save(path, spec, VoxelFlow(4))
    with pytest.raises(MocogenError, match=message):
        flow_checkpoint.load(path)


def test_metadata_without_end(tmp_path: Path) -> None:
    path = tmp_path / "deep.safetensors"
    save_file(VoxelFlow(4).state_dict(), path, {"mocogen": "[" * 100_000})
    for read in (flow_checkpoint.kind_of, flow_checkpoint.read_spec):
        with pytest.raises(MocogenError, match="damaged"):
            read(path)


def test_weights_of_another_precision(tmp_path: Path) -> None:
    network, path = VoxelFlow(4), tmp_path / "bf16.safetensors"
    tensors = {f"flow.{k}": v.bfloat16() for k, v in network.state_dict().items()}
    save_file(tensors, path, {"mocogen": FlowSpec(width=4).to_json()})
    assert flow_checkpoint.load(path)[1].out.weight.dtype == torch.float32


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    network = VoxelFlow(4)
    network.out.weight.data[0] = float("nan")
    flow_checkpoint.save(tmp_path / "nan.safetensors", FlowSpec(width=4), network)
    with pytest.raises(MocogenError, match=r"not finite in out\.weight"):
        flow_checkpoint.load(tmp_path / "nan.safetensors")
