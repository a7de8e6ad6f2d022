"""Labels as objects: where each comes from, as stages and as users see it."""

import numpy as np
import pytest
import shapely

from rvbuild.review.labels import read_objects
from rvbuild.review.suspect import Source
from tests.review.conftest import CLASSES, GRID, NULL, VECTOR, geojson

SEGMENTATION, DETECTION, CELLS = "semantic_segmentation", "object_detection", "chip_classification"


def objects_of(task, files, settings):
    return read_objects(task, files, settings, grid=GRID, classes=CLASSES, null_id=NULL)


def seen(objects):
    return [(o.class_id, o.source.file, o.source.place, o.origin.layer, o.feature, o.shape.bounds) for o in objects]


FEATURES = [
    (shapely.box(1, 2, 5, 6), {"kind": "tree", "height": 1.5}),
    (shapely.box(100, 2, 105, 6), {"kind": "tree", "height": 1.5}),
    (shapely.box(9, 2, 15, 6), {"kind": "other", "height": 2.5}),
    (shapely.box(20, 20, 25, 26), {"kind": "null", "height": 2.5}),
    (shapely.box(30, 30, 100, 36), {"kind": "car", "height": 0.5}),
]


@pytest.mark.parametrize("task", [SEGMENTATION, DETECTION, CELLS])
def test_features_keep_their_ids_and_places(write_vector, task):
    path = write_vector("a.gpkg", FEATURES, layer="things")
    settings = {**VECTOR, "unknown": "drop", "where": ["!=", "height", 1.0]}
    found = seen(objects_of(task, [path], settings))
    right = 60 if task == DETECTION else 100
    assert found == [(0, 0, 0, "things", "1", (1, 2, 5, 6)), (1, 0, 4, "things", "5", (30, 30, right, 36))]


def test_places_count_what_is_read_and_ids_what_is_there(write_vector):
    path = write_vector("a.shp", FEATURES, driver="ESRI Shapefile")
    settings = {**VECTOR, "unknown": "drop", "where": ["<", "height", 1.0]}
    assert seen(objects_of(SEGMENTATION, [path], settings)) == [(1, 0, 0, "a", "4", (30, 30, 100, 36))]


def test_ids_of_a_geojson_are_its_own_or_places(write_json):
    shapes = [(shapely.box(n, 0, n + 1, 1), {"kind": "tree"}, id_) for n, id_ in enumerate(["x", None, 7, 0])]
    path = write_json("a.geojson", geojson(*shapes))
    assert [each.feature for each in objects_of(SEGMENTATION, [path], VECTOR)] == ["x", "1", "7", "0"]


def test_files_of_several_tables_are_counted_on(write_vector):
    paths = [write_vector(f"{n}.gpkg", FEATURES[:1]) for n in range(3)]
    table = {key: value for key, value in VECTOR.items() if key not in ("kind", "background")}
    settings = {"kind": "vector", "background": None, "parts": [{**table, "files": 2}, {**table, "files": 1}]}
    assert [each.source for each in objects_of(SEGMENTATION, paths, settings)] == [Source(n, 0) for n in range(3)]


COCO = {
    "images": [{"id": 1, "file_name": "a.tif"}, {"id": 2, "file_name": "b.tif"}],
    "categories": [{"id": 5, "name": "car"}],
    "annotations": [
        {"id": 70, "image_id": 2, "category_id": 5, "bbox": [0, 0, 2, 2]},
        {"id": 71, "image_id": 1, "category_id": 5, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        {"id": 72, "image_id": 1, "category_id": 5, "bbox": [10, 5, 4, 2.5]},
    ],
}
BOXES = {"class": None, "class_map": None, "unknown": "error", "image": "a.tif", "scene_image": None}


def test_boxes_of_a_coco_file_have_its_ids(write_json):
    (found,) = objects_of(DETECTION, [write_json("a.json", COCO)], {"kind": "coco", **BOXES})
    assert (found.source, found.origin.number, found.feature) == (Source(0, 0), 2, "72")
    assert found.shape.equals(shapely.box(10, 5, 14, 7.5))


def test_boxes_of_a_csv_have_their_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("image_path,xmin,ymin,xmax,ymax,label\nb.tif,,,,,\na.tif,1,2,3,4,tree\n")
    (found,) = objects_of(DETECTION, [path], {"kind": "csv", **BOXES})
    assert (found.source, found.feature, found.class_id) == (Source(0, 0), "1", 0)


def test_boxes_of_voc_have_their_places(tmp_path):
    path = tmp_path / "a.xml"
    box = "<object><name>{}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{}</xmax><ymax>9</ymax></bndbox></object>"
    path.write_text(f"<annotation><filename>a.tif</filename>{box.format('car', 1)}{box.format('tree', 8)}</annotation>")
    (found,) = objects_of(DETECTION, [path], {"kind": "voc", **BOXES})
    assert (found.source, found.feature, found.class_id) == (Source(0, 1), "1", 0)


RASTER = {"kind": "raster", "encoding": "id", "map": None, "other": "error", "nodata": None, "resample": "error"}


def test_areas_of_a_raster_are_objects_and_null_is_none(write_raster):
    pixels = np.full((40, 60), NULL, dtype=np.uint8)
    pixels[2:6, 3:9], pixels[6:8, 9:12], pixels[30:, 50:] = 0, 0, 1
    found = objects_of(SEGMENTATION, [write_raster("a.tif", pixels)], RASTER)
    assert [(each.class_id, each.shape.bounds) for each in found] == [
        (0, (3, 2, 9, 6)),
        (0, (9, 6, 12, 8)),
        (1, (50, 30, 60, 40)),
    ]
    assert {(each.source, each.origin, each.feature) for each in found} == {(Source(0, None), None, None)}


def test_cells_of_a_raster(write_raster):
    pixels = np.full((40, 60), NULL, dtype=np.uint8)
    pixels[32:, 32:] = 1
    settings = {**RASTER, "cells": {"cell_px": 16}}
    found = objects_of(CELLS, [write_raster("a.tif", pixels)], settings)
    assert [(each.class_id, each.shape.bounds) for each in found] == [(1, (32, 32, 48, 40)), (1, (48, 32, 60, 40))]


def test_rasters_and_vectors_on_each_other(write_raster, write_vector):
    pixels = np.full((40, 60), NULL, dtype=np.uint8)
    pixels[10:20, 10:20] = 1
    paths = [write_raster("a.tif", pixels), write_vector("a.gpkg", FEATURES[:1])]
    table = {key: value for key, value in VECTOR.items() if key != "background"}
    settings = {"kind": "layers", "background": None, "parts": [{**RASTER, "files": 1}, {**table, "files": 1}]}
    found = objects_of(SEGMENTATION, paths, settings)
    assert [(each.class_id, each.source, each.feature) for each in found] == [
        (1, Source(0, None), None),
        (0, Source(1, 0), "1"),
    ]
