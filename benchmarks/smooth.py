"""Left-out middle frames, predicted by voxel flow and by simpler means.

    python -m benchmarks.smooth --data CLIPS [--checkpoint smooth] [--json FILE]

Every second frame of a clip is left out and predicted from the two beside it: frame t from
t - 1 and t + 1. Clips are those of the people that the checkpoint's own record says were held
out of its training, so that nothing here was ever trained on; with --everyone they are all clips of
DATA, for data that the checkpoint has never seen. Rows:

- repeat: the frame before it, again;
- blend: the mean of the two;
- optical flow: OpenCV's DIS (Kroeger et al. 2016, preset medium, down to full size) in both
  directions, each frame warped half way along its own, and the mean of both; left out without
  OpenCV (`pip install opencv-python-headless`);
- voxel flow: what `mocogen smooth` makes.

PSNR in decibels and SSIM (Wang et al. 2004, brightness) are means over frames, once over the
whole frame and once where things move: over the pixels at which the frames beside the
missing one differ by more than THRESHOLD grey levels in any colour. Frames with fewer than
LEAST such pixels show no movement to speak of and do not count there.

--picture FILE shows the SHOWN left-out frames in a row, of one clip, in which most pixels move.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mocogen import flow_checkpoint
from mocogen.errors import MocogenError
from mocogen.evaluation.fidelity import Frame, moving, psnr, squared_error, ssim_map
from mocogen.training.data import Clip

THRESHOLD = 20
LEAST = 16
SHOWN, ENLARGED = 6, 2

Predict = Callable[[Frame, Frame], Frame]


@dataclass
class Score:
    """Values of one way of predicting, one a frame."""

    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    psnr_moving: list[float] = field(default_factory=list)
    ssim_moving: list[float] = field(default_factory=list)

    def add(self, made: Frame, real: Frame, where: np.ndarray) -> None:
        similar = ssim_map(made, real)
        self.psnr.append(psnr(squared_error(made, real)))
        self.ssim.append(float(similar.mean()))
        if where.sum() >= LEAST:
            self.psnr_moving.append(psnr(squared_error(made, real, where)))
            self.ssim_moving.append(float(similar[where].mean()))

    def means(self) -> dict[str, float]:
        return {name: float(np.mean(values)) for name, values in vars(self).items()}


def repeat(before: Frame, after: Frame) -> Frame:
    return before


def blend(before: Frame, after: Frame) -> Frame:
    mean = (before.astype(np.float64) + after) / 2
    return np.asarray(mean.round(), np.uint8)


def optical_flow() -> Predict | None:
    """Prediction by OpenCV's DIS, or None where OpenCV is missing."""
    try:
        cv2: Any = import_module("cv2")  # its own types lack this class
    except ImportError:
        return None
    finder = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    finder.setFinestScale(0)  # the preset stops at half size, too coarse for small frames

    def half_way(source: Frame, target: Frame) -> np.ndarray:
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (source, target)]
        flow = finder.calc(grey[0], grey[1], None)
        height, width = flow.shape[:2]
        across, down = np.meshgrid(np.arange(width), np.arange(height))
        # Flow belongs to where things start; half way it is taken as it is at this pixel.
        x = (across - flow[..., 0] / 2).astype(np.float32)
        y = (down - flow[..., 1] / 2).astype(np.float32)
        border = cv2.BORDER_REPLICATE
        return np.asarray(cv2.remap(source, x, y, cv2.INTER_LINEAR, borderMode=border), np.float64)

    def predict(before: Frame, after: Frame) -> Frame:
        mean = (half_way(before, after) + half_way(after, before)) / 2
        return np.asarray(mean.round(), np.uint8)

    return predict


def voxel_flow(path: Path, device_name: str) -> Predict:
    """Prediction as ``mocogen smooth --factor 2`` makes it."""
    from mocogen.devices import choose_device
    from mocogen.smoothing import smoothed

    device = choose_device(device_name)
    network = flow_checkpoint.load(path)[1].to(device)

    def predict(before: Frame, after: Frame) -> Frame:
        return list(smoothed(network, device, [before, after], 2))[1]

    return predict


def triplets(
    data: Path, spec: flow_checkpoint.FlowSpec, everyone: bool
) -> Iterator[tuple[Clip, tuple[Frame, Frame, Frame]]]:
    """Frames t - 1, t, t + 1, t = 1, 3, 5, ..., of held-out clips or of all, with their clip.

    Raises:
        MocogenError: the checkpoint held nobody out, or other people than the data shows.
    """
    from mocogen.training.config import from_dict
    from mocogen.training.data import load_clips

    held = spec.training.get("held_out") or []
    if not held and not everyone:
        raise MocogenError(
            f"checkpoint {spec.name} held nobody out of its training: nothing here is new to it"
        )
    config = from_dict(spec.training["config"])
    values = config.data
    clips = load_clips(
        data, config.image_size, groups=values.groups, fit=values.fit, min_frames=3,
        light=values.light,
    )  # fmt: skip
    absent = [name for name in held if name not in clips.people]
    if absent and not everyone:
        raise MocogenError(f"{data} does not show {absent[0]}, whom the checkpoint held out")
    for clip in clips.clips:
        if everyone or clip.group in held:
            frames = clips.frames[clip.start : clip.start + clip.length]
            for t in range(1, clip.length - 1, 2):
                yield clip, (frames[t - 1], frames[t], frames[t + 1])


def run(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks import machine
    from mocogen.checkpoint import find
    from mocogen.files import sha256

    path = find(options.checkpoint)
    spec = flow_checkpoint.read_spec(path)
    ways: dict[str, Predict | None] = {
        "repeat": repeat,
        "blend": blend,
        "optical flow": optical_flow(),
        "voxel flow": voxel_flow(path, options.device),
    }
    used = {name: way for name, way in ways.items() if way is not None}
    scores = {name: Score() for name in used}
    people: dict[str, int] = {}
    share = []
    clips: dict[str, list[tuple[Frame, Frame, Frame]]] = {}
    for clip, (before, real, after) in triplets(options.data, spec, options.everyone):
        people[clip.group] = people.get(clip.group, 0) + 1
        clips.setdefault(clip.path, []).append((before, real, after))
        where = moving(before, after, THRESHOLD)
        share.append(float(where.mean()))
        for name, way in used.items():
            scores[name].add(way(before, after), real, where)
    if options.picture:
        picture(options.picture, list(clips.values()), used)
    return {
        "data": "all clips" if options.everyone else "people held out of training",
        "checkpoint": options.checkpoint,
        "sha256": sha256(path),
        "frames": people,
        "moving_share": float(np.mean(share)),
        "moving_frames": len(scores["blend"].psnr_moving),
        "left_out": [name for name, way in ways.items() if way is None],
        "rows": {name: score.means() for name, score in scores.items()},
        "machine": machine.describe(options.device),
    }


def picture(
    path: Path, clips: Sequence[Sequence[tuple[Frame, Frame, Frame]]], ways: dict[str, Predict]
) -> None:
    """Write the left-out frames in a row in which most moves, as they were and as predicted."""
    from mocogen.evaluation.pictures import sheet

    rows = [clip[k : k + SHOWN] for clip in clips for k in range(max(1, len(clip) - SHOWN + 1))]

    def moves(row: Sequence[tuple[Frame, Frame, Frame]]) -> int:
        return sum(int(moving(before, after, THRESHOLD).sum()) for before, _, after in row)

    row = max(rows, key=moves)
    strips = [("left out", [real for _, real, _ in row])]
    for name, way in ways.items():
        strips.append((name, [way(before, after) for before, _, after in row]))
    large = [
        (name, np.stack(frames).repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2))
        for name, frames in strips
    ]
    sheet(path, large, shown=len(row), columns=1)


def show(result: dict[str, Any]) -> None:
    """Print the result for people, its table in Markdown."""
    people = ", ".join(result["frames"])
    print(f"{sum(result['frames'].values())} left-out middle frames, {result['data']}: {people}")
    print(
        f"in {result['moving_frames']} of them something moves; {result['moving_share']:.1%} of "
        f"all pixels do (neighbours differ by more than {THRESHOLD} grey levels)\n"
    )
    print("| | PSNR where things move | SSIM where things move | PSNR | SSIM |")
    print("|---|---|---|---|---|")
    for name, row in result["rows"].items():
        print(
            f"| {name} | {row['psnr_moving']:.2f} | {row['ssim_moving']:.3f} | {row['psnr']:.2f} | "
            f"{row['ssim']:.3f} |"
        )
    for name in result["left_out"]:
        print(f"\n{name} is left out: OpenCV is not installed (opencv-python-headless)")
    print("\n" + ", ".join(f"{key} {value}" for key, value in result["machine"].items()))


def main(words: Sequence[str] | None = None) -> int:
    from mocogen.files import atomic_path

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.smooth", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="the clips, in folders by action")
    parser.add_argument("--everyone", action="store_true", help="all clips, whoever is on screen")
    parser.add_argument("--checkpoint", default=flow_checkpoint.DEFAULT)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--picture", type=Path, help="write left-out frames to this picture")
    options = parser.parse_args(words)
    try:
        result = run(options)
        if options.json:
            with atomic_path(options.json) as temporary:
                temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except MocogenError as error:
        print(f"smooth: {error}", file=sys.stderr)
        return error.exit_code
    show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
