"""Clips from a folder, decoded once and kept in memory as uint8.

The layout is ``DATA/ACTION/clip``: the names of the sub-folders are the actions. A clip is a
video or an animation, a folder of images (its frames in the order of their names), or a
horizontal strip (an image whose width is a multiple, at least 2, of its height). Where the
clips lie in DATA itself, there are no actions. Without torch.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import MocogenError, UsageError
from ..files import sha256
from ..sources import ANIMATIONS, STILLS, VIDEOS, entries, images, is_frame_folder, rgb

Frames = NDArray[np.uint8]
_Contents = Callable[[Path], tuple[str, tuple[float, ...]]]
"""From a clip to its group and its attributes."""


@dataclass(frozen=True)
class Clip:
    """One clip, or its mirror image.

    Attributes:
        start, length: its frames' place in :attr:`ClipSet.frames`, which holds them as they
            were read, also for a mirrored clip.
        action: name of its folder, "" where there are no actions.
        group: who is on screen.
        other_look: whether that person looks otherwise here than in the rest.
        mirrored: whether left and right are exchanged.
        path: relative to the data folder, with forward slashes.
        sha256: of the file, or of the names and contents of a folder's files.
        attributes: what numbers say of its content, as the table has them.
    """

    start: int
    length: int
    action: str
    group: str
    mirrored: bool
    path: str
    sha256: str
    attributes: tuple[float, ...] = ()
    other_look: bool = False


@dataclass(frozen=True)
class ClipSet:
    """The clips of a folder, in the order of their paths, mirrored ones last.

    Attributes:
        frames: uint8, (N, size, size, 3), all clips' frames one after the other.
        clips: at least two.
        actions: names in the order of their one-hot vector; empty without actions.
        groups: pairs of a group's name and whether it is mirrored. A mirrored person stands
            elsewhere and moves the other arm, so it is a group of its own.
        other_looks: those of these that some clips show in another look.
        skipped: what was left out, a line each: path and reason.
    """

    frames: Frames
    clips: list[Clip]
    actions: tuple[str, ...]
    groups: tuple[tuple[str, bool], ...]
    skipped: list[str]
    other_looks: tuple[tuple[str, bool], ...] = ()

    @property
    def people(self) -> tuple[str, ...]:
        """The groups' names without mirroring."""
        return tuple(dict.fromkeys(name for name, _ in self.groups))

    def action_index(self, clip: Clip) -> int:
        return self.actions.index(clip.action) if self.actions else 0

    def group_index(self, clip: Clip) -> int:
        """Of a clip's group; other looks are numbered after the groups."""
        group = (clip.group, clip.mirrored)
        if clip.other_look:
            return len(self.groups) + self.other_looks.index(group)
        return self.groups.index(group)

    def scores(self) -> NDArray[np.float32]:
        """The attributes as normal scores, (clips, attributes).

        Each is replaced by the quantile of N(0, 1) that its rank among the clips has: so many
        clips are below it, and as many draws from the prior.
        """
        values = np.array([clip.attributes for clip in self.clips], float)
        normal = NormalDist()
        scores = np.zeros(values.shape, np.float32)
        for k, column in enumerate(values.T):
            _, place, count = np.unique(column, return_inverse=True, return_counts=True)
            middle = (np.cumsum(count) - count / 2) / len(column)
            scores[:, k] = np.array([normal.inv_cdf(m) for m in middle])[place]
        return scores

    @property
    def filmed(self) -> list[Clip]:
        """The clips as they were filmed, none of them mirrored."""
        return [clip for clip in self.clips if not clip.mirrored]

    def listing(self) -> list[dict[str, object]]:
        """One record a file: path, action, group, frames, sha256."""
        return [
            {
                "path": clip.path,
                "action": clip.action,
                "group": clip.group,
                "frames": clip.length,
                "sha256": clip.sha256,
            }
            for clip in self.filmed
        ]

    def digest(self) -> str:
        """One hash for all files, as :func:`digest_of`."""
        return digest_of(self.filmed)


def digest_of(clips: Iterable[Clip]) -> str:
    """One hash for the files of clips: SHA-256 over the lines "hash  path"."""
    lines = "".join(f"{clip.sha256}  {clip.path}\n" for clip in clips)
    return hashlib.sha256(lines.encode()).hexdigest()


def load_clips(
    folder: Path,
    size: int,
    actions: tuple[str, ...] = (),
    groups: str = "stem",
    mirror: bool = False,
    fit: str = "crop",
    min_frames: int = 16,
    memory_mb: int = 2048,
    light: str = "keep",
    attributes: tuple[str, ...] = (),
    other_look: tuple[str, ...] = (),
) -> ClipSet:
    """Read, resize and keep all clips of a folder.

    Args:
        folder: the data, laid out as above.
        size: height and width that frames are resized to (bicubic), in pixels.
        actions: names to use, in this order; empty for all sub-folders, sorted.
        groups: who is on screen: "stem" for the file's name without its ending, "none" for
            one group in all, else the path of a CSV with the columns path and group, from
            the data's folder or from the working one.
        mirror: whether every clip counts a second time, left and right exchanged.
        fit: "crop" cuts oblong frames to their middle square, "stretch" squeezes them.
        min_frames: shorter clips are skipped, and named in the result.
        memory_mb: bound on the decoded frames, in units of 2**20 bytes.
        light: "keep" the clips' colours, or "match" those of a group: see :func:`_match_light`.
        attributes: columns of the table of groups, whose numbers tell contents apart that
            differ by degrees: a colour, a size.
        other_look: paths, without their endings, of clips in which somebody looks otherwise
            than in the rest of the group's.

    Raises:
        UsageError: the folder is none, or an action, group or clip is not there; or a group
            has nothing but other looks.
        MocogenError: fewer than two clips can be used, clips lie both beside and in the
            action folders, or the frames do not fit into ``memory_mb``.
    """
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}: give the folder that holds the clips")
    skipped: list[str] = []
    found = _wanted(folder, actions, skipped)
    order = actions or tuple(sorted({action for action, _ in found} - {""}))
    contents = _contents(folder, groups, attributes)
    clips, decoded = _decoded(folder, found, size, fit, min_frames, memory_mb, contents, skipped)
    if len(clips) < 2:
        if clips:
            raise MocogenError(
                f"only one clip of {folder} can be used ({clips[0].path}): training needs at "
                "least two" + _reasons(skipped)
            )
        raise MocogenError(_nothing(folder, skipped))
    gone = [name for name in order if name not in {clip.action for clip in clips}]
    if gone:
        raise MocogenError(f"no clip of action {gone[0]!r} can be used" + _reasons(skipped))
    if light == "match":
        _match_light(clips, decoded)
    clips = _marked(clips, other_look)
    if mirror:
        clips += [replace(clip, mirrored=True) for clip in clips]
    usual, others = (
        tuple(
            sorted({(c.group, c.mirrored) for c in clips if c.other_look == other}, key=_by_mirror)
        )
        for other in (False, True)
    )
    return ClipSet(_joined(decoded), clips, order, usual, skipped, others)


def _wanted(folder: Path, actions: tuple[str, ...], skipped: list[str]) -> list[tuple[str, Path]]:
    """Pairs of action and clip, sorted by path, of ``actions`` or of all of them."""
    found = list(_find(folder, skipped))
    if not found:
        raise MocogenError(_nothing(folder, skipped))
    known = sorted({action for action, _ in found})
    if "" in known and len(known) > 1:
        loose = next(path for action, path in found if not action)
        raise MocogenError(
            f"{loose} lies beside the action folders: put every clip into the folder of its action"
        )
    absent = [name for name in actions if name not in known]
    if absent:
        raise UsageError(f"no folder for action {absent[0]!r}: there are {', '.join(known)}")
    return [(action, path) for action, path in found if not actions or action in actions]


def _decoded(
    folder: Path, found: list[tuple[str, Path]], size: int, fit: str, min_frames: int,
    memory_mb: int, contents: _Contents, skipped: list[str],
) -> tuple[list[Clip], list[Frames]]:  # fmt: skip
    """The clips that can be used, and their frames; the others are named in ``skipped``."""
    clips: list[Clip] = []
    decoded: list[Frames] = []
    bound, count = memory_mb * 2**20 // (size * size * 3), 0
    for action, path in found:
        relative = path.relative_to(folder).as_posix()
        try:
            frames = _read(path, size, fit, bound - count)
            if len(frames) < min_frames:
                raise MocogenError(f"only {len(frames)} frames, at least {min_frames} needed")
            group, numbers = contents(path)
        except _TooMuchError:
            raise MocogenError(
                f"the decoded clips need more than {memory_mb} MiB of memory: raise "
                "data.memory_mb or use fewer clips"
            ) from None
        except MocogenError as error:
            skipped.append(f"{relative}: {error}")
            continue
        except Exception as error:  # decoders raise whatever they like on damaged files
            reason = (str(error) or type(error).__name__).splitlines()[0]
            skipped.append(f"{relative}: cannot be read ({reason[:120]})")
            continue
        digest = _hash(path)
        clips.append(Clip(count, len(frames), action, group, False, relative, digest, numbers))
        decoded.append(frames)
        count += len(frames)
    return clips, decoded


def _joined(decoded: list[Frames]) -> Frames:
    """All frames one after the other. The list is emptied on the way, so that no more than one
    clip is in memory twice."""
    count = sum(map(len, decoded))
    joined = np.empty((count, *decoded[0].shape[1:]), np.uint8)
    while decoded:
        last = decoded.pop()
        count -= len(last)
        joined[count : count + len(last)] = last
    return joined


def _by_mirror(group: tuple[str, bool]) -> tuple[bool, str]:
    return group[::-1]


def _marked(clips: list[Clip], other_look: tuple[str, ...]) -> list[Clip]:
    """The clips, of which those named show another look."""
    names = [{clip.path, _plain(clip.path)} for clip in clips]
    absent = [name for name in other_look if not any(name in own for own in names)]
    if absent:
        raise UsageError(
            f"no clip {absent[0]!r} to look otherwise: give its path in the data's folder, "
            f"as {_plain(clips[0].path)}"
        )
    marked = [
        replace(clip, other_look=not own.isdisjoint(other_look))
        for clip, own in zip(clips, names, strict=True)
    ]
    usual = {clip.group for clip in marked if not clip.other_look}
    for clip in marked:
        if clip.group not in usual:
            raise UsageError(
                f"all clips of {clip.group!r} are said to look otherwise: leave out of "
                "data.other_look those that show the usual look"
            )
    return marked


def _plain(path: str) -> str:
    """A clip's path without its ending."""
    return PurePosixPath(path).with_suffix("").as_posix()


def _match_light(clips: list[Clip], decoded: list[Frames]) -> None:
    """Bring every clip of a group into the light in which most of them were filmed.

    Who is filmed on two days, jumping on the second, would else stand before a wall that
    changes its colour with the pose. A clip's light is its median colour, most of which is
    wall; each channel is multiplied so that it becomes the median over the group's clips.
    """
    medians = [np.median(frames.reshape(-1, 3), axis=0) for frames in decoded]
    groups: dict[str, list[NDArray[np.float64]]] = {}
    for clip, median in zip(clips, medians, strict=True):
        groups.setdefault(clip.group, []).append(median)
    usual = {name: np.median(group, axis=0) for name, group in groups.items()}
    for k, clip in enumerate(clips):
        gain = usual[clip.group] / np.maximum(medians[k], 1.0)
        levels = np.arange(256)[:, None] * gain
        table = levels.round().clip(0, 255).astype(np.uint8)
        for channel in range(3):
            decoded[k][..., channel] = table[decoded[k][..., channel], channel]


def _nothing(folder: Path, skipped: list[str]) -> str:
    return (
        f"no clip in {folder} can be used: put videos, frame folders or strips into one "
        "sub-folder an action" + _reasons(skipped)
    )


def _reasons(skipped: list[str]) -> str:
    return f" (skipped: {'; '.join(skipped[:3])})" if skipped else ""


def _find(folder: Path, skipped: list[str]) -> Iterator[tuple[str, Path]]:
    """Pairs of action and clip, sorted by path."""
    for entry in entries(folder):
        if entry.is_file() or is_frame_folder(entry):
            if _is_clip(entry, folder, skipped):
                yield "", entry
            continue
        for inner in entries(entry):
            if _is_clip(inner, folder, skipped):
                yield entry.name, inner


def _is_clip(path: Path, folder: Path, skipped: list[str]) -> bool:
    relative = path.relative_to(folder).as_posix()
    if path.is_dir():
        if is_frame_folder(path):
            return True
        skipped.append(f"{relative}: a folder without frames")
        return False
    if path.suffix.lower() in ANIMATIONS | VIDEOS | STILLS:
        return True
    # Texts beside the clips (a CSV of groups, a README) are no clips that anybody misses.
    if path.suffix.lower() not in (".csv", ".txt", ".md", ".json"):
        skipped.append(f"{relative}: not a format that holds clips")
    return False


class _TooMuchError(Exception):
    pass


def _read(path: Path, size: int, fit: str, most: int) -> Frames:
    """All frames of a clip: uint8 (T, size, size, 3)."""
    frames: list[Frames] = []
    first: tuple[int, int] | None = None
    for image in images(path):
        first = first or image.size
        if image.size != first:
            raise MocogenError(
                f"its frames differ in size ({first[0]}x{first[1]} and "
                f"{image.size[0]}x{image.size[1]})"
            )
        if len(frames) >= most:
            raise _TooMuchError
        frames.append(_resize(rgb(image), size, fit))
    if not frames:
        raise MocogenError("it holds no frames")
    return np.stack(frames)


def _resize(image: Image.Image, size: int, fit: str) -> Frames:
    width, height = image.size
    box = None
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box), np.uint8)


def _hash(path: Path) -> str:
    if path.is_file():
        return sha256(path)
    lines = "".join(f"{_hash(file)}  {file.name}\n" for file in entries(path))
    return hashlib.sha256(lines.encode()).hexdigest()


def _contents(folder: Path, groups: str, attributes: tuple[str, ...]) -> _Contents:
    """What tells a clip's group and its attributes.

    Raises:
        UsageError: there is no such table, or it has no such columns.
    """
    if attributes and groups in ("stem", "none"):
        raise UsageError("attributes are columns of a table: name it with data.groups=FILE.csv")
    if groups == "stem":
        return lambda path: (path.stem if path.is_file() else path.name, ())
    if groups == "none":
        return lambda path: ("all", ())
    table = folder / groups
    if not table.exists():
        table = Path(groups)
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets mark theirs
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read groups from {groups}: {error} (use stem, none, or a CSV's path)"
        ) from None
    wanted = ("path", "group", *attributes)
    if not rows or not set(wanted) <= set(rows[0]):
        listed = ", ".join(wanted[:-1]) + " and " + wanted[-1]
        raise UsageError(f"{groups}: a CSV with the columns {listed} is wanted")
    # A line that ends early has None for what it lacks.
    named = {(row["path"] or "").strip(): row for row in rows}

    def lookup(path: Path) -> tuple[str, tuple[float, ...]]:
        row = named.get(path.relative_to(folder).as_posix(), {})
        group = (row.get("group") or "").strip()
        if not group:
            raise MocogenError(f"{groups} names no group for it")
        try:
            numbers = tuple(float(row[name]) for name in attributes)
        except (TypeError, ValueError):
            raise MocogenError(f"{groups} has no number for an attribute of it") from None
        return group, numbers

    return lookup
