"""Many clips to many files, in one pass through the model.

Jobs (:mod:`mocogen.jobs`) become clips, and a sink (:mod:`mocogen.sinks`) puts every clip where
it belongs: into a file of its own, a shard of an archive, or a pipe.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .clip import Clip
from .errors import DiskFullError, MocogenError, UsageError
from .jobs import Job
from .processors import threads
from .sinks import Sink
from .synthesis import Model
from .video import ClipFormat, enlarged

AHEAD = 4
"""Blocks of frames that may wait for the encoder."""


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


Render = Callable[[Iterable[Job], Sink, Callable[[int], None]], Generator[Outcome, None, None]]
"""Jobs to outcomes, on this machine or on others: :func:`render` with a model, or
:meth:`mocogen.cluster.Cluster.render`."""


def render(
    model: Model,
    jobs: Iterable[Job],
    sink: Sink,
    on_frames: Callable[[int], None] = lambda _: None,
) -> Generator[Outcome, None, None]:
    """Sample and write clips one after the other; each comes when it is complete.

    A clip is encoded and written while the next frames are made: in a thread of its own, a
    few blocks of frames behind. With ``OMP_NUM_THREADS=1`` on a CPU there is one thread for
    all, as a cluster that gives a worker one core expects. A clip that cannot be written is
    told as an outcome, and the next one is tried. A full disk ends the batch. Clips that share
    a file are told together, when it has its name: before that, none of them is there.

    Args:
        on_frames: told how many frames have just been made and written.

    Raises:
        DiskFullError: there is no room left. The clips before are complete, and nothing is
            left of this one.
        MocogenError: what ``jobs`` raised, when the clips before are complete.
    """
    pending: deque[tuple[Job, bool]] = deque()
    refused: list[MocogenError] = []

    def clips() -> Iterator[Clip]:
        # Jobs are looked ahead of the frames: the clips before one that is refused come first.
        for group in until_refused(together(jobs, sink), refused):
            for job in group:
                pending.append((job, job is group[-1]))
                yield job.clip

    writing = _writing(sink, model.spec.image_size)
    next(writing)
    ahead: deque[tuple[int, Future[list[Outcome]]]] = deque()

    def written(most: int) -> Iterator[Outcome]:
        """What has come of the blocks ahead, until at most ``most`` of them wait."""
        while len(ahead) > most or (ahead and ahead[0][1].done()):
            count, future = ahead.popleft()
            outcomes = future.result()
            on_frames(count)
            yield from outcomes

    alone = str(model.backend.device) == "cpu" and threads() == 1
    thread = ThreadPoolExecutor(1) if sink.overlaps and not alone else AtOnce()
    try:
        made = 0
        for clip, frames in model.stream(clips()):
            made += len(frames)
            ahead.append((len(frames), thread.submit(writing.send, (*pending[0], frames))))
            if made == clip.frames:
                pending.popleft()
                made = 0
            yield from written(AHEAD)
        yield from written(0)
        if refused:
            raise refused[0]
    finally:
        # The block in hand is finished, for its clip may be complete with it; then a clip
        # that is not complete is dropped.
        thread.shutdown(cancel_futures=True)
        writing.close()


def _writing(
    sink: Sink, image_size: int
) -> Generator[list[Outcome], tuple[Job, bool, NDArray[np.uint8]], None]:
    """Takes jobs, whether each is the last of its file, and their next frames.

    Gives the outcomes of a file's jobs with the last frames of the last of them.
    """
    told: list[Outcome] = []
    held: list[Outcome] = []
    while True:
        job, last, frames = yield told
        size = image_size * job.scale
        form = ClipFormat(job.clip.frames, size, size, job.fps, job.made_by)
        fps, error = job.fps, None
        made = len(frames)
        try:
            with sink.open(job, form) as writer:
                fps = writer.real_fps(form.frames, job.fps)
                while True:
                    for part in enlarged(frames, job.scale):
                        writer.write(part)
                    if made == form.frames:
                        break
                    *_, frames = yield []
                    made += len(frames)
        except DiskFullError:
            raise
        except MocogenError as failure:
            error = failure
        held.append(Outcome(job, size, fps, error))
        told, held = (_settled(sink, held), []) if last else ([], held)
        while made < form.frames:  # of a clip that failed, told at once: let its frames pass
            *_, frames = yield told
            told = []
            made += len(frames)


def _settled(sink: Sink, outcomes: list[Outcome]) -> list[Outcome]:
    """The outcomes of all clips of one file, now that it is complete or cannot be."""
    try:
        sink.finish()
    except DiskFullError:
        raise
    except MocogenError as failure:
        return [o if o.error else replace(o, error=failure) for o in outcomes]
    return outcomes


def together(jobs: Iterable[Job], sink: Sink) -> Iterator[list[Job]]:
    """Consecutive jobs that share a file; they come as soon as the last of them is there.

    Raises:
        MocogenError: what ``jobs`` raised, when the jobs before have come.
    """
    refused: list[MocogenError] = []
    group: list[Job] = []
    for job in until_refused(jobs, refused):
        if group and sink.group(job) != sink.group(group[0]):
            yield group
            group = []
        group.append(job)
        if sink.fills(job):
            yield group
            group = []
    if group:
        yield group
    if refused:
        raise refused[0]


_Item = TypeVar("_Item")


def until_refused(items: Iterable[_Item], refused: list[MocogenError]) -> Iterator[_Item]:
    """The items until one is refused: then no more come, and the error is in ``refused``."""
    try:
        yield from items
    except MocogenError as error:
        refused.append(error)


_Result = TypeVar("_Result")


class AtOnce(Executor):
    """Runs what is submitted there and then, in the thread that submits it."""

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:
        future: Future[_Result] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def distinct(jobs: Iterable[Job], sink: Sink) -> Iterator[Job]:
    """The jobs as they come, none of which may have the name of another.

    Raises:
        UsageError: two clips would have one name.
    """
    seen: dict[Path, int] = {}
    for job in jobs:
        name = sink.name(job)
        if name in seen:
            raise UsageError(
                f"clips {seen[name]} and {job.index} of the batch would both be "
                f"{sink.store.shown(name)}: {sink.advice}"
            )
        seen[name] = job.index
        yield job


def remaining(
    jobs: Iterable[Job],
    sink: Sink,
    if_exists: str,
    on_skip: Callable[[Job], None] = lambda _: None,
) -> Iterator[Job]:
    """The jobs that are still to be done; those that share a file are done together or not.

    Args:
        sink: knows what an earlier run of the same batch has finished.
        if_exists: what becomes of other files that are in the way: "overwrite" makes them
            anew, "skip" keeps them, "error" refuses; the last two after a look whether the
            file is what a killed run could not list.
        on_skip: told of every job that is left out.

    Raises:
        UsageError: an earlier run has listed other clips under these names.
        MocogenError: a file is in the way and ``if_exists`` is "error".
    """
    for group in together(jobs, sink):
        place = sink.place(group[0])
        if not sink.has(group):
            if if_exists == "overwrite" or not sink.store.exists(place):
                yield from group
                continue
            if not sink.adopts(group) and if_exists == "error":
                shown = sink.store.shown(place)
                raise MocogenError(f"{shown} exists: choose --if-exists overwrite or skip")
        for job in group:
            on_skip(job)
