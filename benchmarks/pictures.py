"""The pictures of docs/how.md: ``python -m benchmarks.pictures`` writes docs/images/how-*.

Nothing is picked by its looks but the seeds, which stand here.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from mocogen import checkpoint, latents
from mocogen.files import atomic_path
from mocogen.generator import to_pixels
from mocogen.mapping import ContentMapping
from mocogen.training.networks import ImageDiscriminator, VideoDiscriminator
from mocogen.training.sheets import grid

IMAGES = Path(__file__).parent.parent / "docs" / "images"
CONTENTS = (0, 1, 11)
MOTION = 8
FRAMES = 48


class Networks:
    """The two networks of the shipped checkpoint, with content and motion apart."""

    def __init__(self) -> None:
        self.spec, tensors = checkpoint.read(checkpoint.find("weizmann"))
        self.motion, self.generator = checkpoint.networks(self.spec, tensors)
        self.mapping = ContentMapping.of(self.spec, tensors)

    def path(self, seed: int, action: str, frames: int = FRAMES) -> Tensor:
        """Motion codes of a seed and an action, (frames, motion)."""
        before = self.spec.warm_up
        noise = torch.from_numpy(latents.noise(seed, 0, before + frames, self.spec.noise))[:, None]
        category = torch.tensor([self.spec.actions.index(action)])
        return self.motion(noise, category=category)[before:, 0]

    def frames(self, content: int, codes: Tensor) -> Tensor:
        """Frames (n, 3, size, size) in [-1, 1] of a seed's content and n motion codes."""
        drawn = latents.content(content, self.spec.content)[None]
        vector = torch.from_numpy(drawn if self.mapping is None else self.mapping(drawn))
        parts = {"motion": codes, "content": vector.expand(len(codes), -1)}
        joined = torch.cat([parts[name] for name in self.spec.latent_order], dim=1)
        # In parts, so that memory stays small.
        return torch.cat([self.generator(part) for part in joined.split(16)])


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.no_grad():
        networks = Networks()
        _moving_grid(networks, IMAGES / "how-grid.webp")
        _codes(networks, IMAGES / "how-codes.png")
        clip = networks.frames(CONTENTS[-1], networks.path(MOTION, "jack", 16))
    _judges(clip, len(networks.spec.actions), IMAGES / "how-judges.png")


def _moving_grid(networks: Networks, out: Path) -> None:
    """A row a content, a column an action, all moving."""
    paths = [networks.path(MOTION, action) for action in networks.spec.actions]
    rows = [
        torch.cat([networks.frames(content, path) for path in paths], dim=3) for content in CONTENTS
    ]
    pixels = to_pixels(torch.cat(rows, dim=2), -1.0, 1.0).numpy()
    first, *rest = [Image.fromarray(frame) for frame in pixels]
    with atomic_path(out) as temporary:
        first.save(
            temporary,
            save_all=True,
            append_images=rest,
            duration=round(1000 / networks.spec.fps),
            loop=0,
            quality=55,
            method=4,
        )


def _codes(networks: Networks, out: Path, shown: int = 8) -> None:
    """The numbers of the motion code over time, above the frames that they make."""
    codes = networks.path(MOTION, "jack")
    strip = grid([networks.frames(CONTENTS[-1], codes[:: FRAMES // shown])])
    height = 150
    picture = Image.new("RGB", (strip.width, height + strip.height), "white")
    picture.paste(strip, (0, height))
    draw = ImageDraw.Draw(picture)
    curves = codes.numpy()
    low, high = curves.min(), curves.max()
    across = np.arange(FRAMES) * strip.width / FRAMES + strip.width / FRAMES / 2
    for k, curve in enumerate(curves.T):
        down = 8 + (high - curve) / (high - low) * (height - 16)
        colour = f"hsl({360 * k // curves.shape[1]}, 60%, 45%)"
        for start, end in pairwise(zip(across, down, strict=True)):
            draw.line([start, end], fill=colour, width=2)
    with atomic_path(out) as temporary:
        picture.quantize(128).save(temporary)


def _judges(clip: Tensor, actions: int, out: Path) -> None:
    """What one judgement of either discriminator depends on, below the clip that is judged."""
    clip.requires_grad_()
    image_scores = ImageDiscriminator(width=8, spectral=True)(clip)
    video_scores, _ = VideoDiscriminator(width=8, spectral=True, actions=actions)(
        clip.transpose(0, 1)[None]
    )
    rows = [
        clip,
        _influence(image_scores[8, image_scores.shape[1] // 2], clip),
        # Nine patches a time step; the fifth is in the middle.
        _influence(video_scores[0].view(-1, 9)[1, 4], clip),
    ]
    with atomic_path(out) as temporary:
        grid([row[4:12] for row in rows]).quantize(128).save(temporary)


def _influence(score: Tensor, clip: Tensor) -> Tensor:
    """How much a score changes with every pixel: grey frames as bright as that, in [-1, 1]."""
    (gradient,) = torch.autograd.grad(score, clip, retain_graph=True)
    strength = functional.max_pool2d(gradient.abs().sum(1, keepdim=True), 5, 1, 2)
    return (strength / strength.max()).expand(-1, 3, -1, -1) * 2 - 1


if __name__ == "__main__":
    main()
