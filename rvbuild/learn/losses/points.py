"""Losses that are a weighted mean over points, which are labelled pixels or labelled chips.

Class weights weigh points by their class, and the sum is divided by the weights of all points, as torch's own mean
does. So a loss keeps its size whatever the weights are, and with a batch without any labelled point it is 0, where
torch's is not a number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

IGNORE = -100
"""The target of what does not count: torch's own default, so that its losses can be used as they are."""

Loss = Callable[..., torch.Tensor]
"""Maps logits `(N, K, H, W)` float32 and targets `(N, H, W)` int64 (0 … K-1, or IGNORE) to a scalar; of chips,
`(N, K)` and `(N,)`. Losses of this module also take `shares`, `(N,)` float32: how much each chip counts."""

LEAST = 1e-6
"""What sums of weights are divided by at least."""


class CrossEntropy:
    """Cross-entropy of logits, the weighted mean over what counts; 0 where nothing counts.

    torch's own mean is not a number for a batch without any labelled pixel.
    """

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        self._weights = None if weights is None else torch.tensor(weights, dtype=torch.float32)

    def __call__(self, logits: torch.Tensor, target: torch.Tensor, shares: torch.Tensor | None = None) -> torch.Tensor:
        """Return the loss; see `Loss`."""
        if shares is not None:
            weights = None if self._weights is None else self._weights.tolist()
            of_points = _shares_of(target, shares)
            logits, target = _arranged(logits, target)
            each = functional.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
            return _mean(each, _weights_of(target, weights, of_points))
        logits, target = _arranged(logits, target)
        if self._weights is None:
            total = (target != IGNORE).sum()
        else:
            self._weights = self._weights.to(logits.device)
            total = torch.where(target == IGNORE, 0.0, self._weights[target.clamp_min(0)]).sum()
        loss = functional.cross_entropy(logits, target, self._weights, ignore_index=IGNORE, reduction="sum")
        return loss / total.clamp_min(LEAST)


class Focal:
    """Focal loss: the mean over points of `(1 - p)^gamma * -log p`, where p is the probability of the true class.

    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017 (arXiv:1708.02002), equations 4 and 5, with softmax
    for several classes and the class weights as alpha. With gamma = 0 it is `CrossEntropy`.

    Parameters
    ----------
    weights
        Of the classes; None: all 1.
    gamma
        How much less points count that are predicted well.
    """

    def __init__(self, weights: Sequence[float] | None = None, *, gamma: float) -> None:
        self._weights, self._gamma = weights, gamma

    def __call__(self, logits: torch.Tensor, target: torch.Tensor, shares: torch.Tensor | None = None) -> torch.Tensor:
        """Return the loss; see `Loss`."""
        of_points = None if shares is None else _shares_of(target, shares)
        logits, target = _arranged(logits.float(), target)
        each = functional.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
        # 1 - p without cancellation where p is nearly 1; not 0, where a power below 1 has no derivative.
        missing = (-torch.expm1(-each)).clamp_min(1e-12)
        return _mean(missing**self._gamma * each, _weights_of(target, self._weights, of_points))


class LabelSmoothing:
    """Cross-entropy with smooth targets: 1 - s + s / K for the true class, s / K for each of the others.

    Szegedy et al., Rethinking the Inception Architecture, CVPR 2016 (arXiv:1512.00567), section 7. Without class
    weights it is torch's `CrossEntropyLoss(label_smoothing=s)`. With them, a point weighs what its class does; torch
    weighs the probability of each class instead, so that points of a class that weighs 0 would still count.

    Parameters
    ----------
    weights
        Of the classes; None: all 1.
    smoothing
        s, the probability that is spread evenly over all classes.
    """

    def __init__(self, weights: Sequence[float] | None = None, *, smoothing: float) -> None:
        self._weights, self._smoothing = weights, smoothing

    def __call__(self, logits: torch.Tensor, target: torch.Tensor, shares: torch.Tensor | None = None) -> torch.Tensor:
        """Return the loss; see `Loss`."""
        of_points = None if shares is None else _shares_of(target, shares)
        logits, target = _arranged(logits.float(), target)
        each = functional.cross_entropy(
            logits, target, ignore_index=IGNORE, reduction="none", label_smoothing=self._smoothing
        )
        return _mean(each, _weights_of(target, self._weights, of_points))


def _arranged(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and targets in the form whose cross-entropy is deterministic, and fast."""
    if not logits.is_cuda:
        return logits, target
    # CUDA's 2D form is not deterministic, the flat one is; on CPUs the 2D form is faster.
    return logits.movedim(1, -1).reshape(-1, logits.shape[1]), target.reshape(-1)


def _shares_of(target: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Return how much each point counts, by the share of its chip, in the form of `_arranged`."""
    of_points = shares.reshape(-1, *[1] * (target.dim() - 1)).expand_as(target)
    return of_points.reshape(-1) if target.is_cuda else of_points


def _weights_of(
    target: torch.Tensor, weights: Sequence[float] | None, shares: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the weight of each point, float32 in the shape of `target`; 0 where there is no label."""
    labelled = target != IGNORE
    if weights is None:
        of_points = labelled.float()
    else:
        of_points = torch.tensor(weights, device=target.device)[target.clamp_min(0)] * labelled
    return of_points if shares is None else of_points * shares


def _mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean; 0 if nothing weighs anything."""
    return (values * weights).sum() / weights.sum().clamp_min(LEAST)
