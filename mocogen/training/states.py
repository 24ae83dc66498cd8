"""State files: what a stage goes on from, and what later stages and the checkpoint are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import MocogenError
from ..files import atomic_path
from .config import TrainConfig, differing_settings, from_dict
from .stage import Context, Stage

STATE_FORMAT = 1


def state_path(folder: Path, stage: str) -> Path:
    return folder / f"state-{stage}.pt"


def save(stage: Stage, path: Path, step: int, elapsed: float) -> None:
    """Write a stage's state, whole or not at all.

    Raises:
        MocogenError: it cannot be written (a full disk, say); an older state is left.
    """
    context = stage.context
    state = {
        "format": STATE_FORMAT,
        "stage": stage.name,
        "config": json.dumps(context.config.to_dict()),
        "actions": list(context.clips.actions),
        "groups": [list(group) for group in context.clips.groups],
        "other_looks": [list(group) for group in context.clips.other_looks],
        "data": context.clips.digest(),
        "step": step,
        "elapsed": elapsed,
        "basis": stage.basis,
        "random": stage.random.get_state(),
        "modules": {name: module.state_dict() for name, module in stage.modules.items()},
        "optimisers": {name: opt.state_dict() for name, opt in stage.optimisers.items()},
        "extra": stage.extra(),
    }
    with atomic_path(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch's own writer raises no OSError
            raise MocogenError(
                f"cannot write {path}: {_short(error)} (is the disk full?)"
            ) from None


def read_state(path: Path) -> dict[str, Any]:
    """Read a state file; tensors on the CPU. It holds no code.

    Raises:
        MocogenError: it is damaged, or no state of a training stage.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise MocogenError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:
        raise MocogenError(f"{path} is no training state, or damaged ({_short(error)})") from None
    if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
        raise MocogenError(f"{path} is no training state that this mocogen can read")
    return state


def last_state(context: Context, stage: str) -> dict[str, Any] | None:
    """The state that a run's folder holds of a stage, or None if there is none.

    Raises:
        MocogenError: it is damaged, or belongs to another run.
    """
    path = state_path(context.folder, stage)
    if not path.exists():
        return None
    state = read_state(path)
    require_fitting(state, context, path)
    return state


def hours_of(state: Mapping[str, Any]) -> float:
    """The hours that a stage had taken, over all its sessions."""
    return round(float(state["elapsed"]) / 3600, 3)


def norms_frozen(state: Mapping[str, Any]) -> bool:
    """Whether the generator in a state was trained on the batch statistics that it has."""
    # A state without the key was written before norms could be frozen.
    return bool(state["extra"].get("norms_frozen", False))


def start_of(state: Mapping[str, Any]) -> str:
    """The SHA-256 of the checkpoint that a generator stage began with, or empty."""
    return str(state["extra"].get("start_sha256", ""))


def outdated(state: Mapping[str, Any], basis: str | None) -> bool:
    """Whether a state was built on other networks of other stages than these."""
    # Older states named the motion encoder elsewhere, and nothing else.
    earlier = state.get("basis", state["extra"].get("encoder"))
    return earlier is not None and earlier != basis


def restore(stage: Stage, state: Mapping[str, Any], path: Path) -> tuple[int, float]:
    """Fill a stage from its state (read from ``path``); the step and seconds that it had reached.

    Raises:
        MocogenError: the state belongs to another architecture.
    """
    try:
        for name, module in stage.modules.items():
            module.load_state_dict(state["modules"][name])
        for name, optimiser in stage.optimisers.items():
            _load_optimiser(optimiser, state["optimisers"][name])
    except (KeyError, RuntimeError, ValueError) as error:
        raise MocogenError(
            f"cannot resume from {path}: it belongs to another architecture ({_short(error)})"
        ) from None
    rank = stage.context.fabric.global_rank
    if rank == 0:
        stage.random.set_state(state["random"])
    else:
        stage.random.manual_seed(state["step"] * 1009 + rank)
    if stage.device_random is not stage.random:
        stage.device_random.manual_seed(stage.random.initial_seed() + state["step"] * 1009)
    return int(state["step"]), float(state["elapsed"])


def _load_optimiser(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load what an optimiser has learned; how it computes is for the device that it is on."""
    for mine, theirs in zip(optimiser.param_groups, saved["param_groups"], strict=True):
        theirs.update({key: mine[key] for key in ("lr", "fused", "capturable", "foreach")})
    optimiser.load_state_dict(saved)


def fingerprint(*networks: Mapping[str, Tensor]) -> str:
    """A short name for networks, of their state dicts."""
    digest = hashlib.sha256()
    for weights in networks:
        for value in weights.values():
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def config_of(state: Mapping[str, Any]) -> TrainConfig:
    """The configuration that a state was made with."""
    return from_dict(json.loads(state["config"]), checked=False)


def require_fitting(state: Mapping[str, Any], context: Context, path: Path) -> None:
    """Refuse a state whose networks, contents or data differ from this run's.

    Raises:
        MocogenError: says what differs.
    """
    differing = differing_settings(context.config, config_of(state), state["stage"])
    clips = context.clips
    if tuple(state["actions"]) != clips.actions:
        here, there = ", ".join(clips.actions), ", ".join(state["actions"])
        differing.append(f"the actions are {here or 'none'} here and were {there or 'none'}")
    if [tuple(group) for group in state["groups"]] != list(clips.groups):
        differing.append("the clips show other groups of people")
    if [tuple(group) for group in state.get("other_looks", [])] != list(clips.other_looks):
        differing.append("other clips are named in data.other_look")
    if differing:
        raise MocogenError(f"cannot resume from {path}: {'; '.join(differing)}")


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160]
