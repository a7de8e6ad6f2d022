"""What classifications of pixels and of chips share: the objective, by the loss of logits, and probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn

from rvbuild.errors import DataError, ModelError
from rvbuild.learn.hooks import OTHER, SHARE, Targets
from rvbuild.learn.losses.make import make_loss
from rvbuild.learn.losses.points import IGNORE, Loss
from rvbuild.learn.losses.total import Total, added
from rvbuild.learn.losses.weights import class_weights
from rvbuild.learn.metrics import Confusion
from rvbuild.learn.selection import Scores
from rvbuild.settings.train import LossSettings


class Logits(Protocol):
    """The logits `(N, K, ...)` float32 of a model; K is checked if it is given."""

    def __call__(self, model: nn.Module, images: torch.Tensor, outputs: int | None = None) -> torch.Tensor:
        """Return them."""


class WithProbabilities(nn.Module):
    """A network that gives the probabilities of the outputs, `(N, K, ...)`."""

    def __init__(self, model: nn.Module, logits: Logits) -> None:
        super().__init__()
        self.model = model
        self._logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the probabilities for normalised images."""
        return torch.softmax(self._logits(self.model, images), dim=1)


class ClassObjective:
    """Classification: the loss over everything with a label, and the confusion of the most likely class.

    Parameters
    ----------
    loss
        Of logits `(N, K, ...)` and targets `(N, ...)` in output positions.
    outputs, output_ids
        Name and class id of each output. All other class ids are ignored.
    logits
        Of the model.
    target
        The name of the target with class ids, `(N, ...)` uint8.
    weights
        Of the classes in the loss; None: all 1.
    """

    def __init__(
        self,
        loss: Loss,
        outputs: Sequence[str],
        output_ids: Sequence[int],
        logits: Logits,
        target: str,
        weights: Sequence[float] | None = None,
    ) -> None:
        self._loss, self._logits, self._target = loss, logits, target
        self._outputs = tuple(outputs)
        # Position of a class id among the outputs.
        self._positions = torch.full((256,), IGNORE, dtype=torch.int64)
        self._positions[list(output_ids)] = torch.arange(len(outputs))
        self._weights = np.zeros(256)
        self._weights[list(output_ids)] = 1.0 if weights is None else weights
        self._confusion = Confusion(outputs)
        self._parts: dict[str, torch.Tensor] = {}
        self._chips = 0

    def loss(self, model: nn.Module, images: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Return the loss of one batch; see `rvbuild.learn.hooks.Objective`.

        Chips that are mixed with others (`rvbuild.learn.chips.mixing`) count twice: with each label, by its share.
        """
        logits, wanted = self._logits(model, images, len(self._outputs)), self._wanted(targets[self._target])
        share = targets.get(SHARE)
        if share is None:
            return self._losses(logits, wanted)
        others = self._wanted(targets[f"{OTHER}{self._target}"])
        return self._losses(
            torch.cat([logits, logits]), torch.cat([wanted, others]), torch.cat([share, 1 - share]), chips=len(images)
        )

    def parts(self) -> dict[str, float]:
        """Return the mean of each loss of a sum per chip since the last call; empty if the loss is one."""
        means = {name: float(value) / self._chips for name, value in self._parts.items()}
        self._parts, self._chips = {}, 0
        return means

    def validate(self, model: nn.Module, images: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Return the loss of one validation batch, and count it."""
        logits, wanted = self._logits(model, images, len(self._outputs)), self._wanted(targets[self._target])
        self._confusion.add(wanted.cpu().numpy(), logits.cpu().numpy().argmax(axis=1))
        return self._losses(logits, wanted)

    def scores(self) -> Scores:
        """Return IoU and F1 since the last call."""
        return self.counts().scores()

    def weight(self, targets: Targets) -> float:
        """Return the weight of all that has a label in a batch, by which losses that are means are divided."""
        share = targets.get(SHARE)
        own = self._weight_of_chips(targets[self._target])
        if share is None:
            return float(own.sum())
        of_chips = share.double().numpy()
        others = self._weight_of_chips(targets[f"{OTHER}{self._target}"])
        return float((of_chips * own + (1 - of_chips) * others).sum())

    def _weight_of_chips(self, ids: torch.Tensor) -> np.ndarray:
        """Return the weight of what has a label in each chip, `(N,)` float64."""
        return np.array([np.bincount(chip.numpy().reshape(-1), minlength=256) @ self._weights for chip in ids])

    def counts(self) -> Confusion:
        """Return the counts since the last call."""
        counts, self._confusion = self._confusion, Confusion(self._outputs)
        return counts

    def count(self, counts: Confusion) -> None:
        """Add counts."""
        self._confusion.matrix += counts.matrix

    def _wanted(self, ids: torch.Tensor) -> torch.Tensor:
        """Return class ids as output positions, int64, IGNORE without a label."""
        self._positions = self._positions.to(ids.device)
        return self._positions[ids.int()]

    def _losses(
        self, logits: torch.Tensor, wanted: torch.Tensor, shares: torch.Tensor | None = None, chips: int | None = None
    ) -> torch.Tensor:
        if isinstance(self._loss, Total):
            terms = self._loss.by_name(logits, wanted, shares)
            self._count(terms, chips or len(logits))
            return added(terms)
        value = self._loss(logits, wanted) if shares is None else self._loss(logits, wanted, shares)
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise ModelError(f"train.loss: expected the loss to return one number as a tensor, found {value!r:.200}")
        return value.reshape(())

    def _count(self, terms: Mapping[str, torch.Tensor], chips: int) -> None:
        """Count each loss of a sum for `parts`."""
        for name, value in terms.items():
            part = value.detach().double() * chips
            self._parts[name] = self._parts.get(name, torch.zeros_like(part)) + part
        self._chips += chips


def loss_of(
    train: LossSettings, outputs: Sequence[str], output_ids: Sequence[int], class_counts: np.ndarray, nothing: str
) -> tuple[Loss, list[float] | None]:
    """Return the loss of the train settings, and the weights of its classes, or None if all weigh 1.

    If there are no labels, raise a DataError that begins with `nothing`.

    The parameters are those of `rvbuild.tasks.protocol.Task.objective`.
    """
    counts = class_counts[list(output_ids)]
    if not counts.any():
        raise DataError(
            f"{nothing} has one of the classes {', '.join(outputs)}, so there is nothing to learn from; check the "
            "contact sheets of the chips, and the settings of the labels"
        )
    weights = class_weights(train["class_weights"], outputs, counts)
    return make_loss(train["loss"], train["loss_args"], weights), weights
