"""Sheets of filmstrips, for the eye."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..files import atomic_path
from .measures import Frames

_LABEL, _GAP = 92, 6


def sheet(
    path: Path, strips: Sequence[tuple[str, Frames]], shown: int = 8, columns: int = 2
) -> None:
    """Write filmstrips as one picture, each with its label on its left.

    Args:
        path: the picture, in a format that Pillow knows by the suffix.
        strips: label and frames (T, h, w, 3) of every clip, all frames of one size.
        shown: frames of a strip, spread evenly from its first to its last.
        columns: strips side by side; the first column is filled first.

    Raises:
        MocogenError: the picture cannot be written.
    """
    height, width = strips[0][1].shape[1:3]
    rows = -(-len(strips) // columns)
    across = _LABEL + shown * width + _GAP
    canvas = Image.new("RGB", (columns * across, rows * (height + _GAP)), "white")
    draw = ImageDraw.Draw(canvas)
    for k, (label, frames) in enumerate(strips):
        left, top = (k // rows) * across, (k % rows) * (height + _GAP)
        chosen = np.linspace(0, len(frames) - 1, shown).round().astype(int)
        strip = np.concatenate(list(frames[chosen]), axis=1)
        canvas.paste(Image.fromarray(strip), (left + _LABEL, top))
        draw.multiline_text((left + 6, top + height // 2 - 12), label, fill="black")
    with atomic_path(path) as temporary:
        canvas.save(temporary)
