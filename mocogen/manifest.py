"""The record of a batch: one JSON line for every finished clip.

A line is appended when its file is whole and has its final name, so that a batch that was
killed at any moment can go on from what the manifest says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Protocol

from .errors import MocogenError, UsageError
from .files import lock, write_errors
from .requests import STEERING
from .stores import DISK, Store

NAME = "manifest.jsonl"
UPLOAD_EVERY, UPLOAD_SHARE = 30.0, 0.05
"""Seconds between two uploads of a manifest, and the share of the time that they may take."""

Line = dict[str, Any]


class Listing(Protocol):
    """Where finished clips are listed, by the names of their files."""

    def digest(self, file: Path, line: Line) -> str | None:
        """The hash of a file that an earlier run has listed, or None.

        Args:
            line: what this run would list it with.

        Raises:
            UsageError: that is another clip.
        """

    def inside(self, archive: Path) -> Collection[str]:
        """The names of the clips in an archive that an earlier run has listed."""

    def append(self, file: Path, line: Line, digest: str) -> None:
        """List a file that is whole, with its hash."""


class Draft:
    """Lines for a manifest that another process keeps.

    Attributes:
        lines: the arguments of every :meth:`append`.
    """

    def __init__(self) -> None:
        self.lines: list[tuple[Path, Line, str]] = []

    def digest(self, file: Path, line: Line) -> str | None:
        return None

    def inside(self, archive: Path) -> Collection[str]:
        return ()

    def append(self, file: Path, line: Line, digest: str) -> None:
        self.lines.append((file, line, digest))


class Manifest:
    """The manifest of one folder, open for appending; a context manager.

    What cannot grow in its place, an object in a store, grows on this machine's own disk and
    is uploaded now and then, and at the end. A run that is killed in between makes the clips
    since the last upload again.

    Args:
        path: the manifest file; made where it is missing.
        settings: what all lines of this run share; a manifest with other values belongs to
            another run. A line names those of ``STEERING`` only where they are not the plain
            ones.
        resume: whether an older manifest is gone on with. If not, it makes way for the first
            line of this run, and stays where there is none.
        store: where the folder is.

    Raises:
        UsageError: the older manifest belongs to a run with other settings.
        MocogenError: it is damaged, in use by another process (known on a disk alone: an
            object store has no locks), or cannot be written.
    """

    def __init__(
        self, path: Path, settings: Line, resume: bool = True, store: Store = DISK
    ) -> None:
        self.path, self.store = path, store
        self.done: dict[str, Line] = {}
        self._cleanup = ExitStack()
        self._uploaded = monotonic()
        self._upload_took = 0.0
        self._fresh = False
        self._anew = not resume
        with self._cleanup, write_errors(store.shown(path)):
            # Without a buffer, in which a line would wait that a full disk has refused.
            local = self._cleanup.enter_context(store.growing(path))
            self._new = not local.exists()
            self._file = self._cleanup.enter_context(local.open("a+b", buffering=0))
            lock(
                self._file,
                f"{path} is in use by another mocogen: wait for it, or use another folder",
            )
            if resume:
                self._read(settings)
            self._cleanup = self._cleanup.pop_all()

    def _read(self, settings: Line) -> None:
        self._file.seek(0)
        text = self._file.read()
        whole = text[: text.rfind(b"\n") + 1]
        shown = self.store.shown(self.path)
        for number, raw in enumerate(whole.splitlines(), 1):
            try:
                line = json.loads(raw)
                name, _ = line["file"], line["sha256"]
            except (ValueError, KeyError, TypeError):
                raise MocogenError(
                    f"line {number} of {shown} cannot be read: mend or remove the manifest"
                ) from None
            for key, wanted in settings.items():
                found = line.get(key, STEERING.get(key))
                if found != wanted:
                    raise UsageError(
                        f"{shown} belongs to another run, with {key} {found} instead "
                        f"of {wanted}: use another folder, or --no-resume to start it anew"
                    )
            self.done[name] = line
        # A line that was cut off while it was written is written again.
        self._file.truncate(len(whole))

    def digest(self, file: Path, line: Line) -> str | None:
        name = self._name_of(file)
        listed = self.done.get(name)
        if listed is None:
            return None
        for key in {**line, **STEERING}:
            if key == "index":  # the same clip may have another place in the batch
                continue
            found, wanted = (one.get(key, STEERING.get(key)) for one in (listed, line))
            if found != wanted:
                raise UsageError(
                    f"{self.store.shown(self.path)} belongs to another run: it lists {name} with "
                    f"{key} {found} instead of {wanted}; use another folder or name, or "
                    "--no-resume to start it anew"
                )
        return str(listed["sha256"])

    def inside(self, archive: Path) -> Collection[str]:
        return self._archives.get(self._name_of(archive), ())

    @cached_property
    def _archives(self) -> dict[str, set[str]]:
        archives: dict[str, set[str]] = {}
        for name in self.done:
            archive, _, clip = name.rpartition("/")
            archives.setdefault(archive, set()).add(clip)
        return archives

    def append(self, file: Path, line: Line, digest: str) -> None:
        """Append the line of a file that is whole, unless the same one is there already."""
        name = self._name_of(file)
        full = {"file": name, **line, "sha256": digest}
        if self.done.get(name) != full:
            with write_errors(self.store.shown(self.path)):
                if self._anew:
                    self._file.truncate(0)
                    self._anew = False
                text = json.dumps(full).encode() + b"\n"
                while text:
                    text = text[self._file.write(text) :]
            self._fresh = True
            if monotonic() - self._uploaded > max(UPLOAD_EVERY, self._upload_took / UPLOAD_SHARE):
                self._upload()

    def _upload(self) -> None:
        if not self._fresh:
            return
        started = monotonic()
        self.store.update(self.path, Path(str(self._file.name)))
        self._uploaded, self._fresh = monotonic(), False
        self._upload_took = self._uploaded - started

    def _name_of(self, file: Path) -> str:
        """How the manifest calls a file: its path from the manifest's folder."""
        return Path(os.path.relpath(file, self.path.parent)).as_posix()

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._cleanup:
            self._upload()
            if self._new and not os.fstat(self._file.fileno()).st_size:
                with suppress(OSError):  # not every system removes open files
                    Path(self._file.name).unlink()
