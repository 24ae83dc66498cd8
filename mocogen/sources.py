"""Clips as people keep them: videos, animations, folders of images, horizontal strips.

Frames come one after the other, as Pillow's images. Without torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from .errors import MocogenError

STILLS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
ANIMATIONS = {".gif", ".webp", ".apng"}
VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}


def is_frame_folder(path: Path) -> bool:
    """Whether a folder holds stills that are no strips, and nothing else."""
    inside = entries(path)
    if not inside or any(p.is_dir() or p.suffix.lower() not in STILLS for p in inside):
        return False
    try:
        with Image.open(inside[0]) as image:
            return _strip_length(image) == 0
    except Exception:  # decoders raise whatever they like on damaged files
        return False


def rgb(image: Image.Image) -> Image.Image:
    """An image in red, green and blue, 8 bits each; greys of 16 bits keep their highest eight.

    Raises:
        MocogenError: its pixels are numbers of no known range.
    """
    if image.mode in ("I", "F"):
        raise MocogenError("its pixels have 32 bits and no known range: save it with 8 or 16")
    if image.mode.startswith("I;16"):  # Pillow would clip them at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def _strip_length(image: Image.Image) -> int:
    """Frames in a horizontal strip, or 0 if the image is none."""
    width, height = image.size
    return width // height if width % height == 0 and width >= 2 * height else 0


def images(path: Path) -> Iterator[Image.Image]:
    """The frames of a clip as they are, one after the other.

    Raises:
        MocogenError: a still image that is no strip. Decoders raise whatever they like.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        for file in entries(path):
            with Image.open(file) as image:
                yield image.copy()
    elif suffix in STILLS:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                yield from _decoded(path, "pillow")
                return
            length = _strip_length(image)
            if not length:
                raise MocogenError(
                    "a still image, and no strip: its width is no multiple of its height"
                )
            side = image.height
            for k in range(length):
                yield image.crop((k * side, 0, (k + 1) * side, side))
    elif suffix in ANIMATIONS:
        yield from _decoded(path, "pillow")
    else:
        yield from _decoded(path, "pyav")


def _decoded(path: Path, plugin: str) -> Iterator[Image.Image]:
    """Frames as imageio reads them, with the plugin named so that it cannot fall through."""
    import imageio.v3 as iio

    for frame in iio.imiter(path, plugin=plugin):
        yield Image.fromarray(np.asarray(frame, np.uint8))


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name; hidden files are left out."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
