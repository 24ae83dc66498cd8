"""The image generator: a latent vector becomes a frame.

DCGAN (Radford et al. 2016) in the shape of ECE 417 MP6 and of MoCoGAN's G_I: transposed
convolutions that double the size four times, batch norm and ReLU between them, tanh at the
end. The member ``main`` and its numbering are those of the course's checkpoint files.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .errors import UsageError


class Generator(nn.Module):
    """Latent vectors to images.

    Args:
        latent_size: length of the content and motion codes together (60 in the course).
        categories: length of a one-hot vector beside them (only the MoCoGAN authors' layout).
        width: channels before the last layer; the earlier layers have 2, 4 and 8 times as
            many (64 in the course).
        image_size: height and width of the images in pixels, a multiple of 16 (96 or 64).
    """

    def __init__(
        self,
        latent_size: int = 60,
        categories: int = 0,
        width: int = 64,
        image_size: int = 96,
    ) -> None:
        super().__init__()
        if image_size < 32 or image_size % 16:
            raise UsageError(f"image size {image_size}: use a multiple of 16 of at least 32")
        self.input_size = latent_size + categories
        self.width = width
        self.image_size = image_size
        sizes = [width * 8, width * 4, width * 2, width]
        # The first kernel covers the whole first feature map: (n, z, 1, 1) to (n, 8w, s/16, s/16).
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(self.input_size, sizes[0], image_size // 16, 1, 0, bias=False)
        ]
        for inputs, outputs in zip(sizes, [*sizes[1:], 3], strict=True):
            layers += [
                nn.BatchNorm2d(inputs),
                nn.ReLU(inplace=True),
                nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False),
            ]
        self.main = nn.Sequential(*layers, nn.Tanh())
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """DCGAN's initialisation: kernels from N(0, 0.02), batch norm scales from N(1, 0.02)."""
        for layer in self.main:
            if isinstance(layer, nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1.0, 0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, latent: Tensor) -> Tensor:
        """Latents (n, latent_size + categories) to images (n, 3, size, size) in [-1, 1]."""
        return self.main(latent[:, :, None, None])

    def folded(self) -> nn.Sequential:
        """A copy for sampling: every batch norm folded into the convolution before it.

        Takes (n, input_size, 1, 1) and gives what :meth:`forward` gives in eval mode, up to
        rounding, with a third fewer passes over memory.
        """
        layers = list(copy.deepcopy(self.main).eval())
        kept: list[nn.Module] = []
        for layer in layers:
            if isinstance(layer, nn.BatchNorm2d):
                convolution = kept.pop()
                assert isinstance(convolution, nn.ConvTranspose2d)
                kept.append(fuse_conv_bn_eval(convolution, layer, transpose=True))
            else:
                kept.append(layer)
        return nn.Sequential(*kept).requires_grad_(False)


def from_pixels(pixels: Tensor) -> Tensor:
    """Frames, uint8 (..., h, w, 3), as images (..., 3, h, w) with values from -1 to 1."""
    return (pixels.float() / 127.5 - 1.0).movedim(-1, -3)


def to_pixels(images: Tensor, low: float, high: float) -> Tensor:
    """Images (n, channels, h, w) with values from ``low`` to ``high`` as uint8 (n, h, w, channels).

    Values beyond the range are clamped, never wrapped; values between grey levels are
    rounded.
    """
    scaled = (images - low) * (255.0 / (high - low))
    return scaled.clamp_(0, 255).round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
