from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import fiona
import numpy as np
import pytest
import rasterio
import rasterio.crs

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.geo.write.rasters import ClassRasterWriter, IdRasterWriter, ScoreRasterWriter
from rvbuild.progress import Silent
from rvbuild.rules import predict as predict_rule
from rvbuild.stages import predict
from rvbuild.tasks.segmentation.outputs import derive
from tests.stages.sample_scenes import CLASSES, CRS, TRANSFORM, predict_settings

GRID = Grid(1030, 26, TRANSFORM, rasterio.crs.CRS.from_user_input(CRS))
SPEC = {"class": "car", "format": "gpkg", "min_area_units": 0.0, "simplify_px": 0.0, "denoise_px": 0}


@pytest.fixture
def labels(tmp_path: Path) -> np.ndarray:
    """Write `raw/raw_labels.tif`: trees, one car, and a corner without a prediction; return its pixels."""
    pixels = np.ones((GRID.height, GRID.width), dtype=np.uint8)
    pixels[4:9, 3:11] = 0
    pixels[1000:, 20:] = 255
    (tmp_path / "raw").mkdir()
    (tmp_path / "out").mkdir()
    with IdRasterWriter(tmp_path / "raw/raw_labels.tif", GRID, temp=tmp_path) as file:
        file.write(0, pixels)
    return pixels


def outputs(tmp_path: Path, **settings: Any) -> Path:
    """Derive what `settings` of the predict table ask for."""
    raw = {"raw_labels.tif": tmp_path / "raw/raw_labels.tif"}
    derive(raw, predict_settings(**settings), tmp_path / "out", Silent())
    return tmp_path / "out"


def test_labels_with_styles_unless_more_is_asked_for(tmp_path: Path, labels: np.ndarray) -> None:
    assert {path.name for path in outputs(tmp_path).iterdir()} == {"labels.tif", "labels.qml"}
    more = outputs(tmp_path, scores="uint8")
    assert {path.name for path in more.iterdir()} == {"labels.tif", "labels.qml", "scores.qml"}
    text = (tmp_path / "out/labels.qml").read_text()
    assert 'label="tree"' in text and 'label="null"' not in text, "what is never predicted needs no legend"


def test_labels_are_those_that_were_inferred_in_the_colours_of_the_classes(tmp_path: Path, labels: np.ndarray) -> None:
    with ClassRasterWriter(tmp_path / "at_once.tif", GRID, CLASSES, temp=tmp_path) as file:
        file.write(0, labels)
    path = outputs(tmp_path) / "labels.tif"
    assert path.read_bytes() == (tmp_path / "at_once.tif").read_bytes()
    with rasterio.open(path) as file:
        assert (file.read(1) == labels).all()
        assert file.colormap(1)[0] == (255, 255, 0, 255)
        assert file.tags(1)["class_1"] == "tree"


def test_colours_are_those_of_the_classes(tmp_path: Path, labels: np.ndarray) -> None:
    with rasterio.open(outputs(tmp_path, rgb=True) / "rgb.tif") as file:
        assert (file.transform, file.crs) == (TRANSFORM, CRS)
        colours, known = file.read(), file.dataset_mask()
    assert ((known == 0) == (labels == 255)).all()
    expected = np.array([[255, 255, 0], [0, 255, 0]], dtype=np.uint8)[np.minimum(labels, 1)]
    assert (np.moveaxis(colours, 0, -1)[labels < 2] == expected[labels < 2]).all()


def test_polygons_lie_on_the_pixels(tmp_path: Path, labels: np.ndarray) -> None:
    folder = outputs(tmp_path, vectors=[SPEC, {**SPEC, "format": "geojson"}])
    with fiona.open(folder / "car.gpkg") as file:
        (feature,) = list(file)
        assert fiona.bounds(feature) == (400_001.5, 5_799_995.5, 400_005.5, 5_799_998.0)
    (feature,) = json.loads((folder / "car.geojson").read_text())["features"]
    assert feature["properties"]["class_name"] == "car"


@pytest.mark.slow
def test_deriving_needs_no_torch() -> None:
    code = (
        "import sys, rvbuild.stages.predict\n"
        "import rvbuild.tasks.segmentation.outputs, rvbuild.tasks.classification.outputs\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_files_derived_from_strips_are_those_derived_at_once(tmp_path: Path) -> None:
    grid = Grid(predict_rule.BLOCK_ROWS * 2 + 100, 24, TRANSFORM, rasterio.crs.CRS.from_user_input(CRS))
    random = np.random.default_rng(1)
    pixels = np.kron(random.integers(0, 2, (grid.height // 7 + 1, 4)), np.ones((7, 7))).astype(np.uint8)
    pixels = pixels[: grid.height, : grid.width].copy()
    pixels[:60] = 255
    with IdRasterWriter(tmp_path / "raw_labels.tif", grid, temp=tmp_path) as file:
        file.write(0, pixels)
    with ScoreRasterWriter(tmp_path / "scores.tif", grid, CLASSES[:2], "uint8", temp=tmp_path) as file:
        file.write(0, random.random((2, grid.height, grid.width), dtype=np.float32), pixels != 255)
    vectors = [SPEC, {**SPEC, "file": "s.geojson", "simplify_px": 1.0}, {**SPEC, "class": "tree", "format": "geojson"}]
    settings = predict_settings(rgb=True, scores="uint8", vectors=vectors)
    inputs = {"raw": [tmp_path / "raw_labels.tif"], "scores": [tmp_path / "scores.tif"]}
    rows = [[0, 4096], [4096, 8192], [8192, grid.height]]
    strips = {}
    for number, of_strip in enumerate(rows):
        folder = tmp_path / f"strip{number}"
        folder.mkdir()
        predict.run_strip(inputs, {**settings, "rows": of_strip}, folder, Silent())
        strips[f"strips/{number}"] = sorted(folder.iterdir())

    def files(name: str, run: Any, inputs: dict[str, list[Path]], settings: Any) -> dict[str, bytes]:
        (tmp_path / name).mkdir()
        run(inputs, settings, tmp_path / name, Silent())
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    once = files("once", predict.run, inputs, settings)
    cut = {**settings, "strips": {"rows": rows}}
    assert files("joined", predict.run_join, {**inputs, **strips}, cut) == once
    assert {"labels.tif", "rgb.tif", "car.gpkg", "tree.geojson", "s.geojson"} <= set(once)
    del strips["strips/1"]
    assert files("incomplete", predict.run_join, {**inputs, **strips}, cut) == once, "at once, if a strip is not there"
    with pytest.raises(DataError, match="expected at least 8300 rows, as when the strips were planned; found 8292"):
        predict.run_strip(inputs, {**settings, "rows": [4096, 8300]}, tmp_path / "strip0", Silent())
