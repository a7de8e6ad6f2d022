"""The model side of chip classification: logits, the loss over labelled chips, the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from rvbuild.errors import DataError, ModelError
from rvbuild.learn.hooks import Objective, Targets
from rvbuild.learn.loss import IGNORE, Loss, class_weights, make_loss
from rvbuild.learn.metrics import Confusion


class ClassificationObjective:
    """Classification of chips: the loss over labelled chips, accuracy and F1 of the most likely class.

    Parameters
    ----------
    loss
        Of logits `(N, K)` and targets `(N,)` in output positions.
    outputs, output_ids
        Name and class id of each output. All other class ids are ignored.
    """

    def __init__(self, loss: Loss, outputs: Sequence[str], output_ids: Sequence[int]) -> None:
        self._loss = loss
        self._outputs = tuple(outputs)
        # Position of a class id among the outputs.
        self._positions = torch.full((256,), IGNORE, dtype=torch.int64)
        self._positions[list(output_ids)] = torch.arange(len(outputs))
        self._confusion = Confusion(outputs)

    def loss(self, model: nn.Module, images: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Return the loss of one batch; see `rvbuild.learn.hooks.Objective`."""
        return self._losses(logits(model, images, len(self._outputs)), self._wanted(targets))

    def parts(self) -> dict[str, float]:
        """Return nothing: the loss is one."""
        return {}

    def validate(self, model: nn.Module, images: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Return the loss of one validation batch, and count its chips."""
        found, wanted = logits(model, images, len(self._outputs)), self._wanted(targets)
        self._confusion.add(wanted.cpu().numpy(), found.cpu().numpy().argmax(axis=1))
        return self._losses(found, wanted)

    def scores(self) -> dict[str, Any]:
        """Return accuracy and F1 since the last call; None where no chip counted."""
        counted, scores = self._confusion.matrix, self._confusion.scores()
        self._confusion = Confusion(self._outputs)
        accuracy = float(np.trace(counted) / counted.sum()) if counted.any() else None
        return {"accuracy": accuracy, "f1": scores["f1"], "mean_f1": scores["mean_f1"]}

    def _wanted(self, targets: Targets) -> torch.Tensor:
        """Return the targets as output positions, `(N,)` int64, IGNORE where nothing is known."""
        ids = targets["classes"]
        self._positions = self._positions.to(ids.device)
        return self._positions[ids.int()]

    def _losses(self, found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        value = self._loss(found, wanted)
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise ModelError(f"train.loss: expected the loss to return one number as a tensor, found {value!r:.200}")
        return value.reshape(())


def objective(
    train: Mapping[str, Any], outputs: Sequence[str], output_ids: Sequence[int], class_counts: np.ndarray
) -> Objective:
    """Return the objective of the train settings; see `rvbuild.tasks.protocol.Task.objective`."""
    counts = class_counts[list(output_ids)]
    if not counts.any():
        raise DataError(
            f"no training chip has one of the classes {', '.join(outputs)}: there is nothing to learn from; look at "
            "the contact sheets of the chips, and at the labels' settings"
        )
    weights = class_weights(train["class_weights"], outputs, counts)
    return ClassificationObjective(make_loss(train["loss"], train["loss_args"], weights), outputs, output_ids)


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
        found = model(images)
    except (RuntimeError, AssertionError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise
        raise ModelError(
            f"train.model: the model cannot work on chips of {images.shape[-2]} x {images.shape[-1]} px with "
            f"{images.shape[1]} bands: {error}; many need larger ones, see chip.size_px"
        ) from error
    if isinstance(found, Mapping):
        found = found.get("out")
    shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    wanted = f"({len(images)}, {outputs or 'K'})"
    if not isinstance(found, torch.Tensor) or found.dim() != 2 or len(found) != len(images):
        raise ModelError(f'train.model: expected an output {wanted}, or a dict with such an "out"; found {shape}')
    if outputs is not None and found.shape[1] != outputs:
        raise ModelError(f"train.model: expected an output {wanted}, one value per class without null; found {shape}")
    return found.float()
