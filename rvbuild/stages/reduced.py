"""A predictor that keeps of its predictions what the result of a scene needs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from rvbuild.learn.model_files import ModelInfo
from rvbuild.stages.engines.exported import ExportedNetwork, Reduction
from rvbuild.stages.predictor import Predictor


def reduced(predictor: Predictor, reduction: Reduction | None) -> Predictor:
    """Return a predictor whose predictions are reduced as early as it can; see `rvbuild.tasks.protocol.Task`."""
    if reduction is None:
        return predictor
    if isinstance(predictor, ExportedNetwork):
        return predictor.reduced(reduction)
    return _Reduced(predictor, reduction)


class _Reduced:
    """A predictor of reduced predictions; see `rvbuild.stages.predictor.Predictor`."""

    def __init__(self, predictor: Predictor, reduction: Reduction) -> None:
        self._predictor, self._reduction = predictor, reduction

    @property
    def info(self) -> ModelInfo:
        """The description of the model."""
        return self._predictor.info

    def computing(self) -> AbstractContextManager[None]:
        """Return the context of the predictor."""
        return self._predictor.computing()

    def __call__(self, images: np.ndarray, valid: np.ndarray | None) -> Any:
        """Predict one batch, and reduce the predictions."""
        return [self._reduction(prediction) for prediction in self._predictor(images, valid)]
