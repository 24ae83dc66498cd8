"""Where clips go: each into a file of its own, or all into a pipe.

Archives are in :mod:`mocogen.shards`.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from .errors import MocogenError, UsageError
from .files import sha256
from .jobs import Job
from .manifest import Line, Listing
from .provenance import read as read_record
from .requests import STEERING
from .stores import DISK, Store
from .video import ClipFormat, ClipWriter, encoding, pipe_writer


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
        return digest is not None and self._is(path, digest)

    def adopts(self, jobs: Sequence[Job]) -> bool:
        """Whether the file's own record is the job's. A .npy has none, and is a stranger's."""
        job = jobs[0]
        if self.manifest is None or not self.store.on_disk:
            return False
        try:
            if read_record(job.path) != job.made_by:
                return False
        except MocogenError:
            return False
        self._list(job, sha256(job.path))
        return True

    def elsewhere(self, manifest: Listing, token: str) -> FileSink:
        return FileSink(manifest, self.store, token)

    @contextmanager
    def open(self, job: Job, form: ClipFormat) -> Iterator[ClipWriter]:
        digest = ""
        try:
            with self.store.writing(job.path, self.token) as temporary:
                with encoding(temporary, job.path, form) as writer:
                    yield writer
                if self.manifest:
                    digest = sha256(temporary)
            self._list(job, digest)
        except BaseException:
            # An interruption may come between the name and the line: what is there is listed.
            if digest and self.store.on_disk and self._is(job.path, digest):
                self._list(job, digest)
            raise

    def _is(self, path: Path, digest: str) -> bool:
        return self.store.whole(path, lambda file: sha256(file) == digest)

    def _list(self, job: Job, digest: str) -> None:
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
