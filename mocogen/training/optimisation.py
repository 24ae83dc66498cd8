"""What a step does beside its losses: averages of weights, gradients, learning rates, schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, share: float) -> None:
    """Move an exponential moving average by ``share`` towards the current weights.

    Buffers (batch statistics) move along; counters are copied.
    """
    mine, theirs = average.state_dict(), current.state_dict()
    floating = [key for key, value in mine.items() if value.is_floating_point()]
    torch._foreach_lerp_([mine[key] for key in floating], [theirs[key] for key in floating], share)
    for key in mine.keys() - floating:
        mine[key].copy_(theirs[key])


def average_gradients(fabric: Fabric, parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over all processes, in one message.

    Losses are means over a process's share of the batch, all of one size, so this is the
    gradient of the joined batch, but for batch norm, whose statistics remain a process's own.
    """
    if fabric.world_size == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    flat = fabric.all_reduce(flat, reduce_op="mean")  # type: ignore[assignment]
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def adam(
    parameters: Iterable[nn.Parameter], rate: float, betas: tuple[float, float], recorded: bool
) -> torch.optim.Adam:
    """Adam; one whose steps can be ``recorded`` has its rate and counts on the device."""
    parameters = list(parameters)
    if not recorded:
        return torch.optim.Adam(parameters, rate, betas)
    on_device = torch.tensor(rate, device=parameters[0].device)
    return torch.optim.Adam(parameters, on_device, betas, fused=True, capturable=True)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def ramp(progress: float, start: float, end: float) -> float:
    """0 before ``start``, 1 from ``end`` on, a line between; a step where ``end`` is no later."""
    if progress >= end:
        return 1.0
    if progress <= start:
        return 0.0
    return (progress - start) / (end - start)


def half_cosine(progress: float, start: float) -> float:
    """1 up to ``start``, then falling to 0 at 1 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * ramp(progress, start, 1.0)))


def linear_decay(progress: float) -> float:
    """1 over the first half, then falling linearly to 0 at 1."""
    return 1.0 - ramp(progress, 0.5, 1.0)
