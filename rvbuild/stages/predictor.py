"""A trained model that is ready to predict, whatever computes it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rvbuild.learn.model_files import ModelInfo


class Predictor(Protocol):
    """Predicts batches of chips."""

    @property
    def info(self) -> ModelInfo:
        """The description of the model."""

    def computing(self) -> AbstractContextManager[None]:
        """Return a context in which the predictor is called: with its seeds, threads and device."""

    def __call__(self, images: np.ndarray, valid: np.ndarray | None) -> Any:
        """Predict one batch.

        Parameters
        ----------
        images
            `(N, C, H, W)` raw values, in the dtype of the imagery.
        valid
            `(N, C, H, W)` bool, False where there is no data; None: every pixel is valid.

        Returns
        -------
        Any
            One element per image, as the merger of the task takes it.
        """


def load_predictor(
    weights: Path,
    description: Path,
    device: str = "auto",
    *,
    trained: Mapping[str, Any] | None = None,
    run_embedded_code: bool = False,
) -> Predictor:
    """Load a trained model, ready to predict; see `rvbuild.learn.checkpoint.load_model` for the parameters."""
    from rvbuild.stages.network import load_network

    return load_network(weights, description, device, trained=trained, run_embedded_code=run_embedded_code)
