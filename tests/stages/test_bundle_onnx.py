"""Bundles with ONNX: their members, the same predictions by onnxruntime, and files of strangers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import rasterio
import safetensors.numpy
import torch

from rvbuild.errors import DataError, ModelError
from rvbuild.learn import models
from rvbuild.learn.checkpoint import save_model
from rvbuild.learn.model_files import ModelInfo, read_info, write_info
from rvbuild.progress import Silent
from rvbuild.stages import predictor
from rvbuild.stages.bundle import portable
from rvbuild.stages.bundle.card import _metrics
from rvbuild.stages.bundle.jobs import open_once
from rvbuild.stages.engines import exporting
from tests.stages.sample_bundles import CODE, LOG, MEMBERS, PORTABLE, contents, pack, predict_images, rewrite, with_code
from tests.stages.sample_scenes import CLASSES, NULL, empty, image_array, predict_settings, write_model, write_raster

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

EXTRAS = ["README.md", "model.onnx", "model.stac.json", "selftest.safetensors"]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_what_is_in_it(bundle: Path) -> None:
    members = contents(bundle)
    assert sorted(members) == sorted([*MEMBERS, *EXTRAS])
    assert "onnx" not in json.loads(members["project.json"])
    model = onnx.load_model_from_string(members["model.onnx"])
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata.pop("rvbuild")["largest_difference"] <= 1e-5
    assert metadata == {
        "model_type": "Segmentor",
        "class_names": {"0": "car", "1": "tree"},
        "tiles_size": 16,
        "tiles_overlap": 50,
        "standardization_mean": [0.0] * 3,
        "standardization_std": [1.0] * 3,
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }
    selftest = safetensors.numpy.load(members["selftest.safetensors"])
    assert selftest["images"].shape == (1, 3, 16, 16) and selftest["images"].dtype == np.uint8
    assert set(np.unique(selftest["expected.classes"])) <= {0, 1, 255}


def test_the_stac_item_is_valid_and_fits_the_graph(bundle: Path) -> None:
    schema = pytest.importorskip("stac_model.schema")
    members = contents(bundle)
    item = json.loads(members["model.stac.json"])
    properties = schema.MLModelProperties.model_validate(item["properties"])
    assert "https://stac-extensions.github.io/mlm/v1.5.0/schema.json" in item["stac_extensions"]
    session = onnxruntime.InferenceSession(members["model.onnx"], providers=["CPUExecutionProvider"])
    (image,), (output,) = properties.input, properties.output
    assert (image.name, image.input.shape) == (session.get_inputs()[0].name, [-1, *session.get_inputs()[0].shape[1:]])
    assert (output.name, output.result.shape) == (
        session.get_outputs()[0].name,
        [-1, *session.get_outputs()[0].shape[1:]],
    )
    assert [entry.to_dict()["name"] for entry in output.classes] == ["car", "tree"]
    asset = item["assets"]["model"]
    assert asset["file:checksum"] == "1220" + hashlib.sha256(members["model.onnx"]).hexdigest()
    assert asset["file:size"] == len(members["model.onnx"]) and "mlm:model" in asset["roles"]


def test_the_card_tells_data_metrics_licence_and_limits(bundle: Path) -> None:
    text = contents(bundle)["README.md"].decode()
    assert "| 0 | 0 | car | `#ffff00` |" in text and "| (null) | 2 | null | `#000000` |" in text
    assert "- train scenes: 3" in text and "- validation scenes: 1" in text
    assert "The weights are those of epoch 1, the best of 2 by mean_iou." in text
    assert "| iou of car | 0.5 |" in text and "| mean_iou | 0.5 |" in text
    assert "torchvision publishes" in text and "## Limits" in text


def test_the_card_tells_that_weights_are_averages() -> None:
    assert not any("average" in line for line in _metrics(LOG, PORTABLE))
    assert list(_metrics(LOG, {**PORTABLE, "ema": 0.999}))[1] == (
        "They are the exponential moving average of the weights of all steps until then (decay 0.999)."
    )


def test_equal_inputs_give_equal_bytes(bundle: Path, tmp_path: Path) -> None:
    again = pack(empty(tmp_path / "again"), write_model(tmp_path / "model"), onnx=True)
    assert again.read_bytes() == bundle.read_bytes()


def test_both_engines_write_the_same_files(bundle: Path, tmp_path: Path) -> None:
    image = image_array(70, 90)
    image[:, 20:40, 30:60] = 0
    scene = write_raster(tmp_path / "scene.tif", image, nodata=0)
    for engine in ("torch", "onnxruntime"):
        predict_images(bundle, [scene], tmp_path / engine, engine=engine)
    one, other = (tmp_path / engine / "scene" for engine in ("torch", "onnxruntime"))
    assert sorted(digests(one)) == sorted(digests(other))
    with rasterio.open(one / "labels.tif") as first, rasterio.open(other / "labels.tif") as second:
        labels, again = first.read(1), second.read(1)
    assert set(np.unique(labels)) == {0, 1, 255}
    assert np.count_nonzero(labels != again) <= labels.size / 10_000


CELLS = image_array(16 * 8, 16).reshape(3, 8, 16, 16).swapaxes(0, 1)


def _classifier(folder: Path) -> list[Path]:
    """Write a classifier of chips with random weights."""
    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.build("chip_classification", "cnn", bands=3, outputs=2, args={"width": 4, "depth": 2}).eval()
        with torch.no_grad():
            model.head.weight *= 50  # type: ignore[operator, union-attr]
            model.head.bias -= model(torch.from_numpy(CELLS / np.float32(255))).median(dim=0).values  # type: ignore[operator, union-attr]
    names = [{"id": item["id"], "name": item["name"]} for item in CLASSES]
    info = ModelInfo("chip_classification", "cnn", {"width": 4, "depth": 2}, 3, "uint8", ["car", "tree"], names, NULL,
                     16, {"kind": "scale", "max": 255})  # type: ignore[arg-type]  # fmt: skip
    save_model(folder, model.state_dict(), info)
    return [folder / "model.safetensors", folder / "model.json"]


def test_cells_are_classified_alike(tmp_path: Path) -> None:
    weights, description = _classifier(tmp_path / "model")
    settings: Any = {**predict_settings(cell_px=16, cells="geojson"), "task": "chip_classification", "onnx": PORTABLE}
    stats: Any = {"bands": [], "dtype": "uint8"}
    made = portable.portable(weights, description, stats, settings, None, weights.parent)
    assert made.onnx == weights.with_name("model.onnx")
    scores = [
        predictor.load_predictor(weights, description, "cpu", engine=engine)(CELLS, None)
        for engine in ("torch", "onnxruntime")
    ]
    assert set(scores[0].argmax(axis=1)) == {0, 1}
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-5)


def test_a_network_that_predicts_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, description = write_model(tmp_path / "model")
    export = exporting.export

    def spoiled(*arguments: Any) -> bytes:
        model = onnx.load_model_from_string(export(*arguments))
        (kernel,) = [t for t in model.graph.initializer if t.name.endswith("head.weight")]
        values = onnx.numpy_helper.to_array(kernel)
        kernel.raw_data = (-values).tobytes()
        return bytes(model.SerializeToString())

    monkeypatch.setattr(exporting, "export", spoiled)
    settings: Any = predict_settings()
    with pytest.raises(
        ModelError,
        match=r'^bundle.onnx: the model "unet" predicts something else in onnxruntime than in torch: [1-9]\d* of \d+ c',
    ):
        portable.portable(weights, description, {"bands": [], "dtype": "uint8"}, settings, None, tmp_path)


def test_code_of_the_model_is_not_needed(tmp_path: Path) -> None:
    path = pack(tmp_path, with_code(tmp_path / "model", {"nets.small": CODE}), onnx=True)
    scene = write_raster(tmp_path / "scene.tif", image_array(20, 20))
    with pytest.raises(ModelError, match="--allow-code"):
        predict_images(path, [scene], tmp_path / "out")
    predict_images(path, [scene], tmp_path / "out", engine="onnxruntime")
    assert (tmp_path / "out/scene/labels.tif").is_file()


def test_a_bundle_without_onnx_says_what_to_do(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = write_raster(tmp_path / "scene.tif", image_array(20, 20))
    with pytest.raises(ModelError, match=rf"{packed}: onnxruntime was requested, and there is no model as ONNX\. Make"):
        predict_images(packed, [scene], tmp_path / "out", engine="onnxruntime")
    monkeypatch.setattr(predictor, "has_torch", lambda: False)
    with pytest.raises(ModelError, match=r"torch is not installed, and there is no model as ONNX"):
        predict_images(packed, [scene], tmp_path / "out")
    with pytest.raises(ModelError, match=r"torch is not installed: pip install rvbuild"):
        predict_images(packed, [scene], tmp_path / "out", engine="torch")


def test_what_is_not_installed_is_said_once_when_a_bundle_is_opened(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "has_torch", lambda: False)
    for engine, message in (("torch", "torch is not installed: pip"), ("auto", "torch is not .* no model as ONNX")):
        (tmp_path / engine).mkdir()
        with pytest.raises(ModelError, match=f"^crowns-model: {message}"):
            open_once(packed, Path("crowns-model"), tmp_path / engine, False, engine, Silent())  # type: ignore[arg-type]


SPOILED = [
    (
        lambda m: m.graph.input[0].type.tensor_type.shape.dim[1].__setattr__("dim_value", 4),
        "expected the input",
    ),
    (lambda m: m.metadata_props.__delitem__(slice(None)), 'no entry "rvbuild"'),
    (lambda m: m.graph.output[0].__setattr__("name", "nothing"), "onnxruntime cannot open it"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILED, ids=["bands", "metadata", "output"])
def test_a_network_of_strangers_is_refused(bundle: Path, tmp_path: Path, spoil: Any, message: str) -> None:
    members = contents(bundle)
    model = onnx.load_model_from_string(members["model.onnx"])
    spoil(model)
    path = rewrite(bundle, {**members, "model.onnx": model.SerializeToString()})
    scene = write_raster(tmp_path / "scene.tif", image_array(20, 20))
    with pytest.raises((DataError, ModelError), match=message):
        predict_images(path, [scene], tmp_path / "out", engine="onnxruntime")


def test_a_network_for_other_images_is_refused(bundle: Path, tmp_path: Path) -> None:
    weights, description = write_model(tmp_path / "other", chip_px=16)
    write_info(description, replace(read_info(description), chip_px=32))
    weights.with_name("model.onnx").write_bytes(contents(bundle)["model.onnx"])
    with pytest.raises(DataError, match=r"expected the input \('images', 'float32', \[3, 32, 32\]\)"):
        predictor.load_predictor(weights, description, "cpu", engine="onnxruntime")


def test_tensors_outside_of_the_file_are_not_read(bundle: Path, tmp_path: Path) -> None:
    model = onnx.load_model_from_string(contents(bundle)["model.onnx"])
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    path = rewrite(bundle, {**contents(bundle), "model.onnx": model.SerializeToString()})
    scene = write_raster(tmp_path / "scene.tif", image_array(20, 20))
    with pytest.raises(ModelError, match=r"onnxruntime cannot open it: .*External data path"):
        predict_images(path, [scene], tmp_path / "out", engine="onnxruntime")
