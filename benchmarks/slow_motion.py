"""Slow motion through the motion codes against blending pixels, in figures and in a picture.

    python -m benchmarks.slow_motion [--checkpoint weizmann] [--action jack] [--seeds 0-15]
        [--picture docs/images/slow-motion.png]

Between every two frames of a clip lies one frame at --speed 0.5. The figure is the sharpness
(mean absolute difference of pixels one below the other) of the part that moves, halfway between two
frames, as a ratio to the sharpness of the two: a blend shows every limb twice, each half
transparent. The picture has both ways between the two frames that differ most.
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

PARTS = 4
"""Steps from one frame to the next in the picture."""


def sharpness(frames: NDArray[np.float64], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean absolute difference of pixels one below the other, where it counts: (n,)."""
    rough = np.abs(np.diff(frames, axis=1)).mean(-1)
    counts = where[:, 1:]
    return (rough * counts).sum((1, 2)) / np.maximum(1, counts.sum((1, 2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", default="weizmann")
    parser.add_argument("--action", default="jack")
    parser.add_argument("--seeds", default="0-15")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    model = mocogen.load(options.checkpoint)
    print(", ".join(f"{key} {value}" for key, value in describe(model.backend.device).items()))
    posed, blended, largest, chosen = [], [], 0.0, (0, 0)
    for seed in Seeds.parse(options.seeds):
        slow = model.sample(2 * options.frames - 1, seed, action=options.action, speed=0.5).astype(
            float
        )
        before, between, after = slow[:-1:2], slow[1::2], slow[2::2]
        change = np.abs(after - before).mean(-1)
        moving = change > 25.0
        enough = moving.sum((1, 2)) > 50
        sharp = {
            name: sharpness(frames[enough], moving[enough])
            for name, frames in (
                ("before", before),
                ("after", after),
                ("posed", between),
                ("blended", (before + after) / 2),
            )
        }
        beside = (sharp["before"] + sharp["after"]) / 2
        posed += list(sharp["posed"] / beside)
        blended += list(sharp["blended"] / beside)
        jump = change.mean((1, 2))
        if jump.max() > largest:
            largest, chosen = float(jump.max()), (seed, int(jump.argmax()))
    print(
        f"{options.action}, {len(posed)} pairs of frames in which enough moves: sharpness "
        f"halfway between {np.median(posed):.2f} by new poses, {np.median(blended):.2f} by blending"
    )
    if options.picture:
        seed, at = chosen
        slow = model.sample(PARTS * (at + 1) + 1, seed, action=options.action, speed=1 / PARTS)
        poses = slow[PARTS * at :].repeat(2, axis=1).repeat(2, axis=2)
        weights = np.linspace(0, 1, PARTS + 1)[:, None, None, None]
        blends = np.rint((1 - weights) * poses[0] + weights * poses[-1]).astype(np.uint8)
        rows = [("blended\npixels", blends), (f"--speed\n{1 / PARTS:g}", poses)]
        sheet(options.picture, rows, shown=PARTS + 1, columns=1)
        print(f"{options.picture}: seed {seed}, between frames {at} and {at + 1}")


if __name__ == "__main__":
    main()
