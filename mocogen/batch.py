"""Many clips to many files, in one pass through the model.

Requests become jobs (:func:`plan`), jobs become clips, and a sink puts every clip where it
belongs: into a file of its own, a shard of an archive, or a pipe.
"""

from __future__ import annotations

import errno
import string
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from .cpu_backend import threads
from .errors import DiskFullError, MocogenError, UsageError
from .files import sha256
from .manifest import Line, Listing
from .provenance import Record, record
from .provenance import read as read_record
from .requests import STEERING, Request
from .stores import DISK, Disk, Store
from .synthesis import Blueprint, Clip, Model
from .video import WRITERS, ClipFormat, ClipWriter, encoding, pipe_writer, writer_for

AHEAD = 4
"""Blocks of frames that may wait for the encoder."""

TEMPLATE_FIELDS = ("seed", "index", "action", "checkpoint", "content_seed", "motion_seed")
FOLDER_TEMPLATE = "{seed:06d}.gif"
_FORMATTER = string.Formatter()
NEIGHBOURS = (10**18, 10**18 + 1)
"""Two numbers of which a format that rounds or cuts makes one."""
FORMAT_ERRORS = (
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    OverflowError,
    MemoryError,
)
"""What formatting a template may raise."""


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


class Sink(ABC):
    """Where clips go; a context manager, which ends when the last clip has gone there.

    Attributes:
        store: what holds the files.
        manifest: lists the finished clips, or None.
        advice: what to do where two clips would have one name.
        overlaps: whether a clip is encoded while the next frames are made. Not where writing
            can take for ever, since only the main thread can be interrupted.
    """

    store: Store = DISK
    manifest: Listing | None = None
    advice = "put {index} into the name"
    overlaps = True

    def group(self, job: Job) -> int:
        """The number of the file that a job's clip goes into."""
        return job.index

    def place(self, job: Job) -> Path:
        """That file."""
        return job.path

    def fills(self, job: Job) -> bool:
        """Whether a job's clip is the last that its file has room for."""
        return True

    def name(self, job: Job) -> Path:
        """What the clip is called: its file, or a file and a name in it."""
        return job.path

    @abstractmethod
    def has(self, jobs: Sequence[Job]) -> bool:
        """Whether an earlier run of the same batch has finished the jobs of one file.

        Raises:
            UsageError: an earlier run has made other clips under these names.
        """

    def adopts(self, jobs: Sequence[Job]) -> bool:
        """Whether a file that no manifest lists is what its jobs make; it is listed then.

        A run that was killed after it had named a file, and before it could list it, leaves
        such a one.
        """
        return False

    @abstractmethod
    def open(self, job: Job, form: ClipFormat) -> AbstractContextManager[ClipWriter]:
        """A writer for a job's clip, which is kept when the block ends well."""

    def finish(self) -> None:  # noqa: B027
        """Complete the file that the last clips have gone into; as a rule, it is complete.

        Raises:
            MocogenError: it cannot be written, and none of its clips is there.
        """

    @abstractmethod
    def elsewhere(self, manifest: Listing, token: str) -> Sink:
        """The same sink for another process, with a listing and a temporary name of its own.

        Raises:
            UsageError: another process cannot reach what this one writes to.
        """

    def discard(self, job: Job, token: str) -> None:
        """Remove what a process that died may have left of a job under its token."""
        self.store.discard(self.place(job), token)

    def __enter__(self) -> Sink:
        return self

    def __exit__(  # noqa: B027
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is left to do, as a rule."""


def check_template(out: str, count: int | None, store: Store = DISK) -> str:
    """Check the fields of an output path, and turn a folder into a template.

    Args:
        out: a file, a folder (it exists, or ends with a slash) or a template with fields of
            ``TEMPLATE_FIELDS`` in braces.
        count: how many clips there will be; None when nobody knows yet.
        store: what the path is a path of.

    Raises:
        UsageError: an unknown field or suffix, or several clips that would share a name.
    """
    if not out:
        raise UsageError("out is empty: give a file, a folder or a name with {seed} in it")
    if out.endswith(("/", "\\")) or (isinstance(store, Disk) and _is_folder(out)):
        out = f"{out.rstrip('/')}/{FOLDER_TEMPLATE}" if out != "/" else out
    try:
        named = template_fields(out)
        if strangers := named - set(TEMPLATE_FIELDS):
            raise KeyError(*sorted(strangers))
        large = NEIGHBOURS[0]
        others = {"action": "a", "checkpoint": "c", "content_seed": large, "motion_seed": large}
        two = {out.format(seed=n, index=n, **others) for n in NEIGHBOURS}
    except FORMAT_ERRORS as error:
        known = ", ".join("{" + name + "}" for name in TEMPLATE_FIELDS)
        raise UsageError(f"cannot read the fields of out {out!r} ({error}): use {known}") from None
    if count != 1 and not named & {"seed", "index"}:
        raise UsageError(
            f"{count or 'all'} clips cannot all be {out}: give --out a folder with a slash at its "
            "end, or a name with {seed} or {index} in it"
        )
    if count != 1 and len(two) == 1:
        raise UsageError(f"the fields of out {out!r} do not tell two clips apart: use {{seed:06d}}")
    writer_for(Path(out))
    return out


def _is_folder(out: str) -> bool:
    try:
        return Path(out).is_dir()
    except OSError as error:
        raise UsageError(f"out {out} cannot be looked at: {error.strerror}") from None


def own_paths(requests: Iterable[Request], common: str, apart: bool) -> Iterator[Request]:
    """Check the paths that single requests have of their own.

    Args:
        common: the path of all others, which has been checked.
        apart: whether a request may have its own: not in an archive, a pipe or an object store.

    Raises:
        UsageError: names the request and what is wrong with its path.
    """
    for asked in requests:
        if asked.out == common:
            yield asked
            continue
        try:
            if not apart or "://" in asked.out:
                raise UsageError(
                    "in archives, in pipes and at URLs, a request has no path of its own"
                )
            yield replace(asked, out=check_template(asked.out, 1))
        except UsageError as error:
            raise UsageError(f"request {asked.index + 1}: {error}") from None


def template_fields(out: str) -> set[str]:
    """The names in braces of a template.

    Raises:
        ValueError: braces that do not match, or a format that may make a path or take another
            field's value for its width.
    """
    parsed = [(name, spec) for _, name, spec, _ in _FORMATTER.parse(out) if name is not None]
    if any(set(spec or "") & set("/\\{") for _, spec in parsed):
        raise ValueError("a slash or a brace within braces")
    return {name for name, _ in parsed}


def filled(out: str, fields: Mapping[str, Any]) -> Path:
    """The path that a template gives; what a field holds stays within its part of the path.

    Raises:
        UsageError: a field would lead into another folder, or its format is for other values.
    """
    parts = []
    for part in Path(out).parts:
        try:
            name = part.format(**fields)
        except FORMAT_ERRORS as error:  # a checkpoint without actions, say
            raise UsageError(
                f"the fields of out {out!r} cannot be filled in ({error}): leave their formats out"
            ) from None
        if name != part and (name in ("", ".", "..") or "/" in name or "\\" in name):
            raise UsageError(
                f"the fields of out {out!r} give {name!r} for {part!r}, which leads out of its "
                "folder: leave that field out"
            )
        parts.append(name)
    return Path(*parts)


def home(out: str) -> Path:
    """The folder that all files of a template have in common: its manifest's."""
    fixed = []
    for part in Path(out).parts[:-1]:
        if template_fields(part):
            break
        fixed.append(part.format())  # a brace is written twice
    return Path(*fixed)


def plan(model: Blueprint, requests: Iterable[Request], source: Record) -> Iterator[Job]:
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
        path = filled(asked.out, {"action": name, **fields})
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


def enlarged(frames: NDArray[np.uint8], scale: int) -> Iterator[NDArray[np.uint8]]:
    """Every pixel of (n, height, width, 3) as a square of scale x scale pixels.

    Comes one frame at a time, so that large clips need no more memory than one large frame.
    """
    if scale == 1:
        yield frames
    else:
        for frame in frames:
            yield frame.repeat(scale, axis=0).repeat(scale, axis=1)[None]


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


class FileSink(Sink):
    """A file for every clip, and a line in the manifest where there is one.

    Args:
        manifest: the manifest, or None.
        store: where the files are.
        token: a part of the temporary names that no other process uses at the same time; what
            a killed process left under it is overwritten. A batch has its manifest's lock and
            needs none.
    """

    def __init__(
        self, manifest: Listing | None = None, store: Store = DISK, token: str | None = None
    ) -> None:
        self.manifest, self.store = manifest, store
        self.token = token or ("part" if manifest else None)

    def has(self, jobs: Sequence[Job]) -> bool:
        """Whether the manifest lists the job's file, and it is there and whole."""
        path = jobs[0].path
        digest = self.manifest.digest(path, manifest_line(jobs[0])) if self.manifest else None
        return digest is not None and self.store.whole(path, lambda p: sha256(p) == digest)

    def adopts(self, jobs: Sequence[Job]) -> bool:
        """Whether the file's own record is the job's. A .npy has none, and is a stranger's."""
        job = jobs[0]
        if self.manifest is None or not isinstance(self.store, Disk):
            return False
        try:
            if read_record(job.path) != job.made_by:
                return False
        except MocogenError:
            return False
        self.manifest.append(job.path, manifest_line(job), sha256(job.path))
        return True

    def elsewhere(self, manifest: Listing, token: str) -> FileSink:
        return FileSink(manifest, self.store, token)

    @contextmanager
    def open(self, job: Job, form: ClipFormat) -> Iterator[ClipWriter]:
        digest = ""
        with self.store.writing(job.path, self.token) as temporary:
            with encoding(temporary, job.path, form) as writer:
                yield writer
            if self.manifest:
                digest = sha256(temporary)
        if self.manifest:
            self.manifest.append(job.path, manifest_line(job), digest)


def manifest_line(job: Job) -> Line:
    """What a manifest says of a clip, but for its file and hash."""
    made_by = job.made_by
    kept = ("seed", "action", "frames", "fps", "noise", "scale")
    line = {key: made_by[key] for key in kept}
    line |= {key: made_by[key] for key in STEERING if key in made_by}
    line["precision"] = made_by.get("precision", "fp32")  # a record tells the unusual alone
    return {"index": job.index, **line, "checkpoint": made_by["sha256"]}


class PipeSink(Sink):
    """All clips one after the other into a pipe.

    Args:
        stream: where the bytes go.
        kind: "mp4" or "gif" for one clip, "rgb24" for bare frames of any number.

    Raises:
        BrokenPipeError: the reader has gone.
    """

    overlaps = False

    def __init__(self, stream: BinaryIO, kind: str) -> None:
        self.stream, self.kind = stream, kind

    def has(self, jobs: Sequence[Job]) -> bool:
        """Never: what has gone into a pipe is gone."""
        return False

    def elsewhere(self, manifest: Listing, token: str) -> PipeSink:
        raise UsageError("a pipe belongs to one process: give --out a folder or a URL")

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
