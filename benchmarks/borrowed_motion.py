"""How whole people stay in the motion of others.

    python -m benchmarks.borrowed_motion RUN CLIPS [--swing 1.2]

RUN is a folder that `mocogen train` wrote, with the state of its generator stage; CLIPS are the
clips that it was trained on. For every action 96 frames of it are drawn, all from one seed, and
the averaged generator shows their motion codes twice: with a content of the person who was
filmed (*own*), and with one of somebody else (*others'*). No motion network takes part, and no
content is near a border between two people.

A made frame, averaged over 2x2 pixels, is cut into patches that overlap, an eighth of it wide.
Each is held against all patches, up to a sixteenth of the frame away across and down, of the six
frames of the person in that action that look most like the whole. The four patches that differ
most from the most similar one give the frame's distance: a head that is torn is no patch of
anybody. The table has the mean and the worst tenth's smallest, in grey levels. Where *others'* is
far above *own*, the motion codes say who they were made from.

*Moves* is the movement (see docs/measures.md) of up to 80 frames of one clip of every person in
the action, shown in the same two ways, over that of these clips.

With ``--swing`` every code is so many times as far from the mean of its clip, as the motion
network's are with ``motion.swing``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from mocogen.errors import MocogenError
from mocogen.evaluation.measures import movement
from mocogen.generator import to_pixels
from mocogen.training.codes import swung
from mocogen.training.config import load_config
from mocogen.training.counterparts import Counterparts
from mocogen.training.run import clips_of, make_fabric
from mocogen.training.stage import Context
from mocogen.training.stage_generator import GeneratorStage
from mocogen.training.states import norms_frozen, read_state, state_path

from .machine import describe

FRAMES, ALIKE, WORST, CLIP = 96, 6, 4, 80
BOTH = (False, True)
"""Whether somebody else shows a motion."""
LEAD = 1.0
"""By how much a content's own region leads over the next one, at least."""


def unlike(made: Tensor, real: Tensor) -> Tensor:
    """How far patches of an image (c, h, w) are from those most like them of images (k, c, h, w):
    mean absolute differences, (patches,)."""
    height, width = made.shape[1:]
    size, reach = width // 8, width // 16
    wide = functional.pad(real, [reach] * 4, mode="replicate")
    least = torch.tensor(torch.inf)
    for down in range(2 * reach + 1):
        for across in range(2 * reach + 1):
            moved = wide[..., down : down + height, across : across + width]
            apart = (made - moved).abs().mean(1, keepdim=True)
            patches = functional.avg_pool2d(apart, size, size // 2)
            least = torch.minimum(least, patches.amin(0))
    return least.flatten()


def torn(made: Tensor, real: Tensor) -> float:
    """The distance of a frame (3, size, size) in [-1, 1] from a person's frames (n, 3, size,
    size), in grey levels."""
    made, real = functional.avg_pool2d(made, 2), functional.avg_pool2d(real, 2)
    cells = [functional.adaptive_avg_pool2d(x, made.shape[-1] // 2) for x in (made, real)]
    apart = (cells[0] - cells[1]).abs().mean((1, 2, 3))
    nearest = apart.topk(min(ALIKE, len(real)), largest=False).indices
    patches = unlike(made, real[nearest])
    return 127.5 * float(patches.topk(min(WORST, len(patches))).values.mean())


class Shown:
    """A run's generator, and the frames that it was trained on.

    Args:
        run: the folder of the run.
        data: the clips.
        swing: how many times as far from the mean of its clip a code is.

    Raises:
        MocogenError: the state or a clip is missing or damaged.
    """

    def __init__(self, run: Path, data: Path, swing: float = 1.0) -> None:
        config = load_config(str(run / "config.toml"))
        clips = clips_of(data, config)
        state = read_state(state_path(run, "generator"))
        self.stage = GeneratorStage(Context(config, clips, make_fabric(config, "cpu"), run))
        for name, module in self.stage.modules.items():
            module.load_state_dict(state["modules"][name])
        self.generator = self.stage.generator_average.train(not norms_frozen(state))
        self.frames = Counterparts(self.stage.sampler, self.stage.encoder_average)
        self.codes = swung(self.frames.codes, self.frames.middles, swing)
        self.actions = clips.actions or ("all",)
        self.random = torch.Generator().manual_seed(0)

    def distances(self, action: int, others: bool) -> Tensor:
        """Of frames with the content of their own person, or of somebody else, (96,).

        Raises:
            MocogenError: nobody else is seen in this action.
        """
        rows = self._rows(action)
        found = []
        for row in rows[torch.randint(len(rows), (FRAMES,), generator=self.random)]:
            person = self._shown_by(row, rows, others)
            mine = rows[self.frames.person[rows] == person]
            made = self._made(row[None], person, action)[0]
            found.append(torn(made, self._filmed(mine)))
        return torch.tensor(found)

    def moves(self, action: int, others: bool) -> float:
        """The movement of clips with the content of their own person, or of somebody else, over
        that of the clips as they were filmed.

        Raises:
            MocogenError: nobody else is seen in this action.
        """
        rows, totals = self._rows(action), torch.zeros(2)
        for person in self.frames.person[rows].unique():
            mine = rows[self.frames.person[rows] == person]
            clip = mine[self.frames.clip[mine] == self.frames.clip[mine[0]]][:CLIP]
            made = self._made(clip, self._shown_by(clip[0], rows, others), action)
            pixels = (to_pixels(x, -1.0, 1.0).numpy() for x in (made, self._filmed(clip)))
            totals += torch.tensor([movement(frames) for frames in pixels])
        return float(totals[0] / totals[1])

    def _rows(self, action: int) -> Tensor:
        """The frames of an action, but for those in another look."""
        return ((self.frames.action == action) & (self.frames.person >= 0)).nonzero()[:, 0]

    def _filmed(self, rows: Tensor) -> Tensor:
        return self.stage.sampler.images(rows, torch.zeros(len(rows), dtype=torch.bool))

    def _shown_by(self, row: Tensor, rows: Tensor, others: bool) -> Tensor:
        """Whose content the motion of a frame gets, of those seen in the frames ``rows``."""
        person = self.frames.person[row]
        if not others:
            return person
        people = self.frames.person[rows].unique()
        rest = people[people != person]
        if not len(rest):
            action = self.actions[int(self.frames.action[row])]
            raise MocogenError(f"only one person does {action}")
        return rest[torch.randint(len(rest), (), generator=self.random)]

    @torch.no_grad()
    def _made(self, rows: Tensor, person: Tensor, action: int) -> Tensor:
        """The motion of frames (n,) with one content of a person: (n, 3, size, size)."""
        stage = self.stage
        group = ((stage.sampler.person == person) & ~stage.sampler.mirrored).nonzero()[0]
        while True:
            content = stage._contents(group, 1.0, None, self.random)[0]
            if float(stage.regions.winner(content)[1]) >= LEAD:
                break
        actions = torch.full((len(rows),), action)
        latent = stage._latent(self.codes[rows], actions, content.expand(len(rows), -1))
        images: Tensor = self.generator(latent).float()
        return images


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="a folder that `mocogen train` wrote")
    parser.add_argument("data", type=Path, help="the clips that it was trained on")
    parser.add_argument("--swing", type=float, default=1.0, help="of the codes (1: as they are)")
    options = parser.parse_args()
    heads = [f"{whose} {what}" for whose in ("own", "others'") for what in ("mean", "90%", "moves")]
    try:
        shown = Shown(options.run, options.data, options.swing)
        print(f"{'':10}" + "".join(f"{head:>14}" for head in heads))
        actions = range(len(shown.actions))
        # All of them first: what they draw shall not depend on what the movement draws.
        apart = [[shown.distances(index, others) for others in BOTH] for index in actions]
        for index in actions:
            values = []
            for others, far in zip(BOTH, apart[index], strict=True):
                values += [float(far.mean()), float(far.quantile(0.9))]
                values.append(shown.moves(index, others))
            print(f"{shown.actions[index]:10}" + "".join(f"{value:14.2f}" for value in values))
    except MocogenError as error:
        print(f"borrowed_motion: {error}", file=sys.stderr)
        return error.exit_code
    print(", ".join(f"{key} {value}" for key, value in describe("cpu").items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
