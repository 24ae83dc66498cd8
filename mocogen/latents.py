"""From a seed to the random numbers of a clip.

A clip is its seed: the same seed gives the same latents on every machine and device,
whatever else is sampled beside it. So the numbers come from numpy's Philox (Salmon et al.
2011), whose raw stream numpy promises to keep (NEP 19), on the CPU, and the step from raw
bits to normal variates is made here, since numpy may change its own.

Philox is counter-based: the noise of any frame can be had without that of the frames before
it. Every seed has separate streams for content, motion noise, action and initial state.
"""

from __future__ import annotations

import secrets

import numpy as np
from numpy.typing import NDArray

_CONTENT, _NOISE, _ACTION, _STATE = range(4)
GRID = 2.0**16
"""What comes before a network is rounded to multiples of ``1 / GRID``."""

_WORDS_A_TICK = 4  # Philox yields four 64-bit words for every step of its counter


def rounded(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """What comes before a network: multiples of ``1 / GRID``."""
    return (np.rint(values * GRID) / GRID).astype(np.float32)


def random_seed() -> int:
    """A seed from the system's entropy, short enough to note down (below 2**31)."""
    return secrets.randbelow(2**31)


def content(seed: int, size: int) -> NDArray[np.float32]:
    """The content vector of a clip, N(0, I): (size,)."""
    return _normals(seed, _CONTENT, 0, 1, size)[0]


def noise(seed: int, first: int, frames: int, size: int) -> NDArray[np.float32]:
    """Noise vectors of frames ``first`` to ``first + frames - 1``, N(0, I): (frames, size)."""
    return _normals(seed, _NOISE, first, frames, size)


def initial_state(seed: int, size: int) -> NDArray[np.float32]:
    """A hidden state from N(0, I), for networks that start from one: (size,)."""
    return _normals(seed, _STATE, 0, 1, size)[0]


def action(seed: int, choices: int) -> int:
    """The action that a seed picks when none is asked for, uniform in 0 to choices - 1."""
    return int(_raw(seed, _ACTION, 0, 1)[0] % np.uint64(choices))


def _raw(seed: int, stream: int, tick: int, words: int) -> NDArray[np.uint64]:
    key = np.array([seed, stream], dtype=np.uint64)
    return np.asarray(np.random.Philox(key=key, counter=tick).random_raw(words))


def _normals(seed: int, stream: int, first: int, rows: int, size: int) -> NDArray[np.float32]:
    """Rows of standard normal variates by Box and Muller's transform (1958).

    Every row starts at a tick of the counter of its own, so that it can be made alone.
    Logarithm and cosine may differ between processors in the last of 53 bits; rounding to
    multiples of 2**-16 leaves that no way (but for a chance of some 1e-10) into the result.
    """
    ticks = -(-size // _WORDS_A_TICK)
    raw = _raw(seed, stream, first * ticks, rows * ticks * _WORDS_A_TICK)
    uniform = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    pairs = uniform.reshape(rows, -1, 2)
    radius = np.sqrt(-2.0 * np.log(pairs[..., 0]))
    angle = (2.0 * np.pi) * pairs[..., 1]
    variates = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return rounded(variates.reshape(rows, -1)[:, :size])
