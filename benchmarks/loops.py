"""How seamless loops are: the jump from the last frame to the first, against its neighbours.

    python -m benchmarks.loops [--checkpoint weizmann] [--frames 48] [--seeds 0-15] [--speed 1]
        [--sheet loops.png]

For every action: the mean absolute difference between the last frame and the first of a clip,
as a ratio to the mean and to the largest difference between neighbouring frames of the same
clip, with --loop and without. And so that no jump hides elsewhere in the loop: its largest
difference between neighbours, as a ratio to the largest of the clip without --loop.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mocogen
from mocogen.evaluation.pictures import sheet
from mocogen.requests import Seeds

from .machine import describe


def steps(video: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean absolute differences from each frame to the next, the last to the first at the end."""
    return np.abs(np.roll(video, -1, axis=0).astype(float) - video).mean((1, 2, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", default="weizmann")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--seeds", default="0-15")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--sheet", type=Path, help="Filmstrips of the first four seeds.")
    options = parser.parse_args()
    model = mocogen.load(options.checkpoint)
    print(", ".join(f"{key} {value}" for key, value in describe(model.backend.device).items()))
    print(f"{options.frames} frames at speed {options.speed:g}, seeds {options.seeds}")
    print(f"{'':8} {'last to first / mean step':>30} {'/ largest step':>24} {'largest step':>16}")
    print(f"{'':8} {'plain':>10} {'loop':>8} {'worst':>10} {'loop':>13} {'worst':>10} ", end="")
    print(f"{'worst':>16}")
    strips = []
    for action in model.spec.actions or (None,):
        plain, to_mean, to_largest, jumps = [], [], [], []
        for seed in Seeds.parse(options.seeds):
            asked = {"frames": options.frames, "seed": seed, "action": action}
            open_ = steps(model.sample(**asked, speed=options.speed))
            video = model.sample(**asked, speed=options.speed, loop=True)
            closed = steps(video)
            plain.append(open_[-1] / open_[:-1].mean())
            to_mean.append(closed[-1] / closed[:-1].mean())
            to_largest.append(closed[-1] / closed[:-1].max())
            jumps.append(closed.max() / open_[:-1].max())
            if len(to_mean) <= 4:
                strips.append((f"{action}\nseed {seed}", np.concatenate([video, video[:2]])))
        print(
            f"{action or '':8} {np.mean(plain):10.2f} {np.mean(to_mean):8.2f} "
            f"{max(to_mean):10.2f} {np.mean(to_largest):13.2f} {max(to_largest):10.2f} "
            f"{max(jumps):16.2f}"
        )
    if options.sheet:
        sheet(options.sheet, strips, shown=14, columns=1)


if __name__ == "__main__":
    main()
