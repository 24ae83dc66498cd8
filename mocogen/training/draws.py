"""Random numbers and small tensors on the device, without keeping it waiting."""

from __future__ import annotations

import torch
from torch import Tensor


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU's on ``device``.

    A plain copy to a GPU waits until everything before it is done, and the GPU then until the
    next kernels come; out of page-locked memory it is one of the GPU's tasks like the others.
    """
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def normals_like(x: Tensor, random: torch.Generator) -> Tensor:
    """Draws from N(0, 1) in the shape of ``x`` and on its device; ``random`` is the CPU's.

    On another device ``random`` gives the seed alone: as many numbers as a batch has pixels
    take the CPU longer than a GPU needs for a whole step.
    """
    if x.device.type == "cpu":
        return torch.randn(x.shape, generator=random).to(x)
    seed = int(torch.randint(2**62, (), generator=random))
    own = torch.Generator(x.device).manual_seed(seed)
    return torch.randn(x.shape, generator=own, device=x.device, dtype=x.dtype)
