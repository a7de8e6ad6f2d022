"""The exported graph: its interface, its normalisation, and its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn.export import graph
from rvbuild.learn.export.graph import export, with_metadata
from rvbuild.learn.export.inputs import as_input
from rvbuild.learn.model_files import ModelInfo
from rvbuild.learn.normalize import Normalizer

SIDE = 8


def info_of(dtype: str, normalize: dict[str, Any]) -> ModelInfo:
    classes = [{"id": 0, "name": "a"}, {"id": 1, "name": "null"}]
    return ModelInfo("semantic_segmentation", "m", {}, 2, dtype, ["a"], classes, 1, SIDE, normalize)  # type: ignore[arg-type]


class Nothing(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * 2


STANDARD = {"standard": {"mean": [0.4, 0.5], "std": [0.2, 0.3]}}
NORMALIZATIONS = [
    ("uint8", {"kind": "scale", "max": 255, **STANDARD}),
    ("uint8", {"kind": "stats", "mean": [100.0, 90.0], "std": [30.0, 20.0], "max_stds": 3.0}),
    ("uint16", {"kind": "linear", "low": [10.0, 20.0], "high": [900.0, 3000.0], **STANDARD}),
    ("int32", {"kind": "zscore", "mean": [2e9, -2e9], "std": [3.0, 40.0], "max_stds": 3.0}),
    ("float32", {"kind": "zscore", "mean": [0.1, 0.2], "std": [0.5, 0.6], "max_stds": 3.0}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "normalize"), NORMALIZATIONS, ids=lambda value: str(value)[:24])
def test_the_graph_normalises_as_torch_does_and_no_data_become_zero(dtype, normalize, tmp_path):
    info = info_of(dtype, normalize)
    content = export(Nothing(), info, "values", {}, tmp_path)
    random = np.random.default_rng(0)
    means = np.array(normalize.get("mean", [120, 120])).reshape(1, 2, 1, 1)
    images = (means + random.normal(0, 40, (3, 2, SIDE, SIDE))).astype(dtype)
    valid = random.random(images.shape) > 0.2
    if dtype == "float32":
        images[0, 0, 0, :2] = np.nan
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (values,) = session.run(None, {"images": as_input(images, valid)})
    expected = Normalizer(info)(images, valid).numpy() * 2
    assert expected.std() > 0.1
    np.testing.assert_allclose(values, expected, rtol=0, atol=2e-6)
    assert (values[~valid] == 0).all()


@pytest.mark.slow
def test_equal_weights_give_equal_bytes_without_a_trace_of_the_export(tmp_path):
    info = info_of("uint8", {"kind": "scale", "max": 255})

    def made() -> bytes:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU()).eval()
        return export(network, info, "values", {}, tmp_path)

    content = made()
    assert not list(tmp_path.iterdir())
    assert content == made()
    assert b"site-packages" not in content and b"stack_trace" not in content and b"tests" not in content
    model = onnx.load_model_from_string(content)
    assert (model.ir_version, model.producer_name, model.opset_import[0].version) == (9, "rvbuild", 18)
    (image,) = model.graph.input
    shape = [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert (image.name, shape) == ("images", ["batch", 2, SIDE, SIDE])


def test_metadata_are_written_in_the_order_of_their_names():
    node = onnx.helper.make_node("Identity", ["a"], ["b"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "ab"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:1], values[1:]))
    model.metadata_props.add(key="old", value="1")
    content = with_metadata(model.SerializeToString(), {"z": "1", "a": "2"})
    assert [(m.key, m.value) for m in onnx.load_model_from_string(content).metadata_props] == [("a", "2"), ("z", "1")]


def test_what_torch_cannot_export_is_one_message(tmp_path):
    class Depends(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images + 1 if images.sum() > 0 else images

    with pytest.raises(ModelError, match=r'^the model "m" cannot be exported as ONNX: .+'):
        export(Depends(), info_of("uint8", {"kind": "scale", "max": 255}), "values", {}, tmp_path)


@pytest.mark.slow
def test_a_network_for_one_number_of_images_is_refused(tmp_path):
    class Fixed(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * len(images)

    with pytest.raises(ModelError, match=r"it is made for one number of images, perhaps because it uses len\(images\)"):
        export(Fixed(), info_of("uint8", {"kind": "scale", "max": 255}), "values", {}, tmp_path)


@pytest.mark.slow
def test_weights_that_one_file_cannot_hold_lie_in_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 16, 3, bias=False), nn.ReLU(), nn.Conv2d(16, 3, 3, bias=False)).eval()
    weights = sum(weight.nbytes for weight in network.state_dict().values())
    images = np.random.default_rng(0).random((3, 2, SIDE, SIDE), np.float32)
    values = []
    for name, most in (("one", weights + 99), ("two", weights - 1), ("again", weights - 1)):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.setattr(graph, "MOST_BYTES", most)
        content = export(network, info_of("uint8", {"kind": "scale", "max": 255}), "values", {}, folder)
        assert [path.name for path in folder.iterdir()] == (["model.onnx.data"] if name != "one" else [])
        path = folder / "model.onnx"
        path.write_bytes(with_metadata(content, {"a": "1"}))
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        values.append(session.run(None, {"images": images})[0])
    assert (tmp_path / "two/model.onnx.data").stat().st_size == weights
    assert (tmp_path / "one/model.onnx").stat().st_size > weights > (tmp_path / "two/model.onnx").stat().st_size
    for name in ("model.onnx", "model.onnx.data"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert values[0].std() > 0 and (values[0] == values[1]).all()
