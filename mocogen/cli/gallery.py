"""``mocogen gallery``: a folder of clips as one page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from . import common

if TYPE_CHECKING:
    from ..gallery import GalleryEntry, Skipped


def gallery(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of clips, at any depth.")],
    out: Annotated[
        Path, typer.Option(help="The page to write (.html).", callback=common.on_disk)
    ] = Path("gallery.html"),
    title: Annotated[str | None, typer.Option(help="Its heading. \\[default: the folder]")] = None,
    as_json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Show a folder of clips in one page: play, filter, sort, and mark favourites.

    The page holds its clips and needs no network. Clips that cannot be read are named and
    left out.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out}: a page's name ends in .html")
    from .. import gallery as pages

    clips = pages.find(folder)
    skipped: list[Skipped] = []

    def readable() -> Iterator[GalleryEntry]:
        for found in pages.gather(folder, clips):
            if isinstance(found, pages.GalleryEntry):
                yield found
                continue
            skipped.append(found)
            common.say(f"mocogen: left out: {found.why}")

    with common.clips_bar("reading", len(clips), quiet) as on_clip:
        heading = (title or "").strip() or folder.resolve().name or "Clips"
        shown = pages.write(out, heading, readable(), on_clip)
    size = out.stat().st_size
    if as_json:
        left_out = [{"file": s.file, "why": s.why} for s in skipped]
        print(json.dumps({"out": str(out), "clips": shown, "bytes": size, "skipped": left_out}))
    elif not quiet:
        rest = f", {len(skipped)} left out" if skipped else ""
        common.say(f"{out}: {shown} clips{rest}, {size / 1e6:.1f} MB")
