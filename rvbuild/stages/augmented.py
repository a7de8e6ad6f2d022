"""A predictor that looks at each window in several orientations."""

from __future__ import annotations

from typing import Any

import numpy as np

from rvbuild import tasks
from rvbuild.settings.predict import TestTime
from rvbuild.stages.predictor import Predictor, Wrapped
from rvbuild.tasks.orientations import ORIENTATIONS, Orientation


class Augmented(Wrapped):
    """Test-time augmentation of any predictor; see `rvbuild.stages.predictor.Predictor`.

    Parameters
    ----------
    predictor
        Predicts each orientation.
    tta
        `predict.tta`.
    """

    def __init__(self, predictor: Predictor, tta: TestTime) -> None:
        super().__init__(predictor)
        self._orientations = ORIENTATIONS[tta]
        self._task = tasks.get(predictor.info.task)

    def __call__(self, images: np.ndarray, valid: np.ndarray | None) -> Any:
        """Predict one batch in all orientations, and join the predictions."""
        predictions = (
            (
                orientation,
                self._predictor(np.ascontiguousarray(orientation(images)), _turned(orientation, valid)),
            )
            for orientation in self._orientations
        )
        return self._task.averaged(predictions, images.shape[-1])


def _turned(orientation: Orientation, array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else np.ascontiguousarray(orientation(array))
