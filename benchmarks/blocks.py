"""How large the generator's blocks should be, and what fixed blocks cost.

    python -m benchmarks.blocks [--checkpoint weizmann] [--device cpu]

Three questions about the blocks of one fixed shape in ``mocogen.synthesis``: the time a
frame at several block sizes, in turn within one run; whether a frame's bits depend on its
place in a block or on the padding beside it; and what padding costs a short clip.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from mocogen import load

from .machine import describe

SIZES = (1, 4, 8, 16, 32, 64)
ROUNDS = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", default="weizmann")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    model = load(options.checkpoint, options.device)
    network, inputs = model._generator, model.spec.content + model.spec.motion
    print(", ".join(f"{key} {value}" for key, value in describe(options.device).items()))

    latents = {
        size: torch.randn(size, inputs, 1, 1, device=model.device).contiguous(
            memory_format=torch.channels_last
        )
        for size in SIZES
    }
    with torch.inference_mode():
        times: dict[int, list[float]] = {size: [] for size in SIZES}
        for _ in range(ROUNDS):
            for size, latent in latents.items():
                repeats = max(1, 64 // size)
                started = time.perf_counter()
                for _ in range(repeats):
                    network(latent)
                if model.device.type == "cuda":
                    torch.cuda.synchronize()
                times[size].append((time.perf_counter() - started) / (repeats * size))
        for size, latent in latents.items():
            images = network(latent)
            moved = all(
                torch.equal(network(latent.roll(by, 0)), images.roll(by, 0))
                for by in range(1, size)
            )
            half = torch.cat([latent[: size // 2], torch.zeros_like(latent[size // 2 :])])
            padded = torch.equal(network(half)[: size // 2], images[: size // 2])
            print(
                f"block of {size:3}: {1000 * statistics.median(times[size]):6.2f} ms a frame; "
                f"place {'does not matter' if moved else 'MATTERS'}, "
                f"padding {'does not matter' if padded else 'MATTERS'}"
            )

    for frames in (5, 20, 48):
        spent = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            model.sample(frames, seed=1)
            spent.append(time.perf_counter() - started)
        images = model.blocks.images
        made = -(-frames // images) * images
        print(
            f"one clip of {frames} frames: {1000 * statistics.median(spent):.0f} ms, "
            f"{made} frames made, {made - frames} of them padding"
        )


if __name__ == "__main__":
    main()
