"""What the stages of a run have left: its networks, from the last states."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import MocogenError
from ..generator import Generator
from ..mapping import ContentMapping
from ..motion import MotionNetwork
from .content import content_mapping
from .networks import image_generator, motion_network
from .stage import Context
from .states import config_of, fingerprint, hours_of, last_state, norms_frozen, outdated, start_of


@dataclass(frozen=True)
class Networks:
    """What a run has trained.

    Attributes:
        motion, generator: averaged weights, in eval mode.
        mapping: what the generator wants its contents to pass through; None where it takes them
            as they are drawn.
        norms_frozen: whether the generator was trained on the batch statistics that it has.
        hours: of each stage.
        start_sha256: hash of the checkpoint that the generator stage began with, or empty.
    """

    motion: MotionNetwork
    generator: Generator
    mapping: ContentMapping | None
    norms_frozen: bool
    hours: dict[str, float]
    start_sha256: str = ""


class OutdatedError(MocogenError):
    """A stage was run on what another stage has replaced since."""


def separate_networks(context: Context) -> Networks | None:
    """What the generator and the motion stage have left, or None if one of them has not.

    Raises:
        OutdatedError: the motion stage was fitted to another encoder.
        MocogenError: a state is damaged or belongs to another architecture.
    """
    generator, motion = last_state(context, "generator"), last_state(context, "motion")
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
    state = last_state(context, "joint")
    if state is None:
        return None
    # A generator that began from noise takes contents as they are drawn.
    mapping, hours, start = None, {}, ""
    if "first" in state["modules"]:
        refined = separate_networks(context)
        if refined is None or outdated(state, basis_of(refined)):
            raise OutdatedError(
                "the generator or the motion stage has gone on since the joint stage: run that "
                "one again (--resume --stages joint)"
            )
        mapping, hours, start = refined.mapping, refined.hours, refined.start_sha256
    modules = state["modules"]
    made = _networks(
        context, modules["motion_average"], modules["generator_average"], mapping, {"joint": state}
    )
    return replace(made, hours={**hours, **made.hours}, start_sha256=start)


def basis_of(networks: Networks) -> str:
    """What names the networks that a joint stage begins from."""
    return fingerprint(networks.motion.state_dict(), networks.generator.state_dict())


def _networks(
    context: Context, motion_weights: dict[str, Tensor], generator_weights: dict[str, Tensor],
    mapping: ContentMapping | None, states: dict[str, dict[str, Any]],
) -> Networks:  # fmt: skip
    model = context.config.model
    # Their first values are overwritten: torch's random numbers stay as they were.
    with torch.random.fork_rng(devices=[]):
        motion = motion_network(model, len(context.clips.actions))
        generator = image_generator(model)
    motion.load_state_dict(motion_weights)
    generator.load_state_dict(generator_weights)
    return Networks(
        motion.eval().requires_grad_(False),
        generator.eval().requires_grad_(False),
        mapping,
        norms_frozen(states["joint" if "joint" in states else "generator"]),
        {name: hours_of(state) for name, state in states.items()},
        start_of(states["generator"]) if "generator" in states else "",
    )
