"""Moving shapes: the synthetic data set of MoCoGAN's first experiment.

After Tulyakov et al. 2018, section 4: circles and squares of varying size and colour, of
which some move from left to right and the others from top to bottom, along Bezier curves;
4,000 clips of 16 frames of 64x64. The paper leaves the rest open, and here it is so: the
ground is black, red, green and blue of a shape are 48 to 255 each, its radius (half a square's
side) is 5 to 10 of 64 pixels, its middle keeps 11 from the edges of the frame, and its edge is
hard, so that its colour is the same in every pixel and frame. No choice depends on another, so
that a model that draws content and motion apart, and the numbers of a content apart, draws
nothing whose like the clips do not have: a large shape takes the paths of a small one.

In longer clips the shape turns at the side that it has reached and crosses back, along a
new curve that goes on where and as the last one ended.

Clip ``k`` of a seed depends on the seed and ``k`` alone, on every machine and however many
clips are made: all numbers come from the raw stream of numpy's Philox.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import UsageError
from .files import atomic_path
from .requests import MAX_SEED

ACTIONS = ("horizontal", "vertical")
"""From left to right, from top to bottom: clips take turns."""

SHAPES = ("circle", "square")
CROSSING = 15
"""Steps from one side to the other: the first of 16 frames is at one, the last at the other."""

DARKEST = 48
"""Of each colour channel, of 255."""

MARGIN = 11 / 64
"""From the edge of the frame to the nearest that a shape's middle comes to it, in frame widths."""

LISTING = "clips.csv"


@dataclass(frozen=True)
class ShapeClip:
    """A clip, drawn by :meth:`frames`.

    Attributes:
        action: one of ``ACTIONS``.
        shape: one of ``SHAPES``.
        colour: red, green and blue, 0 to 255.
        radius: of a circle, or half the side of a square, in frame widths.
        path: the centre (x, y) at every frame, in frame widths: (T, 2).
    """

    action: str
    shape: str
    colour: tuple[int, int, int]
    radius: float
    path: NDArray[np.float64]

    def frames(self, size: int) -> NDArray[np.uint8]:
        """Draw it: uint8 of (T, size, size, 3). A pixel is the shape's if its middle is."""
        middles = (np.arange(size) + 0.5) / size
        across = np.abs(middles[None, :] - self.path[:, :1])[:, None, :]
        down = np.abs(middles[None, :] - self.path[:, 1:])[:, :, None]
        distance = np.hypot(across, down) if self.shape == "circle" else np.maximum(across, down)
        colour = np.array(self.colour, np.uint8)
        return np.where((distance <= self.radius)[..., None], colour, np.uint8(0))


def make(seed: int, index: int, frames: int = 16) -> ShapeClip:
    """Clip ``index`` of a seed. One with more frames begins with those of a shorter one."""
    curves = -(-max(frames - 1, 1) // CROSSING)
    # Philox yields four words at a time; shape, radius and colour take five of the first eight.
    key = np.array([seed, index], np.uint64)
    raw = np.asarray(np.random.Philox(key=key).random_raw(8 + 8 * curves))
    uniform = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    shape = SHAPES[int(uniform[0] * 2)]
    radius = (5 + 5 * uniform[1]) / 64
    channels = DARKEST + (255 - DARKEST) * uniform[2:5]
    red, green, blue = (int(value) for value in channels.round())
    along, aside = _path(frames, uniform[8:].reshape(curves, 8))
    action = ACTIONS[index % 2]
    path = np.stack([along, aside] if action == "horizontal" else [aside, along], axis=1)
    return ShapeClip(action, shape, (red, green, blue), radius, path)


def _path(
    frames: int, uniform: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions along and across the direction of movement, one cubic Bezier curve a crossing.

    Control points lie between ``MARGIN`` and ``1 - MARGIN``, and so does the curve.
    """
    along: list[NDArray[np.float64]] = []
    aside: list[NDArray[np.float64]] = []
    last = uniform[0, :4].copy()
    for k, row in enumerate(uniform):
        # Inner points near the thirds keep the shape moving forward all the way.
        inner = (1 + row[4] - 0.5) / 3, (2 + row[5] - 0.5) / 3
        onward = np.array([0.0, *inner, 1.0])
        if k:
            # The same place, and the same speed as far as the margin allows.
            last = np.array([last[3], np.clip(2 * last[3] - last[2], 0, 1), row[2], row[3]])
        along.append(_bezier(onward if k % 2 == 0 else 1 - onward))
        aside.append(_bezier(last))
    # Each curve but the last leaves its end to the next one's start.
    joined = [
        np.concatenate([*(p[:-1] for p in parts), parts[-1][-1:]]) for parts in (along, aside)
    ]
    span = 1 - 2 * MARGIN
    return MARGIN + span * joined[0][:frames], MARGIN + span * joined[1][:frames]


def _bezier(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A cubic Bezier curve of four control values at CROSSING + 1 equal steps of its parameter."""
    t = np.linspace(0.0, 1.0, CROSSING + 1)
    weights = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    return points @ weights


def write(
    folder: Path,
    clips: int = 4000,
    frames: int = 16,
    seed: int = 0,
    size: int = 64,
    on_clip: Callable[[], None] | None = None,
) -> None:
    """Write a data set: ``folder/ACTION/NUMBER.png``, horizontal strips of square frames.

    Beside them comes ``clips.csv`` with the columns path, group (the shape), red, green, blue,
    radius (in pixels). Files of the same names are replaced, each whole or not at all.

    Args:
        folder: made where it is missing.
        clips: how many, 2 to 1,000,000.
        frames: length of a clip, 2 to 4,096.
        seed: 0 to ``requests.MAX_SEED``.
        size: height and width of a frame in pixels, 16 to 1,024.
        on_clip: called after every clip.

    Raises:
        UsageError: a number is out of its range, or the folder holds other clips.
        MocogenError: a file cannot be written.
    """
    for name, value, low, high in (
        ("clips", clips, 2, 1_000_000),
        ("frames", frames, 2, 4096),
        ("seed", seed, 0, MAX_SEED),
        ("size", size, 16, 1024),
    ):
        if not low <= value <= high:
            raise UsageError(f"{name} {value}: use a whole number from {low} to {high}")
    digits = len(str(clips - 1))
    names = [f"{ACTIONS[k % 2]}/{k:0{digits}}.png" for k in range(clips)]
    _refuse_strangers(folder, set(names))
    rows: list[list[object]] = [["path", "group", "red", "green", "blue", "radius"]]
    for index, name in enumerate(names):
        clip = make(seed, index, frames)
        strip = Image.fromarray(np.concatenate(list(clip.frames(size)), axis=1))
        with atomic_path(folder / name) as temporary:
            strip.save(temporary)
        rows.append([name, clip.shape, *clip.colour, round(clip.radius * size, 3)])
        if on_clip is not None:
            on_clip()
    with (
        atomic_path(folder / LISTING) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows(rows)


def _refuse_strangers(folder: Path, names: set[str]) -> None:
    """Two data sets in one folder would be one wrong data set."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: give a folder")
    for path in folder.glob("*/*"):
        name = path.relative_to(folder).as_posix()
        if not path.name.startswith(".") and name not in names:
            raise UsageError(f"{folder} already holds {name}: give an empty folder")
