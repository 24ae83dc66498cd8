"""What made a clip, as it stands inside the clip's file.

A record is a small JSON object: version, checkpoint and its hash, seed and options. It goes
into the comment of a GIF or an MP4, the XMP packet of a WebP, and a text chunk of a PNG; a
raw .npy array has no place for it.
"""

from __future__ import annotations

import json
import re
import shlex
from html import escape, unescape
from pathlib import Path
from typing import Any

from . import __version__
from .errors import MocogenError
from .files import ffmpeg_name

Record = dict[str, Any]

_NO_OPTIONS = ("mocogen", "sha256", "out", "subcommand", "clip", "source")
"""Entries of a record that are no options of the command, or stand elsewhere in it."""

_TAIL = 1 << 16  # bytes at the end of a GIF in which its comment is looked for
_GIF_COMMENT = re.compile(rb"!\xfe(.\{\"mocogen\".*?)\x00", re.DOTALL)
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:source>{}</dc:source>'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def record(source: Record, sha256: str | None, options: Record) -> Record:
    """The record of one clip.

    Args:
        source: the options that named the networks: ``checkpoint``, or ``generator`` and
            ``motion``; and what computes them, where that was asked for.
        sha256: hash of the checkpoint.
        options: what else the command needs to make the clip again. ``subcommand`` names
            the command, where it is another than ``sample``, and ``clip`` its argument.
    """
    return {"mocogen": __version__, **source, "sha256": sha256, **options}


def command(made_by: Record) -> str:
    """The shell command that makes a record's clip again."""
    words = ["mocogen", str(made_by.get("subcommand", "sample"))]
    if clip := made_by.get("clip"):
        words.append(f"./{clip}" if str(clip).startswith("-") else str(clip))
    # A smoothed clip's length follows from the clip that it was made of.
    skipped = (*_NO_OPTIONS, "frames") if "clip" in made_by else _NO_OPTIONS
    for key, value in made_by.items():
        if key in skipped or value is None or value is False:
            continue
        words.append("--" + key.replace("_", "-"))
        if value is not True:
            whole = isinstance(value, float) and value.is_integer()
            words.append(str(int(value) if whole else value))
    if out := made_by.get("out"):
        if words[1] == "sample":
            # Braces in a name are doubled, for its --out takes single ones for fields.
            out = str(out).replace("{", "{{").replace("}", "}}")
        words += ["--out", str(out)]
    return shlex.join(words)


def dumps(made_by: Record) -> str:
    """A record as ASCII text, starting with the version, by which readers know it."""
    return json.dumps(made_by)


def gif_comment(made_by: Record) -> bytes:
    """A GIF comment extension: blocks of at most 255 bytes, each after its length."""
    text = dumps(made_by).encode()
    blocks = [text[i : i + 255] for i in range(0, len(text), 255)]
    return b"!\xfe" + b"".join(bytes([len(b)]) + b for b in blocks) + b"\x00"


def xmp(made_by: Record) -> bytes:
    """An XMP packet that holds the record."""
    return _XMP.format(escape(dumps(made_by))).encode()


def read(path: Path) -> Record:
    """The record inside a clip.

    Raises:
        MocogenError: the file is missing, no clip, or was not made by mocogen.
    """
    readers = {".gif": _from_gif, ".mp4": _from_mp4, ".webp": _from_image, ".png": _from_image}
    reader = readers.get(path.suffix.lower())
    if not path.is_file():
        raise MocogenError(f"no such file: {path}")
    if reader is None:
        known = ", ".join(readers)
        raise MocogenError(f"{path} carries no record of its making: only {known} files can")
    try:
        text = reader(path)
        found = json.loads(text) if text else None
    except Exception:  # decoders raise whatever they like on damaged files
        raise MocogenError(
            f"cannot read {path}: it is damaged, or is no {path.suffix} file"
        ) from None
    if not isinstance(found, dict) or "mocogen" not in found:
        raise MocogenError(f"{path} has no record of mocogen's in it")
    return found


def _from_gif(path: Path) -> str | None:
    with path.open("rb") as file:
        if file.read(4) != b"GIF8":
            raise ValueError("no GIF")
        file.seek(max(0, path.stat().st_size - _TAIL))
        match = _GIF_COMMENT.search(file.read())
    if match is None:
        return None
    blocks, text = match[1], b""
    while blocks:
        text += blocks[1 : 1 + blocks[0]]
        blocks = blocks[1 + blocks[0] :]
    return text.decode()


def _from_mp4(path: Path) -> str | None:
    import av

    with av.open(ffmpeg_name(path)) as container:
        return container.metadata.get("comment")


def _from_image(path: Path) -> str | None:
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    # Not Image.open, which refuses a large filmstrip though no pixel of it is to be read.
    opened = PngImageFile if path.suffix.lower() == ".png" else WebPImageFile
    with opened(path) as image:
        packet = image.info.get("xmp")
        if packet:
            found = re.search(r"<dc:source>(.*)</dc:source>", packet.decode())
            return unescape(found[1]) if found else None
        return image.info.get("mocogen")
