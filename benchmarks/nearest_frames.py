"""How far the frames of a checkpoint, and their worst squares, are from the nearest real ones.

    python -m benchmarks.nearest_frames CLIPS CHECKPOINT [CHECKPOINT ...]

CLIPS are those that the checkpoints were trained on, in the light in which they were shown. Of
every action, clips of 48 frames are made, seeds 0 to 39, none picked. Every fourth frame, averaged
over 2x2 pixels, is held against all real frames of the action, mirrored ones included; the
distance is the root mean square over pixels and colours, in grey levels.

*frame*: the distance of the whole frame to the nearest real one.

*square*: a frame is cut into squares that overlap, a quarter of it wide, and each is held against
the same square of all real frames. It is the distance of the one that is furthest from them: a
speck or a torn head is a bad square of a good frame.

Both are told as the mean over frames, and as what half, nine tenths and 99 hundredths of them
keep below. The lines called real say the same of every seventh real frame, held against all but
those within 8 frames of it: what two moments of the same people are apart.

A model that only repeats frames is near to them, too: it says nothing of diversity.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import mocogen
from mocogen.errors import MocogenError
from mocogen.evaluation.measures import Frames, reduce
from mocogen.evaluation.scores import whole_clips
from mocogen.training.config import from_dict
from mocogen.training.data import ClipSet
from mocogen.training.run import clips_of

from .machine import describe

SEEDS, FRAMES, EVERY = 40, 48, 4
SHARES = torch.tensor([0.5, 0.9, 0.99])
REAL_EVERY, BESIDE = 7, 8
SQUARE, STRIDE = 4, 12
"""A square is a fourth of the frame wide, and begins at every twelfth of it."""


@dataclass(frozen=True)
class RealFrames:
    """The real frames of an action, upright.

    Attributes:
        frames: (m, h, w, 3), averaged over 2x2 pixels.
        clip, moment: (m,), which clip each comes from, and which frame of it it is.
    """

    frames: Tensor
    clip: Tensor
    moment: Tensor

    def to_itself(self) -> Tensor:
        """:func:`nearest` of every seventh frame among those more than 8 frames away."""
        some = slice(None, None, REAL_EVERY)
        same = self.clip[some, None] == self.clip
        beside = (self.moment[some, None] - self.moment).abs() <= BESIDE
        return nearest(self.frames[some], self.frames, same & beside)


def reduced(frames: Frames) -> Tensor:
    """Frames (n, size, size, 3), 0 to 255, averaged over 2x2 pixels."""
    return torch.from_numpy(reduce(frames, frames.shape[1] // 2)).float()


def nearest(made: Tensor, real: Tensor, without: Tensor | None = None) -> Tensor:
    """Of frames (n, h, w, 3), the distances to the nearest of (m, h, w, 3) or its mirror image.

    Args:
        without: bool (n, m), true where a real frame is not to be compared.

    Returns:
        (2, n): of the whole frame, and of its square that is furthest from all real ones.
    """
    mirror, size = real.flip(2), made.shape[1]
    everywhere = _apart(made, real, mirror, without)
    wide, stride = size // SQUARE, max(1, size // STRIDE)
    spans = [slice(start, start + wide) for start in range(0, size - wide + 1, stride)]
    places = [(slice(None), down, across) for down in spans for across in spans]
    squares = [_apart(made[at], real[at], mirror[at], without) for at in places]
    return torch.stack([everywhere, torch.stack(squares).amax(0)])


def _apart(made: Tensor, real: Tensor, mirror: Tensor, without: Tensor | None) -> Tensor:
    """Root mean squares of images (n, h, w, 3) to the nearest of (m, h, w, 3) twice: (n,)."""
    rows, *others = (images.flatten(1) for images in (made, real, mirror))
    apart = torch.minimum(*(torch.cdist(rows, theirs) for theirs in others))
    if without is not None:
        apart = apart.masked_fill(without, torch.inf)
    return apart.min(1).values / rows.shape[1] ** 0.5


def real_frames(clips: ClipSet) -> dict[str, RealFrames]:
    """The real frames of every action, of "all" where there are none."""
    found = {}
    for index, action in enumerate(clips.actions or ("all",)):
        mine = [c for c in clips.clips if clips.action_index(c) == index and not c.mirrored]
        found[action] = RealFrames(
            torch.cat([reduced(clips.frames[c.start : c.start + c.length]) for c in mine]),
            torch.cat([torch.full((c.length,), k) for k, c in enumerate(mine)]),
            torch.cat([torch.arange(c.length) for c in mine]),
        )
    return found


def measure(model: mocogen.Model, data: Path) -> dict[str, Tensor]:
    """The distances of what the model makes, and of the real frames, (2, n), by what they are.

    Raises:
        MocogenError: the checkpoint was not trained by mocogen, or a clip is missing or damaged.
    """
    recorded = model.spec.training.get("config")
    if not recorded:
        raise MocogenError(f"{model.spec.name} does not say what it was trained on")
    found = {}
    for action, real in real_frames(clips_of(data, from_dict(recorded))).items():
        named = action if model.spec.actions else None
        requests = [model.clip(seed, frames=FRAMES, action=named) for seed in range(SEEDS)]
        made = [reduced(frames[::EVERY].copy()) for _, frames in whole_clips(model, requests)]
        found[action] = nearest(torch.cat(made), real.frames)
        found[f"{action}, real"] = real.to_itself()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="the clips that they were trained on")
    parser.add_argument("checkpoints", nargs="+", help="shipped names or files")
    options = parser.parse_args()
    heads = [f"{kind} {h}" for kind in ("frame", "square") for h in ("mean", "50%", "90%", "99%")]
    try:
        for name in options.checkpoints:
            print(f"{name}\n{'':14}" + "".join(f"{head:>12}" for head in heads))
            for what, apart in measure(mocogen.load(name, "cpu"), options.data).items():
                shares = torch.cat([apart.mean(1, keepdim=True), apart.quantile(SHARES, 1).t()], 1)
                print(f"{what:14}" + "".join(f"{value:12.2f}" for value in shares.flatten()))
    except MocogenError as error:
        print(f"nearest_frames: {error}", file=sys.stderr)
        return error.exit_code
    print(", ".join(f"{key} {value}" for key, value in describe("cpu").items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
