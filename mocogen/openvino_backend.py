"""The networks in OpenVINO, on a CPU, built from the checkpoint's tensors without torch.

OpenVINO runs the generator as fast as torch and starts much sooner (docs/speed.md). Its
recurrent operations compute what :mod:`mocogen.layers` does by hand; only the gates stand in
another order in their weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from .backends import Floats, Pending, Tensors
from .cpu_backend import CpuBackend, Parts, threads
from .spec import ModelSpec
from .weights import gate_rows, generator_layers, motion_spread

# Exact float32 on every processor: some would otherwise compute in bfloat16.
_CONFIG = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


class OpenVinoBackend(CpuBackend):
    """See :class:`mocogen.backends.Backend`."""

    name = "openvino"

    def __init__(self, spec: ModelSpec, tensors: Tensors) -> None:
        super().__init__(spec)
        self._tensors = tensors
        self._core = ov.Core()
        self._generator = _request(self._core, _generator(spec, tensors, self.blocks.images))
        self._networks: dict[int, ov.InferRequest] = {}  # by the number of steps

    def begin_images(self, latents: Floats) -> Pending:
        found = np.array(self._generator.infer({0: latents[:, :, None, None]})[0])
        return lambda: found

    def _motion(
        self, noise: Floats, category: NDArray[np.int64] | None, state: Parts
    ) -> tuple[Floats, Floats, Parts]:
        inputs = noise
        if category is not None:
            one_hot = np.eye(self._spec.motion_categories, dtype=np.float32)[category]
            inputs = np.concatenate(
                [noise, np.broadcast_to(one_hot, (len(noise), *one_hot.shape))], axis=2
            )
        request = self._network(len(noise))
        request.infer(dict(enumerate((np.ascontiguousarray(inputs), *state))))
        codes, raw, *after = (np.array(output.data) for output in request.output_tensors)
        return codes, raw, tuple(after)

    def _network(self, steps: int) -> ov.InferRequest:
        if steps not in self._networks:
            model = _motion(self._spec, self._tensors, steps, self.blocks.clips)
            self._networks[steps] = _request(self._core, model)
        return self._networks[steps]


def _request(core: ov.Core, model: ov.Model) -> ov.InferRequest:
    config = {**_CONFIG, "INFERENCE_NUM_THREADS": threads()}
    return core.compile_model(model, "CPU", config).create_infer_request()


def _generator(spec: ModelSpec, tensors: Tensors, images: int) -> ov.Model:
    """Latents (images, input, 1, 1) to pixels, uint8 of (images, height, width, 3)."""
    inputs = spec.content + spec.motion + spec.generator_categories
    latent = ops.parameter([images, inputs, 1, 1], np.float32)
    x: Any = latent
    for layer in generator_layers(tensors):
        stride, pad = [layer.stride] * 2, [layer.pad] * 2
        x = ops.convolution_backprop_data(
            x, ops.constant(layer.kernel), stride, None, pad, pad, [1, 1]
        )
        if layer.shift is not None:
            x = ops.relu(ops.add(x, ops.constant(layer.shift[None, :, None, None])))
    low, high = spec.pixel_range
    x = ops.subtract(ops.tanh(x), np.float32(low))
    x = ops.multiply(x, np.float32(255.0 / (high - low)))
    x = ops.convert(ops.round(ops.clamp(x, 0.0, 255.0), "half_to_even"), np.uint8)
    return ov.Model([ops.transpose(x, np.array([0, 2, 3, 1]))], [latent], "generator")


def _motion(spec: ModelSpec, tensors: Tensors, steps: int, clips: int) -> ov.Model:
    """Inputs (steps, clips, noise + actions) and a state to codes, linear outputs and state."""
    part = {k.removeprefix(f"motion.{spec.cell}."): v for k, v in tensors.items()}
    hidden = spec.hidden
    inputs = ops.parameter([steps, clips, spec.noise + spec.motion_categories], np.float32)
    state = [
        ops.parameter([clips, hidden], np.float32) for _ in range(2 if spec.cell == "lstm" else 1)
    ]
    by_clip = ops.transpose(inputs, np.array([1, 0, 2]))
    lengths = np.full(clips, steps, np.int32)
    # A direction axis of one, as the operations want it.
    started = [ops.unsqueeze(s, 1) for s in state]
    if spec.cell == "lstm":
        # Ours: input, forget, cell, output. OpenVINO's: forget, input, cell, output.
        order = gate_rows(hidden, (1, 0, 2, 3))
        bias = (part["bias_ih"] + part["bias_hh"])[order]
        sequence = ops.lstm_sequence(
            by_clip, *started, ops.constant(lengths), ops.constant(part["weight_ih"][order][None]),
            ops.constant(part["weight_hh"][order][None]), ops.constant(bias[None]),
            hidden, "forward",
        )  # fmt: skip
    else:
        # Ours: reset, update, new. OpenVINO's: update, reset, new, and the state's own bias of
        # the new part apart.
        order = gate_rows(hidden, (1, 0, 2))
        both = (part["bias_ih"] + part["bias_hh"])[order][: 2 * hidden]
        apart = [part["bias_ih"][2 * hidden :], part["bias_hh"][2 * hidden :]]
        sequence = ops.gru_sequence(
            by_clip, *started, ops.constant(lengths), ops.constant(part["weight_ih"][order][None]),
            ops.constant(part["weight_hh"][order][None]),
            ops.constant(np.concatenate([both, *apart])[None]),
            hidden, "forward", linear_before_reset=True,
        )  # fmt: skip
    x: Any = ops.transpose(ops.squeeze(sequence.output(0), 1), np.array([1, 0, 2]))
    codes = x
    if spec.head:
        weight, bias = tensors["motion.linear.weight"], tensors["motion.linear.bias"]
        x = ops.add(ops.matmul(x, ops.constant(weight), False, True), ops.constant(bias))
        centred = ops.subtract(x, ops.constant(tensors["motion.bn.running_mean"]))
        codes = ops.divide(centred, ops.constant(motion_spread(tensors)))
    after = [ops.squeeze(sequence.output(k + 1), 1) for k in range(len(state))]
    return ov.Model([codes, x, *after], [inputs, *state], "motion")
