"""Deep Voxel Flow (Liu, Yeh, Tang, Liu and Agarwala, ICCV 2017): a frame between two frames.

A convolutional encoder-decoder sees two frames and a time between them, and gives three
numbers a pixel of the new frame: how far what is seen there moves from the first frame to
the second, across and down, and a mask that says which of the two to trust. The new frame is
sampled from the two along this voxel flow, linearly in both directions of the picture and in
time. Everything is differentiable, so frames of any clip teach it: hide one, and predict it.

Two things differ from the paper. The time is an input, so that one network makes frames at
any of them (the paper's makes the middle one), and there is no batch norm, so that a frame
does not depend on what else is in its batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

MULTIPLE = 8
"""Three poolings: height and width of what the network sees are multiples of this."""

PIXELS = 8.0
"""A flow of one in the network's output, in pixels: the size of movements that are common."""

LONGEST_SIDE = 256
"""Flow is found in frames whose longer side has at most so many pixels; in larger frames the
same movement would be further than the network looks."""


class VoxelFlow(nn.Module):
    """From two frames and a time to a flow and a mask.

    Three halvings and back, each level of the way back seeing what the way there had at its
    size. At first the last layer is zero: no flow, both frames trusted alike, which is the
    blend of the two.

    Args:
        width: channels at full size; twice as many at half, four times at a quarter and less.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        one, two, four = width, 2 * width, 4 * width
        self.down = nn.ModuleList(
            [_layer(2 * 3 + 1, one, 5), _layer(one, two, 5), _layer(two, four, 3)]
        )
        self.middle = _layer(four, four, 3)
        self.up = nn.ModuleList(
            [_layer(four + four, four, 3), _layer(four + two, two, 3), _layer(two + one, one, 3)]
        )
        self.out = nn.Conv2d(one, 3, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, first: Tensor, second: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Flow and mask of new frames.

        Args:
            first, second: (n, 3, h, w) in [-1, 1]; h and w are multiples of ``MULTIPLE``.
            time: (n,), above 0 (the first frame) and below 1 (the second).

        Returns:
            The flow from the first frame to the second, (n, 2, h, w), across and down in
            pixels, and the mask, (n, 1, h, w) in (0, 1): 1 where only the first is trusted.
        """
        clock = time[:, None, None, None].expand(-1, 1, *first.shape[2:])
        x = torch.cat([first, second, 2 * clock - 1], 1)
        kept = []
        for layer in self.down:
            x = layer(x)
            kept.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.middle(x)
        for layer, skip in zip(self.up, reversed(kept), strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = layer(torch.cat([x, skip], 1))
        x = self.out(x)
        return PIXELS * x[:, :2], torch.sigmoid(x[:, 2:])


def _layer(before: int, after: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.ReLU())


def warp(frame: Tensor, offset: Tensor) -> Tensor:
    """Frames (n, c, h, w) seen at x + offset, bilinearly; beyond the edge, the edge goes on.

    Args:
        offset: (n, 2, h, w), across and down in pixels.
    """
    height, width = frame.shape[2:]
    across = torch.arange(width, device=frame.device) + offset[:, 0]
    down = torch.arange(height, device=frame.device)[:, None] + offset[:, 1]
    # grid_sample counts from -1 to 1 between the outer edges of the outermost pixels.
    place = torch.stack([(2 * across + 1) / width - 1, (2 * down + 1) / height - 1], 3)
    return functional.grid_sample(frame, place, padding_mode="border", align_corners=False)


def sample(first: Tensor, second: Tensor, time: Tensor, flow: Tensor, mask: Tensor) -> Tensor:
    """New frames (n, 3, h, w): what the flow brings from both sides, blended by the mask.

    With a mask of one half everywhere the frames count by their nearness in time, (1 - t) to
    t; without flow that is the plain blend.

    Args:
        first, second: (n, 3, h, w).
        time: (n,), in (0, 1).
        flow, mask: as :meth:`VoxelFlow.forward` gives them.
    """
    t = time[:, None, None, None]
    before, after = (1 - t) * mask, t * (1 - mask)
    made = before * warp(first, -t * flow) + after * warp(second, (1 - t) * flow)
    return made / (before + after)


@torch.no_grad()
def between(network: VoxelFlow, first: Tensor, second: Tensor, time: float) -> Tensor:
    """The frame between two frames of any size.

    The network sees them padded to its multiple, and reduced where they are larger than
    ``LONGEST_SIDE``; sampled is from the frames as they are.

    Args:
        first, second: (n, 3, h, w) in [-1, 1].
        time: in (0, 1).
    """
    height, width = first.shape[2:]
    shrink = min(1.0, LONGEST_SIDE / max(height, width))
    h, w = max(1, round(shrink * height)), max(1, round(shrink * width))
    pad = (0, -w % MULTIPLE, 0, -h % MULTIPLE)
    seen = []
    for frame in (first, second):
        if (h, w) != (height, width):
            frame = functional.interpolate(frame, size=(h, w), mode="bilinear", antialias=True)
        seen.append(functional.pad(frame, pad, mode="replicate"))
    times = torch.full((len(first),), time, device=first.device)
    flow, mask = network(seen[0], seen[1], times)
    flow, mask = flow[..., :h, :w], mask[..., :h, :w]
    if (h, w) != (height, width):
        # A pixel here is several there.
        flow = flow * flow.new_tensor([width / w, height / h])[:, None, None]
        flow = functional.interpolate(flow, size=(height, width), mode="bilinear")
        mask = functional.interpolate(mask, size=(height, width), mode="bilinear")
    return sample(first, second, times, flow, mask)
