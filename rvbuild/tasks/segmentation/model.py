"""The model side of segmentation: logits at the size of the images, the loss over labelled pixels, the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from rvbuild.errors import ModelError
from rvbuild.learn.hooks import PartObjective
from rvbuild.settings.train import LossSettings
from rvbuild.tasks.class_objective import ClassObjective, loss_of


def objective(
    train: LossSettings, outputs: Sequence[str], output_ids: Sequence[int], class_counts: np.ndarray
) -> PartObjective:
    """Return the objective of the train settings; see `rvbuild.tasks.protocol.Task.objective`."""
    loss, weights = loss_of(train, outputs, output_ids, class_counts, "no pixel of the training chips")
    return ClassObjective(loss, outputs, output_ids, logits, "labels", weights)


def forward(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Return the probabilities of the outputs, `(N, K, H, W)` float32, at the size of `images`."""
    with torch.inference_mode():
        values = logits(model, images)
        if values.is_cpu and not values.is_contiguous():
            # Softmax would make this copy, too, and keep it until its result is there: here it becomes the result.
            values = values.contiguous()
            torch.softmax(values, dim=1, out=values)
        else:
            values = torch.softmax(values, dim=1).cpu()
    probabilities: np.ndarray = values.numpy()
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
    result = model(images)
    if isinstance(result, Mapping):
        result = result.get("out")
    # An export needs shapes: `len` would fix the number of images.
    if not isinstance(result, torch.Tensor) or result.dim() != 4 or result.shape[0] != images.shape[0]:
        raise ModelError(f'{_expected(images, outputs)}, or a dict with such an "out"; found {_shape(result)}')
    if outputs is not None and result.shape[1] != outputs:
        raise ModelError(f"{_expected(images, outputs)}, one channel per class without null; found {_shape(result)}")
    values = result.float()
    if values.shape[-2:] != images.shape[-2:]:
        values = functional.interpolate(values, size=images.shape[-2:], mode="bilinear", align_corners=False)
    return values


def _expected(images: torch.Tensor, outputs: int | None) -> str:
    return f"train.model: expected an output ({len(images)}, {outputs or 'K'}, height, width)"


def _shape(result: object) -> object:
    return tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
