"""Losses of classifications: weighted cross-entropy, and any of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from rvbuild.errors import DataError, ModelError, RvbuildError, nearest
from rvbuild.language.user_code import load_object

IGNORE = -100
"""The target of what does not count: torch's own default, so that its losses can be used as they are."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps logits `(N, K, H, W)` float32 and targets `(N, H, W)` int64 (0 … K-1, or IGNORE) to a scalar."""


def class_weights(
    setting: str | Mapping[str, float], names: Sequence[str], counts: Sequence[int] | np.ndarray
) -> list[float] | None:
    """Return a weight per output, or None for equal weights.

    Parameters
    ----------
    setting
        `"none"`, `"balanced"`, or weights by class name; classes that are not named weigh 1. Balanced is
        total / (present classes * count), so that every class weighs the same in sum; a class that never occurs has 0.
    names
        The classes in the order of the outputs.
    counts
        How often each occurs in the training chips.
    """
    if setting == "none":
        return None
    if setting == "balanced":
        total, present = sum(int(n) for n in counts), sum(1 for n in counts if n > 0)
        return [total / (present * int(n)) if n > 0 else 0.0 for n in counts]
    if isinstance(setting, str):
        raise ModelError(
            f'train.class_weights: expected "none", "balanced" or weights by class, found "{setting}"'
            f"{nearest(setting, ('none', 'balanced'))}"
        )
    for name, weight in setting.items():
        if name not in names:
            raise ModelError(f'train.class_weights: there is no class "{name}"{nearest(name, names)}')
        if not weight >= 0:
            raise ModelError(f"train.class_weights.{name}: expected a number of at least 0, found {weight!r}")
    weights = [float(setting.get(name, 1.0)) for name in names]
    if not any(weight > 0 and count > 0 for weight, count in zip(weights, counts, strict=True)):
        raise DataError("train.class_weights: every class that the training chips have weighs 0; nothing can be learnt")
    return weights


class CrossEntropy:
    """Cross-entropy of logits, the weighted mean over what counts; 0 where nothing counts.

    torch's own mean is not a number for a batch without any labelled pixel.
    """

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        self._weights = None if weights is None else torch.tensor(weights, dtype=torch.float32)

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss; see `Loss`."""
        if logits.is_cuda:
            # CUDA's 2D form is not deterministic, the flat one is; on CPUs the 2D form is faster.
            logits = logits.movedim(1, -1).reshape(-1, logits.shape[1])
            target = target.reshape(-1)
        if self._weights is None:
            total = (target != IGNORE).sum()
        else:
            self._weights = self._weights.to(logits.device)
            total = torch.where(target == IGNORE, 0.0, self._weights[target.clamp_min(0)]).sum()
        loss = functional.cross_entropy(logits, target, self._weights, ignore_index=IGNORE, reduction="sum")
        return loss / total.clamp_min(1e-6)


def make_loss(name: str, args: Mapping[str, Any], weights: Sequence[float] | None) -> Loss:
    """Return the loss that `train.loss` names.

    Parameters
    ----------
    name
        `"cross_entropy"`, or `"package.module:factory"`: called with `args`, it returns a `Loss`, for example
        `"torch.nn:CrossEntropyLoss"` with `{"label_smoothing": 0.1}`.
    args
        `train.loss_args`.
    weights
        Class weights, for cross-entropy only.
    """
    if name == "cross_entropy":
        if args:
            raise ModelError(f'train.loss_args: "cross_entropy" takes no arguments, found {", ".join(args)}')
        return CrossEntropy(weights)
    if ":" not in name:
        raise ModelError(
            f'train.loss: there is no loss "{name}"{nearest(name, ["cross_entropy"])}; expected "cross_entropy" or a '
            f'factory as "package.module:factory"'
        )
    if weights is not None:
        raise ModelError(
            f'train.class_weights works with "cross_entropy" only; give "{name}" its weights in train.loss_args'
        )
    factory = load_object(name, "train.loss")
    try:
        made = factory(**args)
    except RvbuildError:
        raise
    except Exception as error:
        raise ModelError(
            f'train.loss: "{name}" called with {dict(args)} failed: {type(error).__name__}: {error}'
        ) from error
    if not callable(made):
        raise ModelError(
            f'train.loss: "{name}" returned {type(made).__name__}; expected a callable (logits, target) -> scalar'
        )
    loss: Loss = made
    return loss
