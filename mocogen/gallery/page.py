"""Clips of a folder to entries, entries to a page."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from .. import manifest, provenance
from ..errors import MocogenError, UsageError
from ..files import atomic_path, sha256
from ..reading import SUFFIXES, open_frames
from ..requests import MAX_SEED
from ..video import mp4_bytes

POSTER_QUALITY = 60
"""Of the still pictures, as Pillow's lossy WebP has it: some 2 kB for 96x96 pixels."""

_NOT_OPTIONS = ("mocogen", "sha256", "out", "seed")


@dataclass(frozen=True)
class GalleryEntry:
    """A clip as the page has it.

    Attributes:
        file: its path from the folder.
        poster: a still picture from its middle, WebP.
        video: the clip, an MP4 that browsers play.
        record: what made it, or None where nobody says.
    """

    file: str
    poster: bytes
    video: bytes
    record: provenance.Record | None


@dataclass(frozen=True)
class Skipped:
    """A clip that cannot be shown: its path from the folder, and the sentence that says why."""

    file: str
    why: str


def find(folder: Path) -> list[Path]:
    """The files in a folder, at any depth, that may be clips, by name.

    Raises:
        UsageError: there is no such folder, or no clip in it.
    """
    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}")
    inside = [path for path in folder.rglob("*") if not path.name.startswith(".")]
    clips = sorted(path for path in inside if path.suffix.lower() in SUFFIXES and path.is_file())
    if not clips:
        hint = "give a folder that `mocogen sample --count 20 --out FOLDER/` filled"
        if any(path.suffix == ".tar" for path in inside):
            hint = "unpack its archives first"
        raise UsageError(f"{folder} has no clips in it ({', '.join(SUFFIXES)}): {hint}")
    return clips


def gather(folder: Path, clips: Iterable[Path]) -> Iterator[GalleryEntry | Skipped]:
    """Read the clips of a folder, one after the other.

    What made a clip is read from the clip itself, and where its format has no place for that,
    from the folder's manifest. A clip that the manifest lists and that is not there comes last,
    as skipped.
    """
    listed = _listed(folder / manifest.NAME)
    for path in clips:
        name = path.relative_to(folder).as_posix()
        found: GalleryEntry | Skipped
        try:
            found = _entry(path, name, listed.pop(name, None))
        except MocogenError as error:
            found = Skipped(name, str(error))
        except Exception as error:  # so do encoders, on what strangers wrote
            reason = (str(error) or type(error).__name__).splitlines()[0]
            found = Skipped(name, f"cannot show {path}: {reason[:120]}")
        yield found
    for name in listed:
        # Members of archives are listed by the archive's name and their own.
        if ".tar/" not in name:
            yield Skipped(name, f"{folder / name} is in the manifest, but not in the folder")


def write(
    out: Path, title: str, entries: Iterable[GalleryEntry], on_clip: Callable[[], None]
) -> int:
    """Write the page; it appears whole or not at all. Returns how many clips it shows.

    Clips are written as they come, so that memory holds one of them and all still pictures.

    Args:
        out: the page, an .html file.
        title: its heading.
        on_clip: told of every clip that is in the page.

    Raises:
        UsageError: not one clip came.
        MocogenError: the page cannot be written.
    """
    head, foot = _template(title)
    shown: list[dict[str, Any]] = []
    identity = hashlib.sha256()
    # Names that are no UTF-8 can be shown, if not as they are.
    with (
        atomic_path(out) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace") as page,
    ):
        page.write(head)
        for entry in entries:
            identity.update(entry.file.encode(errors="surrogateescape") + entry.video)
            video = base64.b64encode(entry.video).decode()
            page.write(f'<script type="text/plain" id="clip-{len(shown)}">{video}</script>\n')
            shown.append(_facts(entry))
            on_clip()
        if not shown:
            raise UsageError("none of the clips can be shown, so there is no page to write")
        # The marks of two pages are kept apart by what they show.
        data = {"id": identity.hexdigest()[:16], "clips": shown}
        # "<" would end the script element, whatever it stands in.
        page.write(foot.replace("{{data}}", json.dumps(data).replace("<", "\\u003c")))
    return len(shown)


def _listed(path: Path) -> dict[str, provenance.Record]:
    """A manifest's records by file; lines that cannot be read say nothing of any clip.

    A manifest knows a checkpoint by its hash. Where that is no shipped one's, the hash stands
    for the name: mocogen refuses it, instead of making another model's clip.
    """
    if not path.is_file():
        return {}
    from .. import checkpoint

    names = {sha256(file): name for name, file in checkpoint.shipped().items()}
    listed: dict[str, provenance.Record] = {}
    for text in path.read_text("utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
            file, digest = line["file"], line["checkpoint"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if not (isinstance(file, str) and isinstance(digest, str)):
            continue
        options = {k: v for k, v in line.items() if k not in ("file", "index", "sha256")}
        listed[file] = {**options, "checkpoint": names.get(digest, digest)}
    return listed


def _entry(path: Path, name: str, listed: provenance.Record | None) -> GalleryEntry:
    """Read one clip; every frame is decoded, so that damage anywhere in it is found."""
    from PIL import Image

    reading = open_frames(path)
    record = reading.record or listed
    frames = list(reading.frames)
    if len({frame.shape for frame in frames}) != 1:
        raise MocogenError(f"{path} has no frames, or frames of several sizes")
    if reading.plays_anywhere:
        video = path.read_bytes()
    else:
        fps = reading.fps
        if reading.record is None and listed:  # a bare array does not know its rate
            said: Any = listed.get("fps")
            fps = float(said) if type(said) in (int, float) else fps
        video = mp4_bytes(np.stack(frames), fps, record or {})
    poster = io.BytesIO()
    still = Image.fromarray(frames[len(frames) // 2])
    still.save(poster, format="WEBP", quality=POSTER_QUALITY, method=4)
    return GalleryEntry(name, poster.getvalue(), video, record)


def _facts(entry: GalleryEntry) -> dict[str, Any]:
    """What the page's program knows of a clip. Seeds are text: they may exceed 2**53."""
    record = entry.record or {}
    options = {key: value for key, value in record.items() if key not in _NOT_OPTIONS}
    seed, action = record.get("seed"), record.get("action")
    return {
        "file": entry.file,
        # A stranger's record may say anything; a seed goes into a command that people copy.
        "seed": str(seed) if type(seed) is int and 0 <= seed <= MAX_SEED else None,
        "action": action if isinstance(action, str) else None,
        "options": provenance.command(options).removeprefix("mocogen sample").strip(),
        "poster": "data:image/webp;base64," + base64.b64encode(entry.poster).decode(),
    }


def _template(title: str) -> tuple[str, str]:
    """The page before and after its clips."""
    from html import escape

    here = files(__package__)
    page = here.joinpath("page.html").read_text("utf-8")
    for name in ("page.css", "page.js"):
        page = page.replace("{{" + name + "}}", here.joinpath(name).read_text("utf-8"))
    head, foot = page.replace("{{title}}", escape(title)).split("{{clips}}\n")
    return head, foot
