"""What a stage of the training is, and what it is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from PIL import Image
from torch import Tensor, nn

from .config import TrainConfig
from .data import ClipSet


class Reporter(Protocol):
    """Where a run tells how it goes; the command line shows it, tests collect it."""

    def note(self, text: str) -> None:
        """One line for the reader."""

    def start(self, stage: str, done: float) -> None:
        """A stage begins, of which the fraction ``done`` lies behind."""

    def update(
        self, step: int, done: float, seconds_left: float, losses: Mapping[str, float]
    ) -> None:
        """Progress: steps made, fraction done, estimate of the time left, mean losses."""

    def stop(self) -> None:
        """The stage has ended, or was interrupted."""


class Silent:
    """A reporter that tells nothing."""

    def note(self, text: str) -> None: ...
    def start(self, stage: str, done: float) -> None: ...
    def update(
        self, step: int, done: float, seconds_left: float, losses: Mapping[str, float]
    ) -> None: ...
    def stop(self) -> None: ...


@dataclass
class Context:
    """What a stage is given.

    Attributes:
        config: the whole recipe.
        clips: the data.
        fabric: devices, processes and precision.
        folder: the run's.
        reporter: where progress goes.
    """

    config: TrainConfig
    clips: ClipSet
    fabric: Fabric
    folder: Path
    reporter: Reporter = field(default_factory=Silent)

    @property
    def device(self) -> torch.device:
        return self.fabric.device

    @property
    def checkpoint(self) -> Path:
        """What the run leaves in its folder for sampling."""
        return self.folder / "checkpoint.safetensors"

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return bool(self.fabric.global_rank == 0)

    def random(self, stage: str) -> torch.Generator:
        """The generator of a stage's random numbers on this process, on the CPU."""
        number = sum(ord(c) << (5 * k) for k, c in enumerate(stage))
        seed = (self.config.run.seed * 1_000_003 + number) % 2**61
        return torch.Generator().manual_seed(seed + self.fabric.global_rank)

    @contextmanager
    def initialising(self, stage: str) -> Iterator[None]:
        """Networks built inside get the same weights on every process and in every run.

        PyTorch's layers draw their weights from the global generator; it is put back after.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.run.seed + len(stage))
            yield


class Stage(ABC):
    """A part of the training with networks and a step of its own.

    Attributes:
        name: also of the state file.
        values: its section of the configuration, with ``steps`` and ``hours`` at least.
        random: the source of its random numbers on the CPU.
        device_random: that of those on its device, where there are many; on the CPU the same.
        modules, optimisers: what a state keeps, by name.
        basis: names the networks of other stages that it builds on; None for none. A state
            that was built on others is outdated.
    """

    name: str
    values: Any
    basis: str | None = None

    def __init__(self, context: Context) -> None:
        self.context = context
        self.random = self.device_random = context.random(self.name)
        if context.device.type != "cpu":
            self.device_random = torch.Generator(context.device)
            self.device_random.manual_seed(self.random.initial_seed())
        self.modules: dict[str, nn.Module] = {}
        self.optimisers: dict[str, torch.optim.Optimizer] = {}

    @property
    def steps(self) -> int:
        """Length of the stage."""
        return int(self.values.steps)

    @property
    def hours(self) -> float:
        """Bound on its duration, 0 for none."""
        return float(self.values.hours)

    @abstractmethod
    def step(self, progress: float) -> dict[str, Tensor]:
        """One step at a fraction ``progress`` of the stage; its losses as scalars."""

    @abstractmethod
    def sheet(self) -> Image.Image:
        """A picture that shows how far the networks are."""

    def normals(self, *shape: int) -> Tensor:
        """Draws from N(0, 1) on the stage's device."""
        return torch.randn(*shape, generator=self.device_random, device=self.context.device)

    def extra(self) -> dict[str, Any]:
        """More that a state keeps, as tensors and plain values."""
        return {}
