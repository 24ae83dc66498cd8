"""The losses of a run, as a file of lines, as events and as pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import MocogenError
from ..files import atomic_path, write_errors
from .sheets import loss_curves
from .stage import Context, Stage


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
