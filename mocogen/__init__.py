"""mocogen invents video: content and motion from noise, frames from both.

>>> import mocogen
>>> model = mocogen.load("weizmann")
>>> video = model.sample(frames=48, seed=7)
>>> video.shape
(48, 96, 96, 3)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import MocogenError, UsageError

if TYPE_CHECKING:
    from .clip import Clip
    from .notebook import Video
    from .steering import Walk
    from .synthesis import Model, load

__version__ = "0.1.0"
__all__ = [
    "Clip",
    "MocogenError",
    "Model",
    "UsageError",
    "Video",
    "Walk",
    "__version__",
    "load",
]

# torch takes over a second to import: only those who sample pay for it.
_LATER = {
    "Clip": "clip",
    "Model": "synthesis",
    "Video": "notebook",
    "Walk": "steering",
    "load": "synthesis",
}
"""Names that are imported when they are asked for, with the modules that have them."""


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # for a type checker, whatever this could give would be a name of mocogen's

    def __getattr__(name: str) -> Any:
        if name in _LATER:
            return getattr(import_module(f".{_LATER[name]}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
