"""What a checkpoint says of itself: sizes, latent layout, noise mode, actions, origin.

Plain data without torch or numpy, so that ``mocogen info`` answers at once.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .errors import MocogenError, printable

FORMAT = 3
"""Version of the metadata; raised when an older mocogen could not read it."""

SAMPLER = "sampler"
"""The kind of checkpoint whose metadata is a :class:`ModelSpec`; kinds came later than it, so
its metadata does not name it."""

NOISE_MODES = ("per-frame", "constant", "feedback")
"""A fresh noise vector at every frame; one for the whole clip; one for the first frame, and
from then on the network's own output."""

INITIAL_STATES = ("zeros", "normal")
MAX_WARM_UP = 1024
"""Steps; a file that asks for more is damaged, and would keep every clip waiting."""

SLOWEST, FASTEST = 0.1, 1000.0
"""Frames a second that a clip may be asked for."""

LARGEST = 2**20
"""No part of a latent or of a network is longer; a file that says so is damaged."""

MAX_PUSH = 100.0
MIN_BLEND = 1e-3
"""Of the content mapping: pushes blend over some width, or they would jump."""

LATENT_PARTS = ("motion", "content", "category")


PLAIN = "a name begins with a letter or a digit and has only these, spaces and . + - _"


def is_plain(name: object) -> bool:
    """Whether a name may become a part of a file's, which must not lead elsewhere."""
    return isinstance(name, str) and re.fullmatch(r"\w[\w .+-]*", name) is not None


REGIONS = "content.regions"
"""The tensor with the content mapping's directions, (regions, content)."""


def values_of(text: str) -> dict[str, Any]:
    """What a checkpoint of any kind says of itself, in a format that can be read.

    Raises:
        MocogenError: it is no metadata of mocogen's, or of a later format.
    """
    try:
        values = json.loads(text)
        version = values["format"]
        if type(version) is not int or version < 1:
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise MocogenError("its metadata cannot be read: it is damaged") from None
    if version > FORMAT:
        raise MocogenError(
            f"its format is {version} and this mocogen reads up to {FORMAT}: update mocogen"
        )
    return dict(values)


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to rebuild the networks and to sample from them.

    Attributes:
        content: length of the content vector, drawn from N(0, I) once a clip.
        noise: length of a noise vector, from N(0, I).
        hidden: length of the recurrent cell's state.
        motion: length of the motion code of a frame.
        actions: names of the categories, in the order of their one-hot vector.
        latent_order: the parts of the generator's input from first to last. With
            "category" among them the action enters the generator, else the motion network.
        width: channels before the generator's last layer.
        image_size: height and width of a frame in pixels.
        cell: "lstm" or "gru".
        head: whether a linear layer and a batch norm follow the cell.
        noise_mode: one of ``NOISE_MODES``.
        initial_state: "zeros", or "normal" for a hidden state from N(0, I).
        warm_up: steps that the motion network makes before a clip's first frame. It begins from
            a state of zeros, where no real movement comes from, and needs some steps to get to
            where such movements are.
        pixel_range: the generator's values for black and for full brightness.
        fps: frames a second of the training clips.
        regions: how many regions the content mapping knows (:mod:`mocogen.mapping`); 0 where the
            generator takes contents as they are drawn.
        content_push, content_blend: of the content mapping.
        name: what the model is called.
        data: what it was trained on.
        license: the terms of the weights, as far as they are known.
        training: how it was trained (recipe, seed, hours, versions, ...), free of form.
        format: version of the metadata itself.
    """

    content: int
    noise: int
    hidden: int
    motion: int
    actions: tuple[str, ...] = ()
    latent_order: tuple[str, ...] = ("motion", "content")
    width: int = 64
    image_size: int = 96
    cell: str = "lstm"
    head: bool = True
    noise_mode: str = "per-frame"
    initial_state: str = "zeros"
    warm_up: int = 0
    pixel_range: tuple[float, float] = (-1.0, 1.0)
    fps: float = 25.0
    regions: int = 0
    content_push: float = 0.0
    content_blend: float = 0.05
    name: str = "unnamed"
    data: str = "unknown"
    license: str = "unknown"
    training: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def generator_categories(self) -> int:
        """Length of the one-hot vector in the generator's input."""
        return len(self.actions) if "category" in self.latent_order else 0

    @property
    def motion_categories(self) -> int:
        """Length of the one-hot vector in the motion network's input."""
        return 0 if "category" in self.latent_order else len(self.actions)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Read what :meth:`to_json` wrote.

        Raises:
            MocogenError: it is no metadata of mocogen's, of a later format, or incomplete.
        """
        values = values_of(text)
        if values.get("kind", SAMPLER) != SAMPLER:
            raise MocogenError(f"it holds a {printable(values['kind'])} network and no sampler")
        known = {f.name for f in fields(cls)}
        for name in ("actions", "latent_order", "pixel_range"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        try:
            spec = cls(**{key: value for key, value in values.items() if key in known})
        except TypeError as error:
            missing = str(error).partition(": ")[2] or "required entries"
            raise MocogenError(f"its metadata lacks {missing}") from None
        try:
            spec.check()
        except MocogenError as error:
            raise MocogenError(f"its metadata has {error}") from None
        except (TypeError, IndexError):  # a list where a number should be, and the like
            raise MocogenError("its metadata has values of the wrong kind") from None
        return spec

    def check(self) -> None:
        """Refuse values that no networks can be built from.

        Raises:
            MocogenError: names them.
        """
        sizes = ("content", "noise", "hidden", "motion", "width", "image_size")
        values = {name: getattr(self, name) for name in sizes}
        wrong = [n for n, v in values.items() if type(v) is not int or not 0 < v <= LARGEST]
        if self.image_size % 16 or self.image_size < 32:
            wrong.append("image_size")
        parts = set(self.latent_order)
        if not {"motion", "content"} <= parts <= set(LATENT_PARTS) or len(parts) != len(
            self.latent_order
        ):
            wrong.append("latent_order")
        wrong += [
            name
            for name, allowed in (
                ("cell", ("lstm", "gru")),
                ("noise_mode", NOISE_MODES),
                ("initial_state", INITIAL_STATES),
            )
            if getattr(self, name) not in allowed
        ]
        names = self.actions
        if (
            not isinstance(names, tuple)
            or not all(map(is_plain, names))
            or len(set(names)) != len(names)
        ):
            wrong.append("actions")
        if not is_plain(self.name):
            wrong.append("name")
        if type(self.head) is not bool:
            wrong.append("head")
        elif not self.head and self.motion != self.hidden:  # the state is the motion code
            wrong.append("motion")
        if type(self.fps) not in (int, float) or not SLOWEST <= self.fps <= FASTEST:
            wrong.append("fps")
        low_high = self.pixel_range
        numbers = all(type(v) in (int, float) and abs(v) <= 1e6 for v in low_high)
        if not numbers or len(low_high) != 2 or low_high[1] - low_high[0] < 1e-6:
            wrong.append("pixel_range")
        if type(self.regions) is not int or not 0 <= self.regions <= self.content:
            wrong.append("regions")
        if type(self.warm_up) is not int or not 0 <= self.warm_up <= MAX_WARM_UP:
            wrong.append("warm_up")
        for name, least in (("content_push", 0.0), ("content_blend", MIN_BLEND)):
            value = getattr(self, name)
            if type(value) not in (int, float) or not least <= value <= MAX_PUSH:
                wrong.append(name)
        if wrong:
            named = ", ".join(f"{name} = {getattr(self, name)!r}" for name in wrong)
            rule = f" ({PLAIN})" if {"actions", "name"} & set(wrong) else ""
            raise MocogenError(f"impossible values: {named}{rule}")
