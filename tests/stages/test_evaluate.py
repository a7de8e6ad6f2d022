from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rvbuild.errors import DataError
from tests.stages.sample_evaluations import Scene
from tests.stages.sample_scenes import digests, write_aoi, write_raster


def counts(path: Path) -> Any:
    return json.loads(path.read_text())


def test_counts_of_a_scene(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "a")
    path = scene.evaluate()
    assert counts(path) == {"scene": "a", "confusion": scene.expected()}
    assert {file.name for file in path.parent.iterdir()} == {"eval.json", "places.json"}
    assert path.read_text().endswith("\n")


def test_only_the_area_of_interest_counts(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "a")
    scene.inputs["aoi"] = [write_aoi(scene.folder / "aoi.geojson", (5, 6, 20, 33), (30, 0, 40, 9))]
    inside = np.zeros((40, 50), dtype=bool)
    inside[5:20, 6:33] = inside[30:40, 0:9] = True
    assert counts(scene.evaluate())["confusion"] == scene.expected(inside)


def test_vector_labels(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "a")
    scene.inputs["labels"] = [write_aoi(scene.folder / "cars.geojson", (10, 10, 20, 30))]
    scene.labels[:] = 255
    scene.labels[10:20, 10:30] = 0
    vector = {
        "kind": "vector",
        "layer": None,
        "class": "car",
        "class_attribute": None,
        "class_map": None,
        "background": None,
        "all_touched": False,
        "buffer_px": {"Point": 1, "LineString": 1},
        "unknown": "error",
    }
    assert counts(scene.evaluate(labels=vector))["confusion"] == scene.expected()
    scene.labels[scene.labels == 255] = 1
    assert counts(scene.evaluate(labels={**vector, "background": "tree"}))["confusion"] == scene.expected()


def test_runs_are_equal_byte_for_byte(tmp_path: Path) -> None:
    scene, other = Scene(tmp_path / "a"), Scene(tmp_path / "b")
    assert digests(scene.evaluate().parent) == digests(other.evaluate().parent)


def test_labels_are_needed(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "a")
    scene.inputs["labels"] = []
    with pytest.raises(DataError, match=r"scene a: expected labels.*eval\.splits"):
        scene.evaluate()


def test_labels_on_another_grid_are_an_error(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "a")
    scene.inputs["labels"] = [write_raster(scene.folder / "small.tif", scene.labels[:20, :20], nodata=255)]
    with pytest.raises(DataError, match=r"small\.tif"):
        scene.evaluate()


def test_a_pixel_is_in_the_area_if_its_centre_is(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "a")
    scene.inputs["aoi"] = [write_aoi(scene.folder / "aoi.geojson", (0.4, 0.4, 10.4, 10.6))]
    inside = np.zeros((40, 50), dtype=bool)
    inside[:10, :11] = True  # centres from 0.5 to 9.5 and 10.5
    assert counts(scene.evaluate())["confusion"] == scene.expected(inside)
