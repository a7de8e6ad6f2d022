"""A trained model that is ready to predict, whatever computes it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rvbuild.learn.backend import load_backend
from rvbuild.learn.model_files import ModelInfo, read_info, require_named
from rvbuild.settings.train import TrainedSettings


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
    trained: TrainedSettings | None = None,
    run_embedded_code: bool = False,
) -> Predictor:
    """Load a trained model, ready to predict: of torch, or of a training backend.

    Parameters
    ----------
    weights, description, device, trained, run_embedded_code
        See `rvbuild.learn.checkpoint.load_model`; a backend chooses its device itself.

    Raises
    ------
    ModelError
        A file is damaged, the weights do not fit the model, or the model is made by another factory than the project
        names, or by one that cannot be used.
    """
    info = read_info(description)
    if info.backend:
        if not run_embedded_code:
            require_named(description, info.model, info.model_args, trained)
        return load_backend(weights, info, info.code if run_embedded_code else None)
    from rvbuild.stages.network import load_network  # it imports torch

    return load_network(weights, description, device, trained=trained, run_embedded_code=run_embedded_code)
