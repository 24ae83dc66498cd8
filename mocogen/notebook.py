"""A clip that is an array and, in a notebook, a video.

:meth:`mocogen.Model.sample` gives a :class:`Video`. It is a numpy array in all that is computed
with it; a difference or a mean of clips is a plain array, for it is no clip.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .clip import Clip, Origin, record_of
from .errors import UsageError
from .requests import check_fps

SHOWN_HEIGHT = 192
"""Small clips are enlarged to this height in a notebook, in pixels."""


class Video(np.ndarray[Any, np.dtype[np.uint8]]):
    """Frames, uint8 of (frames, height, width, 3), that Jupyter shows as a looping video.

    Slices over time, height and width (``video[10:20]``, ``video[:, :48]``) are videos again, and
    so is what ``numpy.flip``, ``roll``, ``repeat`` or ``tile`` make of one. A frame or a channel
    of it, and what is computed from its values (``video / 255``, ``numpy.diff``), is a plain
    array. One of another shape or type (``reshape``, ``astype``) is shown as numbers.

    Args:
        frames: anything that numpy takes for such an array, in whole numbers from 0 to 255; it
            is not copied if it is one.
        fps: frames a second, 0.1 to 1000; when left out, those of ``frames`` where that is a
            video, else 25.

    Attributes:
        fps: frames a second.

    Raises:
        UsageError: values are no whole numbers or out of range, or ``fps`` is.
    """

    fps: float
    _origin: Origin | None

    def __new__(cls, frames: ArrayLike, fps: float | None = None) -> Video:
        values = np.asarray(frames)
        if values.dtype != np.uint8:
            _check_values(values)
        video = values.astype(np.uint8, copy=False).view(cls)
        if isinstance(frames, Video):
            video.fps, video._origin = frames.fps, frames._origin
        if fps is not None:
            video.fps = check_fps(fps)
        return video

    @property
    def request(self) -> Clip | None:
        """What was asked for, its seed above all, where this is just what was sampled.

        None for a part, a copy or a rearrangement, after pixels of it were assigned to
        (``video[:4] = 0``), and for frames from elsewhere. A pickled video keeps it.
        """
        return self._origin.request if self._origin else None

    def save(self, path: str | Path) -> None:
        """Write the video to a file, which appears whole or not at all.

        Where :attr:`request` is known and the command line can make the clip again, the file
        holds the record of its making, as the files of ``mocogen sample`` do: ``mocogen info``
        tells the seed and the command.

        Args:
            path: its suffix decides the format: .mp4, .gif, .webp, .png (a filmstrip) or .npy
                (which holds no record).

        Raises:
            UsageError: unknown suffix, more than the format can hold, or this is an array of
                another shape or type than a video's.
            MocogenError: it cannot be written.
        """
        from .video import ClipFormat, open_clip

        if not self._is_video():
            raise UsageError(
                f"an array {self.shape} of {self.dtype} is no video: that is uint8 of (frames, "
                "height, width, 3)"
            )
        path, fps = Path(path), check_fps(self.fps)
        made_by = record_of(self._origin, fps, path.name) if self._origin else None
        count, height, width = self.shape[:3]
        with open_clip(path, ClipFormat(count, height, width, fps, made_by or {})) as writer:
            writer.write(np.asarray(self))

    def __array_finalize__(self, source: Any) -> None:
        self.fps = getattr(source, "fps", 25.0)
        # Numpy does not say what has become of the source: a part, or all of it in another order.
        self._origin = None

    def __array_wrap__(self, array: Any, *_: Any) -> Any:
        """What a function of numpy's computed from a video is a plain array or a number."""
        plain = np.asarray(array)
        return plain if plain.ndim else plain[()]

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if isinstance(part, Video) and not part._is_video():
            return np.asarray(part)
        return part

    def __setitem__(self, key: Any, value: Any) -> None:
        self._origin = None
        super().__setitem__(key, value)

    def __reduce__(self) -> Any:
        return sampled, (np.asarray(self), self.fps, self._origin)

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


def _check_values(values: np.ndarray[Any, Any]) -> None:
    """Refuse what would lose its values as uint8.

    Raises:
        UsageError: says what a video holds.
    """
    if values.dtype.kind not in "bui":
        raise UsageError(
            f"frames of {values.dtype}: a video holds whole numbers from 0 to 255; where 1.0 is "
            'white, give (255 * frames).round().astype("uint8")'
        )
    if values.size and not 0 <= values.min() <= values.max() <= 255:
        raise UsageError(
            f"frames with values from {values.min()} to {values.max()}: a video holds 0 to 255"
        )


def sampled(frames: np.ndarray[Any, Any], fps: float, origin: Origin | None) -> Video:
    """Frames as a video that knows its origin; a pickled one, too, of whatever shape and type."""
    video = np.asarray(frames).view(Video)
    video.fps, video._origin = fps, origin
    return video
