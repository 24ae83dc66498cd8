"""Motion codes: what the encoder sees of a pose and, where asked for, which action it belongs to.

The action enters the motion network in any case (Tulyakov et al. 2018, section 3.3). With
``generator.action_code`` it is a part of what that network has to say, too: the same pose may
have to be shown otherwise in another action, by somebody who wears other clothes in it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .config import TrainConfig
from .networks import MotionEncoder


class MotionCodes:
    """How the codes of a run are put together.

    Args:
        config: of the run.
        actions: how many the clips show.

    Attributes:
        pose: length of what the encoder gives, the first part of a code.
        named: length of the action's one-hot vector behind it, or 0.
    """

    def __init__(self, config: TrainConfig, actions: int) -> None:
        self.scale = config.generator.action_code
        self.width = config.generator.encoder_width
        self.bottleneck = config.generator.encoder_bottleneck
        self.named = actions if self.scale else 0
        self.pose = config.model.motion - self.named

    def encoder(self) -> MotionEncoder:
        """A new encoder, whose weights torch's random numbers decide."""
        return MotionEncoder(self.pose, self.width, self.bottleneck)

    def whole(self, pose: Tensor, action: Tensor) -> Tensor:
        """Codes (n, motion) of poses (n, pose) in actions (n,)."""
        if not self.named:
            return pose
        one_hot = functional.one_hot(action, self.named).to(pose)
        return torch.cat([pose, self.scale * one_hot], 1)

    def misnamed(self, code: Tensor, action: Tensor) -> Tensor:
        """The squared distance of the action's part of codes (..., n, motion) from the one-hot
        vectors that it should say of actions (n,), (..., n)."""
        said = code[..., self.pose :] / self.scale
        return (said - functional.one_hot(action, self.named).to(said)).square().sum(-1)


def swung(codes: Tensor, middle: Tensor, swing: float) -> Tensor:
    """Codes (n, motion), so many times as far from a middle, (motion,) or one each, as they are."""
    return middle + swing * (codes - middle)
