"""Content is assigned, not learned: every group of clips owns a region of content space.

K groups take K orthonormal directions of the content space; the region in which direction k
has the largest projection is group k's. Over all groups the regions are equally likely under
N(0, I), so contents drawn from the prior name every group equally often, and a border
between two regions is as short as it can be (for Gaussian measure, regions of this shape
have the smallest borders: Milman and Neeman 2022).

What differs by degrees has no border: an attribute, such as a colour or a size, is the
projection on a direction of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import MocogenError
from ..mapping import ContentMapping
from .config import TrainConfig
from .data import ClipSet

OTHER_LOOK = 4.0
"""The projection of other looks on their direction, where N(0, 1) has hardly anything."""


class ContentRegions:
    """The regions of ``groups`` groups in a content space of ``size`` dimensions.

    Attributes:
        directions: (groups, size), orthonormal rows.
        scales: (attributes, size), orthonormal to each other and to those.
        apart: (1, size) or, without other looks, (0, size), orthonormal to all of those.

    Raises:
        MocogenError: there are more groups, attributes and other looks than dimensions.
    """

    def __init__(
        self, groups: int, size: int, seed: int, attributes: int = 0, other_looks: bool = False
    ) -> None:
        if groups + attributes + other_looks > size:
            also = f" and {attributes} attributes" if attributes else ""
            also += " and another look" if other_looks else ""
            raise MocogenError(
                f"{groups} groups{also} do not fit into a content vector of {size} numbers: "
                "raise model.content, or name fewer groups with data.groups"
            )
        random = torch.Generator().manual_seed(seed)
        square = torch.randn(size, size, generator=random, dtype=torch.float64)
        count = groups + attributes + other_looks
        rows = torch.linalg.qr(square).Q[:, :count].t().float().contiguous()
        self.directions, self.scales, self.apart = rows.tensor_split((groups, groups + attributes))

    def draw(self, group: Tensor, random: torch.Generator, scores: Tensor | None = None) -> Tensor:
        """Contents of given groups: group (n,) to (n, size), on the CPU.

        A draw from N(0, I) in which the projections on the group's direction and on the
        winning one are exchanged. With groups drawn uniformly the result is N(0, I) again.
        The projections on the attributes' directions are their ``scores`` (n, attributes),
        where these are given.
        """
        content = torch.randn(len(group), self.directions.shape[1], generator=random)
        projections = content @ self.directions.t()
        rows = torch.arange(len(group))
        winner = projections.argmax(1)
        lead = projections[rows, winner] - projections[rows, group]
        content = content + lead[:, None] * (self.directions[group] - self.directions[winner])
        if scores is not None:
            content = content + (scores - content @ self.scales.t()) @ self.scales
        return content

    def other_look(self, content: Tensor) -> Tensor:
        """Contents (n, size) of the same groups in another look, one where the prior has none.

        They differ along one direction that all other looks share. So what the generator learns
        of a movement that a group shows in another look alone, it learns for the usual one too.
        """
        return content + (OTHER_LOOK - content @ self.apart.t()) * self.apart

    def mapping(self, push: float, blend: float) -> ContentMapping:
        """The content mapping of these regions."""
        return ContentMapping(self.directions.numpy(), push, blend)

    def winner(self, content: Tensor) -> tuple[Tensor, Tensor]:
        """Group of a content (n, size), (n,), and its lead over the second group, (n,)."""
        projections = content @ self.directions.t()
        if projections.shape[1] == 1:
            return torch.zeros(len(content), dtype=torch.long), torch.ones(len(content))
        top = projections.topk(2, dim=1)
        return top.indices[:, 0], top.values[:, 0] - top.values[:, 1]

    def projector(self) -> Tensor:
        """The projection (size, size) onto the space that all directions span."""
        rows = torch.cat([self.directions, self.scales, self.apart])
        return rows.t() @ rows


def content_mapping(config: TrainConfig, clips: ClipSet) -> ContentMapping | None:
    """What a run's generator wants its contents to pass through in sampling; None where it
    takes them as they are drawn."""
    values, model = config.generator, config.model
    if not values.push_kept:
        return None
    attributes = len(config.data.attributes)
    regions = ContentRegions(len(clips.groups), model.content, config.run.seed, attributes)
    return regions.mapping(values.push_kept, values.push_blend)


def mapped(mapping: ContentMapping | None, content: Tensor) -> Tensor:
    """Contents (n, size) through the mapping, on the CPU."""
    return content if mapping is None else torch.from_numpy(mapping(content.numpy()))
