"""How whole people stay in the motion of others.

    python -m benchmarks.borrowed_motion RUN CLIPS

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
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from mocogen.errors import MocogenError
from mocogen.training.config import load_config
from mocogen.training.counterparts import Counterparts
from mocogen.training.run import clips_of, make_fabric
from mocogen.training.stage import Context
from mocogen.training.stage_generator import GeneratorStage
from mocogen.training.states import norms_frozen, read_state, state_path

from .machine import describe

FRAMES, ALIKE, WORST = 96, 6, 4
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

    Raises:
        MocogenError: the state or a clip is missing or damaged.
    """

    def __init__(self, run: Path, data: Path) -> None:
        config = load_config(str(run / "config.toml"))
        clips = clips_of(data, config)
        state = read_state(state_path(run, "generator"))
        self.stage = GeneratorStage(Context(config, clips, make_fabric(config, "cpu"), run))
        for name, module in self.stage.modules.items():
            module.load_state_dict(state["modules"][name])
        self.generator = self.stage.generator_average.train(not norms_frozen(state))
        self.frames = Counterparts(self.stage.sampler, self.stage.encoder_average)
        self.actions = clips.actions or ("all",)
        self.random = torch.Generator().manual_seed(0)

    def distances(self, action: int, others: bool) -> Tensor:
        """Of frames with the content of their own person, or of somebody else, (96,).

        Raises:
            MocogenError: nobody else is seen in this action.
        """
        frames, stage = self.frames, self.stage
        usual = (frames.action == action) & (frames.person >= 0)
        rows = usual.nonzero()[:, 0]
        rows = rows[torch.randint(len(rows), (FRAMES,), generator=self.random)]
        people = frames.person[usual].unique()
        found = []
        for row in rows.tolist():
            person = frames.person[row]
            if others:
                rest = people[people != person]
                if not len(rest):
                    raise MocogenError(f"only one person does {self.actions[action]}")
                person = rest[torch.randint(len(rest), (), generator=self.random)]
            mine = (usual & (frames.person == person)).nonzero()[:, 0]
            upright = torch.zeros(len(mine), dtype=torch.bool)
            found.append(torn(self._made(row, person, action), stage.sampler.images(mine, upright)))
        return torch.tensor(found)

    @torch.no_grad()
    def _made(self, row: int, person: Tensor, action: int) -> Tensor:
        stage = self.stage
        group = ((stage.sampler.person == person) & ~stage.sampler.mirrored).nonzero()[0]
        while True:
            content = stage._contents(group, 1.0, None, self.random)[0]
            if float(stage.regions.winner(content)[1]) >= LEAD:
                break
        latent = stage._latent(self.frames.codes[row, None], torch.tensor([action]), content)
        image: Tensor = self.generator(latent)[0].float()
        return image


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="a folder that `mocogen train` wrote")
    parser.add_argument("data", type=Path, help="the clips that it was trained on")
    options = parser.parse_args()
    heads = [f"{whose} {what}" for whose in ("own", "others'") for what in ("mean", "90%")]
    try:
        shown = Shown(options.run, options.data)
        print(f"{'':10}" + "".join(f"{head:>14}" for head in heads))
        for index, action in enumerate(shown.actions):
            values = []
            for others in (False, True):
                apart = shown.distances(index, others)
                values += [float(apart.mean()), float(apart.quantile(0.9))]
            print(f"{action:10}" + "".join(f"{value:14.2f}" for value in values), flush=True)
    except MocogenError as error:
        print(f"borrowed_motion: {error}", file=sys.stderr)
        return error.exit_code
    print(", ".join(f"{key} {value}" for key, value in describe("cpu").items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
