"""Loss terms, each a function of tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def weighted_l1(made: Tensor, real: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute difference of (n, c, h, w), frames weighted by (n,)."""
    return ((made - real).abs().mean((1, 2, 3)) * weight).mean()


def edge_l1(made: Tensor, real: Tensor, weight: Tensor) -> Tensor:
    """As :func:`weighted_l1`, of the differences between neighbouring pixels."""
    error = made - real
    across = (error[..., :, 1:] - error[..., :, :-1]).abs().mean((1, 2, 3))
    down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean((1, 2, 3))
    return ((across + down) * weight).mean()


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
