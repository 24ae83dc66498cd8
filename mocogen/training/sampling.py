"""Frames from the clips' memory, every pair of group and action equally often."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..generator import from_pixels
from .augment import flip_where
from .cuda_graphs import moved
from .data import ClipSet


@dataclass(frozen=True)
class Pairs:
    """Two frames of each of n clips.

    Attributes:
        first, second: (n, 3, size, size) in [-1, 1].
        mean: of all frames of the clips, the same.
        group, action: (n,).
    """

    first: Tensor
    second: Tensor
    mean: Tensor
    group: Tensor
    action: Tensor


class FrameSampler:
    """Draws frames so that long clips neither crowd out short ones nor starve them.

    Attributes:
        host: (looks,), the group that a look belongs to: a group's own look is itself, those
            of other looks come after (:attr:`ClipSet.other_looks`). On the CPU.
        seen: bool (looks, actions), the pairs that the data shows.
        mirrored: bool (looks,).
        person: (looks,), index of the group's name, the same for a mirrored group.
    """

    def __init__(self, clips: ClipSet, device: torch.device) -> None:
        self.bank = torch.from_numpy(clips.frames).to(device)
        self.device = device
        looks = [*clips.groups, *clips.other_looks]
        self.host = torch.tensor([clips.groups.index(look) for look in looks])
        self.labels = torch.tensor(
            [(clips.group_index(clip), clips.action_index(clip)) for clip in clips.clips]
        )
        pairs: dict[tuple[int, int], list[int]] = {}
        for k, (group, action) in enumerate(self.labels.tolist()):
            pairs.setdefault((group, action), []).append(k)
        self.pairs = sorted(pairs)
        self.members = [pairs[pair] for pair in self.pairs]
        # Pairs are sorted, so those of other looks, numbered after the groups, come last.
        self.usual = sum(group < len(clips.groups) for group, _ in self.pairs)
        self.starts = [clip.start for clip in clips.clips]
        self.lengths = [clip.length for clip in clips.clips]
        self.scores = torch.from_numpy(clips.scores())
        self.seen = torch.zeros(len(looks), max(1, len(clips.actions)), dtype=torch.bool)
        for group, action in self.pairs:
            self.seen[group, action] = True
        self.mirrored = torch.tensor([m for _, m in looks]).to(device)
        people = clips.people
        self.person = torch.tensor([people.index(name) for name, _ in looks]).to(device)

    @cached_property
    def owner(self) -> Tensor:
        """The clip that each frame of the bank comes from, (frames,), on the CPU; mirrored clips
        have the frames of those that they mirror."""
        owner = torch.zeros(len(self.bank), dtype=torch.long)
        spans = zip(self.starts, self.lengths, strict=True)
        for clip, (start, length) in reversed(list(enumerate(spans))):
            owner[start : start + length] = clip
        return owner

    def images(self, frames: Tensor, mirrored: Tensor) -> Tensor:
        """Frames of the bank (n,), mirrored where (n,) is true: (n, 3, size, size) in [-1, 1]."""
        return _images(self.bank[frames], mirrored)

    def mean_images(self, clips: Tensor, mirrored: Tensor) -> Tensor:
        """The mean frames of clips (n,), as :meth:`images`."""
        return _images(self.means[clips], mirrored)

    @cached_property
    def means(self) -> Tensor:
        """The mean frame of every clip, in bytes: (clips, size, size, 3)."""
        spans, bank = zip(self.starts, self.lengths, strict=True), self.bank.cpu()
        # On the CPU: not every device has double precision.
        clips = (bank[start : start + length].double().mean(0) for start, length in spans)
        return torch.stack([clip.round().byte() for clip in clips]).to(self.device)

    def draw_pairs(self, n: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Two frames of every clip drawn, anywhere in it: what :meth:`frames_of` takes, (5, n), and
        of what the contents are made, the groups (n,) and attributes (n, attributes). All are
        on the CPU."""
        clips, picks = self._pick(n, 2, len(self.pairs), random)
        rows = [
            [self.starts[clip] + int(pick[k] * self.lengths[clip]) for k in range(2)]
            for clip, pick in zip(clips, picks, strict=True)
        ]
        labels = self.labels[clips]
        numbers = torch.cat([torch.tensor(rows), torch.tensor(clips)[:, None], labels], 1)
        return numbers.t().contiguous(), labels[:, 0], self.scores[clips]

    def frames_of(self, numbers: Tensor) -> Pairs:
        """The frames of a draw, (5, n) on the device."""
        first, second, clip, group, action = numbers
        upright = torch.cat([self.bank[first], self.bank[second], self.means[clip]])
        images = _images(upright, self.mirrored[group].repeat(3))
        one, other, mean = images.split(len(group))
        return Pairs(one, other, mean, group, action)

    def draw_clips(
        self, n: int, length: int, skip: int, random: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Windows of ``length`` frames, every ``skip``-th, (n, length, 3, size, size), and their
        actions (n,).

        A clip that is too short for the window plays back and forth. Clips in another look are
        left out: contents from the prior do not have it.
        """
        clips, picks = self._pick(n, 1, self.usual, random)
        rows = []
        for clip, (pick,) in zip(clips, picks, strict=True):
            room = max(0, self.lengths[clip] - 1 - (length - 1) * skip)
            steps = int(pick * (room + 1)) + skip * torch.arange(length)
            rows.append(self.starts[clip] + back_and_forth(steps, self.lengths[clip]))
        group, action = moved(self.labels[clips].t().contiguous(), self.device)
        flipped = self.mirrored[group].repeat_interleave(length)
        frames = _images(self.bank[moved(torch.cat(rows), self.device)], flipped)
        return frames.unflatten(0, (n, length)), action

    def _pick(
        self, n: int, each: int, pairs: int, random: torch.Generator
    ) -> tuple[list[int], list[list[float]]]:
        """Clips, by the first so many ``pairs``, and ``each`` uniform numbers for every one."""
        clips, rest = [], []
        for pair_pick, clip_pick, *more in torch.rand(n, 2 + each, generator=random).tolist():
            members = self.members[int(pair_pick * pairs)]
            clips.append(members[int(clip_pick * len(members))])
            rest.append(more)
        return clips, rest


def back_and_forth(steps: Tensor, length: int) -> Tensor:
    """Where a clip of ``length`` frames is after ``steps`` from its start, turning at both ends."""
    last = length - 1
    at = steps % max(1, 2 * last)
    return torch.where(at <= last, at, 2 * last - at)


def _images(pixels: Tensor, flipped: Tensor) -> Tensor:
    """Bytes (n, h, w, 3) as images (n, 3, h, w) in [-1, 1], flipped where (n,) is true."""
    return flip_where(from_pixels(pixels), flipped).contiguous(memory_format=torch.channels_last)
