"""A clip is its seed: what may never change about the way from one to the other."""

import hashlib

import numpy as np

from mocogen import latents
from mocogen.requests import MAX_SEED


def test_the_same_seed_gives_the_same_bits_for_ever():
    """These hashes pin the step from a seed to its latents: a change breaks every seed."""
    content, noise = latents.content(7, 50), latents.noise(7, 0, 48, 10)
    assert hashlib.sha256(content.tobytes()).hexdigest()[:16] == "acb73bb46db00245"
    assert hashlib.sha256(noise.tobytes()).hexdigest()[:16] == "9a85e3744da6cea9"
    assert [latents.action(seed, 4) for seed in range(12)] == [0, 1, 3, 2, 1, 2, 3, 1, 3, 0, 0, 1]


def test_noise_of_any_frame_can_be_had_alone():
    whole = latents.noise(3, 0, 100, 10)
    assert np.array_equal(latents.noise(3, 37, 5, 10), whole[37:42])


def test_seeds_and_streams_are_independent():
    many = np.stack([latents.content(seed, 50) for seed in range(2000)])
    assert abs(np.corrcoef(many[:-1].ravel(), many[1:].ravel())[0, 1]) < 0.02
    noise = np.stack([latents.noise(seed, 0, 5, 10).ravel() for seed in range(2000)])
    assert abs(np.corrcoef(many.ravel(), noise.ravel())[0, 1]) < 0.02


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


def test_the_largest_seed_works():
    assert np.isfinite(latents.content(MAX_SEED, 4)).all()
