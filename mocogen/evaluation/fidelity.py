"""How near a frame comes to the one that it should be. Pure functions of numpy arrays.

Frames are uint8 of (h, w, 3). A mask is bool of (h, w): which pixels count.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .measures import LUMA

Frame = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_SIGMA, _RADIUS = 1.5, 5
"""Of SSIM's window, in pixels: 11x11, as in the paper."""


def moving(before: Frame, after: Frame, threshold: int) -> Mask:
    """Where two frames differ by more than ``threshold`` grey levels in any colour."""
    difference = np.abs(before.astype(np.int16) - after)
    return np.asarray(difference.max(axis=2) > threshold)


def squared_error(made: Frame, real: Frame, mask: Mask | None = None) -> float:
    """Mean squared difference of the pixels that count, in grey levels squared."""
    squares = (made.astype(np.float64) - real) ** 2
    return float(squares.mean() if mask is None else squares[mask].mean())


def psnr(error: float) -> float:
    """Peak signal-to-noise ratio of a mean squared error, in decibels; infinite for 0."""
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 / error))


def ssim_map(made: Frame, real: Frame) -> NDArray[np.float64]:
    """Structural similarity of every pixel's neighbourhood, (h, w), from -1 to 1 (the same).

    Wang, Bovik, Sheikh and Simoncelli 2004, eq. 13, of brightness, in a Gaussian window;
    beyond the edge the frame is mirrored.
    """
    x, y = made @ LUMA, real @ LUMA
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x = _windowed(x * x) - mean_x**2
    variance_y = _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    alike = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    apart = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return np.asarray(alike / apart)


def _windowed(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian-weighted means around every pixel."""
    places = np.arange(-_RADIUS, _RADIUS + 1)
    weights = np.exp(-0.5 * (places / _SIGMA) ** 2)
    weights /= weights.sum()
    padded = np.pad(image, _RADIUS, mode="symmetric")
    for axis in (0, 1):
        padded = sliding_window_view(padded, len(weights), axis=axis) @ weights
    return padded
