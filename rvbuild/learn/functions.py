"""The objective of a training by functions of the user: losses and metrics of outputs and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn

from rvbuild.learn.hooks import Targets
from rvbuild.learn.losses.total import added
from rvbuild.learn.selection import Scores

Loss: TypeAlias = Callable[[Any, Any], torch.Tensor]
Losses: TypeAlias = Mapping[str, tuple[float, Loss]]
"""Name → weight and loss."""
Metrics: TypeAlias = Callable[[Any, Any], Mapping[str, float]]

TARGET = "target"
"""The name of targets that are plain tensors."""


class FunctionObjective:
    """Losses and metrics as functions of outputs and targets.

    Parameters
    ----------
    loss
        A loss, or the weights of several with these by name, which are added up.
    metrics
        Figures of a validation batch by name.
    """

    def __init__(self, loss: Loss | Losses, metrics: Metrics | None) -> None:
        self._loss, self._metrics = loss, metrics
        self._sums: dict[str, float] = {}
        self._count = 0
        self._parts: dict[str, torch.Tensor] = {}
        self._chips = 0

    def loss(self, model: nn.Module, images: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Return the loss of one batch."""
        return self._losses(model(images), targets.get(TARGET, targets), len(images))

    def parts(self) -> dict[str, float]:
        """Return the mean of each loss of a sum per item since the last call; empty if the loss is one."""
        means = {name: float(value) / self._chips for name, value in self._parts.items()}
        self._parts, self._chips = {}, 0
        return means

    def validate(self, model: nn.Module, images: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Return the loss of one validation batch, and count its metrics."""
        outputs, wanted = model(images), targets.get(TARGET, targets)
        figures = self._metrics(outputs, wanted) if self._metrics is not None else {}
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value) * len(images)
        self._count += len(images)
        return self._losses(outputs, wanted, len(images))

    def scores(self) -> Scores:
        """Return the means of the metrics since the last call."""
        means = {name: total / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def _losses(self, outputs: Any, wanted: Any, items: int) -> torch.Tensor:
        if not isinstance(self._loss, Mapping):
            return self._loss(outputs, wanted)
        terms = {name: weight * loss(outputs, wanted) for name, (weight, loss) in self._loss.items()}
        for name, value in terms.items():
            part = value.detach().double() * items
            self._parts[name] = self._parts.get(name, torch.zeros_like(part)) + part
        self._chips += items
        return added(terms)
