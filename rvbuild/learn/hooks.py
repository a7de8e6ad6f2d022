"""The interface of tasks for loading chips and training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rvbuild.learn.selection import Scores

if TYPE_CHECKING:
    import torch
    from torch import nn

Target = dict[str, np.ndarray]
"""The target of one chip by name, for example `{"labels": (H, W) uint8}`."""

Targets = dict[str, Any]
"""The targets of a batch: tensors, or lists of tensors if sizes differ, for example `{"labels": (N, H, W) uint8}`."""

OTHER, SHARE = "other_", "share"
"""What the targets of a batch with mixed chips also hold: the targets of the chip that each is mixed with, their names
with this prefix; and how much its own count, `(N,)` float32 from 0 to 1."""


@dataclass(frozen=True)
class Sample:
    """One chip on its way into a batch."""

    image: np.ndarray
    """(C, H, W) in the source dtype; possibly a read-only view."""
    valid: np.ndarray | None
    """(C, H, W) bool, or None if every pixel has data."""
    target: Target


@dataclass(frozen=True)
class TargetOps:
    """How chips' targets are read, changed and batched: module-level functions, so that processes can be sent them."""

    unpack: Callable[[Mapping[str, np.ndarray], int], Target]
    """The target of one chip, from the tensors of its labels shard and its position there."""
    orient: Callable[[Target, bool, int, int], Target]
    """A target mirrored left to right (or not), then turned by quarter turns counter-clockwise; chip size in pixels."""
    collate: Callable[[Sequence[Target]], Targets]
    """The targets of a batch."""
    window: Callable[[Target, int, int, int, int], Target] | None = None
    """The part of a target in a square window (row, column, side) of its chip, which may overhang it, resampled to the
    last number, the side of the chip. None where chips are not augmented."""
    paste: Callable[[Target, Target, slice, slice], Target | None] | None = None
    """A target with the part of another in some rows and columns; None if that cannot be. None where chips are not
    augmented."""


class Objective(Protocol):
    """The objective of a training, and its scores."""

    def loss(self, model: nn.Module, images: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Return the scalar loss of one batch.

        Parameters
        ----------
        model
            In training mode.
        images
            `(N, C, H, W)` float32, normalised, on the device.
        targets
            Of the same batch, on the device.
        """

    def parts(self) -> dict[str, float]:
        """Return the mean of each part of the loss per chip since the last call; empty if it is one."""

    def validate(self, model: nn.Module, images: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Return the scalar loss of one validation batch, and count it for `scores`; in eval mode."""

    def scores(self) -> Scores:
        """Return the metrics of the batches validated since the last call, as JSON data, and reset them."""


class PartObjective(Objective, Protocol):
    """An objective of batches that may be parts of larger ones, in several processes."""

    def weight(self, targets: Targets) -> float:
        """Return how much the loss of a batch weighs where it is a part of a larger one.

        Parameters
        ----------
        targets
            Of the batch, on the CPU.
        """

    def counts(self) -> Any:
        """Return what `validate` has counted since the last call, for other processes, and reset it."""

    def count(self, counts: Any) -> None:
        """Count for `scores` what another objective of the same training has counted."""
