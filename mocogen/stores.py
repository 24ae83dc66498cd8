"""Where finished files go: a disk or a shared folder, or an object store named by its URL.

Everywhere a file appears whole or not at all. On a disk it is written beside its place and
renamed. An object store has no renaming, and needs none: a file is made on this machine's own
disk, and an object appears when its upload has come to its end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from .errors import MocogenError, UsageError
from .files import NO_ROOM, atomic_path, beside, linked, write_errors

OBJECT_STORES = ("memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci")
"""The protocols whose uploads appear when they are complete; to all others, files are uploaded
under another name and renamed."""


class Store(Protocol):
    """Where files go. It can be sent to other processes.

    Attributes:
        on_disk: whether its files can be read where they are, under their paths.
        private: whether it belongs to this process, so that others have one of their own.
    """

    on_disk: bool
    private: bool

    def exists(self, path: Path) -> bool:
        """Whether there is a file.

        Raises:
            MocogenError: the store cannot be reached.
        """

    def whole(self, path: Path, check: Callable[[Path], bool]) -> bool:
        """Whether a file that was once finished is still there and whole.

        Args:
            check: reads a file and tells whether it is.
        """

    def writing(self, path: Path, token: str | None = None) -> AbstractContextManager[Path]:
        """A local path to write to; it becomes ``path`` when the block ends well.

        Args:
            token: as in :func:`mocogen.files.atomic_path`.

        Raises:
            DiskFullError: there is no room left.
            MocogenError: the store refuses.
        """

    def discard(self, path: Path, token: str) -> None:
        """Remove what a process that died may have left of ``path`` under a token."""

    def growing(self, path: Path) -> AbstractContextManager[Path]:
        """A local file to append to: ``path`` itself, or a copy of what is there.

        Raises:
            OSError: its folder cannot be made.
            MocogenError: the store refuses.
        """

    def update(self, path: Path, local: Path) -> None:
        """Bring ``path`` to what its :meth:`growing` file ``local`` has become.

        Raises:
            MocogenError: the store refuses.
        """

    def absolute(self, path: Path) -> Path:
        """The same path for processes in any folder."""

    def shown(self, path: Path) -> str:
        """How people and scripts are told of a file."""


class Disk:
    """Folders of this machine, or that all machines share."""

    on_disk = True
    private = False

    def exists(self, path: Path) -> bool:
        return path.exists()

    def whole(self, path: Path, check: Callable[[Path], bool]) -> bool:
        """The file is read again: a disk can hold half a file, or a damaged one."""
        try:
            return check(path)
        except OSError:
            return False

    def writing(self, path: Path, token: str | None = None) -> AbstractContextManager[Path]:
        return atomic_path(path, token)

    def discard(self, path: Path, token: str) -> None:
        beside(linked(path), token).unlink(missing_ok=True)

    @contextmanager
    def growing(self, path: Path) -> Iterator[Path]:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path

    def update(self, path: Path, local: Path) -> None:
        """Nothing: it is the file that has grown."""

    def absolute(self, path: Path) -> Path:
        return path.absolute()

    def shown(self, path: Path) -> str:
        return str(path)


class UrlStore:
    """A file system that fsspec knows by its protocol.

    Paths are fsspec's, without the protocol: ``bucket/folder/clip.mp4``.

    Args:
        protocol: such as "s3"; its credentials come from where its library looks for them.

    Raises:
        UsageError: there is no such protocol.
        MocogenError: its library is not installed, or cannot start.
    """

    on_disk = False

    def __init__(self, protocol: str) -> None:
        import fsspec

        self.protocol = protocol
        self.private = protocol == "memory"
        self._renames = protocol not in OBJECT_STORES
        self._folders: dict[Path, frozenset[str]] = {}
        try:
            self._files = fsspec.filesystem(protocol)
        except ValueError:
            raise UsageError(
                f"{protocol}:// is no protocol that fsspec knows: use s3://, gs://, abfs:// or "
                "a folder"
            ) from None
        except ImportError as error:
            raise MocogenError(f"{protocol}:// needs a package that is not here: {error}") from None
        except Exception as error:  # libraries raise whatever they like
            raise MocogenError(f"{protocol}:// cannot be used: {error}") from None

    def path_of(self, url: str) -> str:
        """The path in a URL of this protocol, which may have fields in braces."""
        try:
            path = str(self._files._strip_protocol(url.rstrip("/")))
        except Exception as error:
            raise MocogenError(f"{url} cannot be used: {error}") from None
        return f"{path}/" if url.endswith("/") else path

    def exists(self, path: Path) -> bool:
        with self._errors("look for", path):
            return bool(self._files.exists(path.as_posix()))

    def whole(self, path: Path, check: Callable[[Path], bool]) -> bool:
        """An object that is there is whole: it is not fetched to be checked again."""
        return path.as_posix() in self._listed(path.parent)

    @contextmanager
    def writing(self, path: Path, token: str | None = None) -> Iterator[Path]:
        with (
            write_errors(self.shown(path)),
            tempfile.TemporaryDirectory(prefix="mocogen-") as folder,
        ):
            local = Path(folder) / path.name
            yield local
            self.put(local, path, token or local.parent.name)

    def put(self, local: Path, path: Path, token: str = "part") -> None:
        """Upload a file, which appears under its name when all of it is there."""
        with self._errors("write", path):
            if not self._renames:
                self._files.put_file(str(local), path.as_posix())
                return
            temporary = beside(path, token).as_posix()
            self._files.makedirs(path.parent.as_posix(), exist_ok=True)
            try:
                self._files.put_file(str(local), temporary)
                self._files.mv(temporary, path.as_posix())
            except BaseException:
                with suppress(Exception):
                    self._files.rm_file(temporary)
                raise

    def fetch(self, path: Path, target: Path) -> None:
        """Copy a file that is there to a local path."""
        with self._errors("read", path):
            self._files.get_file(path.as_posix(), str(target))

    def discard(self, path: Path, token: str) -> None:
        left = beside(path, token)
        if self._renames and self.exists(left):
            with self._errors("remove", left):
                self._files.rm_file(left.as_posix())

    @contextmanager
    def growing(self, path: Path) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="mocogen-") as folder:
            local = Path(folder) / path.name
            if self.exists(path):
                self.fetch(path, local)
            yield local

    def update(self, path: Path, local: Path) -> None:
        self.put(local, path)

    def absolute(self, path: Path) -> Path:
        return path

    def shown(self, path: Path) -> str:
        return f"{self.protocol}://{path.as_posix()}"

    def _listed(self, folder: Path) -> frozenset[str]:
        """The paths in a folder. It is listed once: a request for each file would take hours."""
        if folder not in self._folders:
            with self._errors("list", folder):
                try:
                    found = self._files.ls(folder.as_posix(), detail=False)
                except FileNotFoundError:
                    found = []
            self._folders[folder] = frozenset(found)
        return self._folders[folder]

    @contextmanager
    def _errors(self, verb: str, path: Path) -> Iterator[None]:
        """Turn whatever a protocol's library raises into a sentence."""
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise MocogenError(f"cannot {verb} {self.shown(path)}: {said[0]}") from error


DISK = Disk()


def open_store(out: str) -> tuple[Store, str]:
    """The store that a path or a URL names, and the path in it.

    Raises:
        UsageError: the URL's protocol is unknown.
        MocogenError: its library is not installed.
    """
    protocol, mark, _ = out.partition("://")
    if not mark:
        return DISK, out
    if not protocol:
        raise UsageError(f"{out} names no protocol: use s3://, gs://, abfs:// or a folder")
    store = UrlStore(protocol)
    return store, store.path_of(out)
