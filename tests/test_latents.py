"""A clip is its seed: what may never change about the way from one to the other."""

import hashlib
from itertools import combinations

import numpy as np

from mocogen import latents
from mocogen.requests import MAX_SEED


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]


def test_the_same_seed_gives_the_same_bits_for_ever():
    """These hashes pin the step from a seed to its latents: a change breaks every seed."""
    content, noise = latents.content(7, 50), latents.noise(7, 0, 48, 10)
    assert digest(content) == "acb73bb46db00245"
    assert digest(noise) == "9a85e3744da6cea9"
    assert digest(latents.initial_state(7, 10)) == "5232461aac689b02"
    assert [latents.action(seed, 4) for seed in range(12)] == [0, 1, 3, 2, 1, 2, 3, 1, 3, 0, 0, 1]


def test_noise_of_any_frame_can_be_had_alone():
    whole = latents.noise(3, 0, 100, 10)
    assert np.array_equal(latents.noise(3, 37, 5, 10), whole[37:42])


def test_seeds_and_streams_are_independent():
    def related(one: np.ndarray, other: np.ndarray) -> float:
        return abs(np.corrcoef(one.ravel(), other.ravel())[0, 1])

    seeds = range(2000)
    content = np.stack([latents.content(seed, 50) for seed in seeds])
    noise = np.stack([latents.noise(seed, 0, 5, 10).ravel() for seed in seeds])
    state = np.stack([latents.initial_state(seed, 50) for seed in seeds])
    for one, other in combinations((content, noise, state), 2):
        assert related(one, other) < 0.02
    # All of an action's bits: in a stream of normals they would be the first pair's length.
    action = np.array([latents.action(seed, 2**64 - 1) for seed in seeds], np.float64)
    assert related(action[:-1], action[1:]) < 0.1
    for stream in (content, noise, state):
        assert related(stream[:-1], stream[1:]) < 0.02
        assert related(action, np.square(stream[:, :2]).sum(1)) < 0.1


def test_values_are_standard_normal():
    many = [latents.noise(seed, 0, 10_000, 10).ravel() for seed in range(10)]
    values = np.sort(np.concatenate(many).astype(np.float64))
    assert abs(values.mean()) < 0.004
    assert abs(values.std() - 1) < 0.004
    # The share below -2, -1, 0, 1, 2 deviations, from a table of the normal distribution.
    shares = np.searchsorted(values, [-2, -1, 0, 1, 2]) / len(values)
    assert np.allclose(shares, [0.0228, 0.1587, 0.5, 0.8413, 0.9772], atol=0.002)


def test_values_lie_on_a_grid_coarse_enough_to_hide_a_processor():
    values = latents.content(5, 1000).astype(np.float64) * 2**16
    assert np.array_equal(values, np.rint(values))


def test_every_action_has_its_share():
    counts = np.bincount([latents.action(seed, 4) for seed in range(4000)])
    assert counts.min() > 900


def test_the_largest_seeds_are_seeds_of_their_own():
    """Numbers of 64 bits, which a float would round."""
    assert digest(latents.content(MAX_SEED, 4)) == "4abdd3c61bb90878"
    assert digest(latents.content(2**62 + 7, 50)) == "a9530d4d8a3a1490"
    assert not np.array_equal(latents.content(MAX_SEED, 4), latents.content(MAX_SEED - 1, 4))
