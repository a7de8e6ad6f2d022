"""Losses that compare the regions of classes: Dice, Tversky and Lovász-Softmax.

Each is computed for one class after another over all labelled pixels of a batch, with the softmax probabilities as a
soft region, and averaged over the classes that these pixels have, weighted by the class weights. A class that they do
not have says nothing (its overlap is 0 / 0). Pixels without a label take no part; a batch without any labelled pixel
has the loss 0. Everything is computed in float32, whatever precision the model computes in: sums over a batch are too
long for half of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from rvbuild.learn.losses.points import IGNORE, LEAST, CrossEntropy


class RegionLoss(ABC):
    """A loss of each class, averaged over the classes that the labelled pixels of a batch have.

    Parameters
    ----------
    weights
        Of the classes; None: all 1.
    """

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        self._weights = weights

    @abstractmethod
    def of_classes(self, probabilities: torch.Tensor, truth: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
        """Return the loss of each class.

        Parameters
        ----------
        probabilities
            `(K, P)` float32, the probabilities of the pixels of a batch; 0 without a label.
        truth
            `(K, P)` bool, which pixels have which class; none without a label.
        labelled
            `(P,)` bool.

        Returns
        -------
        torch.Tensor
            `(K,)` float32, finite; what it is for a class without a pixel does not count.
        """

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss; see `rvbuild.learn.losses.points.Loss`."""
        with torch.autocast(logits.device.type, enabled=False):
            labelled = (target != IGNORE).reshape(-1)
            probabilities = logits.float().softmax(dim=1).movedim(1, 0).flatten(1) * labelled
            classes = torch.arange(len(probabilities), device=logits.device)
            truth = target.reshape(1, -1) == classes[:, None]
            losses = self.of_classes(probabilities, truth, labelled)
            weights = truth.any(dim=1).float()
            if self._weights is not None:
                weights = weights * torch.tensor(self._weights, device=logits.device)
            return (losses * weights).sum() / weights.sum().clamp_min(LEAST)


class Tversky(RegionLoss):
    """1 - Tversky index: `(TP + smooth) / (TP + alpha * FP + beta * FN + smooth)`, of soft regions.

    Salehi et al., Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional Deep Networks, MLMI 2017
    (arXiv:1706.05721). `alpha` is the weight of false positives and `beta` that of false negatives, as in
    segmentation_models_pytorch and MONAI; both 0.5 is `Dice`, both 1 the soft Jaccard loss.

    Parameters
    ----------
    weights
        Of the classes; None: all 1.
    alpha, beta
        The weights of false positives and false negatives; one of them is above 0.
    smooth
        A constant added to numerator and denominator.
    """

    def __init__(
        self, weights: Sequence[float] | None = None, *, alpha: float, beta: float, smooth: float = 0.0
    ) -> None:
        super().__init__(weights)
        self._alpha, self._beta, self._smooth = alpha, beta, smooth

    def of_classes(self, probabilities: torch.Tensor, truth: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
        """Return the loss of each class."""
        hit = (probabilities * truth).sum(dim=1)
        false_positive = probabilities.sum(dim=1) - hit
        false_negative = truth.sum(dim=1) - hit
        total = hit + self._alpha * false_positive + self._beta * false_negative + self._smooth
        return 1 - (hit + self._smooth) / total.clamp_min(LEAST)


class Dice(Tversky):
    """1 - Dice coefficient: `(2 * TP + smooth) / (2 * TP + FP + FN + smooth)`, of soft regions.

    Milletari et al., V-Net, 3DV 2016 (arXiv:1606.04797), with sums of probabilities rather than of their squares, as
    in segmentation_models_pytorch (multiclass mode) and MONAI (`batch=True`). Those divide by the number of all
    classes; here the mean is over the classes that the batch has.

    Parameters
    ----------
    weights
        Of the classes; None: all 1.
    smooth
        A constant added to numerator and denominator.
    """

    def __init__(self, weights: Sequence[float] | None = None, *, smooth: float = 0.0) -> None:
        super().__init__(weights, alpha=0.5, beta=0.5, smooth=smooth / 2)


class Lovasz(RegionLoss):
    """Lovász-Softmax: the Lovász extension of 1 - IoU at the errors of the pixels, piecewise linear in them.

    Berman et al., The Lovász-Softmax loss, CVPR 2018 (arXiv:1705.08790), equations 8 to 11, over the whole batch and
    the classes that it has (`per_image=False`, `classes="present"` of their code and of segmentation_models_pytorch).
    The errors of a class, from the largest down, weigh what each step adds to 1 - IoU if all pixels so far are wrong.
    """

    def of_classes(self, probabilities: torch.Tensor, truth: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
        """Return the loss of each class."""
        errors = (truth.float() - probabilities).abs()
        with torch.no_grad():  # the derivative by the errors is their weights
            # One class after another: the steps of all at once would take many times the memory of the logits.
            weights = torch.stack(
                [_steps(errors[number], truth[number], labelled) for number in range(len(errors))],
            )
        return (errors * weights).sum(dim=1)


def _steps(errors: torch.Tensor, truth: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
    """Return what each pixel adds to 1 - IoU of a class when pixels become wrong in the order of their errors.

    Parameters
    ----------
    errors, truth, labelled
        `(P,)`; pixels without a label come last, and add nothing.
    """
    if not truth.any():  # the class does not count, and sorting takes time
        return torch.zeros_like(errors)
    order = torch.where(labelled, errors, -1.0).argsort(descending=True, stable=True)
    # Whole numbers and float64: steps are smaller than what float32 tells apart near 1. Sums of whole numbers are
    # deterministic on CUDA, too.
    wrong = truth[order].long().cumsum(0)
    count = wrong[-1:]
    union = count + torch.arange(1, len(order) + 1, device=order.device) - wrong
    jaccard = 1 - (count - wrong).double() / union.clamp_min(1)
    steps = torch.diff(jaccard, prepend=jaccard.new_zeros(1)).float()
    return torch.empty_like(steps).scatter_(0, order, steps) * labelled


class DiceCrossEntropy:
    """`lambda_dice * Dice + lambda_ce * CrossEntropy`, each with the class weights.

    The names are MONAI's (`DiceCELoss`); the sum is that of nnU-Net (Isensee et al., Nature Methods 2021).

    Parameters
    ----------
    weights
        Of the classes; None: all 1.
    lambda_dice, lambda_ce
        The weights of the two; one of them is above 0.
    smooth
        Of `Dice`.
    """

    def __init__(
        self, weights: Sequence[float] | None = None, *, lambda_dice: float, lambda_ce: float, smooth: float = 0.0
    ) -> None:
        self._dice, self._cross_entropy = Dice(weights, smooth=smooth), CrossEntropy(weights)
        self._lambda_dice, self._lambda_ce = lambda_dice, lambda_ce

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss; see `rvbuild.learn.losses.points.Loss`."""
        cross_entropy = self._cross_entropy(logits.float(), target)
        return self._lambda_dice * self._dice(logits, target) + self._lambda_ce * cross_entropy
