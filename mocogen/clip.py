"""One clip: what is asked for, what it came from, and the record of its making."""

from __future__ import annotations

from dataclasses import dataclass

from . import steering
from .provenance import Record, record
from .requests import STEERING


@dataclass(frozen=True)
class Clip:
    """A request for one clip, checked by :meth:`Model.clip`, in plain numbers.

    Attributes:
        seed: 0 to ``requests.MAX_SEED``; what the clip is called by.
        frames: how many frames, at least 1.
        action: index into the spec's actions, or None where the model has none.
        noise_mode: one of ``spec.NOISE_MODES``.
        content_seed: decides who and where.
        motion_seed: decides the noise.
        speed: of time; below 1, frames come to lie between the network's.
        loop: whether the last frame runs into the first.
        walk: to another seed, or None.
    """

    seed: int
    frames: int
    action: int | None
    noise_mode: str
    content_seed: int
    motion_seed: int
    speed: float = 1.0
    loop: bool = False
    walk: steering.Walk | None = None

    @property
    def codes(self) -> int:
        """How many motion codes the network must make for it."""
        return steering.codes_needed(self.frames, self.speed, self.loop)


@dataclass(frozen=True)
class Origin:
    """What a video was sampled from.

    Attributes:
        request: what was asked for.
        action: the name of its action, or None where the model has none.
        source: the options that name the networks for the command line, or None where none do.
        sha256: hash of the checkpoint, or None for networks that came from elsewhere.
    """

    request: Clip
    action: str | None
    source: Record | None
    sha256: str | None


def sample_options(
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
        options = sample_options(clip, origin.action, fps, 1, steering, out)
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
