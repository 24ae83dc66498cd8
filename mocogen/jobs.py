"""Requests become jobs: every clip with its file, and the record of its making."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import UsageError
from .notebook import Origin
from .provenance import Record, record
from .requests import STEERING, Request
from .synthesis import Blueprint, Clip
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
    options = _options(clip, name, fps, asked.scale, asked.steering(), path.name)
    made_by = record(source, model.sha256, options)
    if writer := WRITERS.get(path.suffix.lower()):  # a pipe's name has no suffix
        size = spec.image_size * asked.scale
        writer.check(ClipFormat(clip.frames, size, size, fps, made_by))
    return Job(clip, asked.index, path, fps, asked.scale, made_by)


def _options(
    clip: Clip, action: str | None, fps: float, scale: int, steering: Record, out: str
) -> Record:
    """What ``mocogen sample`` needs to be told to make a clip again."""
    return {
        "seed": clip.seed,
        "frames": clip.frames,
        "action": action,
        "noise": clip.noise_mode,
        "fps": fps,
        "scale": scale,
        **steering,
        "out": out,
    }


def record_of(origin: Origin, fps: float, out: str) -> Record | None:
    """The record of a clip that was sampled from Python: that of the command that makes it.

    Args:
        fps: frames a second that it is written with.
        out: the name of its file.

    Returns:
        None where no command does: its networks have no name that the command line knows, or its
        walk begins or ends on the way, or has seeds apart.
    """
    clip, source = origin.request, origin.source
    if source is None:
        return None
    steering: Record = {
        "content_seed": None if clip.content_seed == clip.seed else clip.content_seed,
        "motion_seed": None if clip.motion_seed == clip.seed else clip.motion_seed,
        "speed": clip.speed,
        "loop": clip.loop,
    }
    steering = {key: value for key, value in steering.items() if value != STEERING[key]}
    if (walk := clip.walk) is None:
        options = _options(clip, origin.action, fps, 1, steering, out)
        return record(source, origin.sha256, options)
    if (
        (walk.first, walk.last) != (0.0, 1.0)
        or walk.steps < 2
        or walk.to == clip.seed
        or not (walk.content or walk.motion)
        or steering.keys() - {"speed"}
    ):
        return None
    whole = walk.content and walk.motion
    way = {
        "subcommand": "interpolate",
        "from": clip.seed,
        "to": walk.to,
        "what": "both" if whole else "content" if walk.content else "motion",
        "steps": walk.steps,
        "strip": False,
        "action": origin.action,
        "noise": clip.noise_mode,
    }
    shared = {"frames": clip.frames, "fps": fps, "scale": 1, **steering, "out": out}
    return record({**source, **way}, origin.sha256, shared)
