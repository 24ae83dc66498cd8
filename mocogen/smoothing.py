"""New frames between those of a clip, any clip, found by a voxel flow network.

    file -> frames -> pairs of neighbours -> new frames between them -> file

Two frames are held at a time, however long the clip is. It is read twice: writers have to
know how many frames will come, and damage at its end is better found before the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import provenance
from .errors import MocogenError, UsageError
from .reading import DEFAULT_FPS, SUFFIXES, Frame, Reading, open_frames
from .sources import images, is_frame_folder, rgb
from .spec import FASTEST, SLOWEST
from .video import ClipFormat, open_clip, writer_for

if TYPE_CHECKING:
    import torch

    from .voxel_flow import VoxelFlow

FACTORS = range(2, 33)
"""How many times as many frames there can be."""

_STRIPS = (".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Source:
    """A clip that can be smoothed; :func:`examine` makes it.

    Attributes:
        path: a file, or a folder of images.
        frames: how many it has, at least 2.
        height, width: of its frames, in pixels.
        fps: frames a second; ``DEFAULT_FPS`` where it does not say.
        record: what made the clip, or None where it does not say.
    """

    path: Path
    frames: int
    height: int
    width: int
    fps: float
    record: provenance.Record | None

    def smooth_frames(self, factor: int) -> int:
        """Frames of the smoothed clip: between any two neighbours come ``factor`` - 1."""
        return (self.frames - 1) * factor + 1

    def rate(self, factor: int, fps: float | None, slow: bool) -> float:
        """Frames a second of the smoothed clip.

        Args:
            fps: as asked for, or None: then the clip plays at its own speed, or at a
                ``factor``-th of it if ``slow``.

        Raises:
            UsageError: the rate is out of range.
        """
        rate = fps if fps is not None else self.fps if slow else self.fps * factor
        if not SLOWEST <= rate <= FASTEST:
            raise UsageError(
                f"{rate:g} frames a second: use a rate from {SLOWEST:g} to {FASTEST:g} (--fps), or "
                "--slow"
            )
        return rate


def examine(path: Path) -> Source:
    """Read a clip through, and tell what it is.

    Raises:
        MocogenError: it is missing, no clip or damaged, has a single frame, or its frames differ
            in size.
    """
    reading = _open(path)
    count, shape = 0, (0, 0)
    for frame in reading.frames:
        height, width = frame.shape[:2]
        shape = shape if count else (height, width)
        if (height, width) != shape:
            raise MocogenError(
                f"{path} cannot be smoothed: its frames differ in size ({shape[1]}x{shape[0]} and "
                f"{width}x{height})"
            )
        count += 1
    if count < 2:
        raise MocogenError(f"{path} has {count or 'no'} frame: a new one needs two to lie between")
    return Source(path, count, *shape, reading.fps, reading.record)


def _open(path: Path) -> Reading:
    """A clip of any layout that mocogen samples to or trains on."""
    if path.is_dir():
        if not is_frame_folder(path):
            raise MocogenError(f"{path} is no folder of frames: give one clip")
        return Reading(_images(path), DEFAULT_FPS, None)
    if path.is_file() and path.suffix.lower() in _STRIPS:
        return Reading(_images(path), DEFAULT_FPS, None)
    if path.exists() and path.suffix.lower() not in SUFFIXES:
        raise MocogenError(
            f"{path} is no clip: give a folder of frames, a strip ({', '.join(_STRIPS)}), or a "
            f"file of {', '.join(SUFFIXES)}"
        )
    return open_frames(path)


def _images(path: Path) -> Iterator[Frame]:
    try:
        for image in images(path):
            yield np.asarray(rgb(image))
    except MocogenError as error:
        raise MocogenError(f"cannot smooth {path}: {error}") from None
    except Exception:  # decoders raise whatever they like on damaged files
        raise MocogenError(f"cannot read {path}: it is damaged, or holds no images") from None


def write(
    source: Source,
    network: VoxelFlow,
    device: torch.device,
    factor: int,
    fps: float,
    out: Path,
    made_by: provenance.Record,
    on_frame: Callable[[int], None],
) -> None:
    """Smooth a clip into a file, which appears whole or not at all.

    Args:
        network: in eval mode, on ``device``.
        fps: frames a second of the file.
        made_by: the record for the file.
        on_frame: called with 1 after every frame.

    Raises:
        UsageError: the suffix is unknown, or the file would replace the clip itself.
        MocogenError: the clip has changed since it was examined, or the file cannot be written.
    """
    check_target(source.path, out)
    count = source.smooth_frames(factor)
    form = ClipFormat(count, source.height, source.width, fps, made_by)
    changed = MocogenError(f"{source.path} has changed while it was smoothed: begin again")
    made = 0
    with open_clip(out, form) as writer:
        for frame in smoothed(network, device, _open(source.path).frames, factor):
            if made == count or frame.shape[:2] != (source.height, source.width):
                raise changed
            writer.write(frame[None])
            made += 1
            on_frame(1)
        if made < count:
            raise changed


def check_target(clip: Path, out: Path) -> None:
    """Refuse a target that is of no format or the clip itself, before anything is read.

    Raises:
        UsageError: says which.
    """
    writer_for(out)
    if out.exists() and clip.exists() and out.samefile(clip):
        raise UsageError(f"--out {out} would replace the clip itself: give another name")


def smoothed(
    network: VoxelFlow, device: torch.device, frames: Iterable[Frame], factor: int
) -> Iterator[Frame]:
    """The frames as they are, and ``factor`` - 1 new ones between any two neighbours.

    Args:
        network: in eval mode, on ``device``.
        frames: uint8 (h, w, 3), all of one size.
        factor: at least 2.
    """
    import torch

    from .generator import from_pixels, to_pixels
    from .voxel_flow import between

    before: torch.Tensor | None = None
    for frame in frames:
        here = from_pixels(torch.tensor(frame, device=device)[None])
        if before is not None:
            for k in range(1, factor):
                made = between(network, before, here, k / factor)
                yield to_pixels(made, -1.0, 1.0)[0].cpu().numpy()
        yield frame
        before = here
