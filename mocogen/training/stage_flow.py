"""The stage of voxel flow: hidden frames are predicted from their neighbours.

Two frames of a clip and one between them: the network is to find the way from the outer
ones to the hidden one. Nobody has to say where things move (Liu et al. 2017). Clips are turned
over in every direction, and in time.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import flow_checkpoint
from ..errors import MocogenError, UsageError
from ..flow_checkpoint import FlowSpec
from ..generator import from_pixels
from ..voxel_flow import VoxelFlow, sample
from .config import FlowConfig
from .data import Clip
from .losses import charbonnier, total_variation
from .optimisation import average_gradients, half_cosine, set_rate, update_average
from .record import training_record
from .sheets import grid
from .stage import Context, Stage
from .states import hours_of, last_state

NAME = "flow"


def trained_clips(context: Context) -> list[Clip]:
    """The clips that are trained on: those of nobody who is held out, none twice.

    Raises:
        UsageError: a group to hold out is not there.
        MocogenError: nothing is left.
    """
    held, clips = context.config.flow.hold_out, context.clips
    absent = [name for name in held if name not in clips.people]
    if absent:
        raise UsageError(f"no group {absent[0]!r} to hold out: there are {', '.join(clips.people)}")
    kept = [clip for clip in clips.filmed if clip.group not in held]
    if not kept:
        raise MocogenError("all clips are held out: leave some groups to train on")
    return kept


class FlowStage(Stage):
    """The voxel flow network and its moving average."""

    name = NAME
    values: FlowConfig

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.values = values = context.config.flow
        self.clips = trained_clips(context)
        channels_last: Any = {"memory_format": torch.channels_last}
        with context.initialising(self.name):
            network = VoxelFlow(values.width)
        self.network = network.to(context.device, **channels_last)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.modules = {"network": self.network, "average": self.average}
        self.trained = list(self.network.parameters())
        self.optimisers = {"network": torch.optim.Adam(self.trained, values.learning_rate)}
        self.local_batch = max(1, values.batch // context.fabric.world_size)

    def draw(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """First, hidden and second frames, (n, 3, crop, crop) in [-1, 1], and times (n,)."""
        triplets, times = [], []
        for _ in range(count):
            _, triplet, time = max(
                (self._candidate(random) for _ in range(self.values.candidates)),
                key=lambda drawn: drawn[0],
            )
            triplets.append(triplet)
            times.append(time)
        frames = torch.from_numpy(np.stack(triplets)).to(self.context.device)
        first, hidden, second = from_pixels(frames).unbind(1)
        return first, hidden, second, torch.tensor(times, device=self.context.device)

    def _candidate(self, random: torch.Generator) -> tuple[float, np.ndarray, float]:
        """How much moves in a crop of three frames, the crop (3, h, w, 3), and the time."""
        values, frames = self.values, self.context.clips.frames
        picks = torch.rand(6, generator=random).tolist()
        clip = self.clips[int(picks[0] * len(self.clips))]
        span = 2 + int(picks[1] * (values.span - 1))
        at = clip.start + int(picks[2] * (clip.length - span))
        inner = 1 + int(picks[3] * (span - 1))
        room = values.image_size - values.crop + 1
        top, left = int(picks[4] * room), int(picks[5] * room)
        crop = frames[
            [at, at + inner, at + span], top : top + values.crop, left : left + values.crop
        ]
        moves = float(np.abs(crop[2].astype(np.int16) - crop[0]).mean())
        across, down, backwards = (torch.rand(3, generator=random) < 0.5).tolist()
        if across:
            crop = crop[:, :, ::-1]
        if down:
            crop = crop[:, ::-1]
        if backwards:
            crop, inner = crop[::-1], span - inner
        return moves, crop, inner / span

    def step(self, progress: float) -> dict[str, Tensor]:
        values = self.values
        rate = values.learning_rate * half_cosine(progress, values.decay_start)
        set_rate(self.optimisers["network"], rate)
        first, hidden, second, time = self.draw(self.local_batch, self.random)
        flow, mask = self.network(first, second, time)
        made = sample(first, second, time, flow, mask)
        losses = {
            "error": charbonnier(made - hidden),
            "flow": total_variation(flow),
            "mask": total_variation(mask),
        }
        total = (
            losses["error"]
            + values.smooth_flow * losses["flow"]
            + values.smooth_mask * losses["mask"]
        )
        self.optimisers["network"].zero_grad()
        total.backward()
        average_gradients(self.context.fabric, self.trained)
        self.optimisers["network"].step()
        update_average(self.average, self.network, values.ema)
        with torch.no_grad():  # what is to be beaten: neither flow nor mask
            t = time[:, None, None, None]
            losses["blend"] = charbonnier((1 - t) * first + t * second - hidden)
        return losses

    @torch.no_grad()
    def sheet(self) -> Image.Image:
        """Eight hidden frames a column: first, blend, made, hidden, second, and the mask."""
        first, hidden, second, time = self.draw(8, torch.Generator().manual_seed(1))
        flow, mask = self.average(first, second, time)
        made = sample(first, second, time, flow, mask)
        t = time[:, None, None, None]
        blend = (1 - t) * first + t * second
        return grid([first, blend, made, hidden, second, (2 * mask - 1).expand(-1, 3, -1, -1)])


def write_flow_checkpoint(context: Context) -> Path | None:
    """Write ``checkpoint.safetensors`` from the averaged weights, or None without a state.

    Raises:
        MocogenError: the state or the checkpoint cannot be read or written.
    """
    state = last_state(context, NAME)
    if state is None:
        return None
    config, clips = context.config, trained_clips(context)
    network = VoxelFlow(config.flow.width)
    network.load_state_dict(state["modules"]["average"])
    hours = {NAME: hours_of(state)}
    spec = FlowSpec(
        width=config.flow.width,
        name=config.flow.name,
        data=config.data.stated_name,
        license=config.data.license,
        training={
            **training_record(config, hours, clips),
            "steps": state["step"],
            "held_out": list(config.flow.hold_out),
        },
    )
    flow_checkpoint.save(context.checkpoint, spec, network)
    return context.checkpoint
