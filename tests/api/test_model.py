"""Models: arrays in, arrays out; files in, files out. Both are what the stages predict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

import rvbuild


def test_an_array_gives_the_classes_that_the_stage_wrote(built: Callable[[str], Path]) -> None:
    project = rvbuild.open(built("segmentation"))
    image, valid = project.scenes["c"].read()
    prediction = project.model().predict(image, valid)
    with rasterio.open(project.workspace / "cache/p/predict/c/labels.tif") as file:
        assert np.array_equal(prediction.class_ids, file.read(1))
    assert prediction.scores is not None and prediction.scores.dtype == np.float32
    assert np.allclose(prediction.scores.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(prediction.scores.argmax(axis=0), prediction.class_ids)
    assert prediction.boxes is None and prediction.cell_px is None
    assert project.model().predict(image, scores=False).scores is None


def test_pixels_without_data_are_not_predicted(built: Callable[[str], Path]) -> None:
    project = rvbuild.open(built("segmentation"))
    image, _ = project.scenes["c"].read((0, 0, 40, 50))
    valid = np.ones((40, 50), dtype=bool)
    valid[:10] = False
    prediction = rvbuild.load_model(project.workspace / "cache/p/bundle/p.zip").predict(image, valid)
    assert (prediction.class_ids[:10] == 255).all() and (prediction.class_ids[10:] < 2).all()
    assert np.isnan(prediction.scores[:, :10]).all()


def test_an_array_gives_the_cells_that_the_stage_wrote(built: Callable[[str], Path]) -> None:
    project = rvbuild.open(built("cells"))
    image, valid = project.scenes["c"].read()
    prediction = project.model().predict(image, valid)
    cells = json.loads((project.workspace / "cache/p/predict/c/cells.json").read_text())["cells"]
    assert prediction.cell_px == 15 and prediction.class_ids.shape == (5, 5) and len(cells) == 25
    for row, column, *scores in cells:
        assert np.allclose(prediction.scores[:, row, column], scores)


def test_an_array_gives_the_boxes_that_the_stage_wrote(built: Callable[[str], Path]) -> None:
    path = built("boxes")
    with pytest.raises(rvbuild.UsageError, match="the model needs Python of the workspace, detector"):
        rvbuild.open(path).model()
    project = rvbuild.open(path, trust=True)
    image, valid = project.scenes["c"].read()
    prediction = project.model().predict(image, valid)
    features = json.loads((project.workspace / "cache/p/predict/c/boxes.geojson").read_text())["features"]
    assert len(prediction.boxes) == len(prediction.class_ids) == len(features)
    expected = [feature["properties"]["score"] for feature in features]
    assert np.allclose(prediction.scores, expected) and prediction.boxes.shape == (len(features), 4)


@pytest.mark.parametrize("task", ["segmentation", "cells"])
def test_files_give_the_files_of_the_command(built: Callable[[str], Path], tmp_path: Path, task: str) -> None:
    project = rvbuild.open(built(task))
    lines: list[str] = []
    model = rvbuild.load_model(project.workspace / "cache/p/bundle/p.zip", device="cpu")
    (folder,) = model.predict(project.workspace / "data/c.tif", out=tmp_path / "out", progress=lines.append)
    shown = project.workspace / "cache/p/predict/c"
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in shown.iterdir() if not path.name.startswith("raw_"))
    assert all((folder / name).read_bytes() == (shown / name).read_bytes() for name in names)
    assert any("c.tif" in line for line in lines)
    assert project.model().predict([project.workspace / "data/a.tif"], out=tmp_path / "out") == [tmp_path / "out/a"]


def test_code_in_a_bundle_needs_permission(built: Callable[[str], Path]) -> None:
    bundle = built("boxes").parent.parent / "cache/p/bundle/p.zip"
    with pytest.raises(rvbuild.ModelError, match="Python code that comes with the bundle"):
        rvbuild.load_model(bundle)
    assert rvbuild.load_model(bundle, allow_code=True).outputs == ("building",)


def test_what_does_not_fit_is_refused(built: Callable[[str], Path], tmp_path: Path) -> None:
    project = rvbuild.open(built("segmentation"))
    model = project.model()
    for image in (np.zeros((2, 32, 32), np.uint8), np.zeros((3, 32, 32), np.float32), np.zeros((32, 32), np.uint8)):
        with pytest.raises(rvbuild.DataError, match=r"expected an array .* with 3 bands of type uint8"):
            model.predict(image)
    image = np.zeros((3, 32, 32), np.uint8)
    with pytest.raises(rvbuild.DataError, match="expected a mask of booleans"):
        model.predict(image, np.ones((16, 16), dtype=bool))
    with pytest.raises(TypeError, match="out"):
        model.predict("image.tif")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="out"):
        model.predict(image, out=tmp_path)  # type: ignore[call-overload]
    with pytest.raises(rvbuild.DataError, match="no such file"):
        rvbuild.load_model(tmp_path / "nowhere.zip")
    bundle = project.workspace / "cache/p/bundle/p.zip"
    with pytest.raises(
        rvbuild.UsageError, match="engine: expected one of auto, torch, onnxruntime, openvino; found 't"
    ):
        rvbuild.load_model(bundle, engine="tflite")  # type: ignore[arg-type]
    with pytest.raises(rvbuild.ModelError, match=r"p\.zip: onnxruntime was requested, and there is no model as ONNX"):
        rvbuild.load_model(bundle, engine="onnxruntime")


def test_a_model_that_is_not_trained_yet_says_how_to_get_it(fresh: Path) -> None:
    with pytest.raises(rvbuild.UsageError, match=r'project\.build\("train"\)'):
        rvbuild.open(fresh).model()
    with pytest.raises(rvbuild.UsageError, match=r'project\.build\("eval"\)'):
        rvbuild.open(fresh).evaluation()
