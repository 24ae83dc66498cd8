"""What a run notes of its surroundings. Without torch."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from .. import __version__


def versions() -> dict[str, str]:
    """Releases of what a run depends on."""
    found = {"python": platform.python_version(), "mocogen": __version__}
    for name in ("torch", "numpy", "pillow", "imageio", "av", "lightning-fabric"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
