"""Sampling: a model takes clip requests and yields blocks of frames.

The networks always see blocks of one fixed shape, padded where a request is smaller. The
rounding of a float depends on the shape that a kernel works on, so this is what makes a
clip's bytes independent of the clips beside it and of the number of frames asked for; and
blocks may cross clip boundaries, so that many short clips are as fast as one long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from . import checkpoint, latents, steering
from .backend_choice import open_backend
from .backends import Backend, Floats, Inputs, Pending, Tensors
from .clip import Clip, Origin
from .errors import UsageError
from .files import sha256
from .mapping import ContentMapping
from .notebook import Video, sampled
from .requests import check_bool, check_number, check_seed, check_timing, check_whole, computing
from .spec import NOISE_MODES, ModelSpec

if TYPE_CHECKING:
    import torch

Frames = NDArray[np.uint8]

_Parts = list[tuple[Clip, Floats]]
"""Latents (n, input) with the clip that each belongs to."""

_LONG = 4096
"""Clips of more frames than this are unrolled one by one, so that memory stays bounded."""


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
        seed: SupportsIndex | None = None,
        *,
        frames: SupportsIndex = 48,
        action: str | None = None,
        noise_mode: str | None = None,
        content_seed: SupportsIndex | None = None,
        motion_seed: SupportsIndex | None = None,
        speed: float = 1.0,
        loop: bool = False,
        walk: steering.Walk | None = None,
    ) -> Clip:
        """Check a request and fill in what it leaves open (a random seed, the seed's action).

        The options are those of :meth:`Model.sample`. The action that nobody asked for is the
        motion seed's: content says who, motion what.

        Raises:
            UsageError: a value makes no sense for this model; the message names those that do.
        """
        spec = self.spec
        if seed is None:
            other = None if content_seed is None else motion_seed
            seed = latents.random_seed() if other is None else other
        own = check_seed(seed)
        content = own if content_seed is None else check_seed(content_seed, "content_seed")
        motion = own if motion_seed is None else check_seed(motion_seed, "motion_seed")
        count, speed, loop = check_timing(frames, speed, loop)
        index = None
        if action is not None:
            if not spec.actions:
                raise UsageError(f"checkpoint {spec.name} knows no actions: leave the action out")
            if action not in spec.actions:
                raise UsageError(f"unknown action {action!r}: use one of {', '.join(spec.actions)}")
            index = spec.actions.index(action)
        elif spec.actions:
            index = latents.action(motion, len(spec.actions))
        mode = spec.noise_mode if noise_mode is None else noise_mode
        if mode not in NOISE_MODES:
            raise UsageError(f"unknown noise mode {mode!r}: use one of {', '.join(NOISE_MODES)}")
        output = spec.motion if spec.head else spec.hidden
        if mode == "feedback" and spec.noise != output:
            raise UsageError(
                f"noise mode feedback needs noise and motion vectors of one length; checkpoint "
                f"{spec.name} has {spec.noise} and {output}"
            )
        if walk is not None:
            walk = self._checked_walk(walk, count, mode, loop)
        return Clip(own, count, index, mode, content, motion, speed, loop, walk)

    @staticmethod
    def _checked_walk(walk: Any, frames: int, mode: str, loop: bool) -> steering.Walk:
        """The walk in plain numbers.

        Raises:
            UsageError: it is none, or none for a clip of this length and manner.
        """
        if not isinstance(walk, steering.Walk):
            raise UsageError(f"walk {walk!r}: use a mocogen.Walk")
        first, last = (
            check_number(getattr(walk, name), name, 0.0, 1.0, "use a number from 0 to 1")
            for name in ("first", "last")
        )
        for name in ("content", "motion"):
            check_bool(getattr(walk, name), name)
        steps = check_whole(walk.steps, "steps", f"use 1 to {frames}, the clip's frames", 1, frames)
        to = check_seed(walk.to, "to")
        walk = replace(walk, to=to, first=first, last=last, steps=steps)
        if loop and walk.moves:
            raise UsageError(
                "a walk ends elsewhere than it began, and a loop where it began: ask for one of "
                "the two"
            )
        if walk.motion and walk.steps > 1 and mode == "feedback":
            raise UsageError(
                "noise mode feedback draws noise for the first frame alone: the motion of one "
                "clip cannot walk, but stations side by side can"
            )
        return walk


class Model(Blueprint):
    """A motion network and an image generator, ready to sample on one device.

    Made by :func:`mocogen.load`. Sampling is in eval mode and has no random state: a clip
    depends on its request and the checkpoint alone.

    Attributes:
        backend: what computes the networks.
        mapping: what contents pass through before the generator, or None.
        source: the options that name the networks for the command line, as records have them,
            or None where none do.
    """

    def __init__(
        self,
        spec: ModelSpec,
        backend: Backend,
        sha256: str | None = None,
        mapping: ContentMapping | None = None,
        source: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(spec, sha256)
        self.backend = backend
        self.mapping = mapping
        self.source = source

    def sample(
        self,
        frames: SupportsIndex = 48,
        seed: SupportsIndex | None = None,
        *,
        action: str | None = None,
        noise_mode: str | None = None,
        content_seed: SupportsIndex | None = None,
        motion_seed: SupportsIndex | None = None,
        speed: float = 1.0,
        loop: bool = False,
        walk: steering.Walk | None = None,
    ) -> Video:
        """One clip: uint8 of (frames, height, width, 3), values 0 to 255.

        It is a numpy array that a notebook shows as a video. Its ``request`` tells the seed, and
        ``save`` writes it to a file.

        Args:
            frames: length of the clip, 1 to ``requests.MOST_FRAMES``.
            seed: 0 to 2**63 - 1; random when left out. Whole numbers of numpy's are welcome
                here and everywhere.
            action: one of ``spec.actions``; the motion seed's own when left out.
            noise_mode: "per-frame", "constant" or "feedback"; the checkpoint's own when
                left out.
            content_seed: decides who and where, in place of the seed.
            motion_seed: decides what they do, in place of the seed.
            speed: of time, 0.01 to 100; at 0.5, every other frame is a pose between the
                network's.
            loop: whether the last frame runs into the first, where ``frames * speed`` is from 8
                to 10,000. Then fewer frames are not the first of more.
            walk: to another seed, over the length of the clip; somebody turns into another.

        Raises:
            UsageError: a value is of another type or makes no sense for this model.
        """
        request = self.clip(
            seed,
            frames=frames,
            action=action,
            noise_mode=noise_mode,
            content_seed=content_seed,
            motion_seed=motion_seed,
            speed=speed,
            loop=loop,
            walk=walk,
        )
        blocks = [block for _, block in self.stream([request])]
        action = None if request.action is None else self.spec.actions[request.action]
        origin = Origin(request, action, self.source, self.sha256)
        return sampled(np.concatenate(blocks), self.spec.fps, origin)

    def stream(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, Frames]]:
        """Frames of many clips, in order and a few at a time.

        Yields pairs of a clip and its next frames, uint8 of (n, height, width, 3). A clip is
        complete when as many frames as it asked for have come. Memory does not grow with the
        length of a clip or the number of clips.
        """
        running: deque[tuple[_Parts, Pending]] = deque()
        for parts in self._blocks(clips):
            latent = _padded(np.concatenate([p for _, p in parts]), self.backend.blocks.images)
            running.append((parts, self.backend.begin_images(latent)))
            # The next block begins before the last is waited for: no core idles between them.
            if len(running) > 1:
                yield from _shared_out(*running.popleft())
        while running:
            yield from _shared_out(*running.popleft())

    def _blocks(self, clips: Iterable[Clip]) -> Iterator[_Parts]:
        """Latents, as many at a time as one block of the generator holds."""
        size = self.backend.blocks.images
        waiting: _Parts = []
        filled = 0
        for clip, latent in self._latents(clips):
            while len(latent):
                part, latent = latent[: size - filled], latent[size - filled :]
                waiting.append((clip, part))
                filled += len(part)
                if filled == size:
                    yield waiting
                    waiting, filled = [], 0
        if waiting:
            yield waiting

    def side_by_side(self, clips: Sequence[Clip], moments: int = 16) -> Iterator[Frames]:
        """Frames of clips that play together, all of one length.

        Yields uint8 of (n, clips, height, width, 3), ``moments`` at a time, so that memory
        does not grow with the clips' length. The frames are those of :meth:`stream`.

        Args:
            clips: of one length.
            moments: at least 1; the last time, fewer may come.

        Raises:
            UsageError: the lengths differ, or ``moments`` is no such number; at the call, not
                when the first frames are asked for.
        """
        lengths = sorted({clip.frames for clip in clips})
        if len(lengths) > 1:
            raise UsageError(
                f"clips of {', '.join(map(str, lengths))} frames: side by side, all have one length"
            )
        moments = check_whole(moments, "moments", "use a whole number of at least 1", 1)
        return self._side_by_side(clips, moments)

    def _side_by_side(self, clips: Sequence[Clip], moments: int) -> Iterator[Frames]:
        size = self.backend.blocks.images
        # Every clip is unrolled by itself, so that each gets on as the others do.
        running = [_cut((latent for _, latent in self._latents([clip])), moments) for clip in clips]
        for parts in zip(*running, strict=True):
            latent = np.concatenate(parts)
            begun = [
                self.backend.begin_images(_padded(latent[k : k + size], size))
                for k in range(0, len(latent), size)
            ]
            images = np.concatenate([block() for block in begun])[: len(latent)]
            yield images.reshape(len(clips), -1, *images.shape[1:]).swapaxes(0, 1)

    def _latents(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, Floats]]:
        """The generator's inputs, (n, input) at a time, clip after clip."""
        for group in _groups(clips, self.backend.blocks.clips):
            if len(group) == 1:
                made: Iterable[Floats] = (codes[:, 0] for codes in self._motion_codes(group))
                yield from self._timed(group[0], made)
            else:
                codes = np.concatenate(list(self._motion_codes(group)))
                for row, clip in enumerate(group):
                    yield from self._timed(clip, [codes[: clip.codes, row]])

    def _timed(self, clip: Clip, codes: Iterable[Floats]) -> Iterator[tuple[Clip, Floats]]:
        """A clip's motion codes, ``clip.codes`` of (n, motion), to the inputs of its frames."""
        first = 0
        for part in steering.timed(codes, clip.frames, clip.speed, clip.loop):
            yield clip, self._assemble(clip, part, first)
            first += len(part)

    def _motion_codes(self, group: list[Clip]) -> Iterator[Floats]:
        """Motion codes of a group, (n, clips, motion) at a time, up to its longest clip.

        Those of the steps before the first frame are not among them.
        """
        spec, backend, blocks = self.spec, self.backend, self.backend.blocks
        begin = spec.warm_up
        end = begin + max(clip.codes for clip in group)
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
            hidden = stacked(self._initial_state(c) for c in group)
        state = backend.start(hidden)
        fed_back: Inputs | None = None
        if mode == "feedback":
            fed_back = stacked(self._noise(c, 0, 1)[0] for c in group)
        for first in range(0, end, blocks.steps):
            if fed_back is not None:
                codes, fed_back, state = backend.feed_back(fed_back, category, state)
            else:
                inputs = stacked(self._noise(c, first, blocks.steps) for c in group)
                codes, state = backend.unroll(inputs.swapaxes(0, 1), category, state)
            if first + blocks.steps > begin:
                yield codes[max(0, begin - first) : end - first]

    def _noise(self, clip: Clip, first: int, count: int) -> Floats:
        """The motion network's inputs from the step ``first`` on: (count, noise)."""

        def drawn(seed: int) -> Floats:
            if clip.noise_mode == "constant":
                return latents.noise(seed, 0, 1, self.spec.noise).repeat(count, axis=0)
            return latents.noise(seed, first, count, self.spec.noise)

        own, walk = drawn(clip.motion_seed), clip.walk
        if walk is None or not walk.motion:
            return own
        # Times before the first frame are those of the first station.
        times = (np.arange(first, first + count) - self.spec.warm_up) / clip.speed
        return steering.arc(own, drawn(walk.to), walk.weights(times, clip.frames))

    def _initial_state(self, clip: Clip) -> Floats:
        """The hidden state that a clip starts from, where it is drawn: (hidden,)."""
        own, walk = latents.initial_state(clip.motion_seed, self.spec.hidden), clip.walk
        if walk is None or not walk.motion:
            return own
        other = latents.initial_state(walk.to, self.spec.hidden)
        return steering.arc(own[None], other[None], np.array([walk.first]))[0]

    def _content(self, clip: Clip, first: int, count: int) -> Floats:
        """What the generator takes for contents: (count, content), or (1, content) for all of
        the frames from ``first`` on."""
        drawn = self._drawn_content(clip, first, count)
        return drawn if self.mapping is None else self.mapping(drawn)

    def _drawn_content(self, clip: Clip, first: int, count: int) -> Floats:
        """The same in N(0, I), before the content mapping."""
        own, walk = latents.content(clip.content_seed, self.spec.content), clip.walk
        if walk is None or not walk.content:
            return own[None]
        other = latents.content(walk.to, self.spec.content)
        weights = walk.weights(np.arange(first, first + count, dtype=np.float64), clip.frames)
        return steering.slerp(own, other, weights)

    def _assemble(self, clip: Clip, codes: Floats, first: int) -> Floats:
        """Put motion codes (n, motion) of the frames from ``first`` on, the content and the
        category in the generator's order."""
        spec = self.spec
        parts = {"motion": codes, "content": self._content(clip, first, len(codes))}
        if spec.generator_categories:
            one_hot = np.zeros((1, spec.generator_categories), np.float32)
            one_hot[0, clip.action or 0] = 1
            parts["category"] = one_hot
        wide = [np.broadcast_to(p, (len(codes), p.shape[1])) for p in parts.values()]
        ordered = dict(zip(parts, wide, strict=True))
        return np.concatenate([ordered[name] for name in spec.latent_order], axis=1)


def _shared_out(parts: _Parts, frames: Pending) -> Iterator[tuple[Clip, Frames]]:
    """The frames of a block, to the clips whose latents they were made from."""
    pixels = frames()
    start = 0
    for clip, part in parts:
        yield clip, pixels[start : start + len(part)]
        start += len(part)


def _padded(rows: Floats, count: int) -> Floats:
    """Rows of (n, ...) with zeros after them: (count, ...)."""
    if len(rows) == count:
        return rows
    filled = np.zeros((count, *rows.shape[1:]), np.float32)
    filled[: len(rows)] = rows
    return filled


def _cut(parts: Iterable[Floats], size: int) -> Iterator[Floats]:
    """The same rows in arrays of ``size`` rows; the last may have fewer."""
    held: list[Floats] = []
    for part in parts:
        held.append(part)
        if sum(map(len, held)) >= size:
            rows = np.concatenate(held)
            whole = len(rows) - len(rows) % size
            yield from np.split(rows[:whole], whole // size)
            held = [rows[whole:]]
    if rest := [part for part in held if len(part)]:
        yield np.concatenate(rest)


def _groups(clips: Iterable[Clip], size: int) -> Iterator[list[Clip]]:
    """Runs of clips that can be unrolled together: one noise mode, none of them long."""
    pending = iter(clips)
    # A few clips are looked ahead of the frames, never the whole (possibly endless) request.
    while batch := list(islice(pending, size)):
        group: list[Clip] = []
        for clip in batch:
            alone = clip.codes > _LONG
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
    name_or_path: str | Path = checkpoint.DEFAULT,
    device: str | torch.device = "auto",
    backend: str = "auto",
    precision: str = "fp32",
) -> Model:
    """Load a checkpoint by the name of a shipped one or by its path.

    Args:
        name_or_path: "weizmann", or a .safetensors file that mocogen wrote.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps"; or torch's own of one of these.
        backend: "auto", "torch", "onnx" or "openvino"; see
            :func:`mocogen.backend_choice.open_backend`.
        precision: "fp32", or "fp16" or "bf16" on a CUDA GPU.

    Raises:
        MocogenError: there is no such checkpoint, device or backend, or the file does not fit.
    """
    path = checkpoint.find(name_or_path)
    asked = (str(device), backend, precision)
    source = {"checkpoint": str(name_or_path), **computing(*asked)}
    return open_model(*checkpoint.read(path), sha256(path), *asked, source)


def open_model(
    spec: ModelSpec,
    tensors: Tensors,
    sha256: str | None,
    device: str,
    backend: str,
    precision: str,
    source: dict[str, Any] | None = None,
) -> Model:
    """The model of networks that have been read; the options are those of :func:`load`.

    Args:
        spec, tensors: as :func:`mocogen.checkpoint.read` gives them.
        sha256: hash of the checkpoint, or None for networks that came from elsewhere.
        source: the options that name the networks for the command line, or None.

    Raises:
        MocogenError: there is no such device or backend.
    """
    networks = open_backend(backend, device, spec, tensors, precision)
    return Model(spec, networks, sha256, ContentMapping.of(spec, tensors), source)
