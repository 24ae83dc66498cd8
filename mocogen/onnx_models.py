"""The two networks as ONNX models, built from a checkpoint's tensors without torch.

The operators are those of ONNX's own set, so that any runtime can take them; the recurrent
ones compute what :mod:`mocogen.layers` does by hand, with the gates in another order. The
numbers of frames and clips are free: one model serves every block.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .backends import Tensors
from .files import atomic_path
from .mapping import ContentMapping
from .onnx_format import FLOAT, INT64, UINT8, Graph
from .spec import ModelSpec
from .weights import Layer, gate_rows, generator_layers, motion_spread

OPSET = 17
"""Version of the operators: that of ONNX 1.12 (2022)."""


def write(target: Path, spec: ModelSpec, tensors: Tensors) -> list[Path]:
    """Write both networks of a checkpoint, each file whole or not at all.

    Args:
        target: a name that ends in .onnx; the files have "-motion" and "-generator" before that.

    Returns:
        The files.

    Raises:
        MocogenError: a file cannot be written.
    """
    models = {"motion": motion(spec, tensors), "generator": generator(spec, tensors, mapped=True)}
    paths = []
    for name, model in models.items():
        path = target.with_name(f"{target.stem}-{name}{target.suffix}")
        with atomic_path(path) as temporary:
            temporary.write_bytes(model)
        paths.append(path)
    return paths


def generator(
    spec: ModelSpec, tensors: Tensors, split: bool = False, mapped: bool = False
) -> bytes:
    """``latents``, float32 (images, input), to ``frames``, uint8 (images, height, width, 3).

    The input's parts stand in the order of the spec's ``latent_order``.

    Args:
        split: write the two layers of most channels as plain convolutions: the same sums, in
            less time with ONNX Runtime on a CPU (``benchmarks/backends.py``).
        mapped: begin with the content mapping, where the checkpoint has one, so that contents
            are wanted as they are drawn; else mocogen has mapped them.
    """
    graph = Graph("generator")
    inputs = spec.content + spec.motion + spec.generator_categories
    latents = graph.input("latents", FLOAT, ["images", inputs])
    mapping = ContentMapping.of(spec, tensors) if mapped else None
    if mapping is not None:
        latents = _mapped(graph, latents, spec, mapping)
    x = graph.node("Unsqueeze", latents, graph.constant(np.array([2, 3])))
    for index, layer in enumerate(generator_layers(tensors)):
        doubled = _split if split and index in (1, 2) else _transposed
        x = doubled(graph, x, layer)
        x = graph.node("Tanh" if layer.shift is None else "Relu", x)
    low, high = spec.pixel_range
    x = graph.node("Sub", x, graph.constant(np.float32(low)))
    x = graph.node("Mul", x, graph.constant(np.float32(255.0 / (high - low))))
    black, white = (graph.constant(np.float32(level)) for level in (0, 255))
    x = graph.node("Round", graph.node("Clip", x, black, white))
    x = graph.node("Transpose", x, perm=[0, 2, 3, 1])
    graph.node("Cast", x, outputs=["frames"], to=UINT8)
    graph.output("frames", UINT8, ["images", spec.image_size, spec.image_size, 3])
    return graph.model(OPSET, {"mocogen": spec.to_json()})


def _mapped(graph: Graph, latents: str, spec: ModelSpec, mapping: ContentMapping) -> str:
    """Latents whose content has passed through the mapping.

    The regions' rows stand where the content stands among the latents, zeros where the other
    parts do, so that nothing need be taken apart.
    """
    rows = []
    for part in spec.latent_order:
        sizes = {"motion": spec.motion, "category": spec.generator_categories}
        empty = np.zeros((spec.regions, sizes.get(part, 0)), np.float32)
        rows.append(mapping.regions if part == "content" else empty)
    regions = np.concatenate(rows, axis=1)
    projections = graph.node("MatMul", latents, graph.constant(regions.T))
    sharpened = graph.node("Div", projections, graph.constant(np.float32(mapping.blend)))
    shares = graph.node("Softmax", sharpened, axis=1)
    pushes = graph.node("MatMul", shares, graph.constant(regions * np.float32(mapping.push)))
    return graph.node("Add", latents, pushes)


def _transposed(graph: Graph, x: str, layer: Layer) -> str:
    """The layer as ONNX's transposed convolution."""
    arrays = [layer.kernel] if layer.shift is None else [layer.kernel, layer.shift]
    constants = [graph.constant(array) for array in arrays]
    stride, pad = [layer.stride] * 2, [layer.pad] * 4
    return graph.node("ConvTranspose", x, *constants, strides=stride, pads=pad)


def _split(graph: Graph, x: str, layer: Layer) -> str:
    """A layer that doubles the size as four convolutions: one for the pixels in even rows and
    columns of the output, one for even rows and odd columns, and so on.

    Each sees two of the kernel's four rows: output row ``r`` is made of kernel rows ``k`` and
    input rows ``i`` with ``r = 2 i - 1 + k``.
    """
    assert layer.shift is not None
    shift = graph.constant(layer.shift)
    kernel = layer.kernel.swapaxes(0, 1)
    parts = [
        graph.node(
            "Conv",
            x,
            graph.constant(kernel[:, :, 3 - row :: -2, 3 - column :: -2]),
            shift,
            pads=[1 - row, 1 - column, row, column],
        )
        for row in (0, 1)
        for column in (0, 1)
    ]
    return graph.node("DepthToSpace", graph.node("Concat", *parts, axis=1), blocksize=2)


def motion(spec: ModelSpec, tensors: Tensors) -> bytes:
    """The motion network, with a state that is carried from call to call.

    Inputs: ``noise``, float32 (frames, clips, noise); ``category``, int64 (clips,), where the
    network has actions; the state ``h`` (and ``c`` of an LSTM), float32 (clips, hidden).

    Outputs: ``codes``, float32 (frames, clips, motion); ``raw``, the same ahead of the batch
    norm, which is the next input in the noise mode "feedback"; the state after the last frame,
    ``h_after`` (and ``c_after``).
    """
    graph = Graph("motion")
    part = {k.removeprefix(f"motion.{spec.cell}."): v for k, v in tensors.items()}
    state = ["h", "c"] if spec.cell == "lstm" else ["h"]
    inputs = x = graph.input("noise", FLOAT, ["frames", "clips", spec.noise])
    if spec.motion_categories:
        category = graph.input("category", INT64, ["clips"])
        rows = graph.constant(np.eye(spec.motion_categories, dtype=np.float32))
        one_hot = graph.node("Gather", rows, category)
        frames = graph.node("Shape", inputs, start=0, end=1)
        wide = graph.node("Concat", frames, graph.constant(np.array([1, 1])), axis=0)
        x = graph.node("Concat", inputs, graph.node("Expand", one_hot, wide), axis=2)

    # Ours: input, forget, cell, output, and reset, update, new. ONNX's: input, output, forget,
    # cell, and update, reset, new; and an axis for the direction.
    order = gate_rows(spec.hidden, (0, 3, 1, 2) if spec.cell == "lstm" else (1, 0, 2))
    biases = np.concatenate([part["bias_ih"][order], part["bias_hh"][order]])
    weights = [part["weight_ih"][order], part["weight_hh"][order], biases]
    direction = graph.constant(np.array([0]))
    for name in state:
        graph.input(name, FLOAT, ["clips", spec.hidden])
    graph.node(
        spec.cell.upper(),
        x,
        *(graph.constant(array[None]) for array in weights),
        "",  # every sequence has its full length
        *(graph.node("Unsqueeze", name, direction) for name in state),
        outputs=["hidden", *(f"{name}_last" for name in state)],
        hidden_size=spec.hidden,
        **({} if spec.cell == "lstm" else {"linear_before_reset": 1}),
    )
    x = graph.node("Squeeze", "hidden", graph.constant(np.array([1])))
    if spec.head:
        x = graph.node("MatMul", x, graph.constant(tensors["motion.linear.weight"].T))
        x = graph.node("Add", x, graph.constant(tensors["motion.linear.bias"]))
        centred = graph.node("Sub", x, graph.constant(tensors["motion.bn.running_mean"]))
        spread = graph.constant(motion_spread(tensors["motion.bn.running_var"]))
        graph.node("Div", centred, spread, outputs=["codes"])
    else:
        graph.node("Identity", x, outputs=["codes"])
    graph.node("Identity", x, outputs=["raw"])
    for name in ("codes", "raw"):
        graph.output(name, FLOAT, ["frames", "clips", spec.motion if spec.head else spec.hidden])
    for name in state:
        graph.node("Squeeze", f"{name}_last", direction, outputs=[f"{name}_after"])
        graph.output(f"{name}_after", FLOAT, ["clips", spec.hidden])
    return graph.model(OPSET, {"mocogen": spec.to_json()})
