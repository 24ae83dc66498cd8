"""Pictures for the eye: grids of frames, and loss curves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from ..generator import to_pixels

_INK, _PAPER, _FAINT = (31, 64, 122), (255, 255, 255), (150, 150, 150)


def grid(rows: list[Tensor]) -> Image.Image:
    """Rows of images, each (n, 3, h, w) in [-1, 1], as one picture."""
    lines = []
    for row in rows:
        pixels = to_pixels(row.detach().float().cpu(), -1.0, 1.0).numpy()
        lines.append(np.concatenate(list(pixels), axis=1))
    return Image.fromarray(np.concatenate(lines, axis=0))


def loss_curves(path: Path, stage: str, width: int = 320, height: int = 120) -> Image.Image:
    """The losses of a stage, from lines of JSON, one panel each."""
    series: dict[str, list[tuple[float, float]]] = {}
    for text in path.read_text("utf-8").splitlines():
        line = json.loads(text)
        if line.pop("stage") == stage:
            step = line.pop("step")
            line.pop("seconds")
            for key, value in line.items():
                series.setdefault(key, []).append((step, value))
    columns = 3
    rows = max(1, -(-len(series) // columns))
    image = Image.new("RGB", (columns * width, rows * height), _PAPER)
    draw = ImageDraw.Draw(image)
    for k, (name, points) in enumerate(series.items()):
        left, top = (k % columns) * width, (k // columns) * height
        _panel(draw, name, points, (left + 8, top + 18, left + width - 12, top + height - 10))
    return image


def _panel(
    draw: ImageDraw.ImageDraw,
    name: str,
    points: list[tuple[float, float]],
    box: tuple[int, int, int, int],
) -> None:
    left, top, right, bottom = box
    steps = [step for step, _ in points]
    # The first values are often far above the rest: the scale leaves the highest 2 % out.
    ordered = sorted(value for _, value in points)
    low, high = ordered[0], ordered[int(0.98 * (len(ordered) - 1))]
    across = (right - left) / max(max(steps) - min(steps), 1)
    up = (bottom - top) / max(high - low, 1e-9)
    line = [
        (left + (step - min(steps)) * across, bottom - (min(max(value, low), high) - low) * up)
        for step, value in points
    ]
    draw.rectangle((left, top, right, bottom), outline=_FAINT)
    if len(line) > 1:
        draw.line(line, fill=_INK)
    label = f"{name}: {points[-1][1]:.4g}  (scale {low:.3g} to {high:.3g})"
    draw.text((left, top - 14), label, fill=_INK)
