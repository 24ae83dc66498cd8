"""How large the generator's blocks should be, and what fixed blocks cost.

    python -m benchmarks.blocks [--checkpoint weizmann] [--device cpu] [--backend auto]

Three questions about the blocks of one fixed shape of a backend (``mocogen.backends``): the time a
frame at several block sizes, in turn within one run; whether a frame's bits depend on its
place in a block or on the padding beside it; and what padding costs a short clip.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from typing import Any

import numpy as np

from mocogen import checkpoint
from mocogen.backend_choice import open_backend
from mocogen.backends import Backend
from mocogen.synthesis import Model

from .machine import describe

SIZES = (1, 4, 8, 16, 32, 64)
ROUNDS = 9


def with_blocks(images: int, options: argparse.Namespace) -> Model:
    """The checkpoint in a backend whose generator takes so many frames at once."""
    spec, tensors = checkpoint.read(checkpoint.find(options.checkpoint))
    made: Any = open_backend(options.backend, options.device, spec, tensors)
    blocks = replace(made.blocks, images=images)
    if made.name == "openvino":
        from mocogen import openvino_backend

        class Resized(openvino_backend.OpenVinoBackend):
            pass

        Resized.blocks = blocks
        made = Resized(spec, tensors)
    else:
        made.blocks = blocks
    return Model(spec, made)


def bits_are_steady(backend: Backend, latents: np.ndarray) -> tuple[bool, bool]:
    """Whether a frame's place in a block, and the padding beside it, leave its bits alone."""
    size = len(latents)
    images = backend.begin_images(latents)()
    moved = all(
        np.array_equal(backend.begin_images(np.roll(latents, by, 0))(), np.roll(images, by, 0))
        for by in range(1, size)
    )
    half = latents.copy()
    half[size // 2 :] = 0
    return moved, np.array_equal(backend.begin_images(half)()[: size // 2], images[: size // 2])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", default="weizmann")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backend", default="auto")
    options = parser.parse_args()
    models = {size: with_blocks(size, options) for size in SIZES}
    spec, backend = models[1].spec, models[1].backend
    print(", ".join(f"{key} {value}" for key, value in describe(backend.device).items()))
    print(f"backend {backend.name}")

    random = np.random.default_rng(0)
    inputs = spec.content + spec.motion + spec.generator_categories
    latents = {n: random.standard_normal((n, inputs)).astype(np.float32) for n in SIZES}
    times: dict[int, list[float]] = {size: [] for size in SIZES}
    for counted in [False, *[True] * ROUNDS]:
        for size, model in models.items():
            repeats = max(1, 64 // size)
            started = time.perf_counter()
            for _ in range(repeats):
                model.backend.begin_images(latents[size])()
            if counted:
                times[size].append((time.perf_counter() - started) / (repeats * size))
    for size, model in models.items():
        moved, padded = bits_are_steady(model.backend, latents[size])
        print(
            f"block of {size:3}: {1000 * statistics.median(times[size]):6.2f} ms a frame; "
            f"place {'does not matter' if moved else 'MATTERS'}, "
            f"padding {'does not matter' if padded else 'MATTERS'}"
        )

    tensors = checkpoint.read(checkpoint.find(options.checkpoint))[1]
    model = Model(spec, open_backend(options.backend, options.device, spec, tensors))
    for frames in (5, 20, 48):
        spent = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            model.sample(frames, seed=1)
            spent.append(time.perf_counter() - started)
        block = model.backend.blocks.images
        made = -(-frames // block) * block
        print(
            f"one clip of {frames} frames: {1000 * statistics.median(spent):.0f} ms, "
            f"{made} frames made, {made - frames} of them padding"
        )


if __name__ == "__main__":
    main()
