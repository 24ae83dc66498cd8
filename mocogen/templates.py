"""The names of files: paths with fields in braces, checked and filled in."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .errors import UsageError
from .requests import Request
from .stores import DISK, Store
from .video import WRITERS, writer_for

TEMPLATE_FIELDS = ("seed", "index", "action", "checkpoint", "content_seed", "motion_seed")
FOLDER_TEMPLATE = "{seed:06d}.gif"
_FORMATTER = string.Formatter()
NEIGHBOURS = (10**18, 10**18 + 1)
"""Two numbers of which a format that rounds or cuts makes one."""
FORMAT_ERRORS = (
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    OverflowError,
    MemoryError,
)
"""What formatting a template may raise."""


def check_template(out: str, store: Store = DISK) -> str:
    """Check the fields of an output path, and turn a folder into a template.

    Args:
        out: a file, a folder (it exists, or ends with a slash) or a template with fields of
            ``TEMPLATE_FIELDS`` in braces.
        store: what the path is a path of.

    Raises:
        UsageError: an unknown field or suffix.
    """
    if not out:
        raise UsageError("out is empty: give a file, a folder or a name with {seed} in it")
    if out.endswith(("/", "\\")) or (store.on_disk and _is_folder(out)):
        out = f"{out.rstrip('/')}/{FOLDER_TEMPLATE}" if out != "/" else out
    try:
        named = template_fields(out)
        if strangers := named - set(TEMPLATE_FIELDS):
            raise KeyError(*sorted(strangers))
        _neighbours(out)
    except FORMAT_ERRORS as error:
        known = ", ".join("{" + name + "}" for name in TEMPLATE_FIELDS)
        raise UsageError(f"cannot read the fields of out {out!r} ({error}): use {known}") from None
    if not Path(out).suffix:
        raise UsageError(
            f"{out} has no suffix: end it in one of {', '.join(WRITERS)}, or a folder's name in "
            "a slash"
        )
    writer_for(Path(out))
    return out


def check_apart(out: str, count: int | None) -> None:
    """Refuse a path, checked, that several clips would share.

    Args:
        count: how many clips it is for; None when nobody knows yet.

    Raises:
        UsageError: says what tells them apart.
    """
    if count is not None and count < 2:
        return
    if not template_fields(out) & {"seed", "index"}:
        raise UsageError(
            f"{count or 'several'} clips cannot all be {out}: give --out a folder with a slash at "
            "its end, or a name with {seed} or {index} in it"
        )
    if len(_neighbours(out)) == 1:
        raise UsageError(f"the fields of out {out!r} do not tell two clips apart: use {{seed:06d}}")


def _neighbours(out: str) -> set[str]:
    """The names of two clips that differ in seed and index alone."""
    large = NEIGHBOURS[0]
    others = {"action": "a", "checkpoint": "c", "content_seed": large, "motion_seed": large}
    return {out.format(seed=n, index=n, **others) for n in NEIGHBOURS}


def _is_folder(out: str) -> bool:
    try:
        return Path(out).is_dir()
    except OSError as error:
        raise UsageError(f"out {out} cannot be looked at: {error.strerror}") from None


def own_paths(requests: Iterable[Request], common: str, apart: bool) -> Iterator[Request]:
    """Check the paths that single requests have of their own.

    Args:
        common: the path of all others, which has been checked.
        apart: whether a request may have its own: not in an archive, a pipe or an object store.

    Raises:
        UsageError: names the request and what is wrong with its path.
    """
    for asked in requests:
        if asked.out == common:
            yield asked
            continue
        try:
            if not apart or "://" in asked.out:
                raise UsageError(
                    "in archives, in pipes and at URLs, a request has no path of its own"
                )
            yield replace(asked, out=check_template(asked.out))
        except UsageError as error:
            raise asked.refused(error) from None


def template_fields(out: str) -> set[str]:
    """The names in braces of a template.

    Raises:
        ValueError: braces that do not match, or a format that may make a path or take another
            field's value for its width.
    """
    parsed = [(name, spec) for _, name, spec, _ in _FORMATTER.parse(out) if name is not None]
    if any(set(spec or "") & set("/\\{") for _, spec in parsed):
        raise ValueError("a slash or a brace within braces")
    return {name for name, _ in parsed}


def filled(out: str, fields: Mapping[str, Any]) -> Path:
    """The path that a template gives; what a field holds stays within its part of the path.

    Raises:
        UsageError: a field would lead into another folder, or its format is for other values.
    """
    parts = []
    for part in Path(out).parts:
        try:
            name = part.format(**fields)
        except FORMAT_ERRORS as error:  # a checkpoint without actions, say
            raise UsageError(
                f"the fields of out {out!r} cannot be filled in ({error}): leave their formats out"
            ) from None
        if name != part and (name in ("", ".", "..") or "/" in name or "\\" in name):
            raise UsageError(
                f"the fields of out {out!r} give {name!r} for {part!r}, which leads out of its "
                "folder: leave that field out"
            )
        parts.append(name)
    return Path(*parts)


def home(out: str) -> Path:
    """The folder that all files of a template have in common: its manifest's."""
    fixed = []
    for part in Path(out).parts[:-1]:
        if template_fields(part):
            break
        fixed.append(part.format())  # a brace is written twice
    return Path(*fixed)
