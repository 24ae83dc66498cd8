"""The record of a batch: one JSON line for every finished clip.

A line is appended when its file is whole and has its final name, so that a batch that was
killed at any moment can go on from what the manifest says.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from .errors import MocogenError, UsageError
from .files import lock, write_errors
from .requests import STEERING

NAME = "manifest.jsonl"
SETTINGS = ("checkpoint", "precision", "frames", "fps", "noise", "scale", *STEERING)
"""What all clips of a run share; a manifest with other values belongs to another run."""

Line = dict[str, Any]


class Manifest:
    """The manifest of one folder, open for appending; a context manager.

    Args:
        path: the manifest file; made where it is missing.
        settings: the values of ``SETTINGS`` that this run has. None as a value: any, but for
            those of ``STEERING``, which a line names only where they are not the plain ones.
        resume: whether an older manifest is gone on with, or started anew.

    Raises:
        UsageError: the older manifest belongs to a run with other settings.
        MocogenError: it is damaged, in use by another process, or cannot be written.
    """

    def __init__(self, path: Path, settings: Line, resume: bool = True) -> None:
        self.path = path
        self.done: dict[str, Line] = {}
        with write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("a+b")
            lock(
                self._file,
                f"{path} is in use by another mocogen: wait for it, or use another folder",
            )
            if resume:
                self._read(settings)
            else:
                self._file.truncate(0)

    def _read(self, settings: Line) -> None:
        self._file.seek(0)
        text = self._file.read()
        whole = text[: text.rfind(b"\n") + 1]
        for number, raw in enumerate(whole.splitlines(), 1):
            try:
                line = json.loads(raw)
                name, _ = line["file"], line["sha256"]
            except (ValueError, KeyError, TypeError):
                raise MocogenError(
                    f"line {number} of {self.path} cannot be read: mend or remove the manifest"
                ) from None
            for key, wanted in settings.items():
                found = line.get(key, STEERING.get(key))
                if found != wanted and (wanted is not None or key in STEERING):
                    raise UsageError(
                        f"{self.path} belongs to another run, with {key} {found} instead "
                        f"of {wanted}: use another folder, or --no-resume to start it anew"
                    )
            self.done[name] = line
        # A line that was cut off while it was written is written again.
        self._file.truncate(len(whole))

    def has(self, file: Path) -> bool:
        """Whether a file is in the manifest, and there, and whole."""
        line = self.done.get(self.name_of(file))
        if line is None:
            return False
        try:
            return sha256(file) == line["sha256"]
        except OSError:
            return False

    def add(self, file: Path, line: Line) -> None:
        """Append the line of a file that is whole."""
        self.append(self.name_of(file), line, sha256(file))

    def append(self, name: str, line: Line, digest: str) -> None:
        """Append a line, unless the same one is there already."""
        full = {"file": name, **line, "sha256": digest}
        if self.done.get(name) != full:
            with write_errors(self.path):
                self._file.write(json.dumps(full).encode() + b"\n")
                self._file.flush()

    def name_of(self, file: Path) -> str:
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
        self._file.close()


def sha256(path: Path) -> str:
    """A file's hash in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
