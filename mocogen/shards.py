"""Clips in tar archives, as WebDataset and its kin read them.

A shard holds, for every clip, ``SEED.mp4`` (or ``.npy``) and ``SEED.json``, the record of its
making, one after the other; a clip with seeds of its own for content and motion is called
``CONTENT-MOTION``. It appears when it is complete, and its clips are listed in the
manifest then.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from .batch import Job, manifest_line, template_fields
from .errors import UsageError
from .files import atomic_path, write_errors
from .manifest import Line, Manifest
from .provenance import dumps
from .video import WRITERS, ClipFormat, ClipWriter

KINDS = ("mp4", "npy")


def check_shards(template: str, size: int, kind: str) -> None:
    """Check the options of sharded output.

    Raises:
        UsageError: says which of them makes no sense.
    """
    try:
        if template_fields(template) != {"shard"}:
            raise ValueError
        template.format(shard=0)
    except (ValueError, KeyError, IndexError, AttributeError):
        raise UsageError(
            f"shards {template!r}: use a name with {{shard}} in it: clips-{{shard:05d}}.tar"
        ) from None
    if not template.endswith(".tar"):
        raise UsageError(f"shards {template!r}: the name of a shard ends in .tar")
    if size < 1:
        raise UsageError(f"shard-size {size}: a shard has at least 1 clip")
    if kind not in KINDS:
        raise UsageError(f"format {kind}: shards take {' or '.join(KINDS)}")


def _key(job: Job) -> str:
    """What a clip is called in its shard: its seed, or the seeds of content and motion."""
    clip = job.clip
    if clip.content_seed == clip.motion_seed == clip.seed:
        return f"{clip.seed:06d}"
    return f"{clip.content_seed:06d}-{clip.motion_seed:06d}"


class ShardSink:
    """Puts clips into shards; a context manager, since the last shard ends with the batch.

    Args:
        template: path of a shard, with ``{shard}`` in it.
        size: clips in a shard: clip ``index`` is in shard ``index // size``.
        kind: one of ``KINDS``.
        manifest: lists the clips of finished shards.
    """

    def __init__(self, template: str, size: int, kind: str, manifest: Manifest) -> None:
        self.template, self.size, self.kind, self.manifest = template, size, kind, manifest
        self._number: int | None = None
        self._shard = ExitStack()
        self._lines: list[tuple[str, Line, str]] = []

    def path(self, number: int) -> Path:
        return Path(self.template.format(shard=number))

    def has(self, job: Job) -> bool:
        """Whether a job's shard is there, and the job's clip is listed in the manifest."""
        shard = self.path(job.index // self.size)
        return shard.exists() and self._member(shard, job) in self.manifest.done

    @contextmanager
    def open(self, job: Job, form: ClipFormat) -> Iterator[ClipWriter]:
        number = job.index // self.size
        if number != self._number:
            self._finish()
            self._begin(number)
        shard = self.path(number)
        name = _key(job)
        clip = shard.with_name(f".{shard.stem}.clip.{self.kind}")
        try:
            with write_errors(shard):
                writer = WRITERS[f".{self.kind}"](clip, form)
                yield writer
                writer.close()
                content = clip.read_bytes()
                self._add(f"{name}.{self.kind}", content)
                self._add(f"{name}.json", dumps(job.made_by).encode())
        finally:
            clip.unlink(missing_ok=True)
        digest = hashlib.sha256(content).hexdigest()
        self._lines.append((self._member(shard, job), manifest_line(job), digest))

    def _member(self, shard: Path, job: Job) -> str:
        return f"{self.manifest.name_of(shard)}/{_key(job)}.{self.kind}"

    def _begin(self, number: int) -> None:
        self._number = number
        temporary = self._shard.enter_context(atomic_path(self.path(number), "part"))
        self._tar = self._shard.enter_context(tarfile.open(temporary, "w"))  # noqa: SIM115

    def _finish(self) -> None:
        """Give the shard its name; only then are its clips done."""
        self._shard.close()
        for name, line, digest in self._lines:
            self.manifest.append(name, line, digest)
        self._lines = []

    def _add(self, name: str, content: bytes) -> None:
        # No owner and no time: the same clips make the same bytes.
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        self._tar.addfile(entry, io.BytesIO(content))

    def __enter__(self) -> ShardSink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        else:
            self._shard.__exit__(kind, error, trace)
