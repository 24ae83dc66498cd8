"""Beginning with the generator of a checkpoint, instead of noise."""

from __future__ import annotations

import torch

from .. import checkpoint
from ..errors import MocogenError
from ..files import sha256
from ..generator import Generator
from .config import ModelConfig
from .stage import Context
from .states import last_state, start_of


def started_with(context: Context) -> str | None:
    """The SHA-256 of the checkpoint that the run's generator stage began with; empty if it began
    from noise, None if it has not begun."""
    state = last_state(context, "generator")
    return None if state is None else start_of(state)


@torch.no_grad()
def start_with(generator: Generator, name_or_path: str, model: ModelConfig) -> str:
    """Give a new generator the weights and batch statistics of a checkpoint's.

    It may have more motion numbers than that one: the others count nothing at first, and the
    action's one-hot vector (:mod:`mocogen.training.codes`) is among them.

    Args:
        generator: of ``model``'s sizes, which takes motion and content in this order.
        name_or_path: of the checkpoint, or the name of one that ships.

    Returns:
        The file's SHA-256.

    Raises:
        MocogenError: there is no such checkpoint, or its generator is of other sizes.
    """
    path = checkpoint.find(name_or_path)
    spec, _, theirs = checkpoint.load(path)
    trouble = [
        f"model.{name} is {getattr(model, name)} here and {getattr(spec, name)} there"
        for name in ("content", "width", "image_size")
        if getattr(model, name) != getattr(spec, name)
    ]
    if model.motion < spec.motion:
        trouble.append(f"model.motion is {model.motion} here and {spec.motion} there")
    if spec.latent_order != ("motion", "content"):
        trouble.append(f"its latents are {', '.join(spec.latent_order)}, not motion, content")
    if tuple(spec.pixel_range) != (-1.0, 1.0):
        trouble.append("its pixels do not lie between -1 and 1")
    if trouble:
        raise MocogenError(f"generator.start = {name_or_path}: {'; '.join(trouble)}")
    weights = theirs.state_dict()
    first = weights["main.0.weight"]  # (motion + content, channels, height, width)
    more = first.new_zeros(model.motion - spec.motion, *first.shape[1:])
    weights["main.0.weight"] = torch.cat([first[: spec.motion], more, first[spec.motion :]])
    generator.load_state_dict(weights)
    return sha256(path)
