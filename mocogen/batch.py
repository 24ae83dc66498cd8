"""Many clips to many files, in one pass through the model.

Requests become jobs (:func:`plan`), jobs become clips, and a sink puts every clip where it
belongs: into a file of its own, a shard of an archive, or a pipe.
"""

from __future__ import annotations

import errno
import string
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import DiskFullError, MocogenError, UsageError
from .manifest import Line, Manifest
from .provenance import Record, record
from .requests import STEERING, Request
from .synthesis import Clip, Model
from .video import WRITERS, ClipFormat, ClipWriter, open_clip, pipe_writer, writer_for

TEMPLATE_FIELDS = ("seed", "index", "action", "checkpoint", "content_seed", "motion_seed")
FOLDER_TEMPLATE = "{seed:06d}.gif"


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


@dataclass(frozen=True)
class Outcome:
    """A job that came to its end.

    Attributes:
        job: the job.
        size: height and width of the clip in pixels.
        fps: the rate at which it will play.
        error: why there is no clip, or None.
    """

    job: Job
    size: int
    fps: float
    error: MocogenError | None = None


class Sink(Protocol):
    """Where clips go."""

    def has(self, job: Job) -> bool:
        """Whether an earlier run of the same batch has finished a job."""

    def open(self, job: Job, form: ClipFormat) -> AbstractContextManager[ClipWriter]:
        """A writer for a job's clip, which is kept when the block ends well."""


def check_template(out: str, count: int | None) -> str:
    """Check the fields of an output path, and turn a folder into a template.

    Args:
        out: a file, a folder (it exists, or ends with a slash) or a template with fields of
            ``TEMPLATE_FIELDS`` in braces.
        count: how many clips there will be; None when nobody knows yet.

    Raises:
        UsageError: an unknown field or suffix, or several clips that would share a name.
    """
    if not out:
        raise UsageError("out is empty: give a file, a folder or a name with {seed} in it")
    if out.endswith(("/", "\\")) or Path(out).is_dir():
        out = f"{out.rstrip('/')}/{FOLDER_TEMPLATE}"
    try:
        named = template_fields(out)
        if strangers := named - set(TEMPLATE_FIELDS):
            raise KeyError(*sorted(strangers))
        seeds = {"seed": 0, "content_seed": 0, "motion_seed": 0}
        out.format(**seeds, index=0, action="a", checkpoint="c")
    except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        known = ", ".join("{" + name + "}" for name in TEMPLATE_FIELDS)
        raise UsageError(f"cannot read the fields of out {out!r} ({error}): use {known}") from None
    if count != 1 and not named & {"seed", "index"}:
        raise UsageError(
            f"{count or 'all'} clips cannot all be {out}: give --out a folder with a slash at its "
            "end, or a name with {seed} or {index} in it"
        )
    writer_for(Path(out))
    return out


def template_fields(out: str) -> set[str]:
    """The names in braces of a template."""
    return {name for _, name, _, _ in string.Formatter().parse(out) if name is not None}


def home(out: str) -> Path:
    """The folder that all files of a template have in common: its manifest's."""
    fixed = []
    for part in Path(out).parts[:-1]:
        if template_fields(part):
            break
        fixed.append(part)
    return Path(*fixed)


def plan(model: Model, requests: Iterable[Request], source: Record) -> Iterator[Job]:
    """A job for every request.

    Args:
        source: the options that named the networks, for the record.

    Raises:
        UsageError: a request makes no sense for this model or for the format of its file.
    """
    spec = model.spec
    for asked in requests:
        steering = {key: getattr(asked, key) for key in STEERING}
        clip = model.clip(asked.seed, asked.frames, asked.action, asked.noise, **steering)
        name = spec.actions[clip.action] if clip.action is not None else None
        fields = {"seed": asked.seed, "index": asked.index, "checkpoint": spec.name}
        fields |= {"content_seed": clip.content_seed, "motion_seed": clip.motion_seed}
        path = Path(asked.out.format(action=name, **fields))
        fps = asked.fps or spec.fps
        options = {
            "seed": asked.seed,
            "frames": asked.frames,
            "action": name,
            "noise": clip.noise_mode,
            "fps": fps,
            "scale": asked.scale,
            **asked.steering(),
            "out": path.name,
        }
        made_by = record(source, model.sha256, options)
        if writer := WRITERS.get(path.suffix.lower()):  # a pipe's name has no suffix
            size = spec.image_size * asked.scale
            writer.check(ClipFormat(clip.frames, size, size, fps, made_by))
        yield Job(clip, asked.index, path, fps, asked.scale, made_by)


def render(
    model: Model,
    jobs: Iterable[Job],
    sink: Sink,
    on_frames: Callable[[int], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Sample and write clips one after the other; each comes when it is complete.

    A clip that cannot be written is told as an outcome, and the next one is tried. A full
    disk ends the batch.

    Args:
        on_frames: told how many frames have just been made.

    Raises:
        DiskFullError: there is no room left. The clips before are complete, and nothing is
            left of this one.
        MocogenError: what ``jobs`` raised, when the clips before are complete.
    """
    waiting: deque[Job] = deque()

    refused: list[MocogenError] = []

    def clips() -> Iterator[Clip]:
        # Jobs are looked ahead of the frames: the clips before one that is refused come first.
        try:
            for job in jobs:
                waiting.append(job)
                yield job.clip
        except MocogenError as error:
            refused.append(error)

    stream = model.stream(clips())
    for clip, frames in stream:
        job = waiting.popleft()
        made = 0
        size = model.spec.image_size * job.scale
        form = ClipFormat(clip.frames, size, size, job.fps, job.made_by)
        fps, error = job.fps, None
        try:
            with sink.open(job, form) as writer:
                fps = writer.real_fps(clip.frames, job.fps)
                while True:
                    made += len(frames)
                    on_frames(len(frames))
                    for part in enlarged(frames, job.scale):
                        writer.write(part)
                    if made == clip.frames:
                        break
                    _, frames = next(stream)
        except DiskFullError:
            raise
        except MocogenError as failure:
            error = failure
            made = made or len(frames)  # the sink may have refused before the first frame
        yield Outcome(job, size, fps, error)
        while made < clip.frames:  # the frames of a clip that failed: let them pass
            made += len(next(stream)[1])
    if refused:
        raise refused[0]


def enlarged(frames: NDArray[np.uint8], scale: int) -> Iterator[NDArray[np.uint8]]:
    """Every pixel of (n, height, width, 3) as a square of scale x scale pixels.

    Comes one frame at a time, so that large clips need no more memory than one large frame.
    """
    if scale == 1:
        yield frames
    else:
        for frame in frames:
            yield frame.repeat(scale, axis=0).repeat(scale, axis=1)[None]


def remaining(
    jobs: Iterable[Job],
    sink: Sink,
    if_exists: str,
    on_skip: Callable[[Job], None] = lambda _: None,
) -> Iterator[Job]:
    """The jobs that are still to be done.

    Args:
        sink: knows what an earlier run of the same batch has finished.
        if_exists: what becomes of other files that are in the way: "overwrite" makes them
            anew, "skip" keeps them, "error" refuses.
        on_skip: told of every job that is left out.

    Raises:
        MocogenError: a file is in the way and ``if_exists`` is "error".
    """
    for job in jobs:
        if sink.has(job):
            on_skip(job)
        elif if_exists == "overwrite" or not job.path.exists():
            yield job
        elif if_exists == "skip":
            on_skip(job)
        else:
            raise MocogenError(f"{job.path} exists: choose --if-exists overwrite or skip")


class FileSink:
    """A file for every clip, and a line in the manifest where there is one.

    Args:
        manifest: the manifest, or None.
    """

    def __init__(self, manifest: Manifest | None = None) -> None:
        self.manifest = manifest

    def has(self, job: Job) -> bool:
        """Whether the manifest lists the job's file, and it is there and whole."""
        return self.manifest is not None and self.manifest.has(job.path)

    @contextmanager
    def open(self, job: Job, form: ClipFormat) -> Iterator[ClipWriter]:
        # A batch has its manifest's lock, so that a fixed temporary name meets no other
        # process; what a killed one left under it is overwritten.
        with open_clip(job.path, form, "part" if self.manifest else None) as writer:
            yield writer
        if self.manifest:
            self.manifest.add(job.path, manifest_line(job))


def manifest_line(job: Job) -> Line:
    """What a manifest says of a clip, but for its file and hash."""
    made_by = job.made_by
    kept = ("seed", "action", "frames", "fps", "noise", "scale")
    line = {key: made_by[key] for key in kept}
    line |= {key: made_by[key] for key in STEERING if key in made_by}
    line["precision"] = made_by.get("precision", "fp32")  # a record tells the unusual alone
    return {"index": job.index, **line, "checkpoint": made_by["sha256"]}


class PipeSink:
    """All clips one after the other into a pipe.

    Args:
        stream: where the bytes go.
        kind: "mp4" or "gif" for one clip, "rgb24" for bare frames of any number.

    Raises:
        BrokenPipeError: the reader has gone.
    """

    def __init__(self, stream: BinaryIO, kind: str) -> None:
        self.stream, self.kind = stream, kind

    def has(self, job: Job) -> bool:
        """Never: what has gone into a pipe is gone."""
        return False

    @contextmanager
    def open(self, job: Job, form: ClipFormat) -> Iterator[ClipWriter]:
        try:
            with pipe_writer(self.stream, self.kind, form) as writer:
                yield writer
            self.stream.flush()
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise BrokenPipeError from None
            raise
