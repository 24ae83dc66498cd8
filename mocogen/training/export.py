"""From training states to one checkpoint in the project's own format."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from .. import checkpoint
from ..generator import Generator
from ..mapping import ContentMapping
from ..motion import MotionNetwork
from ..spec import ModelSpec
from .config import TrainConfig
from .content import mapped
from .data import ClipSet
from .record import training_record
from .stage import Context
from .trained import OutdatedError, joint_networks, separate_networks

_ROUNDS = 40
_CLIPS, _FRAMES = 8, 32
"""Frames from which the generator's batch statistics are estimated: 40 times 8 clips, of 32
frames each, of which every fourth is made."""


def write_checkpoint(context: Context) -> Path | None:
    """Write ``checkpoint.safetensors`` from the averaged weights of the run's last states.

    Sampling is in eval mode, so the batch statistics must be those of the averaged weights on
    latents as they are drawn in sampling; they are estimated here, unless the generator was
    trained on those that it has.

    Returns None while one of the two networks is missing, or if one was fitted to another network
    than there now is; the reporter is told so.

    Raises:
        MocogenError: a state or the checkpoint cannot be read or written.
    """
    try:
        networks = joint_networks(context) or separate_networks(context)
    except OutdatedError as error:
        context.reporter.note(f"no checkpoint written: {error}")
        return None
    if networks is None:
        return None
    motion, generator, mapping = networks.motion, networks.generator, networks.mapping
    random = torch.Generator().manual_seed(context.config.run.seed)
    if motion.bn is not None and not _is_identity(motion.bn):
        calibrate_motion(motion, context.config, random)
    if not networks.norms_frozen:
        calibrate(generator, motion, context.config, random, mapping)
    spec = make_spec(context.config, context.clips, networks.hours, mapping, networks.start_sha256)
    regions = None if mapping is None else mapping.regions
    checkpoint.save(context.checkpoint, spec, motion, generator, regions=regions)
    return context.checkpoint


def _is_identity(bn: nn.BatchNorm1d) -> bool:
    """Whether batch norm was switched off by its statistics, as the motion stage leaves it."""
    mean, variance = bn.running_mean, bn.running_var
    assert mean is not None
    assert variance is not None
    return bool((mean == 0).all()) and bool((variance + bn.eps - 1).abs().max() < 1e-6)


def _actions(motion: MotionNetwork, clips: int) -> Tensor | None:
    return torch.arange(clips) % motion.categories if motion.categories else None


@torch.no_grad()
def calibrate_motion(motion: MotionNetwork, config: TrainConfig, random: torch.Generator) -> None:
    """Estimate the running statistics of the motion network's batch norm from noise.

    The warm-up is part of them, as in training.
    """
    assert motion.bn is not None
    length = config.motion.warm_up + _FRAMES
    _collect(motion.bn)
    motion.train()
    for _ in range(8):
        noise = torch.randn(length, 64, motion.noise_size, generator=random)
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
    config: TrainConfig, clips: ClipSet, hours: dict[str, float],
    mapping: ContentMapping | None, start_sha256: str = "",
) -> ModelSpec:  # fmt: skip
    """The checkpoint's metadata, with everything needed to repeat the run."""
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
        data=data.stated_name,
        license=data.license,
        training=training_record(config, hours, clips.filmed, start_sha256),
    )
