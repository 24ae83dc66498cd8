"""What all stages share: the loop, saved states, moving averages, schedules, progress."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from PIL import Image
from torch import Tensor, nn

from ..errors import MocogenError
from ..files import atomic_path, write_errors
from .config import TrainConfig, differing_settings, from_dict
from .data import ClipSet

STATE_FORMAT = 1
CHECKPOINT = "checkpoint.safetensors"
"""What a run leaves in its folder for sampling."""


class Reporter(Protocol):
    """Where a run tells how it goes; the command line shows it, tests collect it."""

    def note(self, text: str) -> None:
        """One line for the reader."""

    def start(self, stage: str, done: float) -> None:
        """A stage begins, of which the fraction ``done`` lies behind."""

    def update(
        self, step: int, done: float, seconds_left: float, losses: Mapping[str, float]
    ) -> None:
        """Progress: steps made, fraction done, estimate of the time left, mean losses."""

    def stop(self) -> None:
        """The stage has ended, or was interrupted."""


class Silent:
    """A reporter that tells nothing."""

    def note(self, text: str) -> None: ...
    def start(self, stage: str, done: float) -> None: ...
    def update(
        self, step: int, done: float, seconds_left: float, losses: Mapping[str, float]
    ) -> None: ...
    def stop(self) -> None: ...


@dataclass
class Context:
    """What a stage is given.

    Attributes:
        config: the whole recipe.
        clips: the data.
        fabric: devices, processes and precision.
        folder: the run's.
        reporter: where progress goes.
    """

    config: TrainConfig
    clips: ClipSet
    fabric: Fabric
    folder: Path
    reporter: Reporter = field(default_factory=Silent)

    @property
    def device(self) -> torch.device:
        return self.fabric.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return bool(self.fabric.global_rank == 0)

    def random(self, stage: str) -> torch.Generator:
        """The generator of a stage's random numbers on this process, on the CPU."""
        number = sum(ord(c) << (5 * k) for k, c in enumerate(stage))
        seed = (self.config.run.seed * 1_000_003 + number) % 2**61
        return torch.Generator().manual_seed(seed + self.fabric.global_rank)

    @contextmanager
    def initialising(self, stage: str) -> Iterator[None]:
        """Networks built inside get the same weights on every process and in every run.

        PyTorch's layers draw their weights from the global generator; it is put back after.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.run.seed + len(stage))
            yield


class Stage(ABC):
    """A part of the training with networks and a step of its own.

    Attributes:
        name: also of the state file.
        values: its section of the configuration, with ``steps`` and ``hours`` at least.
        random: the source of its random numbers on the CPU.
        device_random: that of those on its device, where there are many; on the CPU the same.
        modules, optimisers: what a state keeps, by name.
        basis: names the networks of other stages that it builds on; None for none. A state
            that was built on others is outdated.
    """

    name: str
    values: Any
    basis: str | None = None

    def __init__(self, context: Context) -> None:
        self.context = context
        self.random = self.device_random = context.random(self.name)
        if context.device.type != "cpu":
            self.device_random = torch.Generator(context.device)
            self.device_random.manual_seed(self.random.initial_seed())
        self.modules: dict[str, nn.Module] = {}
        self.optimisers: dict[str, torch.optim.Optimizer] = {}

    @property
    def steps(self) -> int:
        """Length of the stage."""
        return int(self.values.steps)

    @property
    def hours(self) -> float:
        """Bound on its duration, 0 for none."""
        return float(self.values.hours)

    @abstractmethod
    def step(self, progress: float) -> dict[str, Tensor]:
        """One step at a fraction ``progress`` of the stage; its losses as scalars."""

    @abstractmethod
    def sheet(self) -> Image.Image:
        """A picture that shows how far the networks are."""

    def normals(self, *shape: int) -> Tensor:
        """Draws from N(0, 1) on the stage's device."""
        return torch.randn(*shape, generator=self.device_random, device=self.context.device)

    def extra(self) -> dict[str, Any]:
        """More that a state keeps, as tensors and plain values."""
        return {}


def progress_of(step: int, steps: int, elapsed: float, hours: float) -> float:
    """Fraction of a stage that is done, by steps or by time, whichever is further."""
    by_time = elapsed / (3600 * hours) if hours else 0.0
    return min(1.0, max(step / steps, by_time))


def drive(stage: Stage, resume: bool, after_save: Callable[[], object] | None = None) -> float:
    """Run a stage to its end, saving states, losses and sheets on the way.

    ``after_save`` is called when a state has been written, on the process that writes.

    Returns the hours that the stage has taken, over all its sessions.

    Raises:
        MocogenError: a state cannot be read or written, or a loss is no longer a number; the
            last good state is left as it was.
        KeyboardInterrupt: SIGINT or SIGTERM came; the state was saved.
    """
    context = stage.context
    run, fabric, reporter = context.config.run, context.fabric, context.reporter
    path = state_path(context.folder, stage.name)
    step, elapsed = 0, 0.0
    if resume and path.exists():
        state = read_state(path)
        require_fitting(state, context, path)
        if outdated(state, stage.basis):
            reporter.note(f"{stage.name}: begins anew, for what it builds on has changed")
        else:
            step, elapsed = restore(stage, state, path)
            reporter.note(f"{stage.name}: goes on from step {step}")
    started = time.monotonic() - elapsed
    done = progress_of(step, stage.steps, elapsed, stage.hours)
    first_done, first_elapsed = done, elapsed
    reporter.start(stage.name, done)
    log = LossLog(context, stage.name, step) if context.leads else None
    sums: dict[str, Tensor] = {}
    counts: Counter[str] = Counter()  # some losses begin or end on the way
    last_save = last_sheet = time.monotonic()
    with interruptions() as interrupted:
        try:
            while done < 1.0:
                for key, value in stage.step(done).items():
                    sums[key] = sums.get(key, 0.0) + value.detach().float()
                    counts[key] += 1
                step += 1
                elapsed = time.monotonic() - started
                done = progress_of(step, stage.steps, elapsed, stage.hours)
                stop = bool(interrupted)
                if fabric.world_size > 1:  # clocks and signals differ between processes
                    done, stop = fabric.broadcast((done, stop))
                finished = done >= 1.0
                due = finished or stop or time.monotonic() - last_save > 60 * run.save_minutes
                if fabric.world_size > 1:
                    due = fabric.broadcast(due)
                if due or step % run.log_steps == 0:
                    losses = {key: float(value) / counts[key] for key, value in sums.items()}
                    sums, counts = {}, Counter()
                    _require_numbers(stage.name, step, losses)
                    speed = (done - first_done) / max(elapsed - first_elapsed, 1e-6)
                    left = (1.0 - done) / speed if speed > 0 else 0.0
                    if stage.hours:
                        left = min(left, max(0.0, 3600 * stage.hours - elapsed))
                    if log is not None:
                        log.write(step, elapsed, losses)
                        reporter.update(step, done, left, losses)
                # Only after the losses were seen to be numbers: a state is one to go back to.
                if due:
                    if context.leads:
                        save(stage, path, step, elapsed)
                        if after_save is not None:
                            after_save()
                    last_save = time.monotonic()
                sheet_age = time.monotonic() - last_sheet
                if log is not None and (finished or sheet_age > 60 * run.sheet_minutes):
                    log.pictures(stage, step)
                    last_sheet = time.monotonic()
                if stop:
                    raise KeyboardInterrupt
        finally:
            reporter.stop()
            if log is not None:
                log.close()
    return elapsed / 3600


def _require_numbers(stage: str, step: int, losses: Mapping[str, float]) -> None:
    bad = [key for key, value in losses.items() if not math.isfinite(value)]
    if bad:
        raise MocogenError(
            f"training came apart at step {step} of stage {stage} ({bad[0]} is no number): go on "
            "from the last state with --resume and a lower learning rate"
        )


@contextmanager
def interruptions() -> Iterator[list[int]]:
    """Signals that ask to stop, collected instead of obeyed at once.

    A step that is cut in two would leave one network ahead of the other. A second Ctrl-C is
    obeyed at once.
    """
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def note(number: int, frame: Any) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, note) for number in numbers]
    try:
        yield seen
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


# States


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


def norms_frozen(state: Mapping[str, Any]) -> bool:
    """Whether the generator in a state was trained on the batch statistics that it has."""
    # A state without the key was written before norms could be frozen.
    return bool(state["extra"].get("norms_frozen", False))


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


# Averages, gradients, schedules


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, share: float) -> None:
    """Move an exponential moving average by ``share`` towards the current weights.

    Buffers (batch statistics) move along; counters are copied.
    """
    mine, theirs = average.state_dict(), current.state_dict()
    floating = [key for key, value in mine.items() if value.is_floating_point()]
    torch._foreach_lerp_([mine[key] for key in floating], [theirs[key] for key in floating], share)
    for key in mine.keys() - floating:
        mine[key].copy_(theirs[key])


def average_gradients(fabric: Fabric, parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over all processes, in one message.

    Losses are means over a process's share of the batch, all of one size, so this is the
    gradient of the joined batch, but for batch norm, whose statistics remain a process's own.
    """
    if fabric.world_size == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    flat = fabric.all_reduce(flat, reduce_op="mean")  # type: ignore[assignment]
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def adam(
    parameters: Iterable[nn.Parameter], rate: float, betas: tuple[float, float], recorded: bool
) -> torch.optim.Adam:
    """Adam; one whose steps can be ``recorded`` has its rate and counts on the device."""
    parameters = list(parameters)
    if not recorded:
        return torch.optim.Adam(parameters, rate, betas)
    on_device = torch.tensor(rate, device=parameters[0].device)
    return torch.optim.Adam(parameters, on_device, betas, fused=True, capturable=True)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def ramp(progress: float, start: float, end: float) -> float:
    """0 before ``start``, 1 from ``end`` on, a line between; a step where ``end`` is no later."""
    if progress >= end:
        return 1.0
    if progress <= start:
        return 0.0
    return (progress - start) / (end - start)


def half_cosine(progress: float, start: float) -> float:
    """1 up to ``start``, then falling to 0 at 1 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * ramp(progress, start, 1.0)))


def linear_decay(progress: float, start: float = 0.5) -> float:
    """1 up to ``start``, then falling linearly to 0 at 1."""
    return 1.0 - ramp(progress, start, 1.0)


# Records


class LossLog:
    """Losses as lines of JSON and, where tensorboard is installed, as its events.

    Lines of the stage past the step that it goes on from are taken out: they were written after
    the last state, by a process that was killed.
    """

    def __init__(self, context: Context, stage: str, step: int = 0) -> None:
        self.folder, self.stage = context.folder, stage
        self.path = context.folder / "losses.jsonl"
        self._keep_until(step)
        self.writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            context.reporter.note("tensorboard is not installed: no event files are written")
        else:
            self.writer = SummaryWriter(str(context.folder / "events" / stage))

    def _keep_until(self, step: int) -> None:
        if not self.path.exists():
            return
        with write_errors(self.path):
            lines = self.path.read_text("utf-8", "replace").splitlines()
        kept = [line for line in lines if self._belongs(line, step)]
        if len(kept) < len(lines):
            with atomic_path(self.path) as temporary:
                temporary.write_text("".join(line + "\n" for line in kept), "utf-8")

    def _belongs(self, line: str, step: int) -> bool:
        try:
            record = json.loads(line)
        except ValueError:  # cut off by a full disk
            return False
        return bool(record["stage"] != self.stage or record["step"] <= step)

    def write(self, step: int, elapsed: float, losses: Mapping[str, float]) -> None:
        line = {"stage": self.stage, "step": step, "seconds": round(elapsed, 1)}
        values = {key: round(value, 5) for key, value in losses.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**line, **values}) + "\n")
        except OSError as error:
            raise MocogenError(f"cannot write {self.path}: {error.strerror or error}") from None
        if self.writer is not None:
            for key, value in losses.items():
                self.writer.add_scalar(f"{self.stage}/{key}", value, step)

    def pictures(self, stage: Stage, step: int) -> None:
        """The loss curves, and a sheet of samples under the step's number."""
        from .sheets import loss_curves

        pictures = {
            f"{self.stage}-{step:06d}.png": stage.sheet(),
            f"losses-{self.stage}.png": loss_curves(self.path, self.stage),
        }
        for name, image in pictures.items():
            with atomic_path(self.folder / "sheets" / name) as temporary:
                image.save(temporary)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
