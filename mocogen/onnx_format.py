"""ONNX's file format: just enough of it to write a model.

An ONNX file is a protocol buffer: fields of a number, a kind and a value, one after the other,
where a value may be a message of fields again (https://protobuf.dev/programming-guides/encoding,
field numbers from onnx/onnx.proto, which promises to keep them). Written here because importing
the ``onnx`` package takes longer than everything else that sampling a clip with ONNX Runtime
needs; the tests hold what is written against that package's checker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT, UINT8, INT64 = 1, 2, 7
"""Numbers of the element types (``TensorProto.DataType``)."""

_IR_VERSION = 8
_TYPES = {np.dtype(np.float32): FLOAT, np.dtype(np.uint8): UINT8, np.dtype(np.int64): INT64}
_INT, _INTS = 2, 7  # kinds of attributes

Axes = Sequence[int | str]
"""Length of every axis of an input or output, or a name where the length is free."""

Pieces = list[bytes | memoryview]
"""A message as pieces that are joined at the very end: weights are megabytes, and a message
stands in a message in a message."""


class Graph:
    """Collects nodes, constants, inputs and outputs in the order in which they are added."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[Pieces] = []
        self._constants: list[Pieces] = []
        self._inputs: list[Pieces] = []
        self._outputs: list[Pieces] = []

    def input(self, name: str, kind: int, axes: Axes) -> str:
        """Add an input of an element type, and give its name."""
        self._inputs.append(_value(name, kind, axes))
        return name

    def output(self, name: str, kind: int, axes: Axes) -> None:
        """Make a node's output an output of the graph."""
        self._outputs.append(_value(name, kind, axes))

    def constant(self, array: NDArray[Any] | np.generic) -> str:
        """Add a float32, uint8 or int64 array, and give its name."""
        name = f"constant_{len(self._constants)}"
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        self._constants.append(
            [
                *(_number(1, length) for length in array.shape),
                _number(2, _TYPES[array.dtype]),
                _text(8, name),
                *_message(9, [little.reshape(-1).view(np.uint8).data]),
            ]
        )
        return name

    def node(
        self,
        kind: str,
        *inputs: str,
        outputs: Sequence[str] = (),
        **options: int | Sequence[int],
    ) -> str:
        """Add an operator, and give its first output's name.

        Args:
            kind: the operator's name in ONNX's own set.
            inputs: names, "" for an optional one that is left out.
            outputs: names for the outputs; one of its own making when left out.
            options: the operator's attributes.
        """
        outputs = outputs or (f"{kind}_{len(self._nodes)}",)
        self._nodes.append(
            [
                *(_text(1, name) for name in inputs),
                *(_text(2, name) for name in outputs),
                _text(3, f"{kind}_{len(self._nodes)}"),
                _text(4, kind),
                *(piece for option in options.items() for piece in _attribute(*option)),
            ]
        )
        return outputs[0]

    def model(self, opset: int, metadata: Mapping[str, str]) -> bytes:
        """The whole model, as it stands in a file.

        Args:
            opset: version of ONNX's own set of operators.
            metadata: names and texts that travel with the model.
        """
        parts = {1: self._nodes, 5: self._constants, 11: self._inputs, 12: self._outputs}
        graph: Pieces = [_text(2, self._name)]
        for field, messages in parts.items():
            for message in messages:
                graph += _message(field, message)
        pieces = [
            _number(1, _IR_VERSION),
            _text(2, "mocogen"),
            *_message(7, graph),
            *_message(8, [_text(1, ""), _number(2, opset)]),
        ]
        for key, value in metadata.items():
            pieces += _message(14, [_text(1, key), _text(2, value)])
        return b"".join(pieces)


def _value(name: str, kind: int, axes: Axes) -> Pieces:
    shape: Pieces = []
    for axis in axes:
        shape += _message(1, [_number(1, axis) if isinstance(axis, int) else _text(2, axis)])
    return [_text(1, name), *_message(2, _message(1, [_number(1, kind), *_message(2, shape)]))]


def _attribute(name: str, value: int | Sequence[int]) -> Pieces:
    if isinstance(value, int):
        return _message(5, [_text(1, name), _number(3, value), _number(20, _INT)])
    numbers = (_number(8, one) for one in value)
    return _message(5, [_text(1, name), *numbers, _number(20, _INTS)])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return b"".join(_message(field, [value.encode()]))


def _message(field: int, pieces: Pieces) -> Pieces:
    return [_varint(field << 3 | 2) + _varint(sum(map(len, pieces))), *pieces]


def _varint(value: int) -> bytes:
    """A whole number from 0 in groups of seven bits, the lowest first."""
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])
