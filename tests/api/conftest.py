"""Small workspaces of the three tasks, made and built with the public interface alone."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

import rvbuild
from tests.e2e.projects import DETECTOR, PROJECTS

BOXES = {
    "a": [(5, 5, 25, 20), (35, 30, 60, 55)],
    "b": [(10, 30, 30, 60), (40, 4, 60, 24)],
    "c": [(8, 8, 30, 30), (36, 36, 58, 50)],
}

TASKS = tuple(PROJECTS)


def write_labels(path: Path, boxes: list[tuple[int, int, int, int]]) -> None:
    """Write boxes (col, row, col, row in pixels) as polygons."""
    features = [
        {
            "type": "Feature",
            "properties": {},
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    [
                        [500000 + x * 0.5, 5800000 - y * 0.5]
                        for x, y in [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
                    ]
                ],
            },
        }
        for x0, y0, x1, y1 in boxes
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))


def write_workspace(root: Path, task: str) -> Path:
    """Write three scenes of 64 pixels, bright inside the boxes, and a project; return the project file."""
    (root / "data").mkdir(parents=True)
    (root / "projects").mkdir()
    for number, (scene, boxes) in enumerate(BOXES.items()):
        image = np.random.default_rng(number).integers(20, 90, (3, 64, 64), dtype=np.uint8)
        for x0, y0, x1, y1 in boxes:
            image[:, y0:y1, x0:x1] += 120
        profile = {"driver": "GTiff", "height": 64, "width": 64, "count": 3, "dtype": "uint8"}
        place = {"crs": "EPSG:32633", "transform": from_origin(500000, 5800000, 0.5, 0.5)}
        with rasterio.open(root / "data" / f"{scene}.tif", "w", **profile, **place) as file:
            file.write(image)
        write_labels(root / "data" / f"{scene}.geojson", boxes)
    (root / "projects/p.toml").write_text(PROJECTS[task])
    if task == "boxes":
        (root / "detector.py").write_text(DETECTOR)
    return root / "projects/p.toml"


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """Return the project file of a workspace of segmentation in which nothing was built."""
    return write_workspace(tmp_path / "fresh", "segmentation")


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return what gives a workspace of a task in which everything was built."""

    @functools.cache
    def build(task: str) -> Path:
        root = tmp_path_factory.mktemp(task) / "ws"
        project = rvbuild.open(write_workspace(root, task))
        assert project.build(inline=True).ok
        return root

    return build


@pytest.fixture
def built(templates: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return what gives the project file of a workspace of a task in which everything was built."""

    def copy(task: str) -> Path:
        root = tmp_path / task
        shutil.copytree(templates(task), root)
        rvbuild.open(root / "projects/p.toml").build(inline=True)  # what is in other files now is looked at
        return root / "projects/p.toml"

    return copy
