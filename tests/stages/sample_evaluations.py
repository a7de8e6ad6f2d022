"""Predictions and labels of a scene, for the tests of evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rvbuild.progress import Silent
from rvbuild.stages.evaluate import scene as evaluate
from tests.stages.sample_scenes import CLASSES, LABELS, NULL, empty, write_raster

SETTINGS = {
    "task": "semantic_segmentation",
    "scene": "a",
    "labels": LABELS,
    "classes": CLASSES,
    "null_id": NULL,
    "eval": {},
}


class Scene:
    """A scene's predictions and labels, and the stage on them."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder = empty(folder)
        random = np.random.default_rng(seed)
        self.predicted = random.choice([0, 1, 1, 255], (40, 50)).astype(np.uint8)
        self.labels = random.choice([0, 1, 255], (40, 50)).astype(np.uint8)
        self.inputs = {
            "predictions": [write_raster(folder / "labels.tif", self.predicted, nodata=255)],
            "labels": [write_raster(folder / "truth.tif", self.labels, nodata=255)],
            "aoi": [],
        }
        self.runs = 0

    def evaluate(self, **settings: Any) -> Path:
        self.runs += 1
        outputs = empty(self.folder / f"run{self.runs}")
        evaluate.run(self.inputs, {**SETTINGS, **settings}, outputs, Silent())
        return outputs / "eval.json"

    def expected(self, inside: np.ndarray | None = None) -> list[list[int]]:
        matrix = np.zeros((3, 3), dtype=int)
        counted = self.labels != 255 if inside is None else inside & (self.labels != 255)
        predicted = np.where(self.predicted == 255, NULL, self.predicted)
        np.add.at(matrix, (self.labels[counted], predicted[counted]), 1)
        rows: list[list[int]] = matrix.tolist()
        return rows
