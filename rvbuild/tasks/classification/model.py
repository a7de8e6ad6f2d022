"""The model side of chip classification: logits, the loss over labelled chips, the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn.hooks import PartObjective
from rvbuild.learn.selection import Scores
from rvbuild.settings.train import LossSettings
from rvbuild.tasks.class_objective import ClassObjective, loss_of


class ChipObjective(ClassObjective):
    """Classification of chips: scored by accuracy and F1."""

    def scores(self) -> Scores:
        """Return accuracy and F1 since the last call; None where no chip counted."""
        counted = self.counts()
        scores, matrix = counted.scores(), counted.matrix
        accuracy = float(np.trace(matrix) / matrix.sum()) if matrix.any() else None
        return {"accuracy": accuracy, "f1": scores["f1"], "mean_f1": scores["mean_f1"]}


def objective(
    train: LossSettings, outputs: Sequence[str], output_ids: Sequence[int], class_counts: np.ndarray
) -> PartObjective:
    """Return the objective of the train settings; see `rvbuild.tasks.protocol.Task.objective`."""
    loss, weights = loss_of(train, outputs, output_ids, class_counts, "no training chip")
    return ChipObjective(loss, outputs, output_ids, logits, "classes", weights)


def forward(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Return the probabilities of the outputs, `(N, K)` float32."""
    with torch.inference_mode():
        probabilities: np.ndarray = torch.softmax(logits(model, images), dim=1).cpu().numpy()
    return probabilities


def logits(model: nn.Module, images: torch.Tensor, outputs: int | None = None) -> torch.Tensor:
    """Return a model's logits, `(N, K)` float32.

    Parameters
    ----------
    model
        Returns such a tensor, or a dict whose `"out"` is one.
    images
        `(N, C, H, W)` float32.
    outputs
        The K to expect; None: any.
    """
    try:
        result = model(images)
    except (RuntimeError, AssertionError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise
        raise ModelError(
            f"train.model: the model cannot work on chips of {images.shape[-2]} x {images.shape[-1]} px with "
            f"{images.shape[1]} bands: {error}; many models need larger chips, see chip.size_px"
        ) from error
    if isinstance(result, Mapping):
        result = result.get("out")
    # An export needs shapes: `len` would fix the number of images.
    if not isinstance(result, torch.Tensor) or result.dim() != 2 or result.shape[0] != images.shape[0]:
        raise ModelError(f'{_expected(images, outputs)}, or a dict with such an "out"; found {_shape(result)}')
    if outputs is not None and result.shape[1] != outputs:
        raise ModelError(f"{_expected(images, outputs)}, one value per class without null; found {_shape(result)}")
    return result.float()


def _expected(images: torch.Tensor, outputs: int | None) -> str:
    return f"train.model: expected an output ({len(images)}, {outputs or 'K'})"


def _shape(result: object) -> object:
    return tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
