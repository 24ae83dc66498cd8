"""How much of the machine a training step uses, against a large matrix product.

``python -m benchmarks.train_step [--recipe split] [--device cpu] [--rounds 5] [--json]``

The generator stage's step (generator, encoder, discriminator, all losses and both optimisers)
is timed on made-up clips of the recipe's size, without and with the discriminator. Its
floating point operations are counted by ``torch.utils.flop_counter``: convolutions and matrix
products alone, so that everything else a step does counts as waste. The matrix product runs
by turns with the steps, in their precision. The best round counts, since other programs can
only slow one down. On a GPU a step is timed as it is replayed; ``--set run.graphs=false`` times
it without.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from mocogen.training.config import load_config
from mocogen.training.cuda_graphs import REHEARSALS
from mocogen.training.data import Clip, ClipSet
from mocogen.training.run import make_fabric
from mocogen.training.stage import Context
from mocogen.training.stage_generator import GeneratorStage

from .machine import describe

SIDE = 2048
"""The matrix product is SIDE x SIDE times SIDE x SIDE."""


def made_up(size: int) -> ClipSet:
    """Noise in the place of clips: two actions, two groups and their mirror images."""
    frames = np.random.default_rng(0).integers(0, 256, (64, size, size, 3), np.uint8)
    clips = [
        Clip(16 * (k % 4), 16, "ab"[k % 2], "xy"[k // 2 % 2], k >= 4, f"{k}", "") for k in range(8)
    ]
    groups = (("x", False), ("y", False), ("x", True), ("y", True))
    return ClipSet(frames, clips, ("a", "b"), groups, [])


def seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipe", default="split")
    parser.add_argument("--set", action="append", default=[], help="as of mocogen train")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    config = load_config(options.recipe, options.set)
    fabric = make_fabric(config, options.device)
    device = fabric.device
    bf16 = "bf16" in str(fabric._precision.precision)
    with tempfile.TemporaryDirectory() as folder:
        clips = made_up(config.model.image_size)
        stage = GeneratorStage(Context(config, clips, fabric, Path(folder)))
    kind = torch.bfloat16 if bf16 else torch.float32
    matrix = torch.randn(SIDE, SIDE, device=device, dtype=kind)

    values = config.generator
    parts = {
        "rebuilding": max(0.0, values.discriminator_start - 0.001),
        "with the discriminator": 0.5 * (values.discriminator_start + values.encoder_freeze),
        "with the encoder frozen": 0.999,  # at 1 norms would freeze where they never do
    }
    work: dict[str, Callable[[], object]] = {"matrix product": lambda: matrix @ matrix}
    flops = {"matrix product": 2.0 * SIDE**3}
    for name, progress in parts.items():
        work[name] = lambda progress=progress: stage.step(progress)  # type: ignore[misc]
        counter = FlopCounterMode(display=False)
        with counter:
            work[name]()
        flops[name] = float(counter.get_total_flops())
        for _ in range(REHEARSALS + 1 if stage.recorder.enabled else 0):
            work[name]()
    best = dict.fromkeys(work, float("inf"))
    for _ in range(options.rounds):
        for name, call in work.items():
            best[name] = min(best[name], seconds(call, device))

    speed = {name: flops[name] / best[name] / 1e9 for name in work}
    result: dict[str, Any] = {
        "machine": describe(str(device)),
        "precision": "bfloat16" if bf16 else "float32",
        "batch": [values.batch, values.swapped],
        "parts": {
            name: {
                "milliseconds": round(1e3 * best[name], 1),
                "gflop": round(flops[name] / 1e9, 2),
                "gflops": round(speed[name], 1),
                "share": round(speed[name] / speed["matrix product"], 3),
            }
            for name in work
        },
    }
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['machine']['processor']}, {result['precision']}")
    for name, part in result["parts"].items():
        print(
            f"{name:24} {part['milliseconds']:8.1f} ms  {part['gflop']:7.2f} GFLOP  "
            f"{part['gflops']:8.1f} GFLOP/s  {part['share']:.2f} of the matrix product"
        )


if __name__ == "__main__":
    main()
