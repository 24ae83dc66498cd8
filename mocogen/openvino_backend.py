"""The image generator in OpenVINO, on a CPU, built from the checkpoint's tensors without torch.

OpenVINO runs it as fast as torch and starts much sooner (docs/speed.md).
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .backends import Floats, Pending, Tensors
from .cpu_backend import CpuBackend
from .processors import threads
from .spec import ModelSpec
from .weights import Layer, generator_layers

# It goes without this package of its own, which notes the machine in the home folder and calls
# its makers.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino as ov  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

# Exact float32 on every processor: some would otherwise compute in bfloat16.
_CONFIG = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


class OpenVinoBackend(CpuBackend):
    """See :class:`mocogen.backends.Backend`."""

    name = "openvino"

    def __init__(self, spec: ModelSpec, tensors: Tensors) -> None:
        super().__init__(spec, tensors)
        self._open(list(generator_layers(tensors)))

    def _open(self, layers: list[Layer]) -> None:
        self._layers = layers  # OpenVINO has its own copy, but no way to ask for it
        model = _generator(self._spec, layers, self.blocks.images)
        config = {**_CONFIG, "INFERENCE_NUM_THREADS": threads()}
        self._generator = _request(model, config)
        self._turn = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """What copies and other processes make a backend of: a request cannot be copied."""
        return {"spec": self._spec, "motion": self._motion, "layers": self._layers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._spec, self._motion = state["spec"], state["motion"]
        self._open(state["layers"])

    def begin_images(self, latents: Floats) -> Pending:
        # There is one request, whose memory the result lies in, and other threads run while it
        # computes: each has it to itself until its frames are copied.
        with self._turn:
            found = np.array(self._generator.infer({0: latents[:, :, None, None]})[0])
        return lambda: found


def _request(model: ov.Model, config: dict[str, Any]) -> ov.InferRequest:
    """The model, compiled, in a thread of its own.

    OpenVINO gives the thread that compiles a stack for its signals, and when models go in the
    order in which they came, puts back one that is gone already. In the main thread, where Python
    handles signals, Ctrl-C would then end the process with a segmentation fault.
    """
    with ThreadPoolExecutor(1) as thread:
        compiled = thread.submit(ov.Core().compile_model, model, "CPU", config)
        return compiled.result().create_infer_request()


def _generator(spec: ModelSpec, layers: list[Layer], images: int) -> ov.Model:
    """Latents (images, input, 1, 1) to pixels, uint8 of (images, height, width, 3)."""
    inputs = spec.content + spec.motion + spec.generator_categories
    latent = ops.parameter([images, inputs, 1, 1], np.float32)
    x: Any = latent
    for layer in layers:
        stride, pad = [layer.stride] * 2, [layer.pad] * 2
        kernel = ops.constant(layer.kernel)
        x = ops.convolution_backprop_data(x, kernel, stride, None, pad, pad, [1, 1])
        if layer.shift is not None:
            x = ops.relu(ops.add(x, ops.constant(layer.shift[None, :, None, None])))
    low, high = spec.pixel_range
    x = ops.subtract(ops.tanh(x), np.float32(low))
    x = ops.multiply(x, np.float32(255.0 / (high - low)))
    x = ops.convert(ops.round(ops.clamp(x, 0.0, 255.0), "half_to_even"), np.uint8)
    return ov.Model([ops.transpose(x, np.array([0, 2, 3, 1]))], [latent], "generator")
