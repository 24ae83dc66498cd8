"""How long the commands that people type first take, against bare Python and ``import torch``.

    python -m benchmarks.start_up [--rounds 7] [--json]

Whole processes, timed in turn within one run, so that a slow spell of the machine meets all
of them; the median of each, and its difference and ratio to the process it is held against.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

from .machine import describe

PYTHON = sys.executable
BARE = "python -c pass"
TORCH = 'python -c "import torch"'
COMMANDS = {
    BARE: [PYTHON, "-c", "pass"],
    TORCH: [PYTHON, "-c", "import torch"],
    "mocogen --help": [PYTHON, "-m", "mocogen", "--help"],
    "mocogen info": [PYTHON, "-m", "mocogen", "info"],
    "mocogen sample --frames 48 --out clip.gif": [
        *(PYTHON, "-m", "mocogen", "sample", "--frames", "48", "--out", "clip.gif")
    ],
}
AGAINST = {
    "mocogen --help": BARE,
    "mocogen info": BARE,
    "mocogen sample --frames 48 --out clip.gif": TORCH,
}


def measure(rounds: int) -> dict[str, float]:
    """Median wall-clock seconds of every command, after one run each to warm the caches."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for counted in [False, *[True] * rounds]:
            for name, command in COMMANDS.items():
                started = time.perf_counter()
                subprocess.run(command, cwd=folder, check=True, capture_output=True)
                if counted:
                    times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    medians = measure(options.rounds)
    if options.json:
        print(json.dumps({"machine": describe(), "seconds": medians}))
        return
    print(", ".join(f"{key} {value}" for key, value in describe().items()))
    for name, seconds in medians.items():
        line = f"{seconds:6.2f} s  {name}"
        if name in AGAINST:
            base = medians[AGAINST[name]]
            line += f"   ({seconds - base:+.2f} s, {seconds / base:.2f} times {AGAINST[name]})"
        print(line)


if __name__ == "__main__":
    main()
