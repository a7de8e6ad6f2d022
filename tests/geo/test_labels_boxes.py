from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels_boxes import BoxLabels, open_boxes
from rvbuild.geo.windows import Window

CLASSES = [
    {"id": 0, "name": "tree", "color": "#00ff00"},
    {"id": 1, "name": "car", "color": "#ff0000"},
    {"id": 2, "name": "null", "color": "#000000"},
]
NULL = 2
GRID = Grid(100, 80, Affine(0.5, 0, 500_000, 0, -0.5, 5_800_000), CRS.from_epsg(32633))


def geojson(path: Path, shapes: list[tuple[dict[str, Any], str]], crs: str = "EPSG:4326") -> Path:
    """Write shapes, in pixels of GRID, with a class each."""

    def moved(value: Any) -> Any:
        if isinstance(value[0], int | float):
            x, y = GRID.to_map(np.array([value[0]], dtype=float), np.array([value[1]], dtype=float))
            (x,), (y,) = transform(GRID.crs, CRS.from_string(crs), x, y)
            return [x, y]
        return [moved(item) for item in value]

    features = [
        {
            "type": "Feature",
            "properties": {"class_name": name},
            "geometry": {**shape, "coordinates": moved(shape["coordinates"])},
        }
        for shape, name in shapes
    ]
    content = {"type": "FeatureCollection", "features": features}
    if crs != "EPSG:4326":
        content["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{crs.replace(':', '::')}"}}
    path.write_text(json.dumps(content))
    return path


def opened(files: list[Path], **changed: Any) -> BoxLabels:
    settings = {"kind": "vector", "class": None, "class_map": None, "unknown": "error", **changed}
    return open_boxes(files, settings, grid=GRID, classes=CLASSES, null_id=NULL)


TRIANGLE = {"type": "Polygon", "coordinates": [[[10.25, 20.5], [30.75, 25], [15, 40.125], [10.25, 20.5]]]}


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32633", "EPSG:3857"])
def test_a_box_is_the_bounds_of_a_shape_to_the_sub_pixel_in_any_crs(tmp_path: Path, crs: str) -> None:
    # 0.31.1 of Raster Vision floors vertices, its head rounds them to whole pixels.
    labels = opened([geojson(tmp_path / "a.geojson", [(TRIANGLE, "tree")], crs)])
    assert np.allclose(labels.boxes, [[10.25, 20.5, 30.75, 40.125]], atol=1e-5)
    assert labels.classes.tolist() == [0]


def test_parts_points_and_classes(tmp_path: Path) -> None:
    two = {
        "type": "MultiPolygon",
        "coordinates": [[[[1, 1], [3, 1], [3, 3], [1, 1]]], [[[8, 8], [9, 8], [9, 9], [8, 8]]]],
    }
    point = {"type": "Point", "coordinates": [50, 60]}
    path = geojson(tmp_path / "a.geojson", [(two, "car"), (point, "tree"), (TRIANGLE, "null")], "EPSG:32633")
    labels = opened([path], buffer_px={"Point": 4.0})
    assert np.allclose(labels.boxes, [[1, 1, 9, 9], [46, 56, 54, 64]], atol=1e-5)
    assert labels.classes.tolist() == [1, 0]


def boxes_of(*boxes: tuple[float, float, float, float]) -> BoxLabels:
    return BoxLabels(np.array(boxes, dtype=float).reshape(-1, 4), np.zeros(len(boxes), dtype=np.int64), GRID)


def test_boxes_are_clipped_to_the_image() -> None:
    labels = boxes_of((-5, 10, 5, 20), (70, 90, 90, 110), (200, 200, 210, 210), (80, 0, 90, 9), (5, 5, 5, 9))
    assert labels.boxes.tolist() == [[0, 10, 5, 20], [70, 90, 80, 100]]
    assert labels.inside.tolist() == [0.5, 0.25]


def test_a_window_sees_parts_measured_by_the_whole_box() -> None:
    labels = boxes_of((-5, 10, 5, 20), (18, 18, 28, 28), (50, 50, 60, 60))
    seen = labels.read(Window(0, 0, 20, 20))
    assert seen.share.tolist() == [0.5, 0.04]
    assert seen.boxes.tolist() == [[0, 10, 5, 20], [18, 18, 28, 28]]
    seen = labels.read(Window(10, 10, 30, 30))
    assert seen.boxes.tolist() == [[8, 8, 18, 18]] and seen.share.tolist() == [1]
    # Sharing an edge is not seeing.
    assert labels.read(Window(0, 60, 50, 20)).boxes.shape == (0, 4)


def test_box_files_and_their_classes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("image_path,xmin,ymin,xmax,ymax,label\na,1,2,3,4,Tree\na,5,6,7,8,bush\na,-5,6,-1,8,Tree\n")
    how = {"kind": "csv", "image": None, "scene_image": "a"}
    labels = opened([path], **how, class_map={"Tree": "tree"}, unknown="drop")
    assert labels.boxes.tolist() == [[1, 2, 3, 4]] and labels.classes.tolist() == [0]
    assert opened([path], **how, **{"class": "car"}).classes.tolist() == [1, 1]
    assert opened([path, path], **how, class_map={"Tree": "tree"}, unknown="car").classes.tolist() == [0, 1, 0, 1]
    with pytest.raises(DataError, match="`label` = 'Tree'; did you mean \"tree\""):
        opened([path], **how)


@pytest.mark.parametrize("name", ["a.geojson", "a.csv"])
def test_no_boxes_at_all(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text('{"type": "FeatureCollection", "features": []}' if name == "a.geojson" else "")
    how = {} if name == "a.geojson" else {"kind": "csv", "image": None, "scene_image": "a"}
    labels = opened([path], **how)
    assert labels.boxes.shape == (0, 4) and labels.read(Window(0, 0, 9, 9)).boxes.shape == (0, 4)


def test_boxes_of_a_part_count_from_the_whole_image(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text("xmin,ymin,xmax,ymax,label\n10,20,30,40,tree\n0,0,5,5,car\n")
    settings = {
        "kind": "csv",
        "class": None,
        "class_map": None,
        "unknown": "error",
        "image": None,
        "scene_image": "a.tif",
    }
    part = Grid(50, 40, GRID.transform_at(15, 8), GRID.crs)
    labels = open_boxes([path], {**settings, "origin_px": [8, 15]}, grid=part, classes=CLASSES, null_id=NULL)
    np.testing.assert_array_equal(labels.boxes, [[2, 5, 22, 25]])
