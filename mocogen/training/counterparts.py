"""What a person does who never lowers an arm as far as the one whose motion is lent.

A motion code of one clip with the content of another group has no original. A discriminator
that knows the group has never seen it do what only others do, and calls that wrong: the arm
dissolves. The frames of the group itself that come nearest say what to show instead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .augment import encoder_view
from .networks import MotionEncoder
from .sampling import FrameSampler

_BATCH = 256
"""Frames that are encoded at a time."""


class Counterparts:
    """Finds, for a motion code, the nearest frame of a group that does the same action.

    Args:
        sampler: has the frames.
        encoder: gives them their codes, and does not change any more.

    Attributes:
        codes: of all frames, (frames, pose).
        middles: of every frame the mean code of its clip, the same.
    """

    @torch.no_grad()
    def __init__(self, sampler: FrameSampler, encoder: MotionEncoder) -> None:
        self.sampler = sampler
        clip = sampler.owner
        look, action = sampler.labels[clip].t()
        # Contents of the prior do not have another look, so its frames are nobody's.
        usual = sampler.host[look] == look
        person = sampler.person.cpu()[look].where(usual, -1)
        self.clip, self.action, self.person = (x.to(sampler.device) for x in (clip, action, person))
        codes = []
        for frames in torch.arange(len(clip), device=sampler.device).split(_BATCH):
            as_filmed = torch.zeros_like(frames, dtype=torch.bool)
            codes.append(encoder(encoder_view(sampler.images(frames, as_filmed), as_filmed)))
        self.codes = torch.cat(codes).float()
        self.middles = torch.empty_like(self.codes)
        for clip in self.clip.unique():
            mine = self.clip == clip
            self.middles[mine] = self.codes[mine].mean(0)

    @torch.no_grad()
    def of(
        self,
        code: Tensor,
        group: Tensor,
        action: Tensor,
        made: Tensor | None = None,
        among: int = 1,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The frames for codes (n, motion), of groups and actions (n,).

        Args:
            made: images (n, 3, size, size): of the ``among`` nearest frames, the one that each is
                most like already is meant. Between two frames that are equally near, their mean
                would be asked for.

        Returns:
            Images (n, 3, size, size) in [-1, 1], the mean images of their clips, and bool (n,),
            false where the group shows the action in no clip and the frame is anyone's.
        """
        sampler = self.sampler
        person, mirrored = sampler.person[group], sampler.mirrored[group]
        mine = (self.person == person[:, None]) & (self.action == action[:, None])
        apart = torch.cdist(code.float(), self.codes).masked_fill(~mine, torch.inf)
        near, frames = apart.topk(min(among, len(self.codes)), dim=1, largest=False)
        images = sampler.images(frames.flatten(), mirrored.repeat_interleave(frames.shape[1]))
        images = images.unflatten(0, frames.shape)
        chosen = torch.zeros_like(frames[:, 0])
        if made is not None and among > 1:
            unlike = (images - made[:, None]).abs().mean((2, 3, 4))
            chosen = unlike.masked_fill(near.isinf(), torch.inf).argmin(1)
        each = torch.arange(len(frames), device=frames.device)
        mean = sampler.mean_images(self.clip[frames[each, chosen]], mirrored)
        return images[each, chosen], mean, mine.any(1)
