"""A run: its folder, its stages one after the other, the checkpoint that it leaves."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from ..devices import choose_device
from ..errors import MocogenError, UsageError
from ..files import atomic_path, lock, write_errors
from ..flow_checkpoint import FlowSpec
from ..generator import Generator
from .codes import MotionCodes
from .config import STAGES, TrainConfig, load_config, to_toml
from .data import ClipSet, load_clips
from .export import make_spec, write_checkpoint
from .loop import drive
from .record import versions
from .stage import Context, Reporter, Silent, Stage
from .stage_flow import FlowStage, write_flow_checkpoint
from .stage_generator import GeneratorStage
from .stage_joint import JointStage
from .stage_motion import MotionStage
from .states import state_path

_STAGES: dict[str, type[Stage]] = {
    stage.name: stage for stage in (GeneratorStage, MotionStage, JointStage, FlowStage)
}


def train(
    data: str | Path,
    out: str | Path,
    config: TrainConfig,
    device: str = "auto",
    resume: bool = False,
    reporter: Reporter | None = None,
) -> Path | None:
    """Train on a folder of clips; every stage of ``config.run.stages`` in turn.

    Args:
        data: folder of clips, laid out as :mod:`mocogen.training.data` says.
        out: the run's folder; made if missing. A folder that holds states is used only to
            resume.
        config: see :func:`mocogen.training.config.load_config`.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps". Under ``torchrun`` every process takes a
            device of that kind.
        resume: go on from the last states in ``out``; stages that have ended are not run again,
            but for those whose basis has changed.
        reporter: told of notes and progress.

    Returns:
        The checkpoint, or None while one of the two networks is missing, and on all processes but
        the first.

    Raises:
        UsageError, MocogenError: bad settings, data, states or a full disk.
        KeyboardInterrupt: interrupted; the state was saved.
    """
    tell = reporter or Silent()
    data, out = Path(data), Path(out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: give a folder for the run")
    if resume:
        config = _same_precision(config, out)
    elif begun := [stage for stage in STAGES if state_path(out, stage).exists()]:
        raise UsageError(
            f"{out} already holds a run's {begun[0]} stage: go on with it by --resume, or "
            "give another folder"
        )
    _require_both(config.run.stages, out)
    # What cannot be done is refused before two precisions are timed.
    clips = clips_of(data, config)
    _require_possible(config, clips)
    fabric = make_fabric(config, device, tell)
    leads = fabric.global_rank == 0
    if not leads:
        tell = Silent()
    if resume and not any(state_path(out, stage).exists() for stage in STAGES):
        tell.note(f"{out} holds no state to go on from: the run begins at its beginning")
    for line in clips.skipped:
        tell.note(f"skipped {line}")
    files = clips.listing()
    tell.note(
        f"{len(files)} clips used, {len(clips.skipped)} skipped; {len(clips.frames)} frames, "
        f"{len(clips.actions)} actions, {len(clips.groups)} groups"
    )
    context = Context(config, clips, fabric, out, tell)
    write = write_flow_checkpoint if config.is_flow else write_checkpoint
    with only_one(out) if leads else nullcontext():
        if leads:
            _describe(context, data, device, _recorded(config, out, resume))
        for name in config.run.stages:
            # As soon as both networks are there, every saved state also becomes a checkpoint.
            publish = None if name == "generator" else partial(write, context)
            drive(_STAGES[name](context), resume, publish)
            fabric.barrier()
        result = write(context) if leads else None
    if result is None and context.checkpoint.exists():
        tell.note(f"{context.checkpoint} is left as it was")
    elif result is None:
        tell.note(f"{out} has no checkpoint yet: it needs the generator and the motion stage")
    elif config.is_flow:
        tell.note(f"{result}: smooth a clip with `mocogen smooth CLIP --checkpoint {result}`")
    else:
        tell.note(f"{result}: sample from it with `mocogen sample --checkpoint {result}`")
    if fabric.world_size > 1:
        # The group's threads must not outlive the interpreter of a process that ends first.
        fabric.barrier()
        torch.distributed.destroy_process_group()
    return result


def _require_both(stages: tuple[str, ...], folder: Path) -> None:
    """The joint stage refines what two others leave, or begins from noise.

    Raises:
        UsageError: there is, or will be, one of the two.
    """
    earlier = [s for s in ("generator", "motion") if s in stages or state_path(folder, s).exists()]
    if "joint" in stages and len(earlier) == 1:
        other = "motion" if earlier[0] == "generator" else "generator"
        raise UsageError(
            f"the joint stage needs the {other} stage beside the {earlier[0]} stage: name it too, "
            "or give another folder to begin from noise"
        )


def _require_possible(config: TrainConfig, clips: ClipSet) -> None:
    """Refuse, before any work is done, what would become a checkpoint that nobody can read.

    Raises:
        MocogenError: a name or a number is none that a checkpoint may have.
    """
    named = MotionCodes(config, len(clips.actions)) if not config.is_flow else None
    if named is not None and named.pose < 1:
        raise UsageError(
            f"model.motion = {config.model.motion}: with generator.action_code, {named.named} of "
            "them are the action's; use more"
        )
    try:
        if config.is_flow:
            FlowSpec(config.flow.width, config.flow.name).check()
        else:
            make_spec(config, clips, {}, None).check()
    except MocogenError as error:
        raise MocogenError(f"no checkpoint could be made of this run: {error}") from None


def clips_of(data: Path, config: TrainConfig) -> ClipSet:
    """The clips of a folder, read as a configuration says.

    Raises:
        UsageError, MocogenError: as :func:`mocogen.training.data.load_clips` does.
    """
    d = config.data
    return load_clips(
        data, config.image_size, d.actions, d.groups, d.mirror, d.fit, d.min_frames, d.memory_mb,
        d.light, d.attributes, d.other_look,
    )  # fmt: skip


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep a second process from training in a run's folder, where both would overwrite states.

    Raises:
        MocogenError: another process trains there, or the folder cannot be written.
    """
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a")
    with file:
        lock(file, f"another process is training in {folder}: wait, or give another folder")
        yield


def make_fabric(config: TrainConfig, device: str, reporter: Reporter | None = None) -> Fabric:
    """Processes, device and precision; the processes are those that torchrun started, or one.

    Raises:
        UsageError, MocogenError: as :func:`mocogen.devices.choose_device` does.
    """
    target = choose_device(device)
    precision = config.run.precision
    if precision == "auto" and not config.is_flow:
        precision = choose_precision(target, config.model.width, config.model.image_size)
        told = reporter or Silent()
        told.note(f"arithmetic on {target}: {'bfloat16' if precision == 'bf16' else 'float32'}")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    devices: Any = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if world == 1 and target.type == "cuda":
        devices = [target.index or 0]
    fabric = Fabric(
        accelerator=target.type,
        devices=devices,
        num_nodes=max(1, world // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
        strategy="ddp" if world > 1 else "auto",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def choose_precision(device: torch.device, width: int, image_size: int) -> str:
    """ "bf16" where it is faster than "32", which depends on the processor.

    CUDA devices tell whether they have it; on a CPU a small generator step is timed in both.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    if device.type != "cpu":
        return "32"
    with torch.random.fork_rng(devices=[]):
        channels_last: Any = {"memory_format": torch.channels_last}
        generator = Generator(60, 0, width, image_size).to(device, **channels_last)
        latent = torch.randn(16, 60)
        seconds = {"32": float("inf"), "bf16": float("inf")}
        # By turns, and the best of each: other programs may hold the processor for a while.
        for _ in range(5):
            for name in seconds:
                start = time.perf_counter()
                with torch.autocast("cpu", torch.bfloat16, enabled=name == "bf16"):
                    loss = generator(latent).float().abs().mean()
                loss.backward()
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return "bf16" if seconds["bf16"] < 0.9 * seconds["32"] else "32"


def _same_precision(config: TrainConfig, folder: Path) -> TrainConfig:
    """Where the precision is to be chosen, keep what the run chose at its start."""
    if config.run.precision != "auto":
        return config
    try:
        machine = json.loads((folder / "machine.json").read_text("utf-8"))
    except (OSError, ValueError):
        return config
    precision = "bf16" if "bf16" in str(machine.get("precision")) else "32"
    return replace(config, run=replace(config.run, precision=precision))


def _recorded(config: TrainConfig, folder: Path, resume: bool) -> TrainConfig:
    """The configuration as the folder keeps it: a resumed run's ``--stages`` hold for one call."""
    before = folder / "config.toml"
    if not (resume and before.exists()):
        return config
    stages = load_config(str(before), checked=False).run.stages
    return replace(config, run=replace(config.run, stages=stages))


def _describe(context: Context, data: Path, device: str, config: TrainConfig) -> None:
    """What is needed to repeat the run: configuration, data, versions."""
    folder, clips = context.folder, context.clips
    about = {
        "data": data.name,
        "sha256": clips.digest(),
        "actions": list(clips.actions),
        "groups": [name + (" (mirrored)" if mirrored else "") for name, mirrored in clips.groups],
        "files": clips.listing(),
        "skipped": clips.skipped,
    }
    _write(folder / "config.toml", to_toml(config))
    _write(folder / "data.json", json.dumps(about, indent=1))
    machine = {
        "versions": versions(),
        "device": str(context.device),
        "asked_device": device,
        "precision": context.fabric._precision.precision,
        "threads": torch.get_num_threads(),
        "processes": context.fabric.world_size,
        "processor": platform.processor() or platform.machine(),
    }
    _write(folder / "machine.json", json.dumps(machine, indent=1))


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8")
