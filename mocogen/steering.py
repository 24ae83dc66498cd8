"""Steering: what may be done to latents and motion codes between a seed and the generator.

Ways between two seeds, another speed of time, and loops, on plain arrays. Everything that
comes before a network (content and noise) is rounded as in :mod:`mocogen.latents`, so that it is
the same bits on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .latents import rounded

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_SEARCH = 400
"""In so many frames a loop's beginning is looked for: a dozen rounds of a wave or a jump."""
_BEND = 40
"""A loop may be so many frames longer or shorter than asked for, and a third at most; it is
then played faster or slower. It takes a whole number of rounds of a movement to close."""
_OVERLAP = 8
"""Frames over which a loop's end runs into what came before its beginning."""
_WORTH_OF_TIME = 4.0
_WORTH_OF_MOTION = 10.0
_MOVING = 0.9


@dataclass(frozen=True)
class Walk:
    """A way from a clip's own seeds to another seed.

    A clip's frames are shared out evenly among the stations, which lie at even distances
    from ``first`` to ``last``.

    Attributes:
        to: the seed at the other end.
        content, motion: what walks; the rest stays with the clip's own seeds.
        first, last: where on the way the clip begins and ends, 0 to 1: 0 is its own seed, 1
            ``to``.
        steps: number of stations, 1 to the clip's frames; with one, the clip stays at ``first``.

    :meth:`mocogen.Model.clip` refuses other values.
    """

    to: int
    content: bool
    motion: bool
    first: float = 0.0
    last: float = 1.0
    steps: int = 1

    @property
    def moves(self) -> bool:
        """Whether the clip comes from one place on the way to another."""
        return self.steps > 1 and self.first != self.last

    def weights(self, times: Doubles, frames: int) -> Doubles:
        """Where on the way a clip is at ``times``, in frames of the clip's ``frames``."""
        station = np.clip(np.floor(times * self.steps / frames), 0, self.steps - 1)
        return self.first + (self.last - self.first) * station / max(1, self.steps - 1)


def slerp(start: Floats, end: Floats, weights: Doubles) -> Floats:
    """Spherical interpolation of vectors that may differ in length (White 2016).

    The direction moves along the great circle at an even speed, and the length from one to
    the other: what lies between two content vectors is as far from zero as they are, which is
    where the generator has learned. The straight way cuts through the middle.

    Args:
        start, end: (size,) each, not zero.
        weights: (n,), 0 for ``start`` to 1 for ``end``.

    Returns:
        (n, size), rounded to multiples of 2**-16.
    """
    a, b = start.astype(np.float64), end.astype(np.float64)
    long_a, long_b = np.sqrt((a * a).sum()), np.sqrt((b * b).sum())
    w = weights[:, None]
    angle = np.arccos(np.clip((a * b).sum() / (long_a * long_b), -1.0, 1.0))
    if np.sin(angle) < 1e-6:  # one direction, or opposite ones, between which no way is shortest
        return rounded((1 - w) * a + w * b)
    mixed = np.sin((1 - w) * angle) * a / long_a + np.sin(w * angle) * b / long_b
    return rounded(mixed / np.sin(angle) * ((1 - w) * long_a + w * long_b))


def arc(start: Floats, end: Floats, weights: Doubles) -> Floats:
    """A quarter circle between independent vectors of N(0, I): N(0, I) at every weight.

    For noise, whose vectors are short: their angle and length vary, and this keeps the
    distribution exactly, whatever the size.

    Args:
        start, end: (n, size) each.
        weights: (n,), 0 for ``start`` to 1 for ``end``.

    Returns:
        (n, size), rounded to multiples of 2**-16.
    """
    angle = (weights * (np.pi / 2))[:, None]
    return rounded(np.cos(angle) * start + np.sin(angle) * end)


def codes_needed(frames: int, speed: float, loop: bool) -> int:
    """How many of the motion network's codes :func:`timed` wants."""
    if loop:
        return _SEARCH + _lengths(frames, speed)[-1]
    return frames if speed == 1 else int((frames - 1) * speed) + 3


def timed(codes: Iterable[Floats], frames: int, speed: float, loop: bool) -> Iterator[Floats]:
    """The motion codes of a clip's frames from those that the network made.

    Between codes a curve passes through all of them (Catmull and Rom 1974), so that what it
    gives between two are poses of their own.

    Args:
        codes: (n, motion) at a time, :func:`codes_needed` in all.
        frames: how many are wanted.
        speed: of time; 0.5 is half as fast.
        loop: whether the last runs into the first.

    Yields:
        (n, motion) at a time, ``frames`` in all. Without a loop, memory does not grow with
        their number, and fewer frames are the first of more.
    """
    if loop:
        yield looped(np.concatenate(list(codes)), frames, speed)
    elif speed == 1:
        yield from codes
    else:
        yield from _resampled(codes, frames, speed)


def _resampled(codes: Iterable[Floats], frames: int, speed: float) -> Iterator[Floats]:
    """Codes at the times 0, speed, 2 * speed, ..., as soon as their neighbours are there."""
    first, done = -1, 0
    held: Floats | None = None  # codes from the time ``first`` on
    for block in codes:
        # Before the first code, time stands still.
        held = np.concatenate([block[:1] if held is None else held, block])
        last = first + len(held) - 1
        end = min(frames, int((last - 1) / speed) + 2)
        times = np.arange(done, end, dtype=np.float64) * speed
        times = times[times < last - 1]
        if len(times):
            yield _between(held, times, first)
            done += len(times)
        passed = min(len(held), max(0, int(done * speed) - 1 - first))
        held, first = held[passed:], first + passed


def _between(codes: Floats, times: Doubles, first: int = 0, around: bool = False) -> Floats:
    """Catmull-Rom curves through codes (n, motion) of the times from ``first`` on, read at
    ``times``, each with a code before it and two after it; ``around`` takes the first code to
    follow the last."""
    at = np.floor(times)
    f = (times - at)[:, None]
    neighbours = at.astype(np.int64)[:, None] - first + np.arange(-1, 3)
    if around:
        neighbours %= len(codes)
    a, b, c, d = codes.astype(np.float64)[neighbours].swapaxes(0, 1)
    curve = c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a))
    return (b + 0.5 * f * curve).astype(np.float32)


def _lengths(frames: int, speed: float) -> range:
    """How many codes a loop may be made of, near ``frames * speed``."""
    wanted = round(frames * speed)
    room = min(wanted // 3, _BEND)
    return range(wanted - room, wanted + room + 1)


def looped(codes: Floats, frames: int, speed: float = 1.0) -> Floats:
    """A part of the codes as a loop: (frames, motion), the first of which follows the last.

    Looks for the part that closes best (:func:`_best_part`), lets its last frames run into
    those just before its beginning, and stretches it to the length that is wanted. Most
    players halt for a moment when they begin again, so the loop starts where least moves.

    Args:
        codes: (``codes_needed(frames, speed, True)``, motion).
        frames: length of the loop.
        speed: about how many codes a frame it is played at.
    """
    start, length = _best_part(codes.astype(np.float64), _lengths(frames, speed))
    part = codes[start : start + length].copy()
    overlap = _overlap(length)
    w = np.arange(1, overlap + 1)[:, None] / (overlap + 1)
    w = w * w * (3 - 2 * w)  # without a corner at either end
    part[-overlap:] = (1 - w) * part[-overlap:] + w * codes[start - overlap : start]
    loop = _between(part, np.arange(frames, dtype=np.float64) * (length / frames), around=True)
    steps = np.square(loop - np.roll(loop, 1, axis=0)).sum(1)
    return np.roll(loop, -int(steps.argmin()), axis=0)


def _overlap(length: int) -> int:
    return min(_OVERLAP, length // 4)


def _best_part(codes: Doubles, lengths: range) -> tuple[int, int]:
    """Beginning and length of the part of ``codes`` that makes the best loop.

    The best has the smallest sum of three costs: how far its end is from what came before
    its beginning, in steps between neighbours, over the frames that are to run into one
    another; by how much time must be stretched; and how much less it moves than the whole
    (else a loop of somebody who bends now and then would be one who stands still).
    """
    step = np.sqrt(np.square(np.diff(codes, axis=0)).sum(1)).mean() + 1e-12
    variance = codes.var(0).sum() + 1e-12
    sums = np.concatenate([np.zeros((1, codes.shape[1])), codes.cumsum(0)])
    squares = np.concatenate([[0.0], np.square(codes).sum(1).cumsum()])
    wanted = lengths[len(lengths) // 2]
    best = (np.inf, 0, 0)
    for length in lengths:
        overlap = _overlap(length)
        starts = np.arange(overlap, _SEARCH)
        apart = np.sqrt(np.square(codes[length:] - codes[:-length]).sum(1))
        totals = np.concatenate([[0.0], apart.cumsum()])
        gap = (totals[starts] - totals[starts - overlap]) / overlap / step
        mean = (sums[starts + length] - sums[starts]) / length
        spread = (squares[starts + length] - squares[starts]) / length - np.square(mean).sum(1)
        moves = np.sqrt(np.maximum(spread, 0.0) / variance)
        cost = gap + _WORTH_OF_TIME * abs(np.log2(length / wanted))
        cost += _WORTH_OF_MOTION * np.maximum(0.0, _MOVING - moves)
        k = int(cost.argmin())
        best = min(best, (float(cost[k]), int(starts[k]), length))
    return best[1], best[2]
