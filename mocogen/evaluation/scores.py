"""All measures of one clip, and the clips of a model put together from its blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .classifiers import ActionClassifier, PersonClassifier, mirrored_together
from .measures import (
    Frames,
    most_frequent,
    motion_energy,
    movement,
    reduce,
    sharpness,
    unsteadiness,
)

if TYPE_CHECKING:
    from ..clip import Clip
    from ..synthesis import Model

SIZE = 64
"""Clips are compared at this size, that of the real ones; but for their sharpness."""


@dataclass(frozen=True)
class Look:
    """What a clip looks like: see the functions of these names in :mod:`.measures`."""

    motion_energy: float
    movement: float
    sharpness: float
    unsteadiness: float


@dataclass(frozen=True)
class Verdict:
    """What the classifiers see in a clip.

    Attributes:
        action: index of its action.
        person: index of the person whom most frames show.
        one_person: the share of frames that show this person.
        mirrored: whether it is the mirrored person, by the sum over all frames.
    """

    action: int
    person: int
    one_person: float
    mirrored: bool


def look(frames: Frames, sharp: Frames | None = None) -> Look:
    """Measure a clip of at least two frames, 64x64 or larger.

    Motion and steadiness are measured after reduction to 64x64 (mean of the area), sharpness
    at full size: on ``sharp`` where that is given (real clips, enlarged), else on ``frames``.
    """
    small = reduce(frames, SIZE)
    return Look(
        motion_energy(small),
        movement(small),
        sharpness(frames if sharp is None else sharp),
        unsteadiness(small),
    )


def who(frames: Frames, people: PersonClassifier) -> tuple[int, float, bool]:
    """The person of a clip, the share of its frames that show them, and if it is mirrored."""
    odds = people.probabilities(reduce(frames, SIZE))
    person, share = most_frequent(mirrored_together(odds).argmax(axis=1).tolist())
    count = len(people.people)
    return person, share, bool(odds[:, count:].sum() > odds[:, :count].sum())


def judge(frames: Frames, actions: ActionClassifier, people: PersonClassifier) -> Verdict:
    """Ask both classifiers about a clip of 64x64 or larger."""
    small = reduce(frames, SIZE)
    return Verdict(actions.judge(small), *who(small, people))


def whole_clips(model: Model, requests: Iterable[Clip]) -> Iterator[tuple[Clip, Frames]]:
    """Sample clips one after the other, each as one array of all its frames."""
    parts: list[Frames] = []
    for clip, block in model.stream(requests):
        parts.append(block.copy())
        if sum(len(part) for part in parts) == clip.frames:
            yield clip, np.concatenate(parts)
            parts = []
