"""Exported graphs in operations that engines compute faster: the same values, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from rvbuild.learn.export.rewrite import rewrite, weights


def graph_of(nodes: list[onnx.NodeProto], shapes: dict[str, list[int | str]], constants: list[onnx.TensorProto]):
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    inner = [value for name, value in values.items() if name not in ("x", "y")]
    graph = helper.make_graph(nodes, "g", [values["x"]], [values["y"]], constants, value_info=inner)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def computed(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    return y


def resizing(size: tuple[int, int], wanted: tuple[int, int], **attributes: object) -> onnx.ModelProto:
    """Return a graph that resizes maps to sizes that are computed, as torch exports them."""
    constants = [numpy_helper.from_array(np.array([5, *wanted], dtype=np.int64), "others")]
    nodes = [
        helper.make_node("Shape", ["x"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "others"], ["sizes"], axis=0),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **{"mode": "linear", **attributes}),
    ]
    return graph_of(nodes, {"x": ["batch", 5, *size], "y": ["batch", 5, *wanted]}, constants)


def operations(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(("size", "wanted"), [((8, 8), (64, 64)), ((1, 3), (4, 17)), ((9, 5), (36, 20))])
def test_a_small_map_that_becomes_much_larger_is_a_product_with_the_weights_of_torch(size, wanted):
    x = np.random.default_rng(0).normal(size=(2, 5, *size)).astype(np.float32)
    model = resizing(size, wanted)
    before = computed(model, x)
    rewrite(model)
    assert operations(model) == ["MatMul", "MatMul"]
    assert {constant.name for constant in model.graph.initializer} == {"y_across", "y_down"}
    after = computed(model, x)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)
    of_torch = functional.interpolate(torch.from_numpy(x), size=wanted, mode="bilinear", align_corners=False).numpy()
    np.testing.assert_allclose(after, of_torch, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "wanted", "attributes"),
    [
        ((8, 8), (16, 16), {}),
        ((8, 8), (64, 16), {}),
        ((128, 128), (512, 512), {}),
        ((8, 8), (64, 64), {"mode": "nearest"}),
        ((8, 8), (64, 64), {"coordinate_transformation_mode": "align_corners"}),
    ],
)
def test_other_resizing_stays(size, wanted, attributes):
    model = resizing(size, wanted, **attributes)
    before = model.SerializeToString(deterministic=True)
    rewrite(model)
    assert model.SerializeToString(deterministic=True) == before


def softmax(shape: list[int | str], axis: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Softmax", ["x"], ["y"], axis=axis)]
    return graph_of(nodes, {"x": shape, "y": shape}, [])


def test_a_softmax_over_channels_is_its_definition():
    x = np.random.default_rng(0).normal(scale=50, size=(2, 7, 6, 5)).astype(np.float32)
    model = softmax(["batch", 7, 6, 5], 1)
    before = computed(model, x)
    rewrite(model)
    assert "Softmax" not in operations(model)
    np.testing.assert_allclose(computed(model, x), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("shape", "axis"), [(["batch", 7], 1), (["batch", 3, 4, 5], 3), (["batch", 3, 4, 5], -1)])
def test_other_softmaxes_stay(shape, axis):
    model = softmax(shape, axis)
    rewrite(model)
    assert operations(model) == ["Softmax"]


@pytest.mark.parametrize(("size", "wanted"), [(2, 9), (7, 28), (1, 4)])
def test_weights_of_a_line_sum_to_one(size, wanted):
    assert weights(size, wanted).shape == (wanted, size)
    np.testing.assert_allclose(weights(size, wanted).sum(axis=1), 1)
