"""``mocogen train``: a folder of clips becomes a checkpoint."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import MocogenError
from . import common


class _Lines:
    """A reporter for standard error that is no terminal: notes, and now and then a line."""

    every = 60.0

    def __init__(self) -> None:
        self._stage, self._last = "", 0.0

    def note(self, text: str) -> None:
        common.say(text)

    def start(self, stage: str, done: float) -> None:
        self._stage = stage
        common.say(f"stage {stage} begins at {done:.0%}")

    def update(
        self, step: int, done: float, seconds_left: float, losses: Mapping[str, float]
    ) -> None:
        import time

        if done < 1.0 and time.monotonic() - self._last < self.every:
            return
        self._last = time.monotonic()
        common.say(
            f"{self._stage} {done:6.1%}  step {step}  {_clock(seconds_left)} left  {_text(losses)}"
        )

    def stop(self) -> None:
        pass


class _Bar:
    """A reporter for a terminal: a progress bar with the time left and the main losses."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._progress: Any = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]} left"),
            TextColumn("step {task.fields[step]}  {task.fields[losses]}", style="dim"),
            console=Console(stderr=True),
        )
        self._task: Any = None

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def start(self, stage: str, done: float) -> None:
        self._task = self._progress.add_task(
            stage, total=1.0, completed=done, left="?", step=0, losses=""
        )
        self._progress.start()

    def update(
        self, step: int, done: float, seconds_left: float, losses: Mapping[str, float]
    ) -> None:
        self._progress.update(
            self._task,
            completed=done,
            left=_clock(seconds_left),
            step=step,
            losses=_text(losses, most=3),
        )

    def stop(self) -> None:
        self._progress.stop()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _text(losses: Mapping[str, float], most: int = 20) -> str:
    return " ".join(f"{key} {value:.3g}" for key, value in list(losses.items())[:most])


def train(
    data: Annotated[Path, typer.Argument(help="A folder of clips; sub-folders are actions.")],
    out: Annotated[Path, typer.Option(help="The run's folder.", callback=common.on_disk)],
    recipe: Annotated[
        str | None,
        typer.Option(help="split, mocogan, voxel-flow, or a TOML file. \\[default: split]"),
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option(help="Some of generator,motion,joint; or flow. \\[default: the recipe's]"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a value: generator.steps=13000. May be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides everything random.", min=0)] = None,
    batch: Annotated[
        int | None, typer.Option(help="Batch of every stage that is run.", min=1)
    ] = None,
    device: common.Device = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's last state.")
    ] = False,
    quiet: common.Quiet = False,
) -> None:
    """Train on a folder of clips and write RUN/checkpoint.safetensors.

    Ctrl-C saves the state and exits; --resume goes on, with the run's own settings.
    """
    from ..training.config import load_config

    before = out / "config.toml"
    source = recipe or (str(before) if resume and before.exists() else "split")
    overrides = list(settings or [])
    if stages is not None:
        overrides.append(f"run.stages={stages}")
    if seed is not None:
        overrides.append(f"run.seed={seed}")
    config = load_config(source, overrides)
    if batch is not None:
        overrides += [f"{stage}.batch={batch}" for stage in config.run.stages]
        config = load_config(source, overrides)

    try:
        from ..training.run import train as run
        from ..training.stage import Silent
    except ModuleNotFoundError as error:
        raise MocogenError(
            f"training needs {error.name}: install mocogen with its extra, "
            "`pip install '.[train]'` in its source folder"
        ) from None

    reporter: Any = Silent() if quiet else _Bar() if sys.stderr.isatty() else _Lines()
    # The library tells what it was told.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        run(data, out, config, device, resume, reporter)
    except KeyboardInterrupt:
        common.say(f"stopped; what was saved in {out} goes on with --resume")
        raise
