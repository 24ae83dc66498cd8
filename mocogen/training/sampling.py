"""Frames from the clips' memory, every pair of group and action equally often."""

from __future__ import annotations

import torch
from torch import Tensor

from .data import ClipSet


class FrameSampler:
    """Draws frames so that long clips neither crowd out short ones nor starve them.

    Attributes:
        seen: bool (groups, actions), the pairs that the data shows.
        mirrored: bool (groups,).
        person: (groups,), index of the group's name, the same for a mirrored group.
    """

    def __init__(self, clips: ClipSet, device: torch.device) -> None:
        self.bank = torch.from_numpy(clips.frames).to(device)
        self.device = device
        groups, actions = len(clips.groups), max(1, len(clips.actions))
        pairs: dict[tuple[int, int], list[int]] = {}
        for k, clip in enumerate(clips.clips):
            pairs.setdefault((clips.group_index(clip), clips.action_index(clip)), []).append(k)
        self.pairs = sorted(pairs)
        self.members = [pairs[pair] for pair in self.pairs]
        self.starts = [clip.start for clip in clips.clips]
        self.lengths = [clip.length for clip in clips.clips]
        self.seen = torch.zeros(groups, actions, dtype=torch.bool)
        for group, action in self.pairs:
            self.seen[group, action] = True
        self.mirrored = torch.tensor([m for _, m in clips.groups]).to(device)
        people = clips.people
        self.person = torch.tensor([people.index(name) for name, _ in clips.groups]).to(device)

    def draw(self, n: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Frames (n, 3, size, size) in [-1, 1], their groups and actions, (n,) each."""
        frames, groups, actions = self.draw_clips(n, 1, 1, random)
        return frames[:, 0], groups, actions

    def draw_clips(
        self, n: int, length: int, skip: int, random: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Windows of ``length`` frames, every ``skip``-th: (n, length, 3, size, size).

        A clip that is too short for the window plays back and forth.
        """
        picks = torch.rand(n, 3, generator=random).tolist()
        rows, groups, actions = [], [], []
        for pair_pick, clip_pick, frame_pick in picks:
            pair = int(pair_pick * len(self.pairs))
            members = self.members[pair]
            clip = members[int(clip_pick * len(members))]
            room = max(0, self.lengths[clip] - 1 - (length - 1) * skip)
            first = int(frame_pick * (room + 1))
            last = self.lengths[clip] - 1
            for k in range(length):
                at = (first + k * skip) % max(1, 2 * last)
                rows.append(self.starts[clip] + (at if at <= last else 2 * last - at))
            groups.append(self.pairs[pair][0])
            actions.append(self.pairs[pair][1])
        group = torch.tensor(groups).to(self.device)
        pixels = self.bank[torch.tensor(rows).to(self.device)]
        frames = (pixels.float() / 127.5 - 1.0).permute(0, 3, 1, 2)
        flipped = self.mirrored[group].repeat_interleave(length)[:, None, None, None]
        frames = torch.where(flipped, frames.flip(3), frames)
        frames = frames.contiguous(memory_format=torch.channels_last)
        shape = (n, length, *frames.shape[1:])
        return frames.unflatten(0, shape[:2]), group, torch.tensor(actions).to(self.device)
