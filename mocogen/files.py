"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import DiskFullError, MocogenError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a full disk and of a full quota."""


@contextmanager
def write_errors(target: Path | str) -> Iterator[None]:
    """Turn the system's errors of writing ``target`` into sentences.

    Raises:
        DiskFullError: there is no room left.
        MocogenError: anything else that the system refuses.
    """
    try:
        yield
    except OSError as error:
        kind = DiskFullError if error.errno in NO_ROOM else MocogenError
        raise kind(f"cannot write {target}: {error.strerror or error}") from error


def sha256(path: Path) -> str:
    """A file's hash in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ffmpeg_name(path: Path) -> str:
    """A file's name for FFmpeg, which takes what is ahead of a colon for a protocol."""
    return f"file:{path}"


def beside(target: Path, token: str) -> Path:
    """The temporary name of a file that is to become ``target``.

    It keeps the suffix, by which encoders choose their format, and starts with a dot.
    """
    return target.with_name(f".{target.stem}.{token}{target.suffix}")


def linked(target: Path) -> Path:
    """What a link points to in the end, there or not; a path that is none, as it is."""
    return target.resolve() if target.is_symlink() else target


@contextmanager
def atomic_path(target: Path, token: str | None = None) -> Iterator[Path]:
    """A path beside ``target`` to write to; it becomes ``target`` when the block ends well.

    A block that raises leaves an older ``target`` as it was, and nothing beside it. Missing
    parent folders are made. Where ``target`` is a link, what it points to is written.

    Args:
        target: the file to appear.
        token: a part of the temporary name; random when left out, so that two processes that
            write one target do not meet. Whoever sees to that otherwise gives a fixed one, and
            then what a killed process left is overwritten by the next.

    Raises:
        DiskFullError: there is no room left.
        MocogenError: the folder cannot be made or written to, or there is something else than a
            file in the way.
    """
    with write_errors(target):
        target = linked(target)
    temporary = beside(target, token or secrets.token_hex(4))
    try:
        with write_errors(target):
            if target.is_dir():
                raise MocogenError(f"cannot write {target}: it is a folder")
            if target.exists() and not target.is_file():
                raise MocogenError(f"cannot write {target}: it is a device or a pipe, no file")
            if target.parent.is_file():
                raise MocogenError(f"cannot write {target}: {target.parent} is a file, no folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            # Opened here, so that an unwritable folder is told before any work is done.
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)  # some writers replace the file by one for its owner only
            temporary.replace(target)
    finally:
        # A name that is too long, or a parent that is a file, cannot be unlinked either.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def lock(file: IO[Any], held: str) -> None:
    """Keep other processes from what ``file`` stands for, until it is closed.

    The lock is the system's and goes with the process, however that ends. Where the system or
    a network file system has none, nothing is kept.

    Args:
        file: open for writing.
        held: the sentence to raise where another process has the lock.

    Raises:
        MocogenError: another process has it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise MocogenError(held) from None
    except OSError:
        pass
