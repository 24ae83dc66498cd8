"""Clips in tar archives, as WebDataset and its kin read them.

A shard holds, for every clip, ``SEED.mp4`` (or ``.npy``) and ``SEED.json``, the record of its
making, one after the other; a clip with seeds of its own for content and motion is called
``CONTENT-MOTION``. It appears when it is complete, and its clips are listed in the
manifest then.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

from .errors import MocogenError, UsageError
from .files import write_errors
from .jobs import Job
from .manifest import Line, Listing
from .provenance import Record, dumps
from .sinks import Sink, manifest_line
from .stores import DISK, Store
from .templates import FORMAT_ERRORS, NEIGHBOURS, template_fields
from .video import ClipFormat, ClipWriter, encoding

KINDS = ("mp4", "npy")


def check_shards(template: str, size: int, kind: str) -> None:
    """Check the options of sharded output.

    Raises:
        UsageError: says which of them makes no sense.
    """
    try:
        if template_fields(template) != {"shard"}:
            raise ValueError
        two = {template.format(shard=number) for number in NEIGHBOURS}
    except FORMAT_ERRORS:
        raise UsageError(
            f"shards {template!r}: use a name with {{shard}} in it: clips-{{shard:05d}}.tar"
        ) from None
    if len(two) == 1:
        raise UsageError(
            f"shards {template!r}: the format does not tell two shards apart: use {{shard:05d}}"
        )
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


class ShardSink(Sink):
    """Puts clips into shards; a shard is there when :meth:`finish` has named it.

    A shard with a clip that could not be written is dropped as a whole: a part of it would
    take the place of a good one that may be there.

    Args:
        template: path of a shard, with ``{shard}`` in it.
        size: clips in a shard: clip ``index`` is in shard ``index // size``.
        kind: one of ``KINDS``.
        manifest: lists the clips of finished shards.
        store: where the shards are.
        token: a part of the temporary names, as in :class:`mocogen.sinks.FileSink`.
    """

    advice = "a shard calls clips by their seeds, so leave one of them out"

    def __init__(
        self,
        template: str,
        size: int,
        kind: str,
        manifest: Listing,
        store: Store = DISK,
        token: str | None = None,
    ) -> None:
        self.template, self.size, self.kind = template, size, kind
        self.manifest: Listing = manifest
        self.store, self.token = store, token or "part"
        self._shard = ExitStack()
        self._begun = False
        self._broken: BaseException | None = None
        self._lines: list[tuple[Path, Line, str]] = []

    def group(self, job: Job) -> int:
        return job.index // self.size

    def fills(self, job: Job) -> bool:
        return (job.index + 1) % self.size == 0

    def place(self, job: Job) -> Path:
        return Path(self.template.format(shard=self.group(job)))

    def name(self, job: Job) -> Path:
        return self.place(job) / f"{_key(job)}.{self.kind}"

    def has(self, jobs: Sequence[Job]) -> bool:
        """Whether the manifest lists all of a shard's clips, and the shard is there and whole."""
        place, names = self.place(jobs[0]), {job.index: self.name(job) for job in jobs}
        strangers = set(self.manifest.inside(place)) - {name.name for name in names.values()}
        if strangers:
            raise UsageError(
                f"the manifest belongs to another run: it lists {min(strangers)} in "
                f"{self.store.shown(place)}, which is none of this run's clips; use another name, "
                "or --no-resume to start it anew"
            )
        wanted = {
            names[job.index].name: self.manifest.digest(names[job.index], manifest_line(job))
            for job in jobs
        }
        return None not in wanted.values() and self.store.whole(
            place, lambda path: {k: d for k, (d, _) in _clips(path, self.kind).items()} == wanted
        )

    def adopts(self, jobs: Sequence[Job]) -> bool:
        """Whether the records in the shard are those of the jobs."""
        place = self.place(jobs[0])
        if not self.store.on_disk or not place.is_file():
            return False
        found = _clips(place, self.kind)
        wanted = {self.name(job).name: job.made_by for job in jobs}
        if {name: made_by for name, (_, made_by) in found.items()} != wanted:
            return False
        for job in jobs:
            name = self.name(job)
            self.manifest.append(name, manifest_line(job), found[name.name][0])
        return True

    @contextmanager
    def open(self, job: Job, form: ClipFormat) -> Iterator[ClipWriter]:
        place, name = self.place(job), self.name(job)
        if self._broken is not None:
            raise self._dropped()
        try:
            with write_errors(self.store.shown(place)):
                self._begin(place)
                clip = self._temporary.with_suffix(f".{self.kind}")
                try:
                    with encoding(clip, name, form) as writer:
                        yield writer
                    content = clip.read_bytes()
                finally:
                    clip.unlink(missing_ok=True)
                self._add(name.name, content)
                self._add(f"{name.stem}.json", dumps(job.made_by).encode())
        except BaseException as error:
            self._broken = error
            raise
        digest = hashlib.sha256(content).hexdigest()
        self._lines.append((name, manifest_line(job), digest))

    def finish(self) -> None:
        """Give the shard its name; only then are its clips done."""
        if self._broken is not None:
            dropped = self._dropped()
            self._drop()
            raise dropped
        shard, lines = self._shard, self._lines
        self._forget()
        shard.close()
        for name, line, digest in lines:
            self.manifest.append(name, line, digest)

    def elsewhere(self, manifest: Listing, token: str) -> ShardSink:
        # A process elsewhere is in another folder.
        template = str(self.store.absolute(Path(self.template)))
        return ShardSink(template, self.size, self.kind, manifest, self.store, token)

    def discard(self, job: Job, token: str) -> None:
        super().discard(job, token)
        self.store.discard(self.place(job).with_suffix(f".{self.kind}"), token)

    def _begin(self, place: Path) -> None:
        if not self._begun:
            self._begun = True
            writing = self.store.writing(place, self.token)
            self._temporary = self._shard.enter_context(writing)
            self._tar = self._shard.enter_context(tarfile.open(self._temporary, "w"))  # noqa: SIM115

    def _dropped(self) -> MocogenError:
        """What is said of the good clips in a shard that is dropped."""
        return MocogenError(f"left out, for a clip of its shard failed: {self._broken}")

    def _drop(self) -> None:
        """Take away the shard in hand, if there is one."""
        shard = self._shard
        self._forget()
        # Left as a generator that is closed: what went wrong has been told, or is elsewhere (a
        # reader of standard output that is gone, say) and no error of writing the shard.
        with suppress(MocogenError):
            shard.__exit__(GeneratorExit, GeneratorExit(), None)

    def _forget(self) -> None:
        self._shard, self._lines = ExitStack(), []
        self._begun, self._broken = False, None

    def _add(self, name: str, content: bytes) -> None:
        # No owner and no time: the same clips make the same bytes.
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        self._tar.addfile(entry, io.BytesIO(content))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drop()


def _clips(path: Path, kind: str) -> dict[str, tuple[str, Record | None]]:
    """The hash and the record of a shard's clips by their names; none where it is not whole."""
    digests: dict[str, str] = {}
    records: dict[str, Record] = {}
    try:
        with tarfile.open(path) as tar:
            for entry in tar:
                stem, _, suffix = entry.name.rpartition(".")
                content = tar.extractfile(entry) if suffix in (kind, "json") else None
                if content is None:
                    continue
                if suffix == "json":
                    records[stem] = json.loads(content.read())
                else:
                    digests[stem] = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
    except (tarfile.TarError, EOFError, ValueError):
        return {}
    return {f"{stem}.{kind}": (digest, records.get(stem)) for stem, digest in digests.items()}
