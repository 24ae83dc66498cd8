"""Sampling: a model takes clip requests and yields blocks of frames.

The networks always see blocks of one fixed shape, padded where a request is smaller. The
rounding of a float depends on the shape that a kernel works on, so this is what makes a
clip's bytes independent of the clips beside it and of the number of frames asked for; and
blocks may cross clip boundaries, so that many short clips are as fast as one long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import checkpoint, latents
from .devices import choose_device
from .errors import UsageError
from .generator import Generator, to_pixels
from .motion import MotionNetwork
from .requests import MAX_SEED
from .spec import NOISE_MODES, ModelSpec

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Blocks:
    """The fixed shapes: the generator makes ``images`` frames at once, the motion network
    ``steps`` frames of ``clips`` clips. Chosen by measurement (``benchmarks/blocks.py``).
    """

    images: int
    clips: int
    steps: int


_BLOCKS = {
    "cpu": Blocks(images=16, clips=8, steps=16),
    "cuda": Blocks(images=256, clips=64, steps=16),
    "mps": Blocks(images=64, clips=16, steps=16),
}

_LONG = 4096
"""Clips of more frames than this are unrolled one by one, so that memory stays bounded."""


@dataclass(frozen=True)
class Clip:
    """A request for one clip, checked by :meth:`Model.clip`.

    Attributes:
        seed: 0 to ``requests.MAX_SEED``; decides content, noise and, if not asked for, action.
        frames: how many frames, at least 1.
        action: index into the spec's actions, or None where the model has none.
        noise_mode: one of ``spec.NOISE_MODES``.
    """

    seed: int
    frames: int
    action: int | None
    noise_mode: str


class Model:
    """A motion network and an image generator, ready to sample on one device.

    Made by :func:`mocogen.load`. Sampling is in eval mode and has no random state: a clip
    depends on its request and the checkpoint alone.

    Attributes:
        spec: what the checkpoint says of itself.
        device: where the networks run.
        sha256: hash of the checkpoint file, or None for networks that came from elsewhere.
    """

    def __init__(
        self,
        spec: ModelSpec,
        motion: MotionNetwork,
        generator: Generator,
        device: str | torch.device = "auto",
        sha256: str | None = None,
    ) -> None:
        self.spec = spec
        self.sha256 = sha256
        self.device = choose_device(str(device))
        self.blocks = _BLOCKS[self.device.type]
        self._motion = motion.eval().requires_grad_(False).to(self.device)
        # Channels-last is a third faster than the default layout on CPUs, and what tensor
        # cores want.
        self._generator = generator.folded().to(self.device)
        self._generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def clip(
        self,
        seed: int | None = None,
        frames: int = 48,
        action: str | None = None,
        noise_mode: str | None = None,
    ) -> Clip:
        """Check a request and fill in what it leaves open (a random seed, the seed's action).

        Raises:
            UsageError: a value makes no sense for this model; the message names those that do.
        """
        spec = self.spec
        if seed is None:
            seed = latents.random_seed()
        if not 0 <= seed <= MAX_SEED:
            raise UsageError(f"seed {seed}: use a whole number from 0 to {MAX_SEED}")
        if frames < 1:
            raise UsageError(f"{frames} frames: a clip has at least 1")
        index = None
        if action is not None:
            if not spec.actions:
                raise UsageError(f"checkpoint {spec.name} knows no actions: leave the action out")
            if action not in spec.actions:
                raise UsageError(f"unknown action {action!r}: use one of {', '.join(spec.actions)}")
            index = spec.actions.index(action)
        elif spec.actions:
            index = latents.action(seed, len(spec.actions))
        mode = noise_mode or spec.noise_mode
        if mode not in NOISE_MODES:
            raise UsageError(f"unknown noise mode {mode!r}: use one of {', '.join(NOISE_MODES)}")
        if mode == "feedback" and spec.noise != self._motion.motion_size:
            raise UsageError(
                f"noise mode feedback needs noise and motion vectors of one length; checkpoint "
                f"{spec.name} has {spec.noise} and {self._motion.motion_size}"
            )
        return Clip(seed, frames, index, mode)

    def sample(
        self,
        frames: int = 48,
        seed: int | None = None,
        action: str | None = None,
        noise_mode: str | None = None,
    ) -> Frames:
        """One clip: uint8 of (frames, height, width, 3), values 0 to 255.

        Args:
            frames: length of the clip, at least 1.
            seed: 0 to 2**63 - 1; random when left out.
            action: one of ``spec.actions``; the seed's own when left out.
            noise_mode: "per-frame", "constant" or "feedback"; the checkpoint's own when
                left out.

        Raises:
            UsageError: a value makes no sense for this model.
        """
        request = self.clip(seed, frames, action, noise_mode)
        return np.concatenate([block for _, block in self.stream([request])])

    # As a decorator, it holds only while this code runs, not in the caller's between two yields.
    @torch.inference_mode()
    def stream(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, Frames]]:
        """Frames of many clips, in order and a few at a time.

        Yields pairs of a clip and its next frames, uint8 of (n, height, width, 3). A clip is
        complete when as many frames as it asked for have come. Memory does not grow with the
        length of a clip or the number of clips.
        """
        yield from self._render(self._latents(clips))

    def _render(self, codes: Iterator[tuple[Clip, Tensor]]) -> Iterator[tuple[Clip, Frames]]:
        """Latents of (n, input) a clip to frames, through blocks of exactly ``images``."""
        size = self.blocks.images
        waiting: list[tuple[Clip, Tensor]] = []
        filled = 0
        for clip, latent in codes:
            while len(latent):
                part, latent = latent[: size - filled], latent[size - filled :]
                waiting.append((clip, part))
                filled += len(part)
                if filled == size:
                    yield from self._block(waiting)
                    waiting, filled = [], 0
        if waiting:
            yield from self._block(waiting)

    def _block(self, parts: list[tuple[Clip, Tensor]]) -> Iterator[tuple[Clip, Frames]]:
        latent = torch.cat([part for _, part in parts])
        padding = self.blocks.images - len(latent)
        if padding:
            latent = torch.cat([latent, latent.new_zeros(padding, latent.shape[1])])
        latent = latent[:, :, None, None].contiguous(memory_format=torch.channels_last)
        pixels = to_pixels(self._generator(latent), *self.spec.pixel_range).cpu().numpy()
        start = 0
        for clip, part in parts:
            yield clip, pixels[start : start + len(part)]
            start += len(part)

    def _latents(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, Tensor]]:
        """The generator's inputs, (n, input) at a time, clip after clip."""
        for group in _groups(clips, self.blocks.clips):
            if len(group) == 1:
                for codes in self._motion_codes(group):
                    yield group[0], self._assemble(group[0], codes[:, 0])
            else:
                codes = torch.cat(list(self._motion_codes(group)))
                for row, clip in enumerate(group):
                    yield clip, self._assemble(clip, codes[: clip.frames, row])

    def _motion_codes(self, group: list[Clip]) -> Iterator[Tensor]:
        """Motion codes of a group, (n, clips, motion) at a time, up to its longest clip."""
        spec, blocks, motion = self.spec, self.blocks, self._motion
        longest = max(clip.frames for clip in group)
        mode = group[0].noise_mode
        category = None
        if motion.categories:
            rows = [clip.action or 0 for clip in group] + [0] * (blocks.clips - len(group))
            category = torch.tensor(rows, device=self.device)
        state: Any = None
        if spec.initial_state == "normal":
            hidden = self._stack(latents.initial_state(c.seed, spec.hidden) for c in group)
            zeros = torch.zeros_like(hidden)
            state = (hidden, zeros) if spec.cell == "lstm" else hidden
        fixed = self._stack(latents.noise(c.seed, 0, 1, spec.noise)[0] for c in group)
        if mode == "feedback" and state is not None:
            state = (fixed, state)
        for first in range(0, longest, blocks.steps):
            if mode == "feedback":
                codes, state = motion.feed_back(fixed, blocks.steps, category, state)
            else:
                if mode == "constant":
                    inputs = fixed
                else:
                    inputs = self._stack(
                        latents.noise(c.seed, first, blocks.steps, spec.noise) for c in group
                    ).transpose(0, 1)
                codes, state = motion.unroll(inputs, blocks.steps, category, state)
            yield codes[: longest - first]

    def _stack(self, rows: Iterable[NDArray[np.float32]]) -> Tensor:
        """Arrays of a group's clips as one tensor, padded with zeros to a full block of clips."""
        filled = np.stack(list(rows))
        padded = np.zeros((self.blocks.clips, *filled.shape[1:]), np.float32)
        padded[: len(filled)] = filled
        return torch.from_numpy(padded).to(self.device)

    def _assemble(self, clip: Clip, codes: Tensor) -> Tensor:
        """Put motion codes (n, motion), the content and the category in the generator's order."""
        n = len(codes)
        parts = {"motion": codes}
        content = torch.from_numpy(latents.content(clip.seed, self.spec.content))
        parts["content"] = content.to(self.device).expand(n, -1)
        if self.spec.generator_categories:
            one_hot = torch.zeros(self.spec.generator_categories, device=self.device)
            one_hot[clip.action or 0] = 1
            parts["category"] = one_hot.expand(n, -1)
        return torch.cat([parts[name] for name in self.spec.latent_order], dim=1)


def _groups(clips: Iterable[Clip], size: int) -> Iterator[list[Clip]]:
    """Runs of clips that can be unrolled together: one noise mode, none of them long."""
    pending = iter(clips)
    group: list[Clip] = []
    # A few clips are looked ahead of the frames, never the whole (possibly endless) request.
    while batch := list(islice(pending, size)):
        for clip in batch:
            alone = clip.frames > _LONG
            if group and (alone or clip.noise_mode != group[0].noise_mode):
                yield group
                group = []
            group.append(clip)
            if alone:
                yield group
                group = []
        if group:
            yield group
            group = []


def load(name_or_path: str | Path = checkpoint.DEFAULT, device: str = "auto") -> Model:
    """Load a checkpoint by the name of a shipped one or by its path.

    Args:
        name_or_path: "weizmann", or a .safetensors file that mocogen wrote.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        MocogenError: there is no such checkpoint or device, or the file does not fit.
    """
    path = checkpoint.find(name_or_path)
    target = choose_device(device)
    return Model(*checkpoint.load(path), device=target, sha256=checkpoint.sha256(path))
