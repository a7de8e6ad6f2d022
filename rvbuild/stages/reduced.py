"""A predictor that keeps of its predictions what the result of a scene needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from rvbuild.stages.engines.exported import ExportedNetwork, Reduction
from rvbuild.stages.predictor import Predictor, Wrapped


def reduced(predictor: Predictor, reduction: Reduction | None) -> Predictor:
    """Return a predictor whose predictions are reduced as early as it can; see `rvbuild.tasks.protocol.Task`."""
    if reduction is None:
        return predictor
    if isinstance(predictor, ExportedNetwork):
        return predictor.reduced(reduction)
    return _Reduced(predictor, reduction)


class _Reduced(Wrapped):
    """A predictor of reduced predictions; see `rvbuild.stages.predictor.Predictor`."""

    def __init__(self, predictor: Predictor, reduction: Reduction) -> None:
        super().__init__(predictor)
        self._reduction = reduction

    def __call__(self, images: np.ndarray, valid: np.ndarray | None) -> Any:
        """Predict one batch, and reduce the predictions."""
        return [self._reduction(prediction) for prediction in self._predictor(images, valid)]
