"""A place of a detection scene as pictures: labels, boxes, and which of them are wrong or missed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.classes import Classes
from rvbuild.geo.vector.boxes import Boxes
from rvbuild.geo.windows import Window
from rvbuild.geo.write.picture import Picture, draw_boxes
from rvbuild.settings.evaluation import BoxEvalSettings
from rvbuild.tasks.detection.boxes import read_detections
from rvbuild.tasks.detection.score import BoxReader, compare, ignored
from rvbuild.tasks.metrics.places import MISSED, RIGHT, WRONG
from rvbuild.tasks.protocol import Panels

_LEGEND: Classes = [
    {"id": number, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*colour[:3])}
    for number, (name, colour) in enumerate((("right", RIGHT), ("wrong", WRONG), ("missed", MISSED)))
]


def panels(
    predictions: Path,
    source: BoxReader,
    aoi: Aoi | None,
    classes: Classes,
    null_id: int,
    settings: BoxEvalSettings,
) -> Panels:
    """Return a function that draws labels, boxes that reach the score threshold, and both by whether they are right.

    In the last picture, green boxes are right, red ones are wrong, and yellow ones are labels that were missed.
    """
    detections = read_detections(predictions)
    certain = detections.certain()
    idle = ignored(source, aoi)
    boxes, marks = [], []
    for item in classes:
        if item["id"] == null_id:
            continue
        predicted = detections.boxes[certain & (detections.classes == item["id"])]
        own = source.classes == item["id"]
        right, wrong, missed = compare(predicted, source.boxes[own], idle[own], settings["iou_thresh"])
        for mark, group in enumerate((predicted[right], predicted[wrong], source.boxes[own][missed])):
            boxes.append(group)
            marks.append(np.full(len(group), mark))
    judged, verdicts = np.concatenate([np.empty((0, 4)), *boxes]), np.concatenate([[], *marks]).astype(int)

    def draw(picture: Picture, window: Window) -> tuple[Picture, Picture, Picture]:
        return (
            _drawn(picture, window, source.boxes[~idle], source.classes[~idle], classes),
            _drawn(picture, window, detections.boxes[certain], detections.classes[certain], classes),
            _drawn(picture, window, judged, verdicts, _LEGEND),
        )

    return draw


def _drawn(picture: Picture, window: Window, boxes: Boxes, ids: NDArray[np.integer], classes: Classes) -> Picture:
    local = boxes - np.array([window.col, window.row] * 2)
    seen = (local[:, 2:] > 0).all(axis=1) & (local[:, 0] < window.width) & (local[:, 1] < window.height)
    return draw_boxes(picture, local[seen], ids[seen], classes, 2)
