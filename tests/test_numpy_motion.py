"""The motion network in numpy against the one in torch, both in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mocogen import checkpoint
from mocogen.numpy_motion import NumpyMotion
from mocogen.spec import ModelSpec

CLIPS, STEPS = 3, 7


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("actions", [(), ("hop", "spin")])
@pytest.mark.parametrize("head", [True, False])
def test_it_is_the_network_of_torch(cell: str, actions: tuple[str, ...], head: bool) -> None:
    torch.manual_seed(0)
    spec = ModelSpec(
        content=2, noise=5, hidden=6, motion=5 if head else 6, actions=actions, width=2,
        image_size=32, cell=cell, head=head,
    )  # fmt: skip
    network, generator = checkpoint.build(spec)
    if network.bn is not None:
        network.bn.running_mean.normal_()
        network.bn.running_var.uniform_(0.5, 2)
    ours = NumpyMotion(spec, checkpoint.tensors_of(network, generator))
    network.double()
    noise = np.random.default_rng(1).normal(size=(STEPS, CLIPS, 5)).astype(np.float32)
    category = np.array([0, 1, 1]) if actions else None
    asked = torch.from_numpy(category) if category is not None else None
    state = tuple(np.full((CLIPS, 6), 0.1) for _ in range(2 if cell == "lstm" else 1))
    given = tuple(torch.from_numpy(part) for part in state)
    with torch.no_grad():
        codes, after = network.unroll(
            torch.from_numpy(noise).double(), None, asked, given if cell == "lstm" else given[0]
        )
    made, raw, ended = ours(noise, category, state)
    np.testing.assert_allclose(made, codes, atol=1e-6)
    ends = after if isinstance(after, tuple) else (after,)
    for mine, theirs in zip(ended, ends, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
    if head:
        assert network.linear is not None
        with torch.no_grad():
            last = network.linear(ends[0])
        np.testing.assert_allclose(raw[-1], last, atol=1e-12)


def test_a_path_in_pieces_is_the_same_path() -> None:
    spec, tensors = checkpoint.read(checkpoint.find("weizmann"))
    network = NumpyMotion(spec, tensors)
    noise = np.random.default_rng(2).normal(size=(32, 8, spec.noise)).astype(np.float32)
    category = np.arange(8) % 4
    state = (np.zeros((8, spec.hidden)),) * 2
    whole, _, end = network(noise, category, state)
    parts = []
    for piece in np.split(noise, [1, 5, 16]):
        codes, _, state = network(piece, category, state)
        parts.append(codes)
    assert np.array_equal(np.concatenate(parts), whole)
    assert all(map(np.array_equal, state, end))
