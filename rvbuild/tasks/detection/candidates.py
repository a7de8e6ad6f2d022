"""The boxes of an exported detector: chosen from its candidates as torchvision chooses them, by numpy.

The output is `(N, 4 + K, A)` float32: of each candidate centre x, centre y, width and height in pixels, and the score
of each class; see `rvbuild.learn.export.detectors`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, cast

import numpy as np
from annotated_types import Ge
from typing_extensions import TypedDict

from rvbuild.errors import DataError
from rvbuild.geo.vector.boxes import nms
from rvbuild.settings.fitting import misfit
from rvbuild.settings.limits import Fraction
from rvbuild.settings.predict import BoxPredictSettings, PredictSettings

_Count = Annotated[int, Ge(0)]


class Detected(NamedTuple):
    """The boxes that a detector found in one chip."""

    boxes: np.ndarray
    """(n, 4) float32 x0, y0, x1, y1 in pixels of the chip."""
    scores: np.ndarray
    """(n,) float32."""
    outputs: np.ndarray
    """(n,) int64: which output each belongs to."""


class Reading(TypedDict):
    """How candidates become boxes."""

    parts: list[_Count]
    """The number of candidates of each level of the network; empty if `most` is not counted by level."""
    of: Literal["level", "class"]
    most: _Count | None
    """Of each level, or of each class, so many of the highest scores count at most; None: all."""
    score_thresh: Fraction
    """Candidates count whose score is above."""
    merge_thresh: Fraction
    """Of candidates of a class whose intersection over union is above, the best stays."""
    detections: _Count
    """So many boxes are given of an image at most."""
    smallest_px: Annotated[float, Ge(0)]
    """Shorter sides do not count."""


_SURE_SCORE = 0.1
_SCORES = 20
_SAME_PX = 1.0
"""Boxes are the same whose corners lie nearer to each other."""


class Candidates:
    """The output is all candidates; see `rvbuild.tasks.portable.Portable`."""

    output = "candidates"
    tested = 1
    axes = ("batch", "values", "candidates")
    stac_task = "object-detection"

    def read(
        self, output: np.ndarray, outputs: int, shape: tuple[int, int], reading: Mapping[str, Any]
    ) -> list[Detected]:
        """Return the boxes in each image."""
        if problem := misfit(dict(reading), Reading):
            raise DataError(f"its metadata do not say how boxes are chosen: {problem}")
        rules = cast("Reading", reading)
        if output.ndim != 3 or output.shape[1] != 4 + outputs or sum(rules["parts"]) not in (0, output.shape[2]):
            raise DataError(f"expected candidates (images, {4 + outputs}, candidates), found {output.shape}")
        return [_chosen(image, rules) for image in output]

    def difference(self, one: np.ndarray, other: np.ndarray, outputs: int) -> float:
        """Return the largest difference of a score, those of each class in their order."""
        first, second = (np.sort(output[:, -outputs:].astype(np.float64), axis=2) for output in (one, other))
        return float(np.abs(first - second).max())

    def expected(self, predictions: Sequence[Detected]) -> dict[str, np.ndarray]:
        """Return the boxes of all images with their scores and outputs, and `offsets`, where each image begins."""
        sure = [_above(chip, _SURE_SCORE) for chip in predictions]
        return {
            "boxes": np.concatenate([chip.boxes for chip in sure]).astype(np.float32),
            "outputs": np.concatenate([chip.outputs for chip in sure]).astype(np.int64),
            "scores": np.concatenate([chip.scores for chip in sure]).astype(np.float32),
            "offsets": np.cumsum([0, *(len(chip.scores) for chip in sure)], dtype=np.int64),
        }

    def misses(self, predictions: Sequence[Detected], expected: Mapping[str, np.ndarray]) -> tuple[int, int]:
        """Return how many boxes have no counterpart of their class, and how many are expected."""
        wrong, starts = 0, expected["offsets"]
        for chip, start, stop in zip(predictions, starts[:-1], starts[1:], strict=True):
            for box, output in zip(expected["boxes"][start:stop], expected["outputs"][start:stop], strict=True):
                own = chip.boxes[chip.outputs == output]
                wrong += not (np.abs(own - box).max(axis=1, initial=0) < _SAME_PX).any()
        return wrong, int(starts[-1])

    def scores(self, output: np.ndarray, outputs: int) -> np.ndarray:
        """Return the highest scores of each class, whatever the threshold of boxes."""
        highest: np.ndarray = np.sort(output[:, -outputs:], axis=2)[..., -_SCORES:]
        return highest

    def qgis(self, predict: PredictSettings) -> Mapping[str, Any]:
        """Return the type of a detection, and its thresholds."""
        of_boxes = cast("BoxPredictSettings", predict)
        return {
            "model_type": "Detector",
            "det_type": "YOLO_v9",  # of the types with this form of output, the one that both programs know
            "det_conf": of_boxes["score_thresh"],
            "det_iou_thresh": of_boxes["merge_thresh"],
        }


def _above(chip: Detected, score: float) -> Detected:
    sure = chip.scores > score
    return Detected(chip.boxes[sure], chip.scores[sure], chip.outputs[sure])


def _chosen(output: np.ndarray, reading: Reading) -> Detected:
    """Return the boxes of one image."""
    center, sides, scores = output[:2].T, output[2:4].T, output[4:].T
    boxes = np.concatenate([center - sides / 2, center + sides / 2], axis=1)
    # Candidates by their place, then by class, as torchvision lists them.
    place, outputs = np.nonzero(scores > reading["score_thresh"])
    if reading["smallest_px"]:
        solid = (sides[place] >= reading["smallest_px"]).all(axis=1)
        place, outputs = place[solid], outputs[solid]
    if reading["most"] is not None:
        best = np.concatenate([*_best(scores[place, outputs], place, outputs, reading), np.empty(0, dtype=np.intp)])
        place, outputs = place[best], outputs[best]
    values = scores[place, outputs]
    kept = nms(boxes[place].astype(np.float64), values, outputs, reading["merge_thresh"])[: reading["detections"]]
    return Detected(boxes[place[kept]].astype(np.float32), values[kept], outputs[kept].astype(np.int64))


def _best(values: np.ndarray, place: np.ndarray, outputs: np.ndarray, reading: Reading) -> Iterator[np.ndarray]:
    """Yield the positions of the highest scores of each level, or of each class."""
    ends = np.cumsum(reading["parts"])
    groups = outputs if reading["of"] == "class" else np.searchsorted(ends, place, side="right")
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        yield members[np.argsort(-values[members], kind="stable")[: reading["most"]]]
