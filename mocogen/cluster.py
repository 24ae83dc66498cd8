"""A batch on a Ray cluster: ranges of clips go to processes on many machines.

A worker samples a range exactly as one process alone would, and writes its clips; the driver
keeps the manifest, in the order of the batch, and gives a range to another worker when its
own has died. Since a clip is its seed, neither the ranges nor the workers show in the files.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

from . import __version__, batch
from .backends import Tensors
from .batch import Outcome, together, until_refused
from .errors import DiskFullError, MocogenError, UsageError
from .jobs import Job
from .manifest import Draft, Line
from .sinks import Sink
from .spec import ModelSpec
from .synthesis import Blueprint, Model, open_model

RANGE_FRAMES, RANGE_CLIPS = 2048, 64
"""A range is full with either: a few seconds of a core, which is what a dead worker loses."""

ATTEMPTS = 5
"""A range whose workers die this often kills them itself."""


@dataclass(frozen=True)
class Networks:
    """What a worker needs to open a model.

    Attributes:
        spec, tensors: as :func:`mocogen.checkpoint.read` gives them.
        sha256: hash of the checkpoint.
        device: "auto", "cpu" or "cuda".
        backend: one of :data:`mocogen.backend_choice.NAMES`.
        precision: one of :data:`mocogen.backends.PRECISIONS`.
        version: of the driver's mocogen.
    """

    spec: ModelSpec
    tensors: Tensors
    sha256: str | None
    device: str
    backend: str
    precision: str = "fp32"
    version: str = __version__

    @property
    def blueprint(self) -> Blueprint:
        """What the driver needs of them."""
        return Blueprint(self.spec, self.sha256)


@dataclass(frozen=True)
class Done:
    """What a worker tells of a range.

    Attributes:
        outcomes: of its jobs, in order; fewer where the disk was full or the batch stopped.
        lines: for the manifest, in order.
        full: that error, if it was.
        backend: what computed the networks.
    """

    outcomes: list[Outcome]
    lines: list[tuple[Path, Line, str]]
    full: DiskFullError | None
    backend: str


@dataclass
class Range:
    """Jobs that one worker does, and how far they are.

    Attributes:
        jobs: consecutive ones.
        attempt: how many workers have died of or with it.
        done: what came of it, or None.
    """

    jobs: list[Job]
    attempt: int = 0
    done: Done | None = field(default=None, repr=False)


class Cluster:
    """A connection to a Ray cluster; a context manager.

    Args:
        networks: what to sample from. Device "auto" takes GPUs where the cluster has some.
        address: "auto" for the cluster that this machine belongs to or ``RAY_ADDRESS`` names,
            "local" for one of this machine's own cores that lives as long as the batch, or an
            address.
        workers: how many ranges are worked on at once; None for as many as there is room for.

    Raises:
        UsageError: a device that Ray does not give out, or no workers.
        MocogenError: Ray is not installed, or there is no such cluster or device.
    """

    def __init__(self, networks: Networks, address: str, workers: int | None) -> None:
        if networks.device not in ("auto", "cpu", "cuda"):
            raise UsageError(
                f"device {networks.device}: Ray gives out cpu and cuda, without a number"
            )
        if workers is not None and workers < 1:
            raise UsageError(f"num-workers {workers}: ask for at least 1")
        # Nobody is told of a batch; who wants Ray's report of its use, says so.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise MocogenError(
                "--engine ray needs Ray: install mocogen with its extra, `pip install '.[ray]'` in "
                "its source folder"
            ) from None
        self._ray, self._workers = ray, workers
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                _knock(address)
                with _own_way_to_end():
                    ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:  # Ray raises bare ones as well
                said = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise MocogenError(
                    f"cannot reach a Ray cluster at {address} ({said}): start one with "
                    "`ray start --head`, give its --address, or use --address local"
                ) from None
        gpus = ray.cluster_resources().get("GPU", 0) >= 1
        if networks.device == "cuda" and not gpus:
            self.__exit__()
            raise MocogenError("no machine of the Ray cluster has a GPU: use --device cpu")
        device = "cuda" if gpus and networks.device != "cpu" else "cpu"
        self._resource = "GPU" if device == "cuda" else "CPU"
        self._networks = [ray.put(replace(networks, device=device))]
        # Ray tries nothing again by itself: another try cleans up after the one before.
        self._work = ray.remote(num_cpus=1, num_gpus=int(device == "cuda"), max_retries=0)(work)
        # It takes no core from the workers, and another takes its place where its node dies.
        self._stop_sign = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(StopSign)

    def render(
        self,
        jobs: Iterable[Job],
        sink: Sink,
        on_frames: Callable[[int], None] = lambda _: None,
        total: int | None = None,
    ) -> Generator[Outcome, None, None]:
        """Sample and write clips on the cluster; outcomes come in the order of the jobs.

        As :func:`mocogen.batch.render`, and so are the files.

        Args:
            sink: where clips go; its manifest gets the lines of finished clips, in the order
                of the jobs, from this process alone.
            on_frames: told how many frames a worker has made and written.
            total: how many jobs there are, if that is known: few are cut into small ranges.

        Raises:
            UsageError: the sink writes to what other processes cannot reach.
            DiskFullError: there is no room left. Clips that are listed are complete.
            MocogenError: workers disagree, or a range cannot be done at all; or what ``jobs``
                raised, when the clips before are complete.
        """
        if sink.store.private:
            raise UsageError("memory:// belongs to one process: use a shared folder or s3://")
        clips = RANGE_CLIPS
        if total is not None:
            clips = max(1, min(clips, total // (2 * self._room())))
        refused: list[MocogenError] = []
        coming = until_refused(ranges(jobs, sink, clips), refused)
        waiting: deque[Range] = deque()
        pending: dict[Any, Range] = {}
        sign = self._stop_sign.remote()
        backends: set[str] = set()
        try:
            while True:
                room = self._room()
                # A range that takes long holds back the lines of those after it, not many.
                while len(pending) < room and len(waiting) < 4 * room:
                    part = next(coming, None)
                    if part is None:
                        break
                    waiting.append(part)
                    pending[self._submit(part, sink, sign)] = part
                if not waiting:
                    break
                call = self._ray.wait(list(pending), num_returns=1)[0][0]
                part = pending.pop(call)
                part.done = self._result(call)
                if part.done is None:
                    part.attempt += 1
                    _check_attempts(part)
                    pending[self._submit(part, sink, sign)] = part
                    continue
                backends.add(part.done.backend)
                if len(backends) > 1:
                    raise MocogenError(
                        f"workers compute with {' and '.join(sorted(backends))}, whose frames "
                        "are not the same to the bit: give --backend"
                    )
                on_frames(sum(outcome.job.clip.frames for outcome in part.done.outcomes))
                while waiting and waiting[0].done:
                    yield from _told(waiting.popleft(), sink)
            if refused:
                raise refused[0]
        except (KeyboardInterrupt, GeneratorExit, SystemExit):
            for call in self._stop(sign, list(pending)):
                with suppress(MocogenError):  # the interruption is what is told
                    pending[call].done = self._result(call)
            pending.clear()
            for part in waiting:
                if part.done:
                    for _ in _told(part, sink):
                        pass
            raise
        finally:
            self._stop(sign, list(pending))

    def _room(self) -> int:
        """How many ranges can be given out at once, now that nodes may have come and gone."""
        if self._workers is not None:
            return self._workers
        # As many again may wait, so that no worker waits for the driver.
        return 2 * max(1, int(self._ray.cluster_resources().get(self._resource, 1)))

    def _submit(self, part: Range, sink: Sink, sign: Any) -> Any:
        """Give a range to a worker that has time."""
        # A worker is in another folder.
        jobs = [replace(job, path=sink.store.absolute(job.path)) for job in part.jobs]
        moved = sink.elsewhere(Draft(), _token(part.attempt))
        return self._work.remote(self._networks, jobs, moved, part.attempt, sign)

    def _result(self, call: Any) -> Done | None:
        """What a call gave, or None where its worker or node has died.

        Raises:
            MocogenError: what the call raised.
        """
        errors = self._ray.exceptions
        try:
            done: Done = self._ray.get(call)
        except errors.RayTaskError as error:
            if isinstance(error.cause, MocogenError):
                raise error.cause from None
            raise MocogenError(f"a worker failed: {error.cause!r}") from error
        except errors.RayError:
            return None
        return done

    def _stop(self, sign: Any, pending: list[Any]) -> list[Any]:
        """Have calls end where they are, and give them a moment to take away what is not complete.

        They are asked, not cancelled: where a call ends in the moment in which it is cancelled,
        Ray 2.60 ends this process.

        Returns those that have ended in it.
        """
        if not pending:
            return []
        sign.stop.remote()
        ended: list[Any] = self._ray.wait(pending, num_returns=len(pending), timeout=5)[0]
        return ended

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours:
            self._ray.shutdown()


@contextmanager
def _own_way_to_end() -> Iterator[None]:
    """Keep what this process does when it is told to end, where Ray would have its own way.

    The system's, which tidies nothing up, gives way to Ray's.
    """
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before not in (None, signal.SIG_DFL) and current_thread() is main_thread():
        signal.signal(signal.SIGTERM, before)


def _knock(address: str) -> None:
    """See whether somebody answers at HOST:PORT, where Ray itself would try for ten minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.rpartition(":")
    if host and "/" not in address and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def ranges(jobs: Iterable[Job], sink: Sink, clips: int) -> Iterator[Range]:
    """Cut jobs into ranges, between the files of a sink.

    Raises:
        MocogenError: what ``jobs`` raised, when the jobs before have come.
    """
    refused: list[MocogenError] = []
    part: list[Job] = []
    frames = 0
    for group in until_refused(together(jobs, sink), refused):
        part += group
        frames += sum(job.clip.frames for job in group)
        if len(part) >= clips or frames >= RANGE_FRAMES:
            yield Range(part)
            part, frames = [], 0
    if part:
        yield Range(part)
    if refused:
        raise refused[0]


def _check_attempts(part: Range) -> None:
    """Give a range up that has cost too many workers."""
    if part.attempt == ATTEMPTS:
        first, last = part.jobs[0].clip.seed, part.jobs[-1].clip.seed
        raise MocogenError(
            f"{ATTEMPTS} workers died one after the other over seeds {first} to {last}: see "
            "Ray's logs; is there enough memory?"
        )


def _told(part: Range, sink: Sink) -> Iterator[Outcome]:
    """List the clips of a finished range, and give their outcomes."""
    done = part.done
    assert done is not None
    if done.lines and sink.store.on_disk:
        # The last job of the range may have failed: its file is rightly not there.
        listed = done.lines[-1][0]
        _check_shared(next(sink.place(j) for j in part.jobs if sink.name(j).absolute() == listed))
    if sink.manifest is not None:
        for file, line, digest in done.lines:
            sink.manifest.append(file, line, digest)
    for job, outcome in zip(part.jobs, done.outcomes, strict=False):
        yield replace(outcome, job=job)
    if done.full is not None:
        raise done.full


def _check_shared(file: Path) -> None:
    """Refuse to go on where a worker's files are on a disk of its own."""
    if not file.exists():
        raise MocogenError(
            f"a worker wrote {file}, and it is not to be seen here: use a folder that all "
            "machines share, or a URL such as s3://bucket/folder"
        )


# What follows runs in other processes than the driver's.


class StopSign:
    """An actor that tells workers that the driver wants no more of a batch."""

    def __init__(self) -> None:
        self._up = False

    def stop(self) -> None:
        """Put it up."""
        self._up = True

    def is_up(self) -> bool:
        """Whether it is."""
        return self._up


class Stopped(BaseException):
    """The driver wants no more of a batch; like KeyboardInterrupt, no error to be caught."""


class Watch:
    """Looks at a stop sign whenever frames are made.

    It never waits for an answer: Ray gives the core of a worker that waits to another one.
    """

    def __init__(self, sign: Any) -> None:
        self._sign = sign
        self._answer = sign.is_up.remote()

    def __call__(self, _frames: int) -> None:
        """Raises :class:`Stopped` if it was up at the last look."""
        import ray

        if ray.wait([self._answer], timeout=0)[0]:
            if ray.get(self._answer):
                raise Stopped
            self._answer = self._sign.is_up.remote()


_models: dict[tuple[str | None, str, str, str], Model] = {}
"""The model that this process has open, so that it is opened once and not for every range."""


def work(shared: list[Any], jobs: list[Job], sink: Sink, attempt: int, sign: Any) -> Done:
    """Do a range.

    Args:
        shared: a reference to the :class:`Networks`.
        sink: one that lists clips in a draft.
        attempt: how many workers have tried before and died; what they left is removed.
        sign: the :class:`StopSign` of the batch.
    """
    import ray

    networks: Networks = ray.get(shared[0])
    if networks.version != __version__:
        raise MocogenError(
            f"a worker has mocogen {__version__} and the driver {networks.version}: install "
            "one version on all machines"
        )
    draft = sink.manifest
    assert isinstance(draft, Draft)
    for job in jobs:
        for earlier in range(attempt):
            sink.discard(job, _token(earlier))
    model = _open(networks)
    outcomes: list[Outcome] = []
    full = None
    try:
        with sink:
            for outcome in batch.render(model, jobs, sink, Watch(sign)):
                outcomes.append(outcome)  # one by one: those before a stop count
    except DiskFullError as error:
        full = error
    except Stopped:
        pass
    return Done(outcomes, draft.lines, full, model.backend.name)


def _open(networks: Networks) -> Model:
    """The model, opened once a process and not once a range."""
    key = (networks.sha256, networks.device, networks.backend, networks.precision)
    if key not in _models:
        _models.clear()
        _models[key] = open_model(networks.spec, networks.tensors, *key)
    return _models[key]


def _token(attempt: int) -> str:
    """A part of temporary names: a worker that was taken for dead must not meet its heir."""
    return f"part{attempt or ''}"
