"""Clips in the terminal: half-blocks, a real pseudo-terminal, and the way out of it."""

from __future__ import annotations

import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mocogen.cli import main
from mocogen.terminal import filmstrip, fitting, half_blocks
from mocogen.video import ClipFormat, open_clip

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
termios = pytest.importorskip("termios")

COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red, green, blue and yellow, a quarter of a second each, without loss."""
    path = tmp_path_factory.mktemp("clip") / "colours.webp"
    frames = np.broadcast_to(np.array(COLOURS, np.uint8)[:, None, None], (4, 16, 24, 3))
    with open_clip(path, ClipFormat(4, 16, 24, 4.0, {})) as writer:
        writer.write(frames)
    return path


def test_a_frame_fits_and_keeps_its_shape():
    assert fitting(96, 96, 200, 100) == (96, 96), "never enlarged"
    assert fitting(96, 96, 40, 100) == (40, 40)
    assert fitting(96, 96, 200, 12) == (24, 24)
    assert fitting(96, 192, 48, 23) == (24, 48)
    assert fitting(1, 1000, 10, 10) == (2, 10)


def test_half_blocks_have_the_pixels_colours():
    frame = np.random.default_rng(0).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    lines = half_blocks(frame)
    assert len(lines) == 2
    seen = np.zeros_like(frame)
    for row, line in enumerate(lines):
        colours = {"38": (0, 0, 0), "48": (0, 0, 0)}
        column = 0
        for code, kind, red, green, blue in re.findall(
            r"(\x1b\[(\d+);2;(\d+);(\d+);(\d+)m|▀)", line
        ):
            if code == "▀":
                seen[2 * row, column], seen[2 * row + 1, column] = colours["38"], colours["48"]
                column += 1
            else:
                colours[kind] = (int(red), int(green), int(blue))
        assert column == 3
        assert line.endswith("\x1b[0m"), "no colour runs into what comes after"
    assert np.array_equal(seen, frame)


def test_a_filmstrip_shows_what_stands_out_in_plain_characters():
    frames = [np.full((20, 20, 3), 200, np.uint8) for _ in range(4)]
    for k, frame in enumerate(frames):
        frame[5:15, 4 * k : 4 * k + 4] = 20
    lines = filmstrip(frames, 80)
    assert all(len(line) <= 80 for line in lines)
    assert {" ", "@"} <= set("".join(lines)) <= set(" .:-=+*#%@")
    assert "".join(lines).count(" ") > "".join(lines).count("@"), "the ground stays empty"
    starts = [line.index("@") for line in lines if "@" in line]
    assert set(starts) == {0}, "in the first frame it stands at the left edge"
    assert max(line.rindex("@") for line in lines if "@" in line) > 70


def test_without_a_terminal_there_is_a_filmstrip(run, clip: Path, tiny: Path):
    done = run("play", clip)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert 2 <= len(done.stdout.splitlines()) <= 20
    sampled = run("play", "--seed", 3, "--checkpoint", tiny, "--frames", 5, "--action", "spin")
    assert sampled.returncode == 0, sampled.stderr
    assert sampled.stdout.strip()
    assert sampled.stderr == "seed 3, spin\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("nowhere.mp4",), "no such file: nowhere.mp4"),
        (("here.txt",), "here.txt is no clip"),
        (("broken.gif",), "damaged"),
        (("here.txt", "--seed", 1), "not both"),
        (("--fps", 0), "0.1 to 1000"),
        (("--frames", 0), "at least 1"),
    ],
)
def test_what_cannot_be_played_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[object, ...],
    said: str,
):
    (tmp_path / "here.txt").write_text("hello")
    (tmp_path / "broken.gif").write_text("hello")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mocogen", "play", *map(str, options)])
    with pytest.raises(SystemExit) as ending:
        main()
    printed = capsys.readouterr()
    assert ending.value.code in (1, 2)
    assert printed.out == ""
    assert printed.err.startswith("mocogen: ")
    assert said in printed.err
    assert printed.err.count("\n") == 1


class Terminal:
    """``mocogen play`` in a pseudo-terminal of 60 columns and 20 lines."""

    def __init__(self, *words: str) -> None:
        import fcntl

        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        environment.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mocogen", "play", *words],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env={**environment, "TERM": "xterm-256color"},
        )
        self.text = ""
        self.times: list[float] = []

    def read(self, seconds: float) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            self.text += os.read(self.master, 1 << 16).decode(errors="replace")

    def colours(self) -> list[tuple[int, int, int]]:
        """The colours of the pictures so far, one after the other."""
        found = re.findall(r"\x1b\[38;2;(\d+);(\d+);(\d+)m", self.text)
        shown = [(int(r), int(g), int(b)) for r, g, b in found]
        return [c for k, c in enumerate(shown) if k == 0 or c != shown[k - 1]]

    def wait_for_pictures(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.colours()) < count and time.monotonic() < deadline:
            before = len(self.colours())
            self.read(1.0)
            if len(self.colours()) > before:
                self.times.append(time.monotonic())
        assert len(self.colours()) >= count, self.text

    def end(self) -> int:
        """The exit status, after the last words have been read."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read(0.1)
        self.read(0.1)
        return self.process.wait(1)

    def restored(self) -> bool:
        """Whether settings, cursor and screen are as they were."""
        left = self.text.rstrip().endswith("\x1b[?25h\x1b[?1049l")
        return left and termios.tcgetattr(self.slave) == self.before


@pytest.fixture
def terminal(clip: Path) -> Iterator[Terminal]:
    terminal = Terminal(str(clip))
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.master)
        os.close(terminal.slave)


def test_a_clip_plays_at_its_rate_over_and_over_until_q(terminal: Terminal):
    terminal.wait_for_pictures(6)
    assert set(terminal.colours()) == set(COLOURS)
    # Frames may be missed on a busy machine, but none comes before its time.
    passed = terminal.times[-1] - terminal.times[0]
    assert passed > 0.25 * (len(terminal.times) - 1) - 0.2
    assert termios.tcgetattr(terminal.slave) != terminal.before, "keys come without Enter"
    os.write(terminal.master, b"q")
    assert terminal.end() == 0
    assert terminal.restored()
    rows = {int(row) for row in re.findall(r"\x1b\[(\d+);\d+H\x1b\[38", terminal.text)}
    assert len(rows) == 8, "two rows of pixels to a line"
    assert max(rows) < 20


@pytest.mark.parametrize("ending", ["ctrl-c", signal.SIGTERM, signal.SIGHUP])
def test_however_it_ends_the_terminal_is_as_before(terminal: Terminal, ending: signal.Signals):
    terminal.wait_for_pictures(1)
    if ending == "ctrl-c":
        os.write(terminal.master, b"\x03")
        assert terminal.end() == 130
    else:
        terminal.process.send_signal(ending)
        assert terminal.end() == 128 + ending
    assert terminal.restored()
