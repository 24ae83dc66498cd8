"""The ways in which a request can fail, as the command line tells them."""


def printable(text: object) -> str:
    """A stranger's text without characters that a terminal would obey, on one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def printable_lines(text: object) -> str:
    """The same, for a text that may have several lines."""
    return "\n".join(map(printable, str(text).split("\n")))


class MocogenError(Exception):
    """Something went wrong that the user can understand and mend.

    The message is one sentence that says what is wrong and what to do. The command line
    prints it on standard error and exits with ``exit_code``.
    """

    exit_code = 1


class UsageError(MocogenError, ValueError):
    """The request itself makes no sense (a frame count of zero, an unknown action)."""

    exit_code = 2


class DiskFullError(MocogenError):
    """There is no room left: whatever comes next would fail too."""
