"""Frames as text: coloured half-blocks for a terminal, plain characters elsewhere.

A character cell is about twice as high as wide. The upper half-block, with its foreground for
the upper pixel and its background for the lower, makes two square pixels of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]

_RAMP = " .:-=+*#%@"
_RESET = "\x1b[0m"


def fitting(height: int, width: int, columns: int, lines: int) -> tuple[int, int]:
    """The largest height and width in pixels that fit a terminal of so many cells.

    The shape is kept, frames are never enlarged, and the height is even, for two pixels share
    a cell.
    """
    shrink = min(1.0, columns / width, 2 * lines / height)
    return max(2, int(height * shrink) // 2 * 2), max(1, int(width * shrink))


def resized(frame: Frame, height: int, width: int) -> Frame:
    """A frame (h, w, 3) at another size."""
    if frame.shape[:2] == (height, width):
        return frame
    from PIL import Image

    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BOX))


def half_blocks(frame: Frame) -> list[str]:
    """Lines of text with 24-bit colours, half as many as the frame (h, w, 3) has rows.

    A colour is named only where it changes: it stays on in the terminal.
    """
    lines = []
    for upper, lower in zip(frame[0::2].tolist(), frame[1::2].tolist(), strict=True):
        parts: list[str] = []
        fore = back = None
        for above, below in zip(upper, lower, strict=True):
            if above != fore:
                parts.append("\x1b[38;2;{};{};{}m".format(*above))
                fore = above
            if below != back:
                parts.append("\x1b[48;2;{};{};{}m".format(*below))
                back = below
            parts.append("▀")
        lines.append("".join(parts) + _RESET)
    return lines


def filmstrip(frames: list[Frame], columns: int = 80) -> list[str]:
    """Frames side by side in plain characters, without escape codes.

    For places that are no terminal: logs, pipes, terminals without colours. The further a
    pixel's brightness is from the commonest, the denser its character: a ground stays empty,
    and what stands before it shows, be it darker or brighter.

    Args:
        frames: of one size (h, w, 3).
        columns: the greatest length of a line.
    """
    height, width = frames[0].shape[:2]
    across = max(1, (columns + 1) // len(frames) - 1)
    down = max(1, round(across * height / width / 2))
    grey = np.stack([resized(frame, down, across).mean(axis=2) for frame in frames])
    contrast = np.abs(grey - np.median(grey))
    level = np.clip(contrast / max(np.percentile(contrast, 97), 1.0), 0, 1) * (len(_RAMP) - 1)
    rows = np.rint(level).astype(int).swapaxes(0, 1).tolist()  # (down, frames, across)
    return [" ".join("".join(_RAMP[v] for v in part) for part in row).rstrip() for row in rows]
