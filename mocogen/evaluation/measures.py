"""Measures of clips, as pure functions.

Frames are uint8 of (T, h, w, 3), values 0 to 255, and a distance between colours or frames is
in these units ("grey levels"). Nothing here knows whether a clip is real or made: the
programs under ``benchmarks/`` divide one by the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
Floats = NDArray[np.float64]

GRID = 16
"""Frames are averaged to this many cells a side before they are compared: camera noise and
texture do not count then. At 64x64 a cell is 4x4 pixels."""

NOISE = 2.0
"""A cell's change from frame to frame, in grey levels, that camera noise can explain: on the
walls of the Weizmann clips it is 0.5 on average."""

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in a brightness (ITU-R BT.601)."""

DARK = 0.65
"""Darker than this share of the wall's brightness is clothing (or hair)."""


def reduce(frames: Frames, size: int) -> Frames:
    """Frames of (T, size, size, 3), every pixel the mean of the area that it covers.

    Source pixels that it covers in part count by that part, so that averages over equal
    areas stay what they are (up to rounding).

    Raises:
        ValueError: the frames are smaller than ``size``; nothing is enlarged here.
    """
    height, width = frames.shape[1:3]
    if min(height, width) < size:
        raise ValueError(f"frames of {width}x{height} pixels cannot be reduced to {size}")
    if height == width == size:
        return frames
    narrow = np.einsum("jw,thwc->thjc", _overlaps(width, size), frames, optimize=True)
    means = np.einsum("ih,thjc->tijc", _overlaps(height, size), narrow, optimize=True)
    return means.round().astype(np.uint8)


def _overlaps(source: int, target: int) -> NDArray[np.float32]:
    """Which share of each of ``target`` equal parts of a line lies in each of ``source`` ones."""
    starts = np.arange(target)[:, None] * (source / target)
    ends = starts + source / target
    cells = np.arange(source)
    shared = np.minimum(ends, cells + 1) - np.maximum(starts, cells)
    return (shared.clip(min=0) * (target / source)).astype(np.float32)


def grid(frames: Frames) -> Floats:
    """Mean colours of ``GRID`` x ``GRID`` equal cells: (T, GRID, GRID, 3).

    Raises:
        ValueError: height and width are no multiples of ``GRID``.
    """
    count, height, width = frames.shape[:3]
    if height % GRID or width % GRID:
        raise ValueError(f"{width}x{height} pixels are no multiple of {GRID} cells")
    cells = frames.reshape(count, GRID, height // GRID, GRID, width // GRID, 3)
    return cells.mean(axis=(2, 4), dtype=np.float64)


def motion_energy(frames: Frames) -> float:
    """How much moves from frame to frame, in grey levels.

    The mean absolute difference between neighbouring frames after averaging to the
    :func:`grid`, over cells, colours and pairs of neighbours. 0 for a frozen clip.

    Raises:
        ValueError: fewer than two frames, or a size that the grid does not divide.
    """
    return float(_changes(frames).mean())


def movement(frames: Frames) -> float:
    """How much of :func:`motion_energy` comes from cells that visibly move, in grey levels.

    Changes of a cell from one frame to the next whose mean over the colours is at most
    ``NOISE`` count as 0. Averaging to the grid lowers camera noise and does not remove it:
    where little moves, what is left of it over a whole wall is a large part of the energy.

    Raises:
        ValueError: as :func:`motion_energy`.
    """
    change = _changes(frames).mean(axis=3)
    return float(np.where(change > NOISE, change, 0.0).mean())


def _changes(frames: Frames) -> Floats:
    """How much every cell changes from frame to frame: (T - 1, GRID, GRID, 3), absolute."""
    if len(frames) < 2:
        raise ValueError("motion needs at least two frames")
    return np.abs(np.diff(grid(frames), axis=0))


def sharpness(frames: Frames) -> float:
    """Mean magnitude of the brightness gradient, in grey levels a pixel.

    The gradient of a pixel is its difference from its right and from its lower neighbour.
    The value depends on the frames' size, so compare frames of one size only: clips that
    were smaller are enlarged first (bicubic).
    """
    luma = frames.astype(np.float32) @ LUMA.astype(np.float32)
    across = luma[:, :-1, 1:] - luma[:, :-1, :-1]
    down = luma[:, 1:, :-1] - luma[:, :-1, :-1]
    return float(np.hypot(across, down).mean(dtype=np.float64))


def wall_and_clothing(frames: Frames) -> Floats:
    """Mean colours of the wall and of the clothing in every frame: (T, 6).

    The wall is looked at where nobody gets to in the real clips: in the outermost eighth of
    the columns on both sides, below five eighths of the height. Clothing is every pixel of
    the frame whose brightness is below ``DARK`` times the mean brightness of that part of
    the wall; in a frame without any, its colour counts as the wall's.
    """
    height, width = frames.shape[1:3]
    top, edge = height * 5 // 8, width // 8
    values = frames.astype(np.float32)
    sides = np.concatenate([values[:, top:, :edge], values[:, top:, -edge:]], axis=2)
    wall = sides.mean(axis=(1, 2), dtype=np.float64)
    weights = LUMA.astype(np.float32)
    dark = values @ weights < (DARK * wall @ LUMA)[:, None, None]
    total = np.einsum("thwc,thw->tc", values, dark, dtype=np.float64)
    count = dark.sum(axis=(1, 2))[:, None]
    clothing = np.where(count, total / np.maximum(count, 1), wall)
    return np.concatenate([wall, clothing], axis=1)


def mean_pairwise_distance(vectors: NDArray[np.generic]) -> float:
    """Mean Euclidean distance over all pairs of different rows of (n, d).

    Raises:
        ValueError: fewer than two rows.
    """
    count = len(vectors)
    if count < 2:
        raise ValueError("a distance needs at least two vectors")
    rows = np.asarray(vectors, np.float64)
    total = sum(
        float(np.linalg.norm(rows[k + 1 :] - rows[k], axis=1).sum()) for k in range(count - 1)
    )
    return total / (count * (count - 1) / 2)


def unsteadiness(frames: Frames) -> float:
    """How much the person or the place changes within a clip, in grey levels.

    The mean distance, over all pairs of frames, between their colours of wall and clothing,
    six numbers a frame (:func:`wall_and_clothing`). Real clips are not at 0: skin, trousers
    and shadows come and go with the movement.
    """
    return mean_pairwise_distance(wall_and_clothing(frames))


def diversity(first_frames: Frames) -> float:
    """How different clips look, in grey levels.

    The mean distance over all pairs of first frames, (n, h, w, 3); the distance of two
    frames is the root mean square over cells and colours of their :func:`grid`.
    """
    cells = grid(first_frames).reshape(len(first_frames), -1)
    return mean_pairwise_distance(cells) / cells.shape[1] ** 0.5


def most_frequent(labels: Sequence[int]) -> tuple[int, float]:
    """The label that most frames of a clip have (the smallest of equals), and their share.

    With the person that a classifier sees in every frame, the share is the person's
    consistency: 1 for one and the same person throughout.
    """
    counts = np.bincount(np.asarray(labels))
    winner = int(counts.argmax())
    return winner, float(counts[winner] / len(labels))


def coverage(pairs: Iterable[tuple[int, int]], rows: int, columns: int) -> NDArray[np.int64]:
    """How often every (row, column) occurs: counts of (rows, columns)."""
    table = np.zeros((rows, columns), np.int64)
    for row, column in pairs:
        table[row, column] += 1
    return table


def imbalance(counts: NDArray[np.int64]) -> float:
    """The largest count over the smallest; infinite where one is 0."""
    smallest = int(counts.min())
    return float(counts.max() / smallest) if smallest else float("inf")


def chance_of_balance(draws: int, cells: int, limit: float, columns: int = 1) -> float:
    """How often chance alone keeps :func:`imbalance` within ``limit``.

    The share of 2,000 simulated tables (fixed seed) of a perfectly even source with
    ``columns`` independent columns of ``draws`` draws from ``cells`` cells each. It tells
    whether so few clips can show balance at all.
    """
    random = np.random.default_rng(0)
    tables = random.multinomial(draws, [1 / cells] * cells, size=(2000, columns))
    flat = tables.reshape(2000, -1)
    return float(((flat.min(1) > 0) & (flat.max(1) <= limit * flat.min(1))).mean())


def per_hundred_due(count: int, clips: int, people: int) -> float:
    """Clips of one (person, action) pair for every 100 that an even source would make.

    ``clips`` is the number of clips in which the action was asked for; each of the
    ``people`` is due in an equal share of them.
    """
    return 100.0 * count * people / clips


def shape_pixels(frames: Frames) -> NDArray[np.bool_]:
    """Which pixels show the shape, for bright shapes on black: (T, h, w).

    A pixel's brightness is the largest of its three colours; a frame's is that which 1 % of
    its pixels exceed, so that a speck does not decide. Pixels of at least half of the
    frame's brightness are the shape; frames darker than 32 show none.
    """
    brightness = frames.max(axis=3)
    peak = np.quantile(brightness, 0.99, axis=(1, 2), method="higher")[:, None, None]
    return (brightness >= peak / 2) & (peak >= 32)


def shape_colours(frames: Frames) -> Floats:
    """The mean colour of the shape's pixels in every frame that shows one: (n, 3), n <= T."""
    mask = shape_pixels(frames)
    shown = mask.any(axis=(1, 2))
    return np.array(
        [f[m].mean(axis=0) for f, m in zip(frames[shown], mask[shown], strict=True)]
    ).reshape(-1, 3)


def shape_centres(frames: Frames) -> Floats:
    """The mean position (x, y) of the shape's pixels in every frame that shows one: (n, 2)."""
    centres = [np.argwhere(m).mean(axis=0)[::-1] for m in shape_pixels(frames) if m.any()]
    return np.array(centres).reshape(-1, 2)


def content_distance(frames: Frames) -> float:
    """Average Content Distance of a clip of moving shapes, in grey levels.

    As in Tulyakov et al. 2018 (table 1): the colour of the shape in each frame
    (:func:`shape_colours`), then the mean Euclidean distance over all pairs of frames. 0
    where the colour never changes.

    Raises:
        ValueError: fewer than two frames show a shape.
    """
    return mean_pairwise_distance(shape_colours(frames))
