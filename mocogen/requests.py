"""What is asked for, before a model is there: seeds, and the options of every clip."""

from __future__ import annotations

import json
import operator
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import count, pairwise
from numbers import Real
from typing import Any

from .errors import UsageError
from .spec import FASTEST, SLOWEST

MAX_SEED = 2**63 - 1
"""Seeds are 0 to this, so that they fit a signed 64-bit number everywhere."""

STEERING = {"content_seed": None, "motion_seed": None, "speed": 1.0, "loop": False}
"""Options that records and manifests name only where they differ from these values."""

MOST_FRAMES = 10**12
"""More than a thousand years; times of so many, at any speed, are exact in 64-bit floats."""

SHORTEST_LOOP, LONGEST_LOOP = 8, 10_000
"""Motion codes that a loop may be made of: it is searched for and closed as a whole."""


def check_whole(
    value: Any,
    name: str,
    use: str = "use a whole number",
    low: int | None = None,
    high: int | None = None,
) -> int:
    """A whole number, numpy's too, as a plain one: those of few bits overflow when added up.

    Args:
        name: what it is called in the sentence.
        use: what the sentence says to do.
        low, high: the bounds, which belong to it, or None.

    Raises:
        UsageError: it is something else, True and 2.0 included, or out of bounds.
    """
    try:
        plain = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        plain = None
    if plain is None:
        raise UsageError(f"{name} {value!r}: {use}")
    if (low is not None and plain < low) or (high is not None and plain > high):
        raise UsageError(f"{name} {plain}: {use}")
    return plain


def check_number(value: Any, name: str, low: float, high: float, use: str) -> float:
    """A number from ``low`` to ``high``, numpy's too, as a plain one.

    Args:
        name: what it is called in the sentence.
        use: what the sentence says to do.

    Raises:
        UsageError: it is something else, True and nan included.
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise UsageError(f"{name} {value!r}: {use}")
    # A bound in fewer bits may lie a hair beyond itself: numpy's float32 of 0.01 is below 0.01.
    return min(max(float(value), low), high)


def check_bool(value: Any, name: str) -> None:
    """Refuse what is neither True nor False, such as the text "no", which counts as true.

    Raises:
        UsageError: names the option.
    """
    if type(value) is not bool:
        raise UsageError(f"{name} {value!r}: use true or false")


def check_timing(frames: Any, speed: Any, loop: Any) -> tuple[int, float, bool]:
    """Refuse a length, a speed or a loop that makes sense for no model.

    Returns:
        The three as plain numbers; numpy's are welcome.

    Raises:
        UsageError: names the option and its range.
    """
    frames = check_whole(frames, "frames")
    check_bool(loop, "loop")
    if frames < 1:
        raise UsageError(f"frames {frames}: a clip has at least 1 frame")
    if frames > MOST_FRAMES:
        raise UsageError(f"frames: a clip has at most {MOST_FRAMES}")
    speed = check_number(speed, "speed", 0.01, 100.0, "use a factor from 0.01 to 100")
    if loop and not SHORTEST_LOOP <= frames * speed <= LONGEST_LOOP:
        raise UsageError(
            f"a loop of {frames} frames at speed {speed:g}: frames times speed must be from "
            f"{SHORTEST_LOOP} to {LONGEST_LOOP}"
        )
    return frames, speed, loop


def check_seed(seed: Any, name: str = "seed") -> int:
    """Refuse what is no seed; what is one comes back as a plain number.

    Args:
        name: what it is called in the sentence.

    Raises:
        UsageError: names the range.
    """
    return check_whole(seed, name, f"use a whole number from 0 to {MAX_SEED}", 0, MAX_SEED)


def check_fps(fps: Any) -> float:
    """Refuse a rate at which no clip can play; any other comes back as a plain float.

    Raises:
        UsageError: names the range, in frames a second.
    """
    use = f"use a rate from {SLOWEST:g} to {FASTEST:g} frames a second"
    return check_number(fps, "fps", SLOWEST, FASTEST, use)


def computing(device: str, backend: str, precision: str) -> dict[str, str]:
    """What is to compute the networks, for a clip's record: only what was asked for.

    ``auto`` makes the clip again on a machine without it, too, within one grey level.
    """
    asked = {"device": device, "backend": backend, "precision": precision}
    return {key: value for key, value in asked.items() if value not in ("auto", "fp32")}


def check_steps(steps: int, option: str = "steps") -> None:
    """Refuse a way of too few stations.

    Args:
        option: what gave their number.

    Raises:
        UsageError: names the option.
    """
    if steps < 2:
        raise UsageError(f"{option} {steps}: a way has at least its 2 ends")


@dataclass(frozen=True)
class Request:
    """The options of one clip, as ``mocogen sample`` takes them.

    Attributes:
        seed: 0 to ``MAX_SEED``; decides content and motion where these have no seed of their
            own.
        index: the clip's place in its batch, from 0.
        frames: length in frames, 1 to ``MOST_FRAMES``.
        action: one of the checkpoint's, or None for the seed's own.
        noise: noise mode, or None for the checkpoint's own.
        fps: frames a second, 0.1 to 1000, or None for the checkpoint's.
        scale: every pixel becomes a square of scale x scale, 1 to 32.
        out: the path, with fields in braces.
        content_seed: decides who and where, or None for the seed.
        motion_seed: decides the movement, and the action where none is asked for, or None.
        speed: of time, 0.01 to 100; 0.5 is half as fast.
        loop: whether the end runs into the beginning.
        line: its line in a file of requests, from 1, or None.
    """

    seed: int = 0
    index: int = 0
    frames: int = 48
    action: str | None = None
    noise: str | None = None
    fps: float | None = None
    scale: int = 1
    out: str = "clip.gif"
    content_seed: int | None = None
    motion_seed: int | None = None
    speed: float = 1.0
    loop: bool = False
    line: int | None = None

    def __post_init__(self) -> None:
        """Refuse what makes sense for no model.

        Raises:
            UsageError: names the option and its range.
        """
        for name in ("action", "noise"):
            if not isinstance(getattr(self, name), str | None):
                raise UsageError(f"{name} {getattr(self, name)!r}: use a string")
        if not _names_a_file(self.out):
            raise UsageError(f"out {self.out!r}: use the name of a file")
        plain: dict[str, Any] = {}
        for name in ("seed", "content_seed", "motion_seed"):
            if name == "seed" or getattr(self, name) is not None:
                plain[name] = check_seed(getattr(self, name), name)
        frames, speed, _ = check_timing(self.frames, self.speed, self.loop)
        if self.fps is not None:
            plain["fps"] = check_fps(self.fps)
        scale = check_whole(self.scale, "scale", "use a whole number from 1 to 32", 1, 32)
        # A clip holds these in its record: 20 and 20.0 would make two clips of one.
        for name, value in {**plain, "frames": frames, "speed": speed, "scale": scale}.items():
            object.__setattr__(self, name, value)

    def refused(self, error: UsageError) -> UsageError:
        """The same error, which names the request's line where it has one."""
        return _at_line(self.line, error) if self.line else error

    def steering(self) -> dict[str, Any]:
        """The options of ``STEERING`` that differ from the values there."""
        return {
            key: getattr(self, key)
            for key, plain in STEERING.items()
            if getattr(self, key) != plain
        }


def _names_a_file(out: Any) -> bool:
    """Whether the system can be asked for a file of this name."""
    try:
        return isinstance(out, str) and b"\0" not in os.fsencode(out)
    except UnicodeEncodeError:  # half a character: JSON can spell it
        return False


@dataclass(frozen=True)
class Seeds:
    """Runs of consecutive seeds, in order: pairs of first and last, both included."""

    runs: tuple[tuple[int, int], ...]

    @classmethod
    def count(cls, first: int, count: int) -> Seeds:
        """``count`` seeds from ``first`` on.

        Raises:
            UsageError: there are none, or not so many.
        """
        if count < 1:
            raise UsageError(f"count {count}: ask for at least 1 clip")
        if count > MAX_SEED:
            raise UsageError(f"count {count}: a batch has at most {MAX_SEED} clips")
        if not 0 <= first <= MAX_SEED - count + 1:
            last = MAX_SEED - count + 1
            raise UsageError(f"seed {first}: for {count} seeds, start with one from 0 to {last}")
        return cls(((first, first + count - 1),))

    @classmethod
    def parse(cls, text: str) -> Seeds:
        """Read ``0-99,200,300-310``: numbers and ranges that include both ends.

        Raises:
            UsageError: it is something else, a range runs backwards, or two overlap.
        """
        runs = []
        for part in text.split(","):
            match = re.fullmatch(r"\s*(\d{1,19})\s*(?:-\s*(\d{1,19})\s*)?", part)
            if match is None:
                raise UsageError(f"seeds {text!r}: {part!r} is no seed; write 0-99,200,300-310")
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                raise UsageError(f"seeds {part.strip()} run backwards: write {last}-{first}")
            check_seed(last)
            runs.append((first, last))
        for (_, last), (first, _) in pairwise(sorted(runs)):
            if first <= last:
                raise UsageError(f"seeds {text}: seed {first} is there twice")
        if sum(last - first + 1 for first, last in runs) > MAX_SEED:
            raise UsageError(f"seeds {text}: a batch has at most {MAX_SEED} clips")
        return cls(tuple(runs))

    def part(self, indices: range) -> Seeds:
        """The seeds at consecutive indices; possibly none. Takes no longer for more of them."""
        runs = []
        index = 0  # of the first seed of a run
        for first, last in self.runs:
            begin = max(first, first + indices.start - index)
            end = min(last, first + indices.stop - index - 1)
            if begin <= end:
                runs.append((begin, end))
            index += last - first + 1
        return Seeds(tuple(runs))

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.runs)

    def __iter__(self) -> Iterator[int]:
        for first, last in self.runs:
            yield from range(first, last + 1)


def part_of(text: str, count: int) -> range:
    """The indices that belong to part K of N, for ``K/N``: N parts, equal up to one clip.

    Raises:
        UsageError: it is no such fraction.
    """
    match = re.fullmatch(r"(\d{1,19})/(\d{1,19})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"shard-of {text!r}: write K/N with K from 1 to N, such as 3/8")
    k, n = int(match[1]), int(match[2])
    return range(count * (k - 1) // n, count * k // n)


def _only_seed(defaults: Request, values: dict[str, Any]) -> Any:
    """The seed of a line that names none: the motion's, where content has one as well."""
    content = values.get("content_seed", defaults.content_seed)
    motion = values.get("motion_seed", defaults.motion_seed)
    if content is None or motion is None:
        raise UsageError("it has no seed")
    return motion


def from_lines(lines: Iterable[str], defaults: Request) -> Iterator[Request]:
    """Requests from JSON objects, one a line; what a line leaves out, ``defaults`` has.

    A path in a line stays below the folder that the command was started in.

    Args:
        lines: may raise a UnicodeDecodeError.

    Raises:
        UsageError: names the line and what is wrong with it.
    """
    coming = iter(lines)
    index = 0
    for number in count(1):
        try:
            line = next(coming, None)
            if line is None:
                return
            if line.strip():
                yield _from_line(line, replace(defaults, index=index, line=number))
                index += 1
        except UsageError as error:
            raise _at_line(number, error) from None
        except UnicodeDecodeError:
            raise UsageError(f"line {number} of the requests is no text in UTF-8") from None


def _at_line(number: int, error: UsageError) -> UsageError:
    return UsageError(f"line {number} of the requests: {error}")


def _from_line(line: str, defaults: Request) -> Request:
    """The request that one line makes.

    Raises:
        UsageError: says what is wrong with it.
    """
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError) as error:  # bare ones: long numbers, deep brackets
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "too long or too deep"
        raise UsageError(f"it is no JSON that can be read: {reason}") from None
    if not isinstance(values, dict):
        raise UsageError("it is no JSON object")
    known = {f.name for f in fields(Request)} - {"index", "line"}
    if strange := sorted(values.keys() - known):
        raise UsageError(f"unknown option {strange[0]!r}: use {', '.join(sorted(known))}")
    if "seed" not in values:
        values["seed"] = _only_seed(defaults, values)
    out = str(values.get("out", ""))
    if out.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", out):
        raise UsageError(f"its path {out} leads out of this folder")
    return replace(defaults, **values)
