"""What is noted of a run: its surroundings, and what would repeat it. Without torch."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .. import __version__
from .config import TrainConfig
from .data import Clip, digest_of


def versions() -> dict[str, str]:
    """Releases of what a run depends on."""
    found = {"python": platform.python_version(), "mocogen": __version__}
    for name in ("torch", "numpy", "pillow", "imageio", "av", "lightning-fabric"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def training_record(
    config: TrainConfig, hours: Mapping[str, float], clips: Sequence[Clip], start_sha256: str = ""
) -> dict[str, Any]:
    """What a checkpoint says of the run that made it, with everything needed to repeat it.

    Args:
        hours: of each stage.
        clips: those that were trained on, as they were filmed.
        start_sha256: hash of the checkpoint that the run began with; empty if it began from noise.
    """
    start = {"start_sha256": start_sha256} if start_sha256 else {}
    return {
        "recipe": config.recipe,
        "config": config.to_dict(),
        "seed": config.run.seed,
        **start,
        "hours": dict(hours),
        "clips": len(clips),
        "data_sha256": digest_of(clips),
        "files": {clip.path: clip.sha256[:16] for clip in clips},
        "versions": versions(),
    }
