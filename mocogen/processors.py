"""How many of the processors to compute on."""

from __future__ import annotations

import os


def threads() -> int:
    """How many threads to compute with: ``OMP_NUM_THREADS``, as torch has it, or one a core
    that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
