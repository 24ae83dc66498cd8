"""From training states to one checkpoint in the project's own format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import checkpoint
from ..generator import Generator
from ..mapping import ContentMapping
from ..motion import MotionNetwork
from ..spec import ModelSpec
from .config import TrainConfig
from .content import content_mapping, mapped
from .loop import Context, norms_frozen, read_state, require_fitting, state_path
from .record import versions

_ROUNDS = 40
_CLIPS, _FRAMES = 8, 32
"""Frames from which the generator's batch statistics are estimated: 40 times 8 clips, of 32
frames each, of which every fourth is made."""


def write_checkpoint(context: Context) -> Path | None:
    """Write ``checkpoint.safetensors`` from the averaged weights of the run's last states.

    Sampling is in eval mode, so the batch statistics must be those of the averaged weights on
    latents as they are drawn in sampling; they are estimated here, unless the generator was
    trained on those that it has.

    Returns None while one of the two networks is missing, or if the motion network was fitted
    to another encoder than the one that the generator now has.

    Raises:
        MocogenError: a state or the checkpoint cannot be read or written.
    """
    networks = load_networks(context)
    if networks is None:
        return None
    motion, generator = networks.motion, networks.generator
    # A generator that learned from its own clips alone takes contents as they are drawn.
    assigned = state_path(context.folder, "generator").exists()
    mapping = content_mapping(context.config, context.clips) if assigned else None
    random = torch.Generator().manual_seed(context.config.run.seed)
    if motion.bn is not None and not _is_identity(motion.bn):
        calibrate_motion(motion, random)
    if not networks.norms_frozen:
        calibrate(generator, motion, context.config, random, mapping)
    path = context.folder / "checkpoint.safetensors"
    spec = make_spec(context, networks.hours, mapping)
    checkpoint.save(
        path, spec, motion, generator, regions=None if mapping is None else mapping.regions
    )
    return path


@dataclass(frozen=True)
class Networks:
    """What a run has trained.

    Attributes:
        motion, generator: averaged weights, in eval mode.
        norms_frozen: whether the generator was trained on the batch statistics that it has.
        hours: of each stage.
    """

    motion: MotionNetwork
    generator: Generator
    norms_frozen: bool
    hours: dict[str, float]


def load_networks(context: Context) -> Networks | None:
    """The run's networks, or None if one is missing.

    Raises:
        MocogenError: a state is damaged or belongs to another architecture.
    """
    model, clips = context.config.model, context.clips
    states: dict[str, dict[str, Any]] = {}
    for name in ("generator", "motion", "joint"):
        path = state_path(context.folder, name)
        if path.exists():
            states[name] = read_state(path)
            require_fitting(states[name], context, path)
    hours = {name: round(state["elapsed"] / 3600, 3) for name, state in states.items()}
    motion = MotionNetwork(model.noise, model.hidden, model.motion, len(clips.actions))
    generator = Generator(model.content + model.motion, 0, model.width, model.image_size)
    if "joint" in states:
        modules = states["joint"]["modules"]
        motion.load_state_dict(modules["motion_average"])
        generator.load_state_dict(modules["generator_average"])
    elif "generator" in states and "motion" in states:
        from .stage_motion import fingerprint, load_encoder

        if fingerprint(load_encoder(context)) != states["motion"]["extra"]["encoder"]:
            context.reporter.note(
                "no checkpoint written: the motion encoder has changed since the motion stage; "
                "run that stage again"
            )
            return None
        motion.load_state_dict(states["motion"]["extra"]["motion_average"])
        generator.load_state_dict(states["generator"]["modules"]["generator_average"])
    else:
        return None
    last = states["joint" if "joint" in states else "generator"]
    return Networks(
        motion.eval().requires_grad_(False),
        generator.eval().requires_grad_(False),
        norms_frozen(last),
        hours,
    )


def _is_identity(bn: nn.BatchNorm1d) -> bool:
    """Whether batch norm was switched off by its statistics, as the motion stage leaves it."""
    mean, variance = bn.running_mean, bn.running_var
    assert mean is not None
    assert variance is not None
    return bool((mean == 0).all()) and bool((variance + bn.eps - 1).abs().max() < 1e-6)


def _actions(motion: MotionNetwork, clips: int) -> Tensor | None:
    return torch.arange(clips) % motion.categories if motion.categories else None


@torch.no_grad()
def calibrate_motion(motion: MotionNetwork, random: torch.Generator) -> None:
    """Estimate the running statistics of the motion network's batch norm from noise."""
    assert motion.bn is not None
    _collect(motion.bn)
    motion.train()
    for _ in range(8):
        noise = torch.randn(_FRAMES, 64, motion.noise_size, generator=random)
        motion(noise, None, _actions(motion, 64))
    motion.eval()


@torch.no_grad()
def calibrate(
    generator: Generator,
    motion: MotionNetwork,
    config: TrainConfig,
    random: torch.Generator,
    mapping: ContentMapping | None = None,
) -> None:
    """Estimate the generator's running statistics from prior samples, all actions alike."""
    before = config.motion.warm_up
    norms = [layer for layer in generator.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        _collect(norm)
    generator.train()
    for _ in range(_ROUNDS):
        noise = torch.randn(before + _FRAMES, _CLIPS, motion.noise_size, generator=random)
        codes = motion(noise, None, _actions(motion, _CLIPS))[before::4]
        drawn = torch.randn(len(codes) * _CLIPS, config.model.content, generator=random)
        contents = mapped(mapping, drawn)
        generator(torch.cat([codes.flatten(0, 1), contents], 1))
    generator.eval()


def _collect(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    """From here on, running statistics are plain means over all batches."""
    norm.reset_running_stats()
    norm.momentum = None


def make_spec(
    context: Context, hours: dict[str, float], mapping: ContentMapping | None = None
) -> ModelSpec:
    """The checkpoint's metadata, with everything needed to repeat the run."""
    config, clips = context.config, context.clips
    model, data = config.model, config.data
    return ModelSpec(
        content=model.content,
        noise=model.noise,
        hidden=model.hidden,
        motion=model.motion,
        actions=clips.actions,
        width=model.width,
        image_size=model.image_size,
        warm_up=config.motion.warm_up,
        fps=data.fps,
        regions=0 if mapping is None else len(mapping.regions),
        content_push=0.0 if mapping is None else mapping.push,
        content_blend=ModelSpec.content_blend if mapping is None else mapping.blend,
        name=model.name,
        data=data.name or "clips of one's own",
        license=data.license,
        training={
            "recipe": config.recipe,
            "config": config.to_dict(),
            "seed": config.run.seed,
            "hours": hours,
            "clips": len(clips.listing()),
            "data_sha256": clips.digest(),
            "files": {str(f["path"]): str(f["sha256"])[:16] for f in clips.listing()},
            "versions": versions(),
        },
    )
