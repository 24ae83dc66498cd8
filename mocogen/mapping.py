"""The content mapping: from a content vector of N(0, I) to one that says clearly who.

Groups of clips own regions of content space (:mod:`mocogen.training.content`), and near a border
between two of them lies much of N(0, I): with 18 regions, every second content leads by less
than 0.35. A generator that takes such contents as they are mixes people in all of them. So it
takes

    w = z + push * softmax(z @ regions.T / blend) @ regions

where z is the content: pushed into its region, and on a narrow strip along the border from one
region's push to the other's, so that a way between two contents stays without a break. It is
what the mapping network from z to w is in StyleGAN (Karras et al. 2019), but known and not
learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .latents import rounded
from .spec import REGIONS, ModelSpec

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ContentMapping:
    """Made of a checkpoint's ``content.regions`` and its spec.

    Attributes:
        regions: (k, content), orthonormal; the content's largest projection on them wins.
        push: how far contents are moved, in the unit of N(0, I).
        blend: difference of two projections over which one push gives way to the other (by a
            factor e).
    """

    regions: Floats
    push: float
    blend: float

    @classmethod
    def of(cls, spec: ModelSpec, tensors: Mapping[str, Floats]) -> ContentMapping | None:
        """That of a checkpoint, or None where contents are taken as they are drawn."""
        if not spec.regions:
            return None
        return cls(tensors[REGIONS], spec.content_push, spec.content_blend)

    def __call__(self, content: Floats) -> Floats:
        """Contents z (n, content) to w (n, content), rounded as all that comes before a
        network: the same bits on every machine."""
        z, regions = content.astype(np.float64), self.regions.astype(np.float64)
        projections = z @ regions.T
        shares = np.exp((projections - projections.max(1, keepdims=True)) / self.blend)
        shares /= shares.sum(1, keepdims=True)
        return rounded(z + self.push * shares @ regions)
