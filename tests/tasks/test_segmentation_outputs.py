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

from rvbuild.geo.grid import Grid
from rvbuild.geo.write.rasters import ClassRasterWriter, IdRasterWriter
from rvbuild.progress import Silent
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
