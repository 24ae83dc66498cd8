"""What ``mocogen sample`` tells while it works, and at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from . import common

if TYPE_CHECKING:
    from ..batch import Outcome
    from ..jobs import Job
    from ..sinks import Sink


class Report:
    """What a person or a script is told while clips are made, and at the end.

    Args:
        total: how many clips there will be, or None when nobody knows.
        frames: how many frames they have in all, or None.
        as_json: whether a finished clip is told as JSON.
        quiet: whether errors alone are told.
        drawn: the first seed, where nobody gave one.
    """

    def __init__(
        self,
        total: int | None,
        frames: int | None,
        as_json: bool,
        quiet: bool,
        drawn: int | None = None,
    ) -> None:
        self.total = total
        self.frames = frames
        self.as_json = as_json
        self.quiet = quiet
        self.drawn = drawn
        self._slower_told = False
        self.done = self.kept = self.failed = self.made = self.kept_frames = 0
        self._started = self._told = perf_counter()

    def skipped(self, job: Job) -> None:
        self.kept += 1
        self.kept_frames += job.clip.frames

    def finished(self, outcome: Outcome, sink: Sink) -> None:
        if outcome.error is not None:
            if self.total == 1:
                raise outcome.error
            self.failed += 1
            common.say(f"mocogen: {_seeds(outcome)}: {outcome.error}")
            return
        self.done += 1
        if self.as_json:
            print(json.dumps(_fields(outcome, _shown(outcome, sink))), flush=True)
        elif self.total == 1 and not self.quiet:
            common.say(_line(outcome, _shown(outcome, sink)))
        if not self.quiet and not self._slower_told:
            file, asked = _shown(outcome, sink), outcome.job.fps
            self._slower_told = common.tell_if_slower(file, outcome.fps, asked)

    @contextmanager
    def progress(self) -> Iterator[Any]:
        """What to call with each advance in frames: a bar, or a plain line now and then."""
        if self.quiet:
            yield lambda _: None
        elif sys.stderr.isatty() and (self.frames is None or self.frames >= 500):
            from .progress import batch_bar

            with batch_bar() as show:

                def count(frames: int) -> None:
                    self.made += frames
                    total = None if self.frames is None else self.frames - self.kept_frames
                    show(self.made, total, self._speed(self._seconds()))

                count(0)
                yield count
        else:
            yield self._count_and_tell

    def _count_and_tell(self, frames: int, every: float = 30.0) -> None:
        self.made += frames
        now = perf_counter()
        if now - self._told >= every:
            self._told = now
            common.say(self._rates())

    def _seconds(self) -> float:
        return max(perf_counter() - self._started, 1e-9)

    def _speed(self, seconds: float) -> str:
        return f"{self.done / seconds:.3g} clips/s, {self.made / seconds:.3g} frames/s"

    def _rates(self) -> str:
        seconds = self._seconds()
        line = f"{self.done} clips, {self.made} frames in {seconds:.1f} s ({self._speed(seconds)})"
        if self.total and self.done and (left := self.total - self.kept - self.done - self.failed):
            line += f", {left} left, about {left * seconds / self.done:.0f} s"
        return line

    def summary(self, out: str) -> None:
        if self.quiet or (self.total == 1 and not self.kept):
            return
        line = self._rates()
        if self.drawn is not None:
            line += f", from seed {self.drawn} on"
        if self.kept:
            line += f"; {self.kept} were there"
        if self.failed:
            line += f"; {self.failed} FAILED"
        common.say(f"{line}: {out}")


def _shown(outcome: Outcome, sink: Sink) -> str:
    return sink.store.shown(sink.name(outcome.job))


def _line(outcome: Outcome, file: str) -> str:
    made_by = outcome.job.made_by
    action = f", {made_by['action']}" if made_by["action"] else ""
    return (
        f"{file}: {_seeds(outcome)}{action}, {made_by['frames']} frames, "
        f"{outcome.size}x{outcome.size}, {outcome.fps:.4g} frames/s"
    )


def _seeds(outcome: Outcome) -> str:
    clip = outcome.job.clip
    if clip.content_seed == clip.motion_seed:
        return f"seed {clip.content_seed}"
    return f"content seed {clip.content_seed}, motion seed {clip.motion_seed}"


def _fields(outcome: Outcome, file: str) -> dict[str, Any]:
    return {
        **outcome.job.made_by,
        "file": file,
        "index": outcome.job.index,
        "width": outcome.size,
        "height": outcome.size,
        "fps": outcome.fps,
    }
