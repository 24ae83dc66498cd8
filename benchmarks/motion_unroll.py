"""How fast the hand-written motion network unrolls, against PyTorch's own layers.

``python -m benchmarks.motion_unroll [--repeats N] [--threads N ...] [--json]``

Contenders make the same motion codes from the same noise, (10, 100), eval mode, no gradients:

* ``torch``: ``nn.LSTM``, ``nn.Linear`` and the same batch norm, in single precision;
* ``mocogen``: the hand-written layers without gradients, in single precision as well;
* ``steps``: the same network cell step by cell step, as training uses it, so that the
  in-place loop of ``LSTMCell.unroll_in_place`` has to show what it is worth;
* ``sampling``: what ``mocogen sample`` runs on a CPU without torch, ``NumpyMotion``: double
  precision, and blocks of as many clips whether they are asked for or not.

They take turns, so that other work on the machine disturbs all of them alike. A ratio is a
contender's median time over torch's. With one thread the figures are steady; with more, a
thread that has to wait for another program's holds up every single step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mocogen.backends import CPU_BLOCKS
from mocogen.motion import LSTM
from mocogen.numpy_motion import NumpyMotion
from mocogen.spec import ModelSpec

from .machine import describe

NOISE, HIDDEN = 10, 100
CASES = {"batch 64 x 48 frames": (48, 64, 10), "batch 1 x 10,000 frames": (10_000, 1, 1)}
"""Frames, batch, and how many times as often as the longest case it is timed."""


def contenders(frames: int, batch: int, device: str) -> dict[str, Callable[[], Tensor]]:
    """The ways to the same codes (frames, batch, NOISE), with equal weights."""
    torch.manual_seed(0)
    ours = LSTM(NOISE, HIDDEN).to(device).eval().requires_grad_(False)
    lstm = nn.LSTM(NOISE, HIDDEN, device=device)
    lstm.load_state_dict({f"{key}_l0": value for key, value in ours.lstm.state_dict().items()})
    linear = nn.Linear(HIDDEN, NOISE, device=device)
    linear.load_state_dict(ours.linear.state_dict())  # type: ignore[union-attr]
    norm = nn.BatchNorm1d(NOISE, affine=False, device=device).eval()
    noise = torch.randn(frames, batch, NOISE).to(device)

    @torch.no_grad()
    def reference() -> Tensor:
        codes = linear(lstm(noise)[0])
        return norm(codes.flatten(0, 1)).view_as(codes)

    @torch.no_grad()
    def layers() -> Tensor:
        return ours(noise)

    def steps() -> Tensor:
        return ours(noise)  # frozen parameters: gradients are enabled, but nothing is recorded

    spec = ModelSpec(content=1, noise=NOISE, hidden=HIDDEN, motion=NOISE)
    tensors = {f"motion.{key}": value.cpu().numpy() for key, value in ours.state_dict().items()}
    motion, blocks = NumpyMotion(spec, tensors), noise.cpu().split(CPU_BLOCKS.clips, dim=1)

    def sampling() -> Tensor:
        made = []
        for block in blocks:
            full = functional.pad(block, (0, 0, 0, CPU_BLOCKS.clips - block.shape[1])).numpy()
            zeros = np.zeros((CPU_BLOCKS.clips, HIDDEN))
            codes, _, _ = motion(full, None, (zeros, zeros))
            made.append(torch.from_numpy(codes[:, : block.shape[1]]))
        return torch.cat(made, 1)

    return {"torch": reference, "mocogen": layers, "steps": steps, "sampling": sampling}


def measure(frames: int, batch: int, repeats: int, device: str = "cpu") -> dict[str, list[float]]:
    """Seconds of each contender's ``repeats`` turns; an untimed one goes ahead.

    Raises:
        AssertionError: the contenders disagree by more than 1e-4, which is ten times what
            rounding adds up to in 10,000 frames.
    """
    programs = contenders(frames, batch, device)
    codes = {name: program() for name, program in programs.items()}
    for result in codes.values():
        torch.testing.assert_close(result.cpu(), codes["torch"].cpu(), atol=1e-4, rtol=0)
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            start = time.perf_counter()
            program()[-1].cpu()  # waits for a GPU
            times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--repeats", type=int, default=7, help="turns of each contender; ten times for batch 64"
    )
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=sorted({1, torch.get_num_threads()}),
        help="thread counts (default: 1 and torch's own)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()

    rows: list[dict[str, Any]] = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for case, (frames, batch, often) in CASES.items():
            times = measure(frames, batch, often * options.repeats)
            median = {name: 1000 * statistics.median(values) for name, values in times.items()}
            ratio = {name: median[name] / median["torch"] for name in median if name != "torch"}
            rows.append({"case": case, "threads": threads, "median_ms": median, "ratio": ratio})

    if options.json:
        print(json.dumps({"machine": describe(), "rows": rows}))
        return
    print(", ".join(f"{key} {value}" for key, value in describe().items() if key != "threads"))
    print("median milliseconds (ratio to torch)")
    heads = "".join(f"{name:>18}" for name in rows[0]["ratio"])
    print(f"{'':24}{'threads':>8}{'torch':>10}{heads}")
    for row in rows:
        line = f"{row['case']:24}{row['threads']:>8}{row['median_ms']['torch']:>10.2f}"
        for name, ratio in row["ratio"].items():
            line += f"{row['median_ms'][name]:>11.2f} ({ratio:.2f})"
        print(line)


if __name__ == "__main__":
    main()
