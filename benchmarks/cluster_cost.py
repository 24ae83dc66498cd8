"""What a million clips cost on many cores, and on one GPU, from a core's time measured here.

    OMP_NUM_THREADS=1 python -m benchmarks.cluster_cost [--clips 32] [--json]

Prints the processor time of one clip, in the process that samples and writes it, and apart
for frames and for files. Processor time, not the clock's: other programs on the machine hardly
change it. The rest is arithmetic on assumed prices and an assumed speed of a GPU, for which
there are options; it is an estimate, and so it is called in what is printed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mocogen import batch, load
from mocogen.jobs import plan
from mocogen.requests import Request
from mocogen.sinks import FileSink
from mocogen.synthesis import Model
from mocogen.video import ClipFormat, open_clip

from .__main__ import FRAMES, operations_a_frame
from .machine import describe

MILLION = 1_000_000


def processor_seconds(call: Callable[[], object]) -> float:
    """The time that all cores together spend on a call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def measure(model: Model, clips: int, suffix: str) -> dict[str, float]:
    """Seconds of one core for a clip: whole, its frames alone, its file alone."""
    rate, size = model.spec.fps, model.spec.image_size
    frames = model.sample(FRAMES, seed=0)
    requests = [model.clip(seed, frames=FRAMES) for seed in range(clips)]
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/{{seed}}{suffix}"

        def whole() -> None:
            asked = (Request(seed=s, index=s, frames=FRAMES, out=out) for s in range(clips))
            list(batch.render(model, plan(model, asked, {}), FileSink()))

        def files() -> None:
            form = ClipFormat(FRAMES, size, size, rate, {})
            for number in range(clips):
                with open_clip(Path(folder) / f"file-{number}{suffix}", form) as writer:
                    writer.write(frames)

        whole()  # once for nothing, so that every library is there
        return {
            "whole": processor_seconds(whole) / clips,
            "frames": processor_seconds(lambda: list(model.stream(requests))) / clips,
            "file": processor_seconds(files) / clips,
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster_cost", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--suffix", default=".mp4")
    parser.add_argument("--cores", type=int, default=64, help="cores of the assumed cluster")
    parser.add_argument("--core-price", type=float, default=0.05, help="dollars an hour")
    parser.add_argument("--gpu-price", type=float, default=1.0, help="dollars an hour")
    parser.add_argument(
        "--gpu-speed", type=float, default=10.0, help="float32 teraflops that the generator gets"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    model = load(device="cpu")
    seconds = measure(model, options.clips, options.suffix)
    core_hours = seconds["whole"] * MILLION / 3600
    # One worker has a GPU and one core, which writes a clip while the next is made.
    on_gpu = FRAMES * operations_a_frame() / (options.gpu_speed * 1e12)
    gpu_hours = max(on_gpu, seconds["file"]) * MILLION / 3600
    found = {
        "machine": describe(),
        "backend": model.backend.name,
        "core_seconds_a_clip": seconds,
        "clips_a_second_a_core": 1 / seconds["whole"],
        "estimate": {
            "core_hours": core_hours,
            "hours_on_cores": core_hours / options.cores,
            "dollars_on_cores": core_hours * options.core_price,
            "hours_on_a_gpu": gpu_hours,
            "dollars_on_a_gpu": gpu_hours * options.gpu_price,
        },
    }
    if options.json:
        print(json.dumps(found))
        return
    print(", ".join(f"{key} {value}" for key, value in describe().items()))
    print(
        f"one clip of {FRAMES} frames as {options.suffix}, {model.backend.name}: "
        f"{seconds['whole']:.3f} s of a core ({seconds['frames']:.3f} s frames alone, "
        f"{seconds['file']:.3f} s file alone), {1 / seconds['whole']:.1f} clips/s"
    )
    print(
        f"estimate for a million clips on {options.cores} cores at ${options.core_price} an hour: "
        f"{core_hours / options.cores:.2f} h, ${core_hours * options.core_price:.2f}"
    )
    print(
        f"estimate for a million clips on one GPU of {options.gpu_speed:g} TFLOP/s at "
        f"${options.gpu_price} an hour: {gpu_hours:.1f} h, ${gpu_hours * options.gpu_price:.2f} "
        f"(held back by {'the GPU' if on_gpu > seconds['file'] else 'the core that writes files'})"
    )


if __name__ == "__main__":
    main()
