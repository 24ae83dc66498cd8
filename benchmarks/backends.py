"""The backends side by side: what a start costs, and what a frame costs afterwards.

    python -m benchmarks.backends [--rounds 5] [--clips 16] [--json]

For every backend that is installed, in turn within one run: one clip as a whole process
(``mocogen sample --frames 48``), and a frame of a long batch, sampled but not encoded. Both in
processor seconds, in which other programs on the machine count least, and by the clock; the
median of the rounds, and its ratio to ``import torch`` and to the torch backend. "onnx, whole
layers" is ONNX Runtime with the generator as ``mocogen export`` writes it, with no layer split.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import mocogen
from mocogen import checkpoint
from mocogen.backend_choice import CPU_ONLY

from .machine import describe

FRAMES = 48
IMPORT_TORCH = 'python -c "import torch"'


def installed() -> list[str]:
    """The backends that can run here."""
    return ["torch", *(name for name, package in CPU_ONLY.items() if _there(package))]


def _there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def whole_layers() -> Any:
    """The shipped model in ONNX Runtime, without split layers."""
    from mocogen import onnx_backend, onnx_models

    model: Any = mocogen.load(device="cpu", backend="onnx")
    spec, tensors = checkpoint.read(checkpoint.find(checkpoint.DEFAULT))
    model.backend._generator = onnx_backend._session(onnx_models.generator(spec, tensors))
    return model


def one_process(command: list[str]) -> tuple[float, float]:
    """Processor seconds and wall-clock seconds of a whole process in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        before, started = os.times(), time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        wall, after = time.perf_counter() - started, os.times()
    used = after.children_user - before.children_user
    return used + after.children_system - before.children_system, wall


def long_run(model: Any, clips: int) -> tuple[float, float]:
    """Processor milliseconds and wall-clock milliseconds of a frame."""
    requests = [model.clip(seed, frames=FRAMES) for seed in range(clips)]
    before, started = time.process_time(), time.perf_counter()
    for _ in model.stream(requests):
        pass
    share = 1000 / (clips * FRAMES)
    return share * (time.process_time() - before), share * (time.perf_counter() - started)


def measure(rounds: int, clips: int) -> dict[str, dict[str, tuple[float, float]]]:
    """Medians of both figures, processor and clock, of every contender."""
    names = installed()
    sample = [sys.executable, "-m", "mocogen", "sample", "--device", "cpu", "--seed", "0"]
    commands = {IMPORT_TORCH: [sys.executable, "-c", "import torch"]}
    commands |= {name: [*sample, "--backend", name, "--out", "clip.gif"] for name in names}
    models: dict[str, Any] = {name: mocogen.load(device="cpu", backend=name) for name in names}
    starts: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    if "onnx" in models:
        models["onnx, whole layers"] = whole_layers()
    frames: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for counted in [False, *[True] * rounds]:
        for name, command in commands.items():
            found = one_process(command)
            if counted:
                starts[name].append(found)
        for name, model in models.items():
            found = long_run(model, clips if counted else 1)
            if counted:
                frames[name].append(found)
    return {
        part: {name: _medians(values) for name, values in times.items()}
        for part, times in (("one clip, s", starts), ("a frame, ms", frames))
    }


def _medians(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    processor, wall = (statistics.median(column) for column in zip(*pairs, strict=True))
    return processor, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=16, help="clips of a long run")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.rounds, options.clips)
    if options.json:
        print(json.dumps({"machine": describe(), **found}))
        return
    print(", ".join(f"{key} {value}" for key, value in describe().items()))
    print(f"{'':34}{'processor':>10}{'ratio':>8}{'clock':>10}{'ratio':>8}")
    for part, rows in found.items():
        base = rows[IMPORT_TORCH if IMPORT_TORCH in rows else "torch"]
        for name, row in rows.items():
            line = f"{part}: {name}".ljust(34)
            for value, against in zip(row, base, strict=True):
                line += f"{value:>10.2f}{value / against:>8.2f}"
            print(line)


if __name__ == "__main__":
    main()
