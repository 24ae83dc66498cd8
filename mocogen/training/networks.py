"""The networks of a run: those of the checkpoint in the recipe's sizes, and those that only
training needs, which are motion encoder, discriminators and critic."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from ..generator import Generator
from ..motion import MotionNetwork
from .config import ModelConfig

ENCODER_SIZE = 64
"""Height and width of the grey frames that the motion encoder sees."""


def image_generator(model: ModelConfig) -> Generator:
    """A new image generator, which takes motion and content."""
    return Generator(model.content + model.motion, 0, model.width, model.image_size)


def motion_network(model: ModelConfig, actions: int) -> MotionNetwork:
    """A new motion network for so many actions, possibly 0."""
    return MotionNetwork(model.noise, model.hidden, model.motion, actions)


class MotionEncoder(nn.Module):
    """Grey frames to motion codes.

    Group norm, not batch norm, in the layers: a frame's code then does not depend on the
    frames beside it, but for the last layer, whose running statistics are simple to keep.

    Args:
        motion: length of a code.
        width: channels of the first layer; later ones have 2, 4 and 4 times as many.
        bottleneck: how many numbers a frame is first reduced to, of which a small network then
            makes a code: codes lie on a surface of so many dimensions. 0 for no such step.

    Attributes:
        settled: whether codes are normalised by the running statistics in training as well,
            while these go on following the batches. Those of a small batch are noise.
    """

    def __init__(self, motion: int, width: int = 32, bottleneck: int = 0) -> None:
        super().__init__()
        self.settled = False
        layers: list[nn.Module] = []
        inputs = 1
        for outputs in (width, width * 2, width * 4, width * 4):
            layers += [
                nn.Conv2d(inputs, outputs, 4, 2, 1),
                nn.GroupNorm(8 if outputs % 8 == 0 else 1, outputs),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        features = inputs * (ENCODER_SIZE // 16) ** 2
        self.linear: nn.Module = nn.Linear(features, bottleneck or motion)
        if bottleneck:
            self.linear = nn.Sequential(
                self.linear,
                nn.Linear(bottleneck, 64),
                nn.LeakyReLU(0.2),
                nn.Linear(64, 64),
                nn.LeakyReLU(0.2),
                nn.Linear(64, motion),
            )
        # Without scale and shift the codes keep mean 0 and deviation 1, so that noise of a
        # given size always covers the same share of them.
        self.bn = nn.BatchNorm1d(motion, affine=False, momentum=0.02)

    def forward(self, grey: Tensor) -> Tensor:
        """Normalised grey frames (n, 1, 64, 64) to codes (n, motion), float32."""
        features = self.layers(grey).flatten(1)
        found = self.linear(features).float()
        code: Tensor = self.bn(found)
        if self.training and self.settled:
            norm = self.bn
            code = functional.batch_norm(found, norm.running_mean, norm.running_var, eps=norm.eps)
        return code


class Classifier(nn.Module):
    """Motion codes (n, motion) to logits (n, classes), with a hidden layer or without."""

    def __init__(self, motion: int, classes: int, hidden: int = 0) -> None:
        super().__init__()
        if hidden:
            self.layers = nn.Sequential(
                nn.Linear(motion, hidden),
                nn.LeakyReLU(0.2),
                nn.Linear(hidden, hidden),
                nn.LeakyReLU(0.2),
                nn.Linear(hidden, classes),
            )
        else:
            self.layers = nn.Sequential(nn.Linear(motion, classes))

    def forward(self, code: Tensor) -> Tensor:
        return self.layers(code)


class FrameDiscriminator(nn.Module):
    """Is it a real frame, of this group, doing this action?

    A projection discriminator (Miyato and Koyama 2018, eq. 3) with spectral norm (Miyato et
    al. 2018) and two outputs: one for the whole frame, which knows group and action, and a
    map of them for its patches, which keeps hands and edges in order.

    The embeddings of group and action are added, and to them one of the pair: a person who
    wears other clothes in one action cannot be told by a sum. Leave out what the first output
    says of a pair that no clip shows (``seen``): knowing such frames as made ones alone, it
    would call them wrong whatever they are.

    Args:
        size: height and width of its input, a multiple of 16.
        width: channels of the first layer.
        seen: bool (groups, actions), the pairs that the data shows.
    """

    seen: Tensor

    def __init__(self, size: int, width: int, seen: Tensor) -> None:
        super().__init__()
        groups, actions = seen.shape
        channels = [3, width, width * 2, width * 4, width * 8]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, 2, 1)) for a, b in itertools.pairwise(channels)
        )
        top = width * 8
        self.whole = spectral_norm(nn.Linear(top, 1))
        self.patches = spectral_norm(nn.Conv2d(width * 4, 1, 3, 1, 1))
        self.group = spectral_norm(nn.Embedding(groups, top))
        self.action = spectral_norm(nn.Embedding(actions, top))
        self.pair = spectral_norm(nn.Embedding(groups * actions, top))
        self.actions = actions
        self.register_buffer("seen", seen.clone(), persistent=True)

    def forward(
        self, images: Tensor, group: Tensor, action: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Images (n, 3, size, size), groups and actions (n,), to judgements.

        Returns the whole frames' logits (n,), the patches' (n, 1, size/8, size/8), and the
        features of every layer.
        """
        features = []
        x = images
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
            features.append(x)
        pooled = x.float().sum((2, 3))
        pair = self.pair(group * self.actions + action)
        named = self.group(group) + self.action(action) + pair
        whole = self.whole(pooled)[:, 0].float() + (named.float() * pooled).sum(1)
        return whole, self.patches(features[2]).float(), features


class ImageDiscriminator(nn.Module):
    """D_I of MoCoGAN (Tulyakov et al. 2018, section 3.2): is a single frame real?

    Args:
        width: channels of the first layer.
        spectral: whether kernels are spectrally normalised; else batch norm, as in DCGAN.
    """

    def __init__(self, width: int, spectral: bool) -> None:
        super().__init__()
        self.layers = _pyramid(nn.Conv2d, nn.BatchNorm2d, width, spectral)
        self.last = _normalised(spectral)(nn.Conv2d(width * 8, 1, 4, 2, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, 3, size, size) to logits of their patches, (n, m)."""
        return self.last(self.layers(images)).float().flatten(1)


class VideoDiscriminator(nn.Module):
    """D_V of MoCoGAN: is a clip real, and which action is it?

    Three-dimensional convolutions over time and space. The category logits are the network Q
    of the InfoGAN term (Tulyakov et al. 2018, eq. 6; Chen et al. 2016).

    Args:
        width, spectral: as for D_I.
        actions: number of categories, possibly 0.
    """

    def __init__(self, width: int, spectral: bool, actions: int) -> None:
        super().__init__()
        self.layers = _pyramid(nn.Conv3d, nn.BatchNorm3d, width, spectral)
        wrap = _normalised(spectral)
        self.last = wrap(nn.Conv3d(width * 8, 1, (1, 4, 4), (1, 2, 2), (0, 1, 1)))
        self.category = wrap(nn.Linear(width * 8, actions)) if actions else None

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor | None]:
        """Clips (n, 3, frames, size, size) to logits of patches (n, m), and of actions (n, A)."""
        features = self.layers(clips)
        category = None
        if self.category is not None:
            category = self.category(features.float().mean((2, 3, 4))).float()
        return self.last(features).float().flatten(1), category


class TrajectoryCritic(nn.Module):
    """Is it the path of a real clip through motion space, doing this action?

    One-dimensional convolutions with spectral norm over positions and velocities, and the
    action by projection.

    Args:
        motion: length of a code.
        actions: number of actions, at least 1.
        width: channels of the first layer.
    """

    def __init__(self, motion: int, actions: int, width: int = 64) -> None:
        super().__init__()
        channels = [2 * motion, width, width * 2, width * 2]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv1d(a, b, 5, 2, 2)) for a, b in itertools.pairwise(channels)
        )
        self.last = spectral_norm(nn.Linear(channels[-1], 1))
        self.action = spectral_norm(nn.Embedding(actions, channels[-1]))

    def forward(self, path: Tensor, action: Tensor) -> Tensor:
        """Paths (frames, n, motion), actions (n,), to logits (n,)."""
        velocity = functional.pad(path[1:] - path[:-1], (0, 0, 0, 0, 1, 0))
        # A step is some 0.3 of a position: bring both to one size.
        x = torch.cat([path, 3.0 * velocity], dim=2).permute(1, 2, 0)
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
        pooled = x.mean(2)
        return self.last(pooled)[:, 0] + (self.action(action) * pooled).sum(1)


def _normalised(spectral: bool) -> Callable[[nn.Module], nn.Module]:
    return spectral_norm if spectral else lambda module: module


def _pyramid(
    conv: type[nn.Conv2d] | type[nn.Conv3d],
    norm: type[nn.BatchNorm2d] | type[nn.BatchNorm3d],
    width: int,
    spectral: bool,
) -> nn.Sequential:
    """Four convolutions that halve height and width; those over time halve time twice."""
    layers: list[nn.Module] = []
    channels = [3, width, width * 2, width * 4, width * 8]
    for level, (a, b) in enumerate(itertools.pairwise(channels)):
        kernel: int | tuple[int, ...] = 4
        stride: int | tuple[int, ...] = 2
        padding: int | tuple[int, ...] = 1
        if conv is nn.Conv3d and level >= 2:
            kernel, stride, padding = (3, 4, 4), (1, 2, 2), (1, 1, 1)
        bias = spectral or level == 0
        layers.append(_normalised(spectral)(conv(a, b, kernel, stride, padding, bias=bias)))  # type: ignore[arg-type]
        if not spectral and level > 0:
            layers.append(norm(b))
        layers.append(nn.LeakyReLU(0.2, inplace=True))
    return nn.Sequential(*layers)
