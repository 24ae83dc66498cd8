"""The image generator in ONNX Runtime, on a CPU, without torch.

ONNX Runtime starts in a tenth of the time that importing torch takes, and the generator is
as fast in it (docs/speed.md).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import onnx_models
from .backends import Floats, Pending, Tensors
from .cpu_backend import CpuBackend
from .processors import threads
from .spec import ModelSpec

# Read when it is imported: else it notes the machine in the home folder and calls its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime


class OnnxBackend(CpuBackend):
    """See :class:`mocogen.backends.Backend`."""

    name = "onnx"

    def __init__(self, spec: ModelSpec, tensors: Tensors) -> None:
        super().__init__(spec, tensors)
        self._open(onnx_models.generator(spec, tensors, split=True))

    def _open(self, model: bytes) -> None:
        self._model = model  # the session holds the same bytes for as long
        self._generator = _session(model)
        self._threads = threads()
        self._workers: tuple[int, ThreadPoolExecutor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What copies and other processes make a backend of: a session cannot be copied."""
        return {"spec": self._spec, "motion": self._motion, "model": self._model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._spec, self._motion = state["spec"], state["motion"]
        self._open(state["model"])

    def begin_images(self, latents: Floats) -> Pending:
        # ONNX Runtime's own threads do not share all of a convolution's work, and it computes
        # image by image, so that shares of any size give the same bits. Two for each thread:
        # where the encoder takes a core from one, the other goes on meanwhile.
        shares = np.array_split(latents, min(2 * self._threads, len(latents)))
        # One thread in all, where one was asked for: the main one.
        begun = (self._pool().map if self._threads > 1 else map)(self._frames, shares)
        return lambda: np.concatenate(list(begun))

    def _pool(self) -> ThreadPoolExecutor:
        # A process that was forked has its parent's pool, but none of the threads in it.
        if self._workers is None or self._workers[0] != os.getpid():
            self._workers = os.getpid(), ThreadPoolExecutor(self._threads)
        return self._workers[1]

    def _frames(self, latents: Floats) -> NDArray[np.uint8]:
        (frames,) = self._generator.run(None, {"latents": latents})
        return frames


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
