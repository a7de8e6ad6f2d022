"""A project for each task: models and settings that train in a second or two."""

from __future__ import annotations

from pathlib import Path

SEGMENTATION = """\
[project]
task = "semantic_segmentation"

[classes]
building = "#ff0000"
ground = "#00ff00"

[scenes]
train = ["a", "b"]
validation = ["c"]

[scene]
image = "data/{id}.tif"
labels = { vector = "data/{id}.geojson", class = "building", background = "ground" }

[chip]
size_px = 32
stride_px = 24

[train]
model = "unet"
model_args = { width = 2, depth = 1 }
pretrained = false
epochs = 2
batch_size = 4
lr = 1e-2

[predict]
stride_px = 16
"""

#: Odd cells, on scenes of 64 px: the last ones overhang.
CELLS = """\
[project]
task = "chip_classification"

[classes]
building = "#ff0000"
ground = "#00ff00"

[scenes]
train = ["a", "b"]
validation = ["c"]
test = ["t"]

[scene]
image = "data/{id}.tif"
labels = { vector = "data/{id}.geojson", class = "building", background = "ground", cell_px = 15 }

[scenes.by_id.t]
image = "data/c.tif"
labels = false

[train]
model = "cnn"
model_args = { width = 4, depth = 2 }
epochs = 2
batch_size = 4
lr = 1e-2
"""

BOXES = """\
[project]
task = "object_detection"

[classes]
building = "#ff0000"

[scenes]
train = ["a", "b"]
validation = ["c"]
test = ["t"]

[scene]
image = "data/{id}.tif"
labels = { vector = "data/{id}.geojson", class = "building" }

[scenes.by_id.t]
image = "data/c.tif"
labels = false

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

#: A detector of the user's, in the conventions of torchvision, that trains in seconds.
DETECTOR = """\
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign


def make(in_channels, num_classes):
    body = nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(),
    )
    body.out_channels = 16
    return FasterRCNN(
        body, num_classes + 1, min_size=32, max_size=32,
        image_mean=[0.0] * in_channels, image_std=[1.0] * in_channels,
        rpn_anchor_generator=AnchorGenerator(((12,),), ((1.0,),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 2), box_batch_size_per_image=32, rpn_post_nms_top_n_test=40,
    )
"""

PROJECTS = {"segmentation": SEGMENTATION, "cells": CELLS, "boxes": BOXES}


def write_project(root: Path, task: str) -> None:
    """Make a workspace one of a task: its project file, and the code that this names."""
    (root / "projects/p.toml").write_text(PROJECTS[task])
    if task == "boxes":
        (root / "detector.py").write_text(DETECTOR)
