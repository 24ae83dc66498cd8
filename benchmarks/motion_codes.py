"""Where a motion network's codes are, and how fast they move, against those of the real clips.

    python -m benchmarks.motion_codes RUN CLIPS

RUN is a folder that `mocogen train` wrote, with the states of its generator and motion stages;
CLIPS are the clips that it was trained on, whose codes are as wide as the run's
``motion.swing``. Codes are compared in the whitened space that the motion stage works in, over
256 unrolls of 288 steps for every action, from one seed.

*nearest*: the mean distance from a code, so many steps after the start, to the nearest code of
a real clip of the action. Beside it, the same from the codes of each clip to those of other
people, where there are any: what two people who do the same are apart. Codes further away than
that show poses that nobody takes.

*spread*: the standard deviation of those codes, over that of all real codes of the action. All
clips begin alike where it is small.

*speed*: the mean distance from one code to the next, over the same of the real clips.

No movement is seen before the step ``motion.warm_up`` of the run: steps are counted from the
start of the unroll, before the warm-up.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mocogen.errors import MocogenError
from mocogen.motion import MotionNetwork
from mocogen.training.config import load_config
from mocogen.training.networks import motion_network
from mocogen.training.run import clips_of, make_fabric
from mocogen.training.stage import Context
from mocogen.training.stage_motion import encode_clips, load_encoder
from mocogen.training.states import outdated, read_state, state_path

from .machine import describe

UNROLLS, STEPS = 256, 288
MOMENTS = (0, 8, 16, 32, 64, 128)
STARTS, WINDOW = (0, 32, 128, 224), 64


def nearest(codes: Tensor, others: Tensor) -> float:
    """The mean distance of codes (n, motion) to the nearest of others (m, motion)."""
    return float(torch.cdist(codes, others).min(1).values.mean())


def spread(codes: Tensor) -> float:
    """The standard deviation of codes (n, motion) in all directions together."""
    return float(codes.var(0, correction=0).sum().sqrt())


def speed(path: Tensor) -> float:
    """The mean length of the steps of paths (frames, ..., motion)."""
    return float((path[1:] - path[:-1]).norm(dim=-1).mean())


@dataclass(frozen=True)
class Real:
    """The real clips of an action: paths (frames, motion), and of each who is on screen."""

    paths: list[Tensor]
    people: list[str]

    def apart(self) -> float:
        """The mean distance of a path's codes to the nearest of other people; nan for none."""
        found = []
        for path, person in zip(self.paths, self.people, strict=True):
            others = [p for p, who in zip(self.paths, self.people, strict=True) if who != person]
            if others:
                found.append(nearest(path, torch.cat(others)))
        return sum(found) / len(found) if found else float("nan")


def read_paths(run: Path, data: Path) -> tuple[Context, list[Real], MotionNetwork]:
    """The run, the real paths of every action, and the averaged network that makes such paths.

    Raises:
        MocogenError: a state or a clip is missing or damaged.
    """
    config = load_config(str(run / "config.toml"))
    clips = clips_of(data, config)
    context = Context(config, clips, make_fabric(config, "cpu"), run)
    found = encode_clips(context, load_encoder(context))
    people = [clip.group for clip in clips.filmed]
    real = [Real([], []) for _ in range(max(1, len(clips.actions)))]
    for path, action, person in zip(found.paths, found.actions, people, strict=True):
        real[action].paths.append(path)
        real[action].people.append(person)
    state, model = read_state(state_path(run, "motion")), config.model
    if outdated(state, found.encoder):
        raise MocogenError(f"{run}: the motion stage was fitted to another encoder")
    motion = motion_network(model, len(clips.actions))
    motion.load_state_dict(state["modules"]["motion_average_whitened"])
    return context, real, motion.eval()


@torch.no_grad()
def measure(real: Real, made: Tensor) -> dict[str, list[float]]:
    """Of the paths of an action, real ones and those made (frames, n, motion)."""
    everything = torch.cat(real.paths)
    pace = sum(map(speed, real.paths)) / len(real.paths)
    return {
        "people": [real.apart()],
        "nearest": [nearest(made[k], everything) for k in MOMENTS],
        "spread": [spread(made[k]) / spread(everything) for k in MOMENTS],
        "speed": [speed(made[k : k + WINDOW]) / pace for k in STARTS],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="a folder that `mocogen train` wrote")
    parser.add_argument("data", type=Path, help="the clips that it was trained on")
    options = parser.parse_args()
    try:
        context, everybody, motion = read_paths(options.run, options.data)
    except MocogenError as error:
        print(f"motion_codes: {error}", file=sys.stderr)
        return error.exit_code
    random = torch.Generator().manual_seed(0)
    names = context.clips.actions or ("all",)
    table = {}
    for action, real in enumerate(everybody):
        noise = torch.randn(STEPS, UNROLLS, motion.noise_size, generator=random)
        category = torch.full((UNROLLS,), action) if motion.categories else None
        table[names[action]] = measure(real, motion(noise, None, category))
    print(f"warm-up of this run: {context.config.motion.warm_up} steps\n")
    for key, heads in (
        ("nearest", ["people", *(f"step {k}" for k in MOMENTS)]),
        ("spread", [f"step {k}" for k in MOMENTS]),
        ("speed", [f"{k} to {k + WINDOW - 1}" for k in STARTS]),
    ):
        print(f"{key:10}" + "".join(f"{head:>12}" for head in heads))
        for name, found in table.items():
            row = found["people"] + found[key] if key == "nearest" else found[key]
            print(f"{name:10}" + "".join(f"{value:12.2f}" for value in row))
        print()
    print(", ".join(f"{key} {value}" for key, value in describe("cpu").items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
