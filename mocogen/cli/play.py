"""``mocogen play``: a clip in the terminal."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError, printable
from ..requests import check_fps
from . import common, complete

if TYPE_CHECKING:
    from ..reading import Frame

STRIP_FRAMES = 4
LONGEST_WAIT = 0.25
"""Seconds."""

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"  # the alternate screen, no cursor, cleared
_LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l"
_ESCAPE = b"\x1b"
_INTERRUPT = b"\x03"


def play(
    clip: Annotated[
        Path | None, typer.Argument(help="A clip. Without one, a seed is sampled.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="\\[default: random, printed]")] = None,
    action: Annotated[
        str | None,
        typer.Option(
            help="What they do. \\[default: as the seed has it]", autocompletion=complete.actions
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Length of a sampled clip. \\[default: 48]")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames a second. \\[default: the clip's]")
    ] = None,
    checkpoint: common.Checkpoint = None,
    device: common.Device = "auto",
    backend: common.Backend = "auto",
) -> None:
    """Play a clip in the terminal, in colour and over and over, until q is pressed.

    Where standard output is no terminal that shows colours, a filmstrip in plain characters is
    written instead.
    """
    if fps is not None:
        check_fps(fps)
    sampling = (seed, action, frames, checkpoint)
    if clip is not None and any(option is not None for option in sampling):
        raise UsageError("give a clip, or --seed, --action, --frames, --checkpoint: not both")

    show = _of_seed(*sampling, device, backend) if clip is None else _of_file(clip)
    if _plays_here():
        with _screen() as keys:
            _loop(show.frames, fps or show.fps, show.title, keys)
    else:
        _strip(show.frames())
    if clip is None:
        common.say(show.title)


@dataclass(frozen=True)
class _Show:
    """What is played: its title, frames a second, and its frames, anew at every call."""

    title: str
    fps: float
    frames: Callable[[], Iterator[Frame]]


def _of_file(clip: Path) -> _Show:
    """A file is decoded again every time round, so that a long one costs no memory."""
    from ..reading import open_frames

    return _Show(printable(clip.name), open_frames(clip).fps, lambda: open_frames(clip).frames)


def _of_seed(
    seed: int | None,
    action: str | None,
    frames: int | None,
    checkpoint: str | None,
    device: str,
    backend: str,
) -> _Show:
    """A clip that is sampled, once."""
    model, _ = common.load_model(checkpoint, None, None, device, backend)
    clip = model.clip(seed, frames=48 if frames is None else frames, action=action)
    made = [frame for _, block in model.stream([clip]) for frame in block]
    does = "" if clip.action is None else f", {model.spec.actions[clip.action]}"
    return _Show(f"seed {clip.seed}{does}", model.spec.fps, lambda: iter(made))


def _plays_here() -> bool:
    """Whether there is a terminal with colours, and a keyboard to stop it with."""
    plain = os.environ.get("TERM", "dumb") == "dumb" or "NO_COLOR" in os.environ
    return sys.stdin.isatty() and sys.stdout.isatty() and not plain and _has_termios()


def _has_termios() -> bool:
    try:
        import termios  # noqa: F401
    except ImportError:  # Windows
        return False
    return True


@contextmanager
def _screen() -> Iterator[int]:
    """A terminal without echo and line editing, on a screen of its own; yields its keyboard.

    However the block ends, the terminal is as it was before: signals that end a process
    become exceptions meanwhile. Ctrl-C and Ctrl-Z arrive as keys.
    """
    import termios

    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    raw = termios.tcgetattr(keys)
    raw[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG)

    def leave(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    handlers = {number: signal.signal(number, leave) for number in _deadly_signals()}
    try:
        termios.tcsetattr(keys, termios.TCSADRAIN, raw)
        _write(_ENTER)
        yield keys
    finally:
        try:
            _write(_LEAVE)
        finally:
            termios.tcsetattr(keys, termios.TCSAFLUSH, before)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _deadly_signals() -> tuple[signal.Signals, ...]:
    return signal.SIGTERM, signal.SIGHUP, signal.SIGINT


def _loop(shots: Callable[[], Iterator[Frame]], fps: float, title: str, keys: int) -> None:
    """Show frames at their times, round after round, until a key ends it.

    A terminal that is too slow for the rate misses frames, and the movement keeps its speed;
    but for one in LONGEST_WAIT seconds, so that there is something to see in any case.
    """
    size = None
    due = shown = monotonic()
    while True:
        for frame in shots():
            due += 1 / fps
            now = monotonic()
            if now < due or now - shown > LONGEST_WAIT:
                cells = shutil.get_terminal_size()
                if cells != size:
                    size = cells
                    _write("\x1b[2J")
                _write(_picture(frame, *cells, title))
                shown = monotonic()
            if _pressed(keys, max(0.0, due - monotonic())):
                return
        # What one round is late is not made up for in the next.
        due = max(due, monotonic() - 1 / fps)


def _picture(frame: Frame, columns: int, lines: int, title: str) -> str:
    """A frame in the middle of the screen and a line below it, as one piece of text."""
    from ..terminal import fitting, half_blocks, resized

    height, width = fitting(frame.shape[0], frame.shape[1], columns, lines - 1)
    left = (columns - width) // 2 + 1
    top = (lines - 1 - height // 2) // 2 + 1
    rows = half_blocks(resized(frame, height, width))
    placed = [f"\x1b[{top + k};{left}H{row}" for k, row in enumerate(rows)]
    told = f"{title}  q quits"[:columns]
    placed.append(f"\x1b[{lines};{(columns - len(told)) // 2 + 1}H{told}")
    return "".join(placed)


def _pressed(keys: int, seconds: float) -> bool:
    """Wait for so long, and tell whether a key was pressed that ends the show.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    until = monotonic() + seconds
    while select.select([keys], [], [], max(0.0, until - monotonic()))[0]:
        typed = os.read(keys, 64)
        if _INTERRUPT in typed:
            raise KeyboardInterrupt
        # Arrow keys and their like begin as the escape key does, but do not end there.
        if not typed or typed == _ESCAPE or (typed[:1] != _ESCAPE and b"q" in typed.lower()):
            return True
    return False


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _strip(shots: Iterator[Frame]) -> None:
    """A row of frames from the clip's beginning to its end, on standard output."""
    import numpy as np

    from ..terminal import filmstrip, fitting, resized

    # Small ones: those of a clip of any length can be held.
    small = [resized(shot, *fitting(shot.shape[0], shot.shape[1], 40, 20)) for shot in shots]
    chosen = np.linspace(0, len(small) - 1, min(STRIP_FRAMES, len(small))).round().astype(int)
    columns = shutil.get_terminal_size().columns
    print("\n".join(filmstrip([small[k] for k in chosen], columns)))
