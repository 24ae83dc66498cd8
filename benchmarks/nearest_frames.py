"""How far the frames of a checkpoint are from the nearest real ones.

    python -m benchmarks.nearest_frames CLIPS CHECKPOINT [CHECKPOINT ...]

CLIPS are those that the checkpoints were trained on, in the light in which they were shown. Of
every action, clips of 48 frames are made, seeds 0 to 39, none picked. Every fourth frame, averaged
over 2x2 pixels, is held against all real frames of the action, mirrored ones included; the
distance is the root mean square over pixels and colours, in grey levels.

A torn or fading body is far from every real one, so the last columns tell how bad the worst are.
Two people in between are, too, and a model that only repeats frames is not: it says nothing
of diversity. Compare checkpoints of the same clips by it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

import mocogen
from mocogen.errors import MocogenError
from mocogen.evaluation.measures import Frames, reduce
from mocogen.evaluation.scores import whole_clips
from mocogen.training.config import from_dict
from mocogen.training.run import clips_of

from .machine import describe

SEEDS, FRAMES, EVERY = 40, 48, 4
SHARES = (0.5, 0.9, 0.99)


def reduced(frames: Frames) -> Tensor:
    """Frames (n, size, size, 3), 0 to 255, averaged over 2x2 pixels."""
    return torch.from_numpy(reduce(frames, frames.shape[1] // 2)).float()


def nearest(made: Tensor, real: Tensor) -> Tensor:
    """Of frames (n, h, w, 3), the distance to the nearest of (m, h, w, 3) or its mirror image."""
    both = torch.cat([real, real.flip(2)]).flatten(1)
    return torch.cdist(made.flatten(1), both).min(1).values / both.shape[1] ** 0.5


def measure(model: mocogen.Model, data: Path) -> dict[str, Tensor]:
    """The distances of all frames that were made, by action.

    Raises:
        MocogenError: the checkpoint was not trained by mocogen, or a clip is missing or damaged.
    """
    recorded = model.spec.training.get("config")
    if not recorded:
        raise MocogenError(f"{model.spec.name} does not say what it was trained on")
    clips = clips_of(data, from_dict(recorded))
    found = {}
    for index, action in enumerate(clips.actions or (None,)):
        real = [
            reduced(clips.frames[clip.start : clip.start + clip.length])
            for clip in clips.clips
            if clips.action_index(clip) == index
        ]
        requests = [model.clip(seed, FRAMES, action=action) for seed in range(SEEDS)]
        made = [reduced(frames[::EVERY].copy()) for _, frames in whole_clips(model, requests)]
        found[action or "all"] = nearest(torch.cat(made), torch.cat(real))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="the clips that they were trained on")
    parser.add_argument("checkpoints", nargs="+", help="shipped names or files")
    options = parser.parse_args()
    try:
        for name in options.checkpoints:
            print(f"{name}\n{'':10}{'mean':>8}" + "".join(f"{s:8.0%}" for s in SHARES))
            for action, apart in measure(mocogen.load(name, "cpu"), options.data).items():
                values = [apart.mean(), *apart.quantile(torch.tensor(SHARES))]
                print(f"{action:10}" + "".join(f"{float(value):8.2f}" for value in values))
    except MocogenError as error:
        print(f"nearest_frames: {error}", file=sys.stderr)
        return error.exit_code
    print(", ".join(f"{key} {value}" for key, value in describe("cpu").items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
