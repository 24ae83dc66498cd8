"""From training states to one checkpoint in the project's own format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import checkpoint
from ..errors import MocogenError
from ..generator import Generator
from ..mapping import ContentMapping
from ..motion import MotionNetwork
from ..spec import ModelSpec
from .config import TrainConfig
from .content import content_mapping, mapped
from .data import ClipSet
from .loop import (
    CHECKPOINT,
    Context,
    config_of,
    fingerprint,
    norms_frozen,
    outdated,
    read_state,
    require_fitting,
    state_path,
)
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
    path = context.folder / CHECKPOINT
    spec = make_spec(context.config, context.clips, networks.hours, mapping)
    checkpoint.save(
        path, spec, motion, generator, regions=None if mapping is None else mapping.regions
    )
    return path


@dataclass(frozen=True)
class Networks:
    """What a run has trained.

    Attributes:
        motion, generator: averaged weights, in eval mode.
        mapping: what the generator wants its contents to pass through; None where it takes them
            as they are drawn.
        norms_frozen: whether the generator was trained on the batch statistics that it has.
        hours: of each stage.
    """

    motion: MotionNetwork
    generator: Generator
    mapping: ContentMapping | None
    norms_frozen: bool
    hours: dict[str, float]


class OutdatedError(MocogenError):
    """A stage was run on what another stage has replaced since."""


def separate_networks(context: Context) -> Networks | None:
    """What the generator and the motion stage have left, or None if one of them has not.

    Raises:
        OutdatedError: the motion stage was fitted to another encoder.
        MocogenError: a state is damaged or belongs to another architecture.
    """
    generator, motion = _state(context, "generator"), _state(context, "motion")
    if generator is None or motion is None:
        return None
    if outdated(motion, fingerprint(generator["modules"]["encoder_average"])):
        raise OutdatedError(
            "the motion encoder has changed since the motion stage: run that stage again "
            "(--resume --stages motion)"
        )
    return _networks(
        context,
        motion["extra"]["motion_average"],
        generator["modules"]["generator_average"],
        content_mapping(config_of(generator), context.clips),
        {"generator": generator, "motion": motion},
    )


def joint_networks(context: Context) -> Networks | None:
    """What the joint stage has left, or None if it has not been run.

    Raises:
        OutdatedError: it refined networks that other stages have replaced since.
        MocogenError: a state is damaged or belongs to another architecture.
    """
    state = _state(context, "joint")
    if state is None:
        return None
    # A generator that began from noise takes contents as they are drawn.
    mapping, hours = None, {}
    if "first" in state["modules"]:
        refined = separate_networks(context)
        if refined is None or outdated(state, basis_of(refined)):
            raise OutdatedError(
                "the generator or the motion stage has gone on since the joint stage: run that "
                "one again (--resume --stages joint)"
            )
        mapping, hours = refined.mapping, refined.hours
    modules = state["modules"]
    made = _networks(
        context, modules["motion_average"], modules["generator_average"], mapping, {"joint": state}
    )
    return replace(made, hours={**hours, **made.hours})


def basis_of(networks: Networks) -> str:
    """What names the networks that a joint stage begins from."""
    return fingerprint(networks.motion.state_dict(), networks.generator.state_dict())


def _state(context: Context, stage: str) -> dict[str, Any] | None:
    """A stage's last state, if there is one."""
    path = state_path(context.folder, stage)
    if not path.exists():
        return None
    state = read_state(path)
    require_fitting(state, context, path)
    return state


def _networks(
    context: Context, motion_weights: dict[str, Tensor], generator_weights: dict[str, Tensor],
    mapping: ContentMapping | None, states: dict[str, dict[str, Any]],
) -> Networks:  # fmt: skip
    model = context.config.model
    motion = MotionNetwork(model.noise, model.hidden, model.motion, len(context.clips.actions))
    generator = Generator(model.content + model.motion, 0, model.width, model.image_size)
    motion.load_state_dict(motion_weights)
    generator.load_state_dict(generator_weights)
    return Networks(
        motion.eval().requires_grad_(False),
        generator.eval().requires_grad_(False),
        mapping,
        norms_frozen(states["joint" if "joint" in states else "generator"]),
        {name: round(state["elapsed"] / 3600, 3) for name, state in states.items()},
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
    config: TrainConfig, clips: ClipSet, hours: dict[str, float], mapping: ContentMapping | None
) -> ModelSpec:
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
