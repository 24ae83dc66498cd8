"""The image generator in ONNX Runtime, on a CPU, without torch.

ONNX Runtime starts in a tenth of the time that importing torch takes, and the generator is
as fast in it (docs/speed.md).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

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
        self._generator = _session(onnx_models.generator(spec, tensors, split=True))
        self._threads = threads()
        # One thread in all, where one was asked for: the main one.
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    def begin_images(self, latents: Floats) -> Pending:
        # ONNX Runtime's own threads do not share all of a convolution's work, and it computes
        # image by image, so that shares of any size give the same bits. Two for each thread:
        # where the encoder takes a core from one, the other goes on meanwhile.
        shares = np.array_split(latents, min(2 * self._threads, len(latents)))
        begun = (self._pool.map if self._pool else map)(self._frames, shares)
        return lambda: np.concatenate(list(begun))

    def _frames(self, latents: Floats) -> NDArray[np.uint8]:
        (frames,) = self._generator.run(None, {"latents": latents})
        return frames


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
