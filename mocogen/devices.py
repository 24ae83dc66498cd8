"""Which device the networks run on."""

from __future__ import annotations

import torch

from .errors import MocogenError, UsageError


def choose_device(name: str = "auto") -> torch.device:
    """The device called ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` is CUDA where there is one, then Apple's MPS, then the CPU.

    Raises:
        UsageError: the name is none of these.
        MocogenError: there is no such device here.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (
        ":" in name and not (kind == "cuda" and index.isdigit())
    ):
        raise UsageError(f"unknown device {name!r}: use auto, cpu, cuda, cuda:N or mps")
    if kind == "mps" and not mps:
        raise MocogenError("device mps is not there: this machine or this torch has no MPS")
    if kind == "cuda":
        if not cuda:
            why = (
                "this torch is a build without CUDA"
                if torch.version.cuda is None
                else "no GPU was found"
            )
            raise MocogenError(f"device {name} is not there: {why}; use --device cpu")
        if index and int(index) >= torch.cuda.device_count():
            raise MocogenError(
                f"device {name} is not there: this machine has cuda:0 to "
                f"cuda:{torch.cuda.device_count() - 1}"
            )
    return torch.device(name)
