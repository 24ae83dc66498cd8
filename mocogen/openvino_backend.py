"""The networks in OpenVINO, on a CPU, built from the checkpoint's tensors without torch.

OpenVINO starts in a tenth of the time that importing torch takes and runs the generator as
fast (docs/speed.md). Its recurrent operations compute what :mod:`mocogen.layers` does by hand;
only the gates stand in another order in their weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from .backends import CPU_BLOCKS, Floats, Tensors
from .spec import ModelSpec

_BN_EPSILON = 1e-5  # torch's own
# Exact float32 on every processor: some would otherwise compute in bfloat16.
_CONFIG = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


class OpenVinoBackend:
    """See :class:`mocogen.backends.Backend`."""

    name = "openvino"
    device = "cpu"
    blocks = CPU_BLOCKS

    def __init__(self, spec: ModelSpec, tensors: Tensors) -> None:
        core = ov.Core()
        self._spec = spec
        self._generator = _request(core, _generator(spec, tensors, self.blocks.images))
        self._motion = {
            steps: _request(core, _motion(spec, tensors, steps, self.blocks.clips))
            for steps in (self.blocks.steps, *([1] if _can_feed_back(spec) else []))
        }

    def start(self, hidden: Floats | None) -> Any:
        zeros = np.zeros((self.blocks.clips, self._spec.hidden), np.float32)
        h = zeros if hidden is None else hidden
        return (h, zeros) if self._spec.cell == "lstm" else (h,)

    def unroll(
        self, noise: Floats, category: NDArray[np.int64] | None, state: Any
    ) -> tuple[Floats, Any]:
        codes, _, *after = self._run(noise, category, state)
        return codes, tuple(after)

    def feed_back(
        self, inputs: Floats, category: NDArray[np.int64] | None, state: Any
    ) -> tuple[Floats, Floats, Any]:
        made = []
        for _ in range(self.blocks.steps):
            codes, raw, *after = self._run(inputs[None], category, state)
            inputs, state = raw[0], tuple(after)
            made.append(codes)
        return np.concatenate(made), inputs, state

    def images(self, latents: Floats) -> NDArray[np.uint8]:
        found = self._generator.infer({0: latents[:, :, None, None]})[0]
        return np.array(found)

    def _run(
        self, noise: Floats, category: NDArray[np.int64] | None, state: Any
    ) -> list[NDArray[np.float32]]:
        """Codes, the linear layer's output ahead of the batch norm, and the state after."""
        inputs = noise
        if category is not None:
            one_hot = np.eye(self._spec.motion_categories, dtype=np.float32)[category]
            inputs = np.concatenate(
                [noise, np.broadcast_to(one_hot, (len(noise), *one_hot.shape))], axis=2
            )
        request = self._motion[len(noise)]
        request.infer(dict(enumerate((np.ascontiguousarray(inputs), *state))))
        return [np.array(output.data) for output in request.output_tensors]


def _request(core: ov.Core, model: ov.Model) -> ov.InferRequest:
    return core.compile_model(model, "CPU", _CONFIG).create_infer_request()


def _can_feed_back(spec: ModelSpec) -> bool:
    return spec.noise == (spec.motion if spec.head else spec.hidden)


def _generator(spec: ModelSpec, tensors: Tensors, images: int) -> ov.Model:
    """Latents (images, input, 1, 1) to pixels, uint8 of (images, height, width, 3)."""
    inputs = spec.content + spec.motion + spec.generator_categories
    latent = ops.parameter([images, inputs, 1, 1], np.float32)
    x: Any = latent
    for index in (0, 3, 6, 9, 12):
        kernel = tensors[f"generator.main.{index}.weight"]
        stride, pad = (1, 0) if index == 0 else (2, 1)
        shift = None
        if index < 12:
            norm = f"generator.main.{index + 1}"
            scale = tensors[f"{norm}.weight"] / np.sqrt(
                tensors[f"{norm}.running_var"] + np.float32(_BN_EPSILON)
            )
            shift = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
            kernel = kernel * scale[None, :, None, None]
        x = ops.convolution_backprop_data(
            x, ops.constant(kernel), [stride, stride], None, [pad, pad], [pad, pad], [1, 1]
        )
        if shift is not None:
            x = ops.relu(ops.add(x, ops.constant(shift[None, :, None, None])))
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
        order = _rows(hidden, (1, 0, 2, 3))
        bias = (part["bias_ih"] + part["bias_hh"])[order]
        sequence = ops.lstm_sequence(
            by_clip, *started, ops.constant(lengths), ops.constant(part["weight_ih"][order][None]),
            ops.constant(part["weight_hh"][order][None]), ops.constant(bias[None]),
            hidden, "forward",
        )  # fmt: skip
    else:
        # Ours: reset, update, new. OpenVINO's: update, reset, new, and the state's own bias of
        # the new part apart.
        order = _rows(hidden, (1, 0, 2))
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
        spread = np.sqrt(tensors["motion.bn.running_var"] + np.float32(_BN_EPSILON))
        centred = ops.subtract(x, ops.constant(tensors["motion.bn.running_mean"]))
        codes = ops.divide(centred, ops.constant(spread))
    after = [ops.squeeze(sequence.output(k + 1), 1) for k in range(len(state))]
    return ov.Model([codes, x, *after], [inputs, *state], "motion")


def _rows(hidden: int, gates: tuple[int, ...]) -> NDArray[np.int64]:
    """Indices that put blocks of ``hidden`` rows into another order."""
    return np.concatenate([np.arange(hidden) + gate * hidden for gate in gates])
