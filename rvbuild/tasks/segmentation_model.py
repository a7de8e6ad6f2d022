"""The model side of segmentation: logits at the size of the images, the loss over labelled pixels, the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from rvbuild.errors import DataError, ModelError
from rvbuild.learn.hooks import Objective, Targets
from rvbuild.learn.loss import IGNORE, Loss, class_weights, make_loss
from rvbuild.learn.metrics import Confusion


class SegmentationObjective:
    """Pixel-wise classification: the loss over labelled pixels, IoU and F1 of the most likely class.

    Parameters
    ----------
    loss
        Of logits and targets in output positions.
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
        """Return the loss of one validation batch, and count its pixels."""
        found, wanted = logits(model, images, len(self._outputs)), self._wanted(targets)
        self._confusion.add(wanted.cpu().numpy(), found.cpu().numpy().argmax(axis=1))
        return self._losses(found, wanted)

    def scores(self) -> dict[str, Any]:
        """Return IoU and F1 since the last call."""
        scores = self._confusion.scores()
        self._confusion = Confusion(self._outputs)
        return scores

    def _wanted(self, targets: Targets) -> torch.Tensor:
        """Return the targets as output positions, `(N, H, W)` int64, IGNORE where nothing is known."""
        ids = targets["labels"]
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
            f"no pixel of the training chips has one of the classes {', '.join(outputs)}: there is nothing to learn "
            f"from; look at the contact sheets of the chips, and at the labels' settings"
        )
    weights = class_weights(train["class_weights"], outputs, counts)
    return SegmentationObjective(make_loss(train["loss"], train["loss_args"], weights), outputs, output_ids)


def forward(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Return the probabilities of the outputs, `(N, K, H, W)` float32, at the size of `images`."""
    with torch.inference_mode():
        found = logits(model, images)
        probabilities: np.ndarray = torch.softmax(found, dim=1).cpu().numpy()
    return probabilities


def logits(model: nn.Module, images: torch.Tensor, outputs: int | None = None) -> torch.Tensor:
    """Return a model's logits at the size of its input.

    Parameters
    ----------
    model
        Returns a tensor, or a dict whose `"out"` is one: `(N, K, h, w)`. Smaller ones are resampled (bilinear).
    images
        `(N, C, H, W)` float32.
    outputs
        The K to expect; None: any.

    Returns
    -------
    torch.Tensor
        `(N, K, H, W)` float32.
    """
    found = model(images)
    if isinstance(found, Mapping):
        found = found.get("out")
    shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    wanted = f"({len(images)}, {outputs or 'K'}, height, width)"
    if not isinstance(found, torch.Tensor) or found.dim() != 4 or len(found) != len(images):
        raise ModelError(f'train.model: expected an output {wanted}, or a dict with such an "out"; found {shape}')
    if outputs is not None and found.shape[1] != outputs:
        raise ModelError(f"train.model: expected an output {wanted}, one channel per class without null; found {shape}")
    found = found.float()
    if found.shape[-2:] != images.shape[-2:]:
        found = functional.interpolate(found, size=images.shape[-2:], mode="bilinear", align_corners=False)
    return found
