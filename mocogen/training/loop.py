"""The loop that drives every stage: its steps, and the losses, states and sheets on the way."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..errors import MocogenError
from .loss_log import LossLog
from .stage import Stage
from .states import last_state, outdated, restore, save, state_path


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
    state = last_state(context, stage.name) if resume else None
    if state is not None:
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
