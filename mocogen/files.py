"""Files that appear whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import MocogenError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write to; it becomes ``target`` when the block ends well.

    A block that raises leaves an older ``target`` as it was, and nothing beside it. Missing
    parent folders are made. The temporary name keeps the suffix, by which encoders choose
    their format, and starts with a dot.

    Raises:
        MocogenError: the folder cannot be made or written to, or the disk is full.
    """
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")
    try:
        if target.is_dir():
            raise MocogenError(f"cannot write {target}: it is a folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        # Opened here, so that an unwritable folder is told before any work is done.
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some writers replace the file by one for its owner only
        temporary.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise MocogenError(f"cannot write {target}: {reason}") from error
    finally:
        # A name that is too long, or a parent that is a file, cannot be unlinked either.
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            pass
