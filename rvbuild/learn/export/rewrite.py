"""An exported graph in operations that engines compute faster: equal values but for the last digits.

* A softmax over channels: onnxruntime transposes images for it. Its definition, element by element, takes a fifth of
  the time; OpenVINO finds the softmax in it again.
* A small map that becomes much larger, as the logits of DeepLab and LR-ASPP do: each pixel is a sum of products with
  constants, so two products of matrices do it, which engines compute fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

_CHANNELS = 1

_SMALL_PX = 64
_MUCH = 4
"""Matrices are faster than interpolation for sides up to the first that become the second as long, or longer."""

Shape = Sequence[int | None]
Nodes = list[onnx.NodeProto]


def rewrite(model: onnx.ModelProto) -> None:
    """Replace what engines compute slowly, in place.

    Parameters
    ----------
    model
        As torch exports it: with the shapes of all values.
    """
    graph = model.graph
    shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.input, *graph.output)}
    nodes: Nodes = []
    for node in graph.node:
        replaced = _REPLACED.get(node.op_type, _as_it_is)(node, shapes)
        if replaced is None:
            nodes.append(node)
            continue
        constants, others = replaced
        graph.initializer.extend(constants)
        nodes.extend(others)
    del graph.node[:]
    graph.node.extend(nodes)
    _remove_unused(graph)


Replaced = tuple[list[onnx.TensorProto], Nodes]


def _as_it_is(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> None:
    return None


def _softmax(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> Replaced | None:
    """Return the definition of a softmax over the channels of maps."""
    shape = shapes.get(node.input[0])
    axis = _attribute(node, "axis", -1)
    if shape is None or len(shape) < 4 or axis != _CHANNELS:
        return None
    values, result = node.input[0], node.output[0]
    axes = numpy_helper.from_array(np.array([axis], dtype=np.int64), f"{result}_axes")
    highest, lower, powers, total = (f"{result}_{name}" for name in ("highest", "lower", "powers", "total"))
    return [axes], [
        helper.make_node("ReduceMax", [values, axes.name], [highest], keepdims=1),
        helper.make_node("Sub", [values, highest], [lower]),
        helper.make_node("Exp", [lower], [powers]),
        helper.make_node("ReduceSum", [powers, axes.name], [total], keepdims=1),
        helper.make_node("Div", [powers, total], [result]),
    ]


def _resize(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> Replaced | None:
    """Return the products of matrices that interpolate a small map to a much larger one."""
    before, after = shapes.get(node.input[0]), shapes.get(node.output[0])
    bilinear = (_attribute(node, "mode", "nearest"), _attribute(node, "coordinate_transformation_mode", "half_pixel"))
    if before is None or after is None or len(before) != 4 or bilinear != ("linear", "half_pixel"):
        return None
    (height, width), (rows, cols) = before[2:], after[2:]
    if None in (height, width, rows, cols) or _attribute(node, "antialias", 0):
        return None
    assert height and width and rows and cols
    if max(height, width) > _SMALL_PX or rows < _MUCH * height or cols < _MUCH * width:
        return None
    result = node.output[0]
    across = numpy_helper.from_array(np.ascontiguousarray(weights(width, cols).T), f"{result}_across")
    down = numpy_helper.from_array(weights(height, rows), f"{result}_down")
    return [across, down], [
        helper.make_node("MatMul", [node.input[0], across.name], [f"{result}_wide"]),
        helper.make_node("MatMul", [down.name, f"{result}_wide"], [result]),
    ]


_REPLACED: Mapping[str, Callable[[onnx.NodeProto, Mapping[str, Shape]], Replaced | None]] = {
    "Softmax": _softmax,
    "Resize": _resize,
}


def weights(size: int, wanted: int) -> np.ndarray:
    """Return the matrix (wanted, size) float32 that interpolates a line of values linearly, as torch does.

    >>> weights(2, 4)
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.  , 1.  ]], dtype=float32)
    """
    places = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    matrix: np.ndarray = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size))).astype(np.float32)
    return matrix


def _shape(value: onnx.ValueInfoProto) -> Shape:
    sizes = value.type.tensor_type.shape.dim
    return [size.dim_value if size.HasField("dim_value") else None for size in sizes]


def _attribute(node: onnx.NodeProto, name: str, default: int | str) -> int | str:
    for attribute in node.attribute:
        if attribute.name == name:
            value = helper.get_attribute_value(attribute)
            return value.decode() if isinstance(value, bytes) else value
    return default


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Remove what only computed the sizes of what has been replaced."""
    while True:
        used = {name for node in graph.node for name in _read(node)} | {value.name for value in graph.output}
        kept = [node for node in graph.node if used & set(node.output)]
        if len(kept) == len(graph.node):
            break
        del graph.node[:]
        graph.node.extend(kept)
    constants = [each for each in graph.initializer if each.name in used]
    if len(constants) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(constants)


def _read(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _read(inner)
