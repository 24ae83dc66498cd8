"""Requests become jobs: every clip with its file, and the record of its making."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .clip import Clip, sample_options
from .errors import UsageError
from .provenance import Record, record
from .requests import STEERING, Request
from .synthesis import Blueprint
from .templates import filled
from .video import WRITERS, ClipFormat


@dataclass(frozen=True)
class Job:
    """One clip and where it goes.

    Attributes:
        clip: what to sample.
        index: its place in the batch, from 0.
        path: the file to write; its suffix decides the format.
        fps: frames a second that are asked for.
        scale: every pixel becomes a square of scale x scale.
        made_by: the record that goes into the file.
    """

    clip: Clip
    index: int
    path: Path
    fps: float
    scale: int
    made_by: Record


def plan(model: Blueprint, requests: Iterable[Request], source: Record) -> Iterator[Job]:
    """A job for every request.

    Args:
        source: the options that named the networks, for the record.

    Raises:
        UsageError: a request makes no sense for this model or for the format of its file.
    """
    for asked in requests:
        try:
            job = _job(model, asked, source)
        except UsageError as error:
            raise asked.refused(error) from None
        yield job


def _job(model: Blueprint, asked: Request, source: Record) -> Job:
    spec = model.spec
    steering = {key: getattr(asked, key) for key in STEERING}
    clip = model.clip(
        asked.seed,
        frames=asked.frames,
        action=asked.action,
        noise_mode=asked.noise,
        **steering,
    )
    name = spec.actions[clip.action] if clip.action is not None else None
    fields = {"seed": asked.seed, "index": asked.index, "checkpoint": spec.name}
    fields |= {"content_seed": clip.content_seed, "motion_seed": clip.motion_seed}
    path = filled(asked.out, {"action": name, **fields})
    fps = asked.fps or spec.fps
    options = sample_options(clip, name, fps, asked.scale, asked.steering(), path.name)
    made_by = record(source, model.sha256, options)
    if writer := WRITERS.get(path.suffix.lower()):  # a pipe's name has no suffix
        size = spec.image_size * asked.scale
        writer.check(ClipFormat(clip.frames, size, size, fps, made_by))
    return Job(clip, asked.index, path, fps, asked.scale, made_by)
