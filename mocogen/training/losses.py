"""Loss terms, each a function of tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def weighted_l1(made: Tensor, real: Tensor, weight: Tensor, regard: Tensor) -> Tensor:
    """Mean absolute difference of (n, c, h, w), frames weighted by (n,), pixels by (n, 1, h, w)."""
    return _weighted((made - real).abs(), weight, regard)


def weighted_l2(made: Tensor, real: Tensor, weight: Tensor, regard: Tensor) -> Tensor:
    """As :func:`weighted_l1`, of the squared difference."""
    return _weighted((made - real).square(), weight, regard)


def _weighted(error: Tensor, weight: Tensor, regard: Tensor) -> Tensor:
    return (_of_frames(error, regard) * weight).mean()


def _of_frames(error: Tensor, regard: Tensor) -> Tensor:
    """The mean error of each frame, pixels weighted, (n,)."""
    return error.mul(regard).mean((1, 2, 3))


def edge_l1(made: Tensor, real: Tensor, weight: Tensor, regard: Tensor) -> Tensor:
    """As :func:`weighted_l1`, of the differences between neighbouring pixels."""
    error = made - real
    across = (error[..., :, 1:] - error[..., :, :-1]).abs().mul(regard[..., :, 1:])
    down = (error[..., 1:, :] - error[..., :-1, :]).abs().mul(regard[..., 1:, :])
    return ((across.mean((1, 2, 3)) + down.mean((1, 2, 3))) * weight).mean()


def cells_l1(made: Tensor, real: Tensor, weight: Tensor, regard: Tensor, cells: int = 24) -> Tensor:
    """As :func:`weighted_l1`, of images averaged to cells x cells: which texture they have does
    not count, nor where in a cell a thing lies."""
    made, real, regard = (functional.adaptive_avg_pool2d(x, cells) for x in (made, real, regard))
    return weighted_l1(made, real, weight, regard)


@torch.no_grad()
def regard_for_errors(made: Tensor, real: Tensor, regard: Tensor, power: float) -> Tensor:
    """How much each of n frames counts, (n,), 1 on average: its error to the power of ``power``.

    Frames and ``regard`` as in :func:`weighted_l1`.
    """
    error = _of_frames((made - real).abs(), regard).pow(power)
    return error / error.mean().clamp_min(1e-12)


def regard_for_movement(real: Tensor, mean: Tensor, strength: float) -> Tensor:
    """How much a pixel's error counts, (n, 1, h, w): 1 in what stays, up to 1 + strength.

    An arm is a hundredth of a frame; without this its absence costs next to nothing.

    Args:
        real: frames (n, 3, h, w) in [-1, 1].
        mean: of all frames of the clip that each belongs to.
    """
    apart = functional.max_pool2d((real - mean).abs().mean(1, keepdim=True), 5, 1, 2)
    return 1 + strength * (apart / 0.25).clamp(max=1)


def restlessness(first: Tensor, second: Tensor, still: Tensor) -> Tensor:
    """Mean absolute change between two frames (n, 3, h, w) where ``still`` (n, 1, g, g) is 1.

    Frames are averaged to g x g cells before: what flickers is a colour, not a texture.
    """
    cells = [functional.adaptive_avg_pool2d(x, still.shape[-1]) for x in (first, second)]
    change = (cells[0] - cells[1]).abs().mean(1, keepdim=True)
    return (change * still).sum() / still.sum().clamp_min(1)


def stillness(first: Tensor, second: Tensor, cells: int = 24) -> Tensor:
    """Where two frames of one clip show no movement, (n, 1, cells, cells), 0 to 1.

    Cells within an eighth of the frame of any movement are left out: another person's arm,
    longer or lower, makes the same movement a little beside.
    """
    a, b = (functional.adaptive_avg_pool2d(x, cells) for x in (first, second))
    moved = ((a - b).abs().mean(1, keepdim=True) - 0.08) / 0.08
    reach = 2 * (cells // 8) + 1
    return 1 - functional.max_pool2d(moved.clamp(0, 1), reach, 1, reach // 2)


@torch.no_grad()
def shining(images: Tensor) -> Tensor:
    """What shines in images (n, 3, h, w) on black: (n, 1, h, w), 1 there and 0 elsewhere.

    A pixel's brightness is the largest of its three colours; an image's is that which 1 % of its
    pixels exceed, interpolated between two of them. Pixels of at least half of the image's
    brightness shine, however dark the image is: on one that is black all over, all do.
    (:func:`mocogen.evaluation.measures.shape_pixels` takes the brighter of the two pixels, and
    finds nothing in frames that are nearly black.)
    """
    brightness = ((images + 1) / 2).amax(1, keepdim=True)
    peak = brightness.flatten(1).quantile(0.99, dim=1)[:, None, None, None]
    return (brightness >= peak / 2).float()


def shared(places: Tensor, others: Tensor) -> Tensor:
    """Where both (n, 1, h, w) are 1; all of ``places`` in an image without such pixels."""
    both = places * others
    return torch.where(both.sum((2, 3), keepdim=True) > 0, both, places)


def tint(images: Tensor, where: Tensor) -> Tensor:
    """The mean colour of images (n, 3, h, w) where (n, 1, h, w) is 1: (n, 3), 0 to 1."""
    return ((images + 1) / 2 * where).sum((2, 3)) / where.sum((2, 3))


def tint_apart(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute difference of two images' tints (n, 3), pairs weighted by (n,)."""
    return ((first - second).abs().mean(1) * weight).mean()


def feature_l1(made: list[Tensor], real: list[Tensor], weight: Tensor) -> Tensor:
    """Distance of a discriminator's features, relative to their size (Larsen et al. 2016)."""
    total = weight.new_zeros(())
    for a, b in zip(made, real, strict=True):
        b = b.detach().float()
        difference = (a.float() - b).abs().flatten(1).mean(1)
        total = total + (difference * weight).mean() / b.abs().mean().clamp_min(1e-6)
    return total / len(made)


def charbonnier(error: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt(error^2 + epsilon^2): the absolute error, smooth at 0 (Charbonnier 1994)."""
    return (error.square() + epsilon**2).sqrt().mean()


def total_variation(field: Tensor) -> Tensor:
    """Mean absolute difference between neighbouring pixels of (n, c, h, w), across and down."""
    across = (field[..., 1:] - field[..., :-1]).abs().mean()
    down = (field[..., 1:, :] - field[..., :-1, :]).abs().mean()
    return across + down


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of a discriminator from its logits (Lim and Ye 2017)."""
    return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()


def log_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Cross-entropy of a discriminator from its logits (Goodfellow et al. 2014, eq. 1)."""
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def log_generator(fake: Tensor) -> Tensor:
    """The generator's non-saturating counterpart of :func:`log_discriminator`."""
    return functional.softplus(-fake).mean()


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of N(mean, variance) from N(0, I), summed over the last axis, in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        return -grads[0]


def reverse_gradient(x: Tensor) -> Tensor:
    """``x`` itself, whose gradient comes back negated (Ganin and Lempitsky 2015, eq. 10)."""
    return _Reverse.apply(x)
