"""Random changes to frames, drawn from a given generator so that runs can be repeated.

The generator is one of the frames' device: as many numbers as a batch has pixels take the CPU
longer than a GPU needs for a whole step.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .networks import ENCODER_SIZE

_GREY = (0.299, 0.587, 0.114)  # luma weights of ITU-R BT.601


def flip_where(images: Tensor, mirrored: Tensor) -> Tensor:
    """Images (n, c, h, w), left and right exchanged where ``mirrored`` (n,) is true."""
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def encoder_view(images: Tensor, mirrored: Tensor) -> Tensor:
    """What the motion encoder sees: grey, 64x64, mean 0 and deviation 1 a frame.

    Mirrored frames are turned back, so that the code does not say which arm is raised or
    where a person looks: that is the content's part.

    Args:
        images: (n, 3, h, w) in [-1, 1].
        mirrored: (n,), bool.
    """
    red, green, blue = images.float().unbind(1)
    grey = (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue)[:, None]
    if grey.shape[-1] != ENCODER_SIZE:
        grey = functional.interpolate(
            grey, size=(ENCODER_SIZE, ENCODER_SIZE), mode="bilinear", antialias=True
        )
    grey = flip_where(grey, mirrored)
    mean = grey.mean((1, 2, 3), keepdim=True)
    return (grey - mean) / grey.std((1, 2, 3), keepdim=True).clamp_min(1e-3)


def jitter(grey: Tensor, random: torch.Generator, shift: float) -> Tensor:
    """Scale and position by up to ``shift``, contrast, and noise: (n, 1, h, w) to the same.

    It takes the encoder's chance to know people by their height or place. Where the movement
    is a change of place, ``shift`` has to be 0.
    """
    n = len(grey)
    draw = torch.rand(n, 4, generator=random, device=grey.device) * 2 - 1
    noise = torch.randn(grey.shape, generator=random, device=grey.device)
    scale = 1 + shift * draw[:, 0]
    theta = grey.new_zeros(n, 2, 3)
    theta[:, 0, 0] = scale
    theta[:, 1, 1] = scale
    theta[:, :, 2] = shift * draw[:, 1:3]
    grid = functional.affine_grid(theta, list(grey.shape), align_corners=False)
    view = functional.grid_sample(grey, grid, padding_mode="border", align_corners=False)
    return view * (1 + 0.15 * draw[:, 3, None, None, None]) + 0.1 * noise


def view_draws(n: int, random: torch.Generator) -> Tensor:
    """The random numbers of ``n`` discriminator views, (n, 4), uniform in [-1, 1)."""
    return torch.rand(n, 4, generator=random, device=random.device) * 2 - 1


def discriminator_view(images: Tensor, size: int, draws: Tensor) -> Tensor:
    """Images (n, 3, h, w) as a discriminator sees them: reduced, shifted, recoloured.

    Differentiable, and the same for real and made frames (Zhao et al. 2020): with few clips
    a discriminator would otherwise know the real ones by heart. ``draws`` comes from
    :func:`view_draws`; equal draws change two images in the same way.
    """
    x = images.float()
    if x.shape[-1] != size:
        x = functional.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
    x = _shift(x, (draws[:, :2] * size / 16).round().long())
    x = x + 0.15 * draws[:, 2, None, None, None]
    mean = x.mean(1, keepdim=True)
    return mean + (x - mean) * (1 + 0.4 * draws[:, 3, None, None, None])


def _shift(x: Tensor, offset: Tensor) -> Tensor:
    """Images moved by whole pixels, offset (n, 2), their edges repeated."""
    n, _, height, width = x.shape
    down = (torch.arange(height, device=x.device) + offset[:, :1]).clamp(0, height - 1)
    across = (torch.arange(width, device=x.device) + offset[:, 1:]).clamp(0, width - 1)
    rows = torch.arange(n, device=x.device)
    return x.permute(0, 2, 3, 1)[rows[:, None, None], down[:, :, None], across[:, None, :]].permute(
        0, 3, 1, 2
    )
