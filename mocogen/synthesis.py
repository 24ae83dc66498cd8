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

import numpy as np
from numpy.typing import NDArray

from . import checkpoint, latents
from .backends import Backend, Floats, open_backend
from .errors import UsageError
from .requests import MAX_SEED
from .spec import NOISE_MODES, ModelSpec

Frames = NDArray[np.uint8]

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


class Blueprint:
    """What can be asked of a checkpoint; its networks may be elsewhere.

    Attributes:
        spec: what the checkpoint says of itself.
        sha256: hash of the checkpoint file, or None for networks that came from elsewhere.
    """

    def __init__(self, spec: ModelSpec, sha256: str | None = None) -> None:
        self.spec = spec
        self.sha256 = sha256

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
        output = spec.motion if spec.head else spec.hidden
        if mode == "feedback" and spec.noise != output:
            raise UsageError(
                f"noise mode feedback needs noise and motion vectors of one length; checkpoint "
                f"{spec.name} has {spec.noise} and {output}"
            )
        return Clip(seed, frames, index, mode)


class Model(Blueprint):
    """A motion network and an image generator, ready to sample on one device.

    Made by :func:`mocogen.load`. Sampling is in eval mode and has no random state: a clip
    depends on its request and the checkpoint alone.

    Attributes:
        backend: what computes the networks.
    """

    def __init__(self, spec: ModelSpec, backend: Backend, sha256: str | None = None) -> None:
        super().__init__(spec, sha256)
        self.backend = backend

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

    def stream(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, Frames]]:
        """Frames of many clips, in order and a few at a time.

        Yields pairs of a clip and its next frames, uint8 of (n, height, width, 3). A clip is
        complete when as many frames as it asked for have come. Memory does not grow with the
        length of a clip or the number of clips.
        """
        size = self.backend.blocks.images
        waiting: list[tuple[Clip, Floats]] = []
        filled = 0
        for clip, latent in self._latents(clips):
            while len(latent):
                part, latent = latent[: size - filled], latent[size - filled :]
                waiting.append((clip, part))
                filled += len(part)
                if filled == size:
                    yield from self._block(waiting)
                    waiting, filled = [], 0
        if waiting:
            yield from self._block(waiting)

    def _block(self, parts: list[tuple[Clip, Floats]]) -> Iterator[tuple[Clip, Frames]]:
        """Latents of (n, input) a clip to frames, through a block of exactly ``images``."""
        latent = np.concatenate([part for _, part in parts])
        pixels = self.backend.images(_padded(latent, self.backend.blocks.images))
        start = 0
        for clip, part in parts:
            yield clip, pixels[start : start + len(part)]
            start += len(part)

    def _latents(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, Floats]]:
        """The generator's inputs, (n, input) at a time, clip after clip."""
        for group in _groups(clips, self.backend.blocks.clips):
            if len(group) == 1:
                for codes in self._motion_codes(group):
                    yield group[0], self._assemble(group[0], codes[:, 0])
            else:
                codes = np.concatenate(list(self._motion_codes(group)))
                for row, clip in enumerate(group):
                    yield clip, self._assemble(clip, codes[: clip.frames, row])

    def _motion_codes(self, group: list[Clip]) -> Iterator[Floats]:
        """Motion codes of a group, (n, clips, motion) at a time, up to its longest clip."""
        spec, backend, blocks = self.spec, self.backend, self.backend.blocks
        longest = max(clip.frames for clip in group)
        mode = group[0].noise_mode

        def stacked(rows: Iterable[Floats]) -> Floats:
            """Arrays of the group's clips as one, padded to a full block of clips."""
            return _padded(np.stack(list(rows)), blocks.clips)

        category = None
        if spec.motion_categories:
            category = np.zeros(blocks.clips, np.int64)
            category[: len(group)] = [clip.action or 0 for clip in group]
        hidden = None
        if spec.initial_state == "normal":
            hidden = stacked(latents.initial_state(c.seed, spec.hidden) for c in group)
        state = backend.start(hidden)
        fixed = stacked(latents.noise(c.seed, 0, 1, spec.noise)[0] for c in group)
        for first in range(0, longest, blocks.steps):
            if mode == "feedback":
                codes, fixed, state = backend.feed_back(fixed, category, state)
            elif mode == "constant":
                repeated = np.broadcast_to(fixed, (blocks.steps, *fixed.shape))
                codes, state = backend.unroll(repeated, category, state)
            else:
                inputs = stacked(
                    latents.noise(c.seed, first, blocks.steps, spec.noise) for c in group
                )
                codes, state = backend.unroll(inputs.swapaxes(0, 1), category, state)
            yield codes[: longest - first]

    def _assemble(self, clip: Clip, codes: Floats) -> Floats:
        """Put motion codes (n, motion), the content and the category in the generator's order."""
        spec = self.spec
        parts = {"motion": codes, "content": latents.content(clip.seed, spec.content)[None]}
        if spec.generator_categories:
            one_hot = np.zeros((1, spec.generator_categories), np.float32)
            one_hot[0, clip.action or 0] = 1
            parts["category"] = one_hot
        wide = [np.broadcast_to(p, (len(codes), p.shape[1])) for p in parts.values()]
        ordered = dict(zip(parts, wide, strict=True))
        return np.concatenate([ordered[name] for name in spec.latent_order], axis=1)


def _padded(rows: Floats, count: int) -> Floats:
    """Rows of (n, ...) with zeros after them: (count, ...)."""
    if len(rows) == count:
        return rows
    filled = np.zeros((count, *rows.shape[1:]), np.float32)
    filled[: len(rows)] = rows
    return filled


def _groups(clips: Iterable[Clip], size: int) -> Iterator[list[Clip]]:
    """Runs of clips that can be unrolled together: one noise mode, none of them long."""
    pending = iter(clips)
    # A few clips are looked ahead of the frames, never the whole (possibly endless) request.
    while batch := list(islice(pending, size)):
        group: list[Clip] = []
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


def load(
    name_or_path: str | Path = checkpoint.DEFAULT, device: str = "auto", backend: str = "auto"
) -> Model:
    """Load a checkpoint by the name of a shipped one or by its path.

    Args:
        name_or_path: "weizmann", or a .safetensors file that mocogen wrote.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        backend: "auto", "torch" or "openvino"; see :func:`mocogen.backends.open_backend`.

    Raises:
        MocogenError: there is no such checkpoint, device or backend, or the file does not fit.
    """
    path = checkpoint.find(name_or_path)
    spec, tensors = checkpoint.read(path)
    return Model(spec, open_backend(backend, device, spec, tensors), checkpoint.sha256(path))
