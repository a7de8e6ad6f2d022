"""Files derived from the boxes of windows: the merged ones as a vector file, and `detections.json` for evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import shapely

from rvbuild.files.formats import SUFFIXES
from rvbuild.geo.classes import Classes, unnamed
from rvbuild.geo.grid import Grid
from rvbuild.geo.write.overview import Overlay, shown_at
from rvbuild.geo.write.picture import draw_boxes
from rvbuild.geo.write.qgis import write_vector_style
from rvbuild.geo.write.vectors.features import write_features
from rvbuild.progress import Progress
from rvbuild.tasks.detection.boxes import DETECTIONS, RAW_BOXES, read_detections, read_raw, write_detections
from rvbuild.tasks.detection.merge import merge
from rvbuild.tasks.detection.settings import BoxDeriveSettings
from rvbuild.tasks.metrics.tables import without_null


def derive(raw: Mapping[str, Path], settings: BoxDeriveSettings, outputs: Path, progress: Progress) -> None:
    """Write the files of one scene; see `rvbuild.tasks.protocol.Task.derive`."""
    predict, classes = settings["predict"], settings["classes"]
    progress.start("derive", 2, "files")
    merged = merge(read_raw(raw[RAW_BOXES]), predict["merge_thresh"], predict["score_thresh"])
    write_detections(outputs / DETECTIONS, merged)
    progress.advance()
    certain = merged.certain()
    names = {item["id"]: item["name"] for item in classes}
    properties = [
        {"class_id": class_id, "class_name": names[class_id], "score": score}
        for class_id, score in zip(merged.classes[certain].tolist(), merged.scores[certain].tolist(), strict=True)
    ]
    path = outputs / f"boxes{SUFFIXES[predict['boxes']]}"
    fields = {"class_id": int, "class_name": str, "score": float}
    write_features(path, shapely.box(*merged.boxes[certain].T), merged.grid, properties, fields)
    write_vector_style(path, without_null(classes, settings["null_id"]), "box")
    progress.advance()


def arrays(raw: Mapping[str, Path], settings: BoxDeriveSettings) -> dict[str, np.ndarray]:
    """Return `boxes` (n, 4) float64 x0, y0, x1, y1 in pixels, `class_ids` (n,) uint8 and `scores` (n,) float32."""
    predict = settings["predict"]
    merged = merge(read_raw(raw[RAW_BOXES]), predict["merge_thresh"], predict["score_thresh"])
    certain = merged.certain()
    return {
        "boxes": merged.boxes[certain],
        "class_ids": merged.classes[certain].astype(np.uint8),
        "scores": merged.scores[certain].astype(np.float32),
    }


def overlay(predictions: Path, grid: Grid, step: int, classes: Classes) -> Overlay:
    """Return the outlines of the boxes on an overview's pixels; see `rvbuild.tasks.protocol.Task.overlay`."""
    detections = read_detections(predictions)
    certain = detections.certain()
    shape = len(shown_at(grid.height, step)), len(shown_at(grid.width, step))
    # Drawn twice, to tell a black outline from no outline.
    ids, boxes = detections.classes[certain], detections.boxes[certain] / step
    colours = draw_boxes(np.zeros((*shape, 3), dtype=np.uint8), boxes, ids, classes)
    marks = draw_boxes(np.zeros((*shape, 3), dtype=np.uint8), boxes, np.zeros_like(ids), unnamed(["#ffffff"]))
    return np.concatenate([colours, marks[..., :1]], axis=-1)
