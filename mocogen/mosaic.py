"""Clips side by side: one playing picture, with rows and columns and labels at its edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .clip import Clip
from .errors import UsageError
from .provenance import Record
from .requests import Seeds, check_steps
from .steering import Walk
from .synthesis import Frames, Model
from .video import ClipFormat, enlarged, open_clip, writer_for

LONGEST_SIDE = 16_383
"""Pixels: more than this neither WebP nor H.264 can hold."""
MOST_BYTES = 1 << 30
"""Frames that a picture may hold in memory at once, in bytes."""
_BLOCK_BYTES = 1 << 26

_PAPER, _INK, _GAP = 255, (40, 40, 40), 4


@dataclass(frozen=True)
class Mosaic:
    """Clips of one length in rows and columns.

    Attributes:
        clips: row after row.
        rows, columns: their labels; empty strings for none.
    """

    clips: tuple[Clip, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]


def grid(
    model: Model,
    contents: Seeds,
    motions: Seeds,
    actions: Sequence[str | None] = (None,),
    frames: int = 48,
    noise_mode: str | None = None,
    speed: float = 1.0,
    loop: bool = False,
) -> Mosaic:
    """A row a content; a column a motion, or for each motion a column an action.

    Args:
        actions: what they do; None is the motion seed's own.

    Raises:
        UsageError: a value makes no sense for this model, or there are too many cells.
    """
    columns = [(m, a) for m in islice(motions, LONGEST_SIDE) for a in actions]
    rows = list(islice(contents, LONGEST_SIDE))
    side = model.spec.image_size
    # Before a clip is made for every cell: seeds can be typed by the billion.
    _check_sides(len(rows) * side, len(columns) * side)
    shared: dict[str, Any] = {"frames": frames, "noise_mode": noise_mode}
    shared |= {"speed": speed, "loop": loop}
    clips = tuple(
        model.clip(content_seed=c, motion_seed=m, action=a, **shared)
        for c in rows
        for m, a in columns
    )
    labels = [f"motion {m}" + (f"\n{a}" if a else "") for m, a in columns]
    return Mosaic(clips, tuple(f"content {c}" for c in rows), tuple(labels))


def stations(model: Model, start: Clip, walk: Walk, steps: int, upright: bool = False) -> Mosaic:
    """A clip at each of ``steps`` stations of a way, from its own seeds to ``walk.to``.

    Args:
        start: the first of them; the others have its length, action, speed and noise mode.
        walk: where to, and what walks.
        steps: at least 2.
        upright: one below the other and without labels, for a picture in which time runs to
            the right; else side by side.

    Raises:
        UsageError: there are too few or too many.
    """
    check_steps(steps)
    _check_sides(model.spec.image_size, steps * model.spec.image_size)
    weights = [k / (steps - 1) for k in range(steps)]
    clips = tuple(replace(start, walk=replace(walk, first=w, last=w, steps=1)) for w in weights)
    if upright:
        return Mosaic(clips, ("",) * steps, ("",))
    ends = (f"seed {start.seed}", *(f"{w:.2f}" for w in weights[1:-1]), f"seed {walk.to}")
    return Mosaic(clips, ("",), ends)


class Canvas:
    """Where the cells of a mosaic lie, and its labels.

    Attributes:
        height, width: of the picture in pixels, even numbers, as H.264 wants them.
    """

    def __init__(self, mosaic: Mosaic, cell: int) -> None:
        """``cell``: height and width of a cell in pixels."""
        self._cell = cell
        font = ImageFont.load_default(min(max(cell // 7, 12), 28))
        pencil = ImageDraw.Draw(Image.new("RGB", (1, 1)))

        def sizes(labels: Sequence[str]) -> tuple[int, int]:
            """Width and height that the largest label takes; (0, 0) where all are empty."""
            boxes = [pencil.multiline_textbbox((0, 0), text, font) for text in labels if text]
            return (
                int(max((box[2] for box in boxes), default=0)),
                int(max((box[3] for box in boxes), default=0)),
            )

        (left, row_high), (column_wide, top) = sizes(mosaic.rows), sizes(mosaic.columns)
        left, top = (left + 2 * _GAP if left else 0), (top + 2 * _GAP if top else 0)
        wide, high = max(cell, column_wide), max(cell, row_high)
        self._lefts = [
            left + k * (wide + _GAP) + (wide - cell) // 2 for k in range(len(mosaic.columns))
        ]
        self._tops = [top + k * (high + _GAP) + (high - cell) // 2 for k in range(len(mosaic.rows))]
        width = left + len(self._lefts) * (wide + _GAP) - _GAP
        height = top + len(self._tops) * (high + _GAP) - _GAP
        self.width, self.height = width + width % 2, height + height % 2
        _check_sides(self.height, self.width)

        paper = Image.new("RGB", (self.width, self.height), (_PAPER,) * 3)
        draw = ImageDraw.Draw(paper)
        for text, y in zip(mosaic.rows, self._tops, strict=True):
            draw.multiline_text((_GAP, y + cell // 2), text, _INK, font, anchor="lm")
        for text, x in zip(mosaic.columns, self._lefts, strict=True):
            draw.multiline_text(
                (x + cell // 2, top // 2), text, _INK, font, anchor="mm", align="center"
            )
        self._paper = np.asarray(paper)

    def filled(self, frames: Frames) -> Frames:
        """Frames of all cells, (n, clips, cell, cell, 3), on the paper: (n, height, width, 3)."""
        picture = np.broadcast_to(self._paper, (len(frames), *self._paper.shape)).copy()
        places = [(y, x) for y in self._tops for x in self._lefts]
        for k, (y, x) in enumerate(places):
            picture[:, y : y + self._cell, x : x + self._cell] = frames[:, k]
        return picture


def write(
    model: Model,
    mosaic: Mosaic,
    path: Path,
    fps: float,
    scale: int,
    made_by: Record,
    on_frames: Callable[[int], None] = lambda _: None,
) -> ClipFormat:
    """Sample a mosaic and write it, some moments at a time.

    Args:
        path: the file; its suffix decides the format.
        scale: every pixel of a clip becomes a square of scale x scale.
        made_by: the record that goes into the file.
        on_frames: told how many of each clip's frames have just been made.

    Returns:
        What was written, with the rate at which it will play.

    Raises:
        UsageError: the picture would be too large to hold, or the suffix is unknown.
        MocogenError: it cannot be written.
    """
    canvas = Canvas(mosaic, model.spec.image_size * scale)
    frames = mosaic.clips[0].frames
    kind = writer_for(path)
    picture = canvas.height * canvas.width * 3
    moments = max(1, min(model.backend.blocks.images, _BLOCK_BYTES // picture))
    if (kind.held(frames) + moments) * picture > MOST_BYTES:
        raise UsageError(
            f"{path}: {canvas.width}x{canvas.height} pixels and {frames} frames are too much to "
            f"hold in memory as {path.suffix}: take fewer cells, fewer frames, or an .mp4"
        )
    form = ClipFormat(frames, canvas.height, canvas.width, fps, made_by)
    with open_clip(path, form) as writer:
        for block in model.side_by_side(mosaic.clips, moments):
            parts = enlarged(block.reshape(-1, *block.shape[2:]), scale)
            flat = np.concatenate(list(parts))
            writer.write(canvas.filled(flat.reshape(*block.shape[:2], *flat.shape[1:])))
            on_frames(len(block))
    return replace(form, fps=kind.real_fps(frames, fps))


def _check_sides(height: int, width: int) -> None:
    if max(height, width) > LONGEST_SIDE:
        raise UsageError(
            f"a picture with a side of {max(height, width)} pixels or more is too large to hold: "
            f"keep below {LONGEST_SIDE + 1}, with fewer rows or columns or a smaller scale"
        )
