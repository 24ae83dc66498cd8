"""The one place where an error becomes an exit status."""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from typing import NoReturn

from ..errors import MocogenError, printable_lines


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    A process that is told to end, or whose terminal closes, tidies up first, too, and exits
    with 128 and the signal's number.
    """
    try:
        for name in ("SIGTERM", "SIGHUP"):  # Windows has only the first
            number = getattr(signal, name, None)
            # Whoever ignores one, as nohup does, has a reason to.
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _end)
        _prepare_streams()
        # Imported here, so that an interruption of the import is told as quietly as a later one.
        from .app import app

        try:
            app()
        finally:
            # At the interpreter's own exit, nobody would catch an error of this.
            sys.stdout.flush()
    except MocogenError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe has seen enough.
        _drop_output()
        sys.exit(1)
    except OSError as error:
        # Files that are written have sentences of their own (files.write_errors).
        _drop_output()
        where = error.filename or "cannot write to standard output"
        _fail(f"{where}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit:
        if _told:  # whatever a library has made of it: Ray makes 1
            sys.exit(128 + _told[0])
        raise


def _fail(sentence: str, status: int) -> NoReturn:
    print(f"mocogen: {printable_lines(sentence)}", file=sys.stderr)
    sys.exit(status)


_told: list[int] = []
"""The signals by which this process was told to end."""


def _end(number: int, _: object) -> NoReturn:
    _told.append(number)
    sys.exit(128 + number)


def _prepare_streams() -> None:
    """Make standard output and error such that anything can be printed on them."""
    if sys.stdin is None:  # closed: there is nothing to read
        sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the process
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
        elif isinstance(stream, TextIOWrapper):
            # A file's name may have characters that the terminal has not.
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Send what Python still holds for standard output to nowhere: flushing would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
