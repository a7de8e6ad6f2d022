"""Small workspaces of the three tasks, made and built with the public interface alone."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

import rvbuild
from tests.e2e.projects import SEGMENTATION

BOXES = {
    "a": [(5, 5, 25, 20), (35, 30, 60, 55)],
    "b": [(10, 30, 30, 60), (40, 4, 60, 24)],
    "c": [(8, 8, 30, 30), (36, 36, 58, 50)],
}

_CELLS = """\
[project]
task = "chip_classification"

[classes]
building = "#ff0000"
ground = "#00ff00"

[scenes]
train = ["a", "b"]
validation = ["c"]

[scene]
image = "data/{id}.tif"
labels = { vector = "data/{id}.geojson", class = "building", background = "ground", cell_px = 15 }

[train]
model = "cnn"
model_args = { width = 4, depth = 2 }
epochs = 2
batch_size = 4
lr = 1e-2
"""

_BOXES = """\
[project]
task = "object_detection"

[classes]
building = "#ff0000"

[scenes]
train = ["a", "b"]
validation = ["c"]

[scene]
image = "data/{id}.tif"
labels = { vector = "data/{id}.geojson", class = "building" }

[chip]
size_px = 32
stride_px = 16

[train]
model = "detector:make"
epochs = 1
batch_size = 4
lr = 2e-3

[predict]
score_thresh = 0.1
"""

_DETECTOR = """\
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign


def make(in_channels, num_classes):
    body = nn.Sequential(nn.Conv2d(in_channels, 16, 3, 4, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU())
    body.out_channels = 16
    return FasterRCNN(
        body, num_classes + 1, min_size=32, max_size=32,
        image_mean=[0.0] * in_channels, image_std=[1.0] * in_channels,
        rpn_anchor_generator=AnchorGenerator(((12,),), ((1.0,),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 2), box_batch_size_per_image=32, rpn_post_nms_top_n_test=40,
    )
"""

_PROJECTS = {"segmentation": SEGMENTATION, "cells": _CELLS, "boxes": _BOXES}
TASKS = tuple(_PROJECTS)


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
    (root / "projects/p.toml").write_text(_PROJECTS[task])
    if task == "boxes":
        (root / "detector.py").write_text(_DETECTOR)
    return root / "projects/p.toml"


@pytest.fixture(scope="session", autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Remember in a directory of these tests what the user trusts: each workspace is of one test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.delenv("RVBUILD_TRUST", raising=False)
        yield


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
