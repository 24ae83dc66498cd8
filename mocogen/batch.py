"""Many clips to many files, in one pass through the model."""

from __future__ import annotations

import string
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError
from .provenance import Record, record
from .synthesis import Clip, Model
from .video import ClipFormat, open_clip, writer_for

TEMPLATE_FIELDS = ("seed", "index", "action", "checkpoint")
FOLDER_TEMPLATE = "{seed:06d}.gif"


@dataclass(frozen=True)
class Job:
    """One clip and where it goes.

    Attributes:
        clip: what to sample.
        path: the file to write; its suffix decides the format.
        fps: frames a second that are asked for.
        scale: every pixel becomes a square of scale x scale.
        made_by: the record that goes into the file.
    """

    clip: Clip
    path: Path
    fps: float
    scale: int
    made_by: Record


@dataclass(frozen=True)
class Written:
    """A finished file: its job, its size in pixels, and the rate at which it will play."""

    job: Job
    height: int
    width: int
    fps: float


def check_fields(out: str, count: int) -> str:
    """Check the fields of an output path, and turn a folder into a template.

    Args:
        out: a file, a folder (it exists, or ends with a slash) or a template with fields of
            ``TEMPLATE_FIELDS`` in braces.
        count: how many clips there will be.

    Raises:
        UsageError: an unknown field or suffix, or several clips that would share a name.
    """
    if out.endswith(("/", "\\")) or Path(out).is_dir():
        out = f"{out.rstrip('/')}/{FOLDER_TEMPLATE}" if out != "/" else out
    try:
        named = {name for _, name, _, _ in string.Formatter().parse(out) if name is not None}
        if strangers := named - set(TEMPLATE_FIELDS):
            raise KeyError(*sorted(strangers))
        out.format(seed=0, index=0, action="a", checkpoint="c")
    except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        known = ", ".join("{" + name + "}" for name in TEMPLATE_FIELDS)
        raise UsageError(
            f"cannot read the fields of --out {out!r} ({error}): use {known}"
        ) from None
    if count > 1 and not named & {"seed", "index"}:
        raise UsageError(
            f"{count} clips cannot all be {out}: give --out a folder, or a name with "
            "{seed} or {index} in it"
        )
    writer_for(Path(out))
    return out


def plan(
    model: Model,
    out: str,
    *,
    seeds: Iterable[int],
    source: Record,
    frames: int,
    action: str | None,
    noise_mode: str | None,
    fps: float | None,
    scale: int,
) -> Iterator[Job]:
    """A job for every seed.

    Args:
        out: a template that :func:`check_fields` has passed.
        seeds: one for each clip.
        source: the options that named the networks, for the record.
        frames, action, noise_mode: as in :meth:`Model.sample`.
        fps: frames a second, or None for the checkpoint's own.
        scale: integer factor of enlargement, at least 1.
    """
    spec = model.spec
    rate = fps or spec.fps
    for index, seed in enumerate(seeds):
        clip = model.clip(seed, frames, action, noise_mode)
        name = spec.actions[clip.action] if clip.action is not None else None
        path = Path(out.format(seed=seed, index=index, action=name, checkpoint=spec.name))
        options = {
            "seed": seed,
            "frames": frames,
            "action": name,
            "noise": clip.noise_mode,
            "fps": rate,
            "scale": scale,
            "out": path.name,
        }
        yield Job(clip, path, rate, scale, record(source, model.sha256, options))


def render(
    model: Model, jobs: Iterable[Job], on_frames: Callable[[int], None] = lambda _: None
) -> Iterator[Written]:
    """Sample and write clips one after the other; each comes when its file is complete.

    Args:
        on_frames: told how many frames have just been written.

    Raises:
        MocogenError: a file cannot be written. The files before it are complete, and nothing
            is left of its own.
    """
    waiting: deque[Job] = deque()

    def clips() -> Iterator[Clip]:
        for job in jobs:
            waiting.append(job)
            yield job.clip

    size = model.spec.image_size
    stream = model.stream(clips())
    for clip, frames in stream:
        job = waiting.popleft()
        edge = size * job.scale
        with open_clip(
            job.path, ClipFormat(clip.frames, edge, edge, job.fps, job.made_by)
        ) as writer:
            written = 0
            while True:
                writer.write(enlarge(frames, job.scale))
                written += len(frames)
                on_frames(len(frames))
                if written == clip.frames:
                    break
                _, frames = next(stream)
        yield Written(job, edge, edge, writer.real_fps(clip.frames, job.fps))


def enlarge(frames: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Every pixel of (n, height, width, 3) as a square of scale x scale pixels."""
    return frames if scale == 1 else frames.repeat(scale, axis=1).repeat(scale, axis=2)
