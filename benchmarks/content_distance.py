"""Average Content Distance on moving shapes, of real and of generated clips.

    python -m benchmarks.content_distance --checkpoint shapes

The measure of Tulyakov et al. 2018 (table 1): the colour of the shape in each frame (mean
over the shape's pixels), the mean Euclidean distance over all pairs of frames of a clip, the
mean over the clips. Their table has VGAN 5.02, TGAN 2.08, MoCoGAN 1.79 and real clips 0,
from 256 clips of 16 frames.

Here: 256 clips of 16 frames as well, seeds consecutive from 0, none picked, every one with
the action that it picks itself; red, green and blue from 0 to 255. The shape's pixels are
found by brightness (``mocogen.evaluation.measures.shape_pixels``). The paper says neither how
it found the shape nor on which scale its colours are. Colours from 0 to 1 or from -1 to 1
cannot be 5.02 apart (at most 1.7 and 3.5), so its scale is taken to be 0 to 255 too, and the
figures are comparable as far as that is right. Shapes, sizes and paths follow the paper's
text, but they are not its clips. Real clips are cut from longer ones (``LONGER``), at any
moment, for a model's clips do not begin at a side of the frame either.

A model of frozen or empty clips would have 0 as well. So beside it stand the share of frames
that show a shape, the motion energy in grey levels, and the share of clips whose shape gets
further along the axis asked for than across it (it may turn on the way).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mocogen.errors import MocogenError, UsageError

if TYPE_CHECKING:
    from mocogen.evaluation.measures import Frames

SHEET = 32
LONGER = 3
"""How many times as long as the real clips are those that they are cut from."""


@dataclass(frozen=True)
class Content:
    """Means over clips: ``distance`` in colours of 0 to 255, with its standard error over
    clips; ``median`` and ``worst``, of the clips' distances; shares of 0 to 1."""

    distance: float
    standard_error: float
    median: float
    worst: float
    shown: float
    motion_energy: float
    direction_right: float


def measure(clips: Iterable[tuple[str, Frames]]) -> Content:
    """Measure clips, each with its action.

    Raises:
        MocogenError: a shape is seen in no clip.
    """
    from mocogen.evaluation.measures import (
        mean_pairwise_distance,
        motion_energy,
        shape_centres,
        shape_colours,
    )

    distances: list[float] = []
    shown: list[float] = []
    energies: list[float] = []
    right: list[bool] = []
    for action, frames in clips:
        colours = shape_colours(frames)
        shown.append(len(colours) / len(frames))
        energies.append(motion_energy(frames))
        if len(colours) < 2:
            right.append(False)
            continue
        distances.append(mean_pairwise_distance(colours))
        wide, high = np.ptp(shape_centres(frames), axis=0)
        right.append(bool(wide > high) == (action == "horizontal"))
    if not distances:
        raise MocogenError("no clip shows a shape: is this a checkpoint of bright shapes on black?")
    spread = float(np.std(distances, ddof=1)) if len(distances) > 1 else 0.0
    return Content(
        distance=float(np.mean(distances)),
        standard_error=spread / len(distances) ** 0.5,
        median=float(np.median(distances)),
        worst=float(np.max(distances)),
        shown=float(np.mean(shown)),
        motion_energy=float(np.mean(energies)),
        direction_right=float(np.mean(right)),
    )


def real_clips(count: int, frames: int, size: int) -> Iterable[tuple[str, Frames]]:
    """Of each of the first clips of the data set's seed 0, ``frames`` frames from any one on."""
    from mocogen import shapes

    random = np.random.default_rng(0)
    for index in range(count):
        clip = shapes.make(0, index, LONGER * frames)
        start = random.integers(len(clip.path) - frames + 1)
        yield clip.action, clip.frames(size)[start : start + frames]


def read_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read and check the command line.

    Raises:
        UsageError: a number is too small.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.content_distance",
        description=(__doc__ or "").partition("\n")[0],
    )
    add = parser.add_argument
    add("--checkpoint", help="a checkpoint to measure beside the real clips")
    add("--clips", type=int, default=256, help="how many clips (256)")
    add("--frames", type=int, default=16, help="frames of a clip (16)")
    add("--json", type=Path, help="write the result to this file")
    add("--sheet", type=Path, help=f"write filmstrips of seeds 0 to {SHEET - 1} to this picture")
    add("--device", default="cpu", help="where clips are sampled: cpu, cuda, mps, auto")
    options = parser.parse_args(words)
    for name in ("clips", "frames"):
        if getattr(options, name) < 2:
            raise UsageError(f"--{name} {getattr(options, name)}: at least 2")
    if options.sheet and not options.checkpoint:
        raise UsageError("--sheet shows a checkpoint's clips: add --checkpoint")
    return options


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure real and, with ``--checkpoint``, generated clips."""
    from benchmarks import machine
    from mocogen import shapes

    result: dict[str, Any] = {"clips": options.clips, "frames": options.frames, "size": 64}
    device = "cpu"
    if options.checkpoint:
        import mocogen
        from mocogen.evaluation import pictures
        from mocogen.evaluation.scores import whole_clips

        model = mocogen.load(options.checkpoint, options.device)
        device = str(model.backend.device)
        names = model.spec.actions
        if set(names) != set(shapes.ACTIONS):
            raise MocogenError(
                f"checkpoint {model.spec.name} was not made for shapes: its actions are "
                f"{', '.join(names) or 'none'}, not {', '.join(shapes.ACTIONS)}"
            )
        requests = [model.clip(seed, frames=options.frames) for seed in range(options.clips)]
        clips = [(names[clip.action or 0], frames) for clip, frames in whole_clips(model, requests)]
        result |= {"size": model.spec.image_size, "sha256": model.sha256}
        result["generated"] = asdict(measure(clips))
        if options.sheet:
            strips = [
                (f"seed {seed}\n{action}", f) for seed, (action, f) in enumerate(clips[:SHEET])
            ]
            pictures.sheet(options.sheet, strips)
    real = real_clips(options.clips, options.frames, result["size"])
    result["real"] = asdict(measure(real))
    result["machine"] = machine.describe(device)
    return result


def show(result: dict[str, Any]) -> None:
    """Print the result for people."""
    print(
        f"{result['clips']} clips of {result['frames']} frames of "
        f"{result['size']}x{result['size']}, seeds from 0, none picked"
    )
    columns = [name for name in ("real", "generated") if name in result]
    print(f"\n{'':36}" + "".join(f"{name:>11}" for name in columns))
    for key, label in (
        ("distance", "Average Content Distance, 0 to 255"),
        ("standard_error", "  standard error over clips"),
        ("median", "  median clip"),
        ("worst", "  worst clip"),
        ("shown", "frames that show a shape"),
        ("motion_energy", "motion energy, grey levels"),
        ("direction_right", "moves along the axis asked for"),
    ):
        print(f"{label:36}" + "".join(f"{result[name][key]:11.3f}" for name in columns))
    print("\nthe paper's table: VGAN 5.02, TGAN 2.08, MoCoGAN 1.79, real 0 (scale not stated)")
    print(", ".join(f"{key} {value}" for key, value in result["machine"].items()))


def main() -> int:
    from mocogen.files import atomic_path

    try:
        options = read_options()
        result = run(options)
        if options.json:
            with atomic_path(options.json) as temporary:
                temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except MocogenError as error:
        print(f"content_distance: {error}", file=sys.stderr)
        return error.exit_code
    show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
