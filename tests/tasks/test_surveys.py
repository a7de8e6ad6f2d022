"""Labels of a scene counted and drawn small, for each task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from affine import Affine

from rvbuild import tasks
from rvbuild.geo.area.aoi import open_aoi
from rvbuild.geo.grid import Grid

CLASSES = [
    {"id": 0, "name": "house", "color": "#ff0000"},
    {"id": 1, "name": "ground", "color": "#00ff00"},
    {"id": 2, "name": "null", "color": "#000000"},
]
GRID = Grid(40, 60, Affine.identity(), None)
VECTOR = {"kind": "vector", "layer": None, "class": "house", "background": "ground", "buffer_px": {}}


def write_boxes(path: Path, boxes: list[tuple[float, float, float, float]]) -> Path:
    rings = [[[a, b], [c, b], [c, d], [a, d], [a, b]] for a, b, c, d in boxes]
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [r]}} for r in rings
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.mark.parametrize(
    ("task", "counts", "inside"),
    [
        ("semantic_segmentation", [200, 2200, 0], [100, 500, 0]),
        ("chip_classification", [2, 22, 0], [1, 5, 0]),
        ("object_detection", [2, 0, 0], [1, 0, 0]),
    ],
)
def test_counts_and_colours(task: str, counts: list[int], inside: list[int], tmp_path: Path) -> None:
    labels = write_boxes(tmp_path / "l.geojson", [(10, 10, 20, 20), (40, 20, 50, 30)])
    settings = dict(VECTOR)
    if task == "chip_classification":
        settings["cells"] = {"cell_px": 10, "cells": "grid", "rule": "area"}
    module = tasks.get(task)
    chip = {"stride_px": 10, "ioa_thresh": 0.8, "clip": False, "neg_ratio": None}
    aoi = open_aoi([write_boxes(tmp_path / "aoi.geojson", [(0, 0, 20, 30)])], GRID)
    with module.labels([labels], settings, GRID, CLASSES, 2) as source:
        windows = module.chip_windows([labels], settings, GRID, CLASSES, chip)
        class_counts, overlay, unknown = module.survey(source, windows, None, 2, CLASSES)
        limited, _, _ = module.survey(source, windows, aoi, 2, CLASSES)
    assert class_counts.tolist() == counts and limited.tolist() == inside and unknown == {}
    assert overlay.shape == (20, 30, 4)
    assert overlay[5, 5, :3].tolist() == [255, 0, 0] and overlay[5, 5, 3] > 0  # the corner of the first box
    assert (overlay[0, 0, 3] == 0) == (task == "object_detection")  # ground is drawn where there is any
