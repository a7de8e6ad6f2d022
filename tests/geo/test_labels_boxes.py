from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.boxes import BoxLabels, open_boxes
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
    settings = {"kind": "csv", "image": None, "scene_image": "a"}
    labels = opened([path], **settings, class_map={"Tree": "tree"}, unknown="drop")
    assert labels.boxes.tolist() == [[1, 2, 3, 4]] and labels.classes.tolist() == [0]
    assert opened([path], **settings, **{"class": "car"}).classes.tolist() == [1, 1]
    assert opened([path, path], **settings, class_map={"Tree": "tree"}, unknown="car").classes.tolist() == [0, 1, 0, 1]
    with pytest.raises(DataError, match="`label` = 'Tree'; did you mean \"tree\""):
        opened([path], **settings)


@pytest.mark.parametrize("name", ["a.geojson", "a.csv"])
def test_no_boxes_at_all(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text('{"type": "FeatureCollection", "features": []}' if name == "a.geojson" else "")
    settings = {} if name == "a.geojson" else {"kind": "csv", "image": None, "scene_image": "a"}
    labels = opened([path], **settings)
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


def coco(path: Path, *boxes: tuple[float, float, float, float], name: str | None = "tree", **image: Any) -> Path:
    """Write the boxes of one image; their category has no name if that is None."""
    categories = [] if name is None else [{"id": 1, "name": name}]
    entries = [
        {"id": n, "image_id": 7, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for n, (x0, y0, x1, y1) in enumerate(boxes)
    ]
    images = [{"id": 7, "file_name": "a.tif", **image}]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": entries}))
    return path


COCO = {"kind": "coco", "image": None, "scene_image": "data/a.tif"}
BOX = (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("boxes", "image", "note"),
    [
        ([BOX], {}, ""),
        ([BOX, (-5, 2, 3, 4)], {"width": 80, "height": 100}, ""),
        ([BOX], {"width": 0, "height": "?"}, ""),
        ([BOX], {"width": 40, "height": 50}, r"drawn on an image of 40 x 50 px .* has 80 x 100 px, 2 times as many"),
        ([BOX], {"width": 100, "height": 80}, r"drawn on an image of 100 x 80 px .* has 80 x 100 px\."),
        ([BOX, (90, 2, 99, 4)], {}, "1 of 2 boxes lie outside the image, .* columns 90 to 99 and rows 2 to 4"),
        ([(90, 2, 99, 4)], {}, "no box lies on the image, .* are its coordinates in pixels"),
        ([(500_001, 5_799_990, 500_003, 5_799_995)], {}, "They seem to be map coordinates in EPSG:32633"),
    ],
)
def test_boxes_of_another_image_or_grid_are_said(tmp_path: Path, boxes: Any, image: Any, note: str) -> None:
    (path,) = [coco(tmp_path / "a.json", *boxes, **image)]
    notes = opened([path], **COCO).notes
    assert len(notes) == bool(note)
    assert not note or re.search(note, notes[0])
    # A part knows nothing of what lies beside it.
    part = opened([path], **COCO, origin_px=[0, 0]).notes
    assert len(part) == (note.startswith("no box") or "map coordinates" in note or "40 x 50" in note or "100 x" in note)


def test_the_size_in_a_voc_file_counts_too(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(
        "<annotation><size><width>160</width><height>200</height></size><object><name>tree</name><bndbox><xmin>1</xmin>"
        "<ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"
    )
    (note,) = opened([path], kind="voc", image=None, scene_image=None).notes
    assert "drawn on an image of 160 x 200 px" in note and "0.5 times" in note


def test_a_category_without_a_name_is_no_class_id(tmp_path: Path) -> None:
    path = coco(tmp_path / "a.json", BOX, name=None)
    with pytest.raises(DataError, match=r"box 0 \(from 0\) has the category 1, which has no name in `categories`"):
        opened([path], **COCO)
    assert opened([path], **COCO, class_map={"1": "tree"}).classes.tolist() == [0]
    assert opened([path], **COCO, **{"class": "tree"}).classes.tolist() == [0]
    assert opened([path], **COCO, unknown="drop").classes.tolist() == []


def test_a_number_for_a_label_is_no_class_id(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    settings = {"kind": "csv", "image": None, "scene_image": "a"}
    path.write_text("xmin,ymin,xmax,ymax,label\n1,2,3,4,1\n")
    with pytest.raises(
        DataError, match=r"box 0 \(from 0\) has `label` = '1', expected a class \(tree, car, null\)\. Map it"
    ):
        opened([path], **settings)
    assert opened([path], **settings, class_map={"1": "tree"}).classes.tolist() == [0]
    path.write_text("xmin,ymin,xmax,ymax\n1,2,3,4\n")
    with pytest.raises(DataError, match=r"box 0 \(from 0\) has no `label`, so its class is not known"):
        opened([path], **settings)
    assert opened([path], **settings, **{"class": "car"}).classes.tolist() == [1]
