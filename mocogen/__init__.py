"""mocogen invents video: content and motion from noise, frames from both.

>>> import mocogen
>>> model = mocogen.load("weizmann")
>>> video = model.sample(frames=48, seed=7)
>>> video.shape
(48, 96, 96, 3)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import MocogenError, UsageError

if TYPE_CHECKING:
    from .notebook import Video
    from .synthesis import Clip, Model, load

__version__ = "0.1.0"
__all__ = ["Clip", "MocogenError", "Model", "UsageError", "Video", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # torch takes over a second to import: only those who sample pay for it.
    if name in ("Clip", "Model", "load"):
        from . import synthesis

        return getattr(synthesis, name)
    if name == "Video":
        from .notebook import Video

        return Video
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
