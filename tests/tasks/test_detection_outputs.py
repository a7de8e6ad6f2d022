from __future__ import annotations

import json
from pathlib import Path

import fiona
import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform_geom

from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import Window
from rvbuild.progress import Silent
from rvbuild.tasks.detection import task as task
from rvbuild.tasks.detection.candidates import Detected

CLASSES = [
    {"id": 0, "name": "null", "color": "#000000"},
    {"id": 1, "name": "tree", "color": "#00ff00"},
    {"id": 2, "name": "car", "color": "#000001"},
]
IMAGE = Grid(100, 200, Affine(0.5, 0, 500_000, 0, -0.5, 5_800_000), CRS.from_epsg(32633))


def derived(folder: Path, grid: Grid, form: str = "geojson", score_thresh: float = 0.5) -> Path:
    settings = {"classes": CLASSES, "null_id": 0, "predict": {}}
    merger = task.merger(grid, folder, settings)
    boxes = np.array([[3.5, 2, 9.25, 8], [20, 10, 30, 20], [1, 1, 4, 4]], dtype=np.float32)
    detections = Detected(boxes, np.array([0.9, 0.75, 0.25], dtype=np.float32), np.array([0, 1, 0]))
    merger.add(Window(0, 0, 40, 40), detections, np.ones((40, 40), dtype=bool))
    merger.finish()
    settings["predict"] = {"boxes": form, "score_thresh": score_thresh, "merge_thresh": 0.5}
    outputs = folder / form
    outputs.mkdir()
    task.derive({name: folder / name for name in task.RAW}, settings, outputs, Silent())
    return outputs


def test_boxes_of_a_part_of_an_image_lie_where_that_part_lies(tmp_path: Path) -> None:
    # Raster Vision writes the boxes of a raster with `bbox` without its offset, and all vectors half a pixel away.
    part = Grid(40, 60, IMAGE.transform_at(10, 20), IMAGE.crs)
    outputs = derived(tmp_path, part)
    tree, car = json.loads((outputs / "boxes.geojson").read_text())["features"]
    assert tree["properties"] == {"class_id": 1, "class_name": "tree", "score": 0.9}
    assert car["properties"]["class_name"] == "car"
    xs, ys = zip(*transform_geom("EPSG:4326", "EPSG:32633", tree["geometry"])["coordinates"][0], strict=True)
    assert [min(xs), max(xs)] == pytest.approx([500_000 + 23.5 / 2, 500_000 + 29.25 / 2], abs=1e-6)
    assert [min(ys), max(ys)] == pytest.approx([5_800_000 - 18 / 2, 5_800_000 - 12 / 2], abs=1e-6)


@pytest.mark.parametrize("form", ["gpkg", "fgb"])
def test_other_formats_hold_the_same_in_the_crs_of_the_scene(tmp_path: Path, form: str) -> None:
    outputs = derived(tmp_path, IMAGE, form)
    assert {path.name for path in outputs.iterdir()} == {f"boxes.{form}", "boxes.qml", "detections.json"}
    with fiona.open(outputs / f"boxes.{form}") as layer:
        assert layer.crs.to_epsg() == 32633
        rows = {feature.properties["class_name"]: dict(feature.properties) for feature in layer}
    assert rows == {
        "tree": {"class_id": 1, "class_name": "tree", "score": 0.9},
        "car": {"class_id": 2, "class_name": "car", "score": 0.75},
    }


def test_nothing_above_the_threshold_is_a_file_without_features(tmp_path: Path) -> None:
    outputs = derived(tmp_path, IMAGE, score_thresh=1.0)
    assert json.loads((outputs / "boxes.geojson").read_text())["features"] == []
    assert len(json.loads((outputs / "detections.json").read_text())["boxes"]) == 3


def test_the_overlay_outlines_the_boxes_that_are_shown(tmp_path: Path) -> None:
    outputs = derived(tmp_path, IMAGE)
    drawn = task.overlay(outputs / "detections.json", IMAGE, 2, CLASSES)
    assert drawn.shape == (50, 100, 4)
    assert drawn[5, 10].tolist() == [0, 0, 1, 255] and drawn[7, 12].tolist() == [0, 0, 0, 0]
    assert drawn[1, 2].tolist() == [0, 255, 0, 255]
    assert (drawn[0] == 0).all()
