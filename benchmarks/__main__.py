"""The speed of sampling as ratios, all measured within one run on one machine.

    python -m benchmarks [--clips 64] [--quick] [--json]

Whole processes, as a user starts them. "Start-up aside" means the difference of two runs of
different length, so that what every process pays once drops out. The generator's bare limit
is the frame rate at which its floating-point operations, counted by torch, would run at the
speed of a large float32 matrix product, measured in turn with the runs. Where there is a CUDA
GPU, batches and the motion network are measured on it, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import motion_unroll, start_up
from .machine import describe

PYTHON = sys.executable
FRAMES = 48


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, against what, the ratio, the aim.

    With a unit it is a difference instead of a ratio.
    """

    what: str
    against: str
    ratio: float
    aim: str
    unit: str = ""


def seconds_of(command: Sequence[str | Path]) -> float:
    """Wall-clock time of a process in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - started


def sample(*words: str) -> list[str]:
    return [PYTHON, "-m", "mocogen", "sample", "--seed", "0", "--quiet", *words]


def product_speed(device: str, size: int = 2048, repeats: int = 8) -> float:
    """Floating-point operations a second of a float32 matrix product."""
    import torch

    matrix = torch.randn(size, size, device=device)
    torch.mm(matrix, matrix).sum().item()
    started = time.perf_counter()
    for _ in range(repeats):
        product = torch.mm(matrix, matrix)
    product[0, 0].item()  # waits for a GPU
    return 2 * size**3 * repeats / (time.perf_counter() - started)


def operations_a_frame() -> float:
    """Floating-point operations of the shipped generator for one frame."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mocogen import checkpoint

    spec, _, generator = checkpoint.load(checkpoint.find(checkpoint.DEFAULT))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        generator(torch.zeros(1, spec.content + spec.motion))
    return float(counter.get_total_flops())


def throughput(device: str, clips: int, rounds: int) -> list[Row]:
    """Frames a second of whole batches, start-up aside, over the generator's bare limit."""
    operations = operations_a_frame()
    rates: dict[str, list[float]] = {"mp4": [], "gif": [], "npy": []}
    for _ in range(rounds):
        for kind, found in rates.items():
            few, many = (
                seconds_of(
                    sample("--device", device, "--count", str(n), "--out", f"x/{{seed}}.{kind}")
                )
                for n in (clips // 8, clips)
            )
            frames = (clips - clips // 8) * FRAMES
            limit = product_speed(device) / operations
            found.append(frames / (many - few) / limit)
    aims = {"mp4": "at least 0.75", "gif": "at least 0.75", "npy": "at least 0.90"}
    return [
        Row(
            f"frames/s, {clips} clips of {FRAMES} frames as .{kind}, {device}",
            "generator's limit",
            statistics.median(found),
            aims[kind],
        )
        for kind, found in rates.items()
    ]


def short_clips(device: str, rounds: int) -> Row:
    """Frames a second of many short clips over those of few long ones, made and not written."""
    import mocogen

    model = mocogen.load("weizmann", device)

    def rate(clips: int, frames: int) -> float:
        requests = [model.clip(seed, frames=frames) for seed in range(clips)]
        started = time.perf_counter()
        count = sum(len(block) for _, block in model.stream(requests))
        return count / (time.perf_counter() - started)

    rate(5, 20)
    ratio = statistics.median(rate(100, 5) / rate(5, 100) for _ in range(2 * rounds + 1))
    return Row(f"frames/s, 100 clips of 5 frames, {device}", "5 clips of 100", ratio, "about 1")


def starting(rounds: int) -> list[Row]:
    """The commands that people type first, as whole processes."""
    seconds = start_up.measure(rounds)
    more = [
        Row(name, base, seconds[name] - seconds[base], "at most 0.25 s more", " s")
        for name, base in start_up.AGAINST.items()
        if base == start_up.BARE
    ]
    ratios = [
        Row("one clip, whole process", "import torch", seconds[name] / seconds[base], "below 0.5")
        for name, base in start_up.AGAINST.items()
        if base == start_up.TORCH
    ]
    return [*ratios, *more]


def unrolls(device: str, repeats: int) -> list[Row]:
    """The hand-written layers over torch's own, in eval mode and single precision."""
    rows = []
    for case, (frames, batch, often) in motion_unroll.CASES.items():
        times = motion_unroll.measure(frames, batch, often * repeats, device)
        median = {name: statistics.median(values) for name, values in times.items()}
        ratio = median["mocogen"] / median["torch"]
        rows.append(Row(f"LSTM, {case}, {device}", "torch.nn.LSTM", ratio, "at most 1.5"))
    return rows


def memory(frames: int) -> Row:
    """Peak memory of a long clip over that of a short one."""

    def peak(count: int) -> int:
        program = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        with tempfile.TemporaryDirectory() as folder:
            command = [PYTHON, "-c", program, *sample("--frames", str(count), "--out", "x.mp4")]
            done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        return int(done.stdout)

    ratio = peak(frames) / peak(480)
    return Row(f"peak memory, {frames:,} frames", "480 frames", ratio, "at most 1.1")


def workers(clips: int, rounds: int) -> Row:
    """Clips a second of two processes of one thread over one of them, start-up aside."""

    def together(processes: int, count: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            running = [
                subprocess.Popen(
                    sample("--count", str(count), "--out", f"{k}/{{seed}}.mp4"),
                    cwd=folder,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
                for k in range(processes)
            ]
            codes = [process.wait() for process in running]
            if any(codes):
                raise SystemExit("a process of the batch failed")
            return time.perf_counter() - started

    ratios = []
    for _ in range(rounds):
        one = together(1, clips) - together(1, clips // 8)
        two = together(2, clips) - together(2, clips // 8)
        ratios.append(2 * one / two)
    ratio = statistics.median(ratios)
    return Row("clips/s, 2 processes of 1 thread", "1 of 1 thread", ratio, "at least 1.85")


def long_batch(clips: int, rounds: int) -> Row:
    """Time a clip in a long batch over a short one, start-up aside."""

    def batch(count: int) -> float:
        return seconds_of(sample("--count", str(count), "--out", "x/{seed}.mp4"))

    start, short = (statistics.median(batch(n) for _ in range(rounds)) for n in (2, 10))
    ratio = ((batch(clips) - start) / (clips - 2)) / ((short - start) / 8)
    return Row(f"time a clip, {clips:,} clips", "10 clips", ratio, "at most 1.05")


def cuda_is_there() -> list[str]:
    """The name of the GPU's device, if there is one."""
    import torch

    return ["cuda"] if torch.cuda.is_available() else []


def show(rows: list[Row]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "against", "ratio", "to reach", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(row.what, row.against, f"{row.ratio:.2f}{row.unit}", row.aim)
    Console(width=100).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="shorter runs, rougher figures")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    clips, rounds = (24, 1) if options.quick else (options.clips, options.rounds)
    gpu = cuda_is_there()
    rows = [
        *(row for device in ("cpu", *gpu) for row in throughput(device, clips, rounds)),
        *(short_clips(device, rounds) for device in ("cpu", *gpu)),
        *starting(rounds + 2),
        memory(10_000 if options.quick else 100_000),
        *(row for device in ("cpu", *gpu) for row in unrolls(device, 5)),
        workers(clips, rounds),
        long_batch(200 if options.quick else 1000, rounds + 2),
    ]
    machine = describe(*gpu)
    if options.json:
        print(json.dumps({"machine": machine, "rows": [vars(row) for row in rows]}))
        return
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    show(rows)


if __name__ == "__main__":
    main()
