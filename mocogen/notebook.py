"""A clip that is an array and, in a notebook, a video.

:meth:`mocogen.Model.sample` gives a :class:`Video`. It computes like any numpy array; what
a function of numpy's makes of it is a plain array, for a difference of two clips is no clip.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

SHOWN_HEIGHT = 192
"""Small clips are enlarged to this height in a notebook, in pixels."""


class Video(np.ndarray[Any, np.dtype[np.uint8]]):
    """Frames, uint8 of (frames, height, width, 3), that Jupyter shows as a looping video.

    Slices over time, height and width (``video[10:20]``, ``video[:, :48]``) are videos again;
    a frame or a channel of it, and what a function of numpy's makes of it, is a plain array.
    One of another shape or type (``reshape``, ``astype``) is shown as numbers.

    Args:
        frames: anything that numpy takes for such an array; it is not copied if it is one.
        fps: frames a second.

    Attributes:
        fps: frames a second.
    """

    fps: float

    def __new__(cls, frames: ArrayLike, fps: float = 25.0) -> Video:
        video = np.asarray(frames, np.uint8).view(cls)
        video.fps = fps
        return video

    def __array_finalize__(self, source: Any) -> None:
        self.fps = getattr(source, "fps", 25.0)

    def __array_wrap__(self, array: Any, *_: Any) -> Any:
        """What a function of numpy's computed from a video is a plain array or a number."""
        plain = np.asarray(array)
        return plain if plain.ndim else plain[()]

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if isinstance(part, Video) and not part._is_video():
            return np.asarray(part)
        return part

    def __reduce__(self) -> Any:
        return _restored, (np.asarray(self), self.fps)

    def _is_video(self) -> bool:
        return self.ndim == 4 and self.shape[-1] == 3 and self.dtype == np.uint8 and self.size > 0

    def _repr_html_(self) -> str | None:
        """The video for a notebook: an MP4 inside the page, which loops without sound."""
        if not self._is_video():
            return None
        import base64

        from .video import mp4_bytes

        content = base64.b64encode(mp4_bytes(np.asarray(self), self.fps, {})).decode()
        height = max(SHOWN_HEIGHT, self.shape[1])
        return (
            f'<video autoplay loop muted playsinline controls height="{height}" '
            f'src="data:video/mp4;base64,{content}"></video>'
        )


def _restored(frames: ArrayLike, fps: float) -> Video:
    """A pickled video again."""
    return Video(frames, fps)
