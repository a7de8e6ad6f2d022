"""Losses of regions against their formulas in plain loops."""

import math

import numpy as np
import pytest
import torch

from rvbuild.learn.losses.points import IGNORE, CrossEntropy
from rvbuild.learn.losses.regions import Dice, DiceCrossEntropy, Lovasz, Tversky

WEIGHTS = [1.0, 2.0, 0.5, 3.0]


@pytest.fixture(params=[(2, 4, 5), (9,)], ids=["pixels", "chips"])
def batch(request):
    """Return logits of 4 classes, of which the last never occurs, and targets, some without a label."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, request.param, generator=generator)
    target[0] = IGNORE
    return torch.randn(request.param[0], 4, *request.param[1:], generator=generator), target


def classes(logits, target):
    """Yield, of each class that occurs, its number, the probabilities and whether it is the true one, by point."""
    probabilities = torch.softmax(logits.double(), 1).movedim(1, -1).reshape(-1, 4).numpy()
    wanted = target.reshape(-1).numpy()
    probabilities, wanted = probabilities[wanted != IGNORE], wanted[wanted != IGNORE]
    for number in np.unique(wanted):
        yield number, probabilities[:, number], wanted == number


def mean(losses, weights):
    weights = weights or [1.0] * 4
    return sum(weights[number] * loss for number, loss in losses) / sum(weights[number] for number, _ in losses)


@pytest.mark.parametrize("smooth", [0.0, 1.5])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_dice(batch, weights, smooth):
    losses = []
    for number, p, true in classes(*batch):
        both = sum(float(a) for a, b in zip(p, true, strict=True) if b)
        losses.append((number, 1 - (2 * both + smooth) / (p.sum() + true.sum() + smooth)))
    assert float(Dice(weights, smooth=smooth)(*batch)) == pytest.approx(mean(losses, weights), rel=1e-5)


@pytest.mark.parametrize(("alpha", "beta", "smooth"), [(0.3, 0.7, 0.0), (1.0, 1.0, 1.0), (0.0, 1.0, 0.0)])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_tversky(batch, weights, alpha, beta, smooth):
    losses = []
    for number, p, true in classes(*batch):
        hit = false_positive = false_negative = 0.0
        for probability, is_class in zip(p, true, strict=True):
            hit += probability * is_class
            false_positive += probability * (not is_class)
            false_negative += (1 - probability) * is_class
        index = (hit + smooth) / (hit + alpha * false_positive + beta * false_negative + smooth)
        losses.append((number, 1 - index))
    result = Tversky(weights, alpha=alpha, beta=beta, smooth=smooth)(*batch)
    assert float(result) == pytest.approx(mean(losses, weights), rel=1e-5)


def jaccard_loss(wrong, true):
    """Return 1 - IoU of a class if the pixels `wrong`, a set of positions, are on the wrong side."""
    predicted = {number for number in range(len(true)) if true[number] != (number in wrong)}
    truth = {number for number in range(len(true)) if true[number]}
    return 1 - len(predicted & truth) / len(predicted | truth) if predicted | truth else 0.0


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_lovasz(batch, weights):
    """The Lovász extension by its definition: sets of the largest errors, and what each pixel adds to their loss."""
    losses = []
    for number, p, true in classes(*batch):
        errors = np.abs(true - p)
        order = np.argsort(-errors, kind="stable")
        value = 0.0
        for position, pixel in enumerate(order):
            before, after = set(order[:position].tolist()), set(order[: position + 1].tolist())
            value += errors[pixel] * (jaccard_loss(after, true) - jaccard_loss(before, true))
        losses.append((number, value))
    assert float(Lovasz(weights)(*batch)) == pytest.approx(mean(losses, weights), rel=1e-5)


def test_lovasz_of_certain_predictions_is_the_jaccard_loss():
    target = torch.tensor([[[0, 0, 1, 1, 1, IGNORE]]])
    guess = torch.tensor([0, 1, 1, 1, 0, 0])
    logits = torch.nn.functional.one_hot(guess, 2).T.reshape(1, 2, 1, 6) * 200.0
    expected = ((1 - 1 / 3) + (1 - 2 / 4)) / 2
    assert float(Lovasz()(logits, target)) == pytest.approx(expected)


def test_lovasz_has_the_derivative_of_its_formula():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 3, 2, 3, generator=generator).requires_grad_()
    target = torch.randint(0, 3, (1, 2, 3), generator=generator)
    Lovasz()(logits, target).backward()
    numeric = torch.zeros_like(logits)
    for position in range(logits.numel()):
        step = torch.zeros(logits.numel())
        step[position] = 1e-3
        step = step.reshape(logits.shape)
        with torch.no_grad():
            numeric.view(-1)[position] = (Lovasz()(logits + step, target) - Lovasz()(logits - step, target)) / 2e-3
    torch.testing.assert_close(logits.grad, numeric, rtol=1e-2, atol=2e-4)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_dice_cross_entropy_is_the_sum(batch, weights):
    result = DiceCrossEntropy(weights, lambda_dice=0.3, lambda_ce=2.0, smooth=1.0)(*batch)
    expected = 0.3 * Dice(weights, smooth=1.0)(*batch) + 2.0 * CrossEntropy(weights)(*batch)
    torch.testing.assert_close(result, expected)


@pytest.mark.slow
def test_many_pixels_lose_no_precision():
    """A class of one pixel among a million: in float32, steps of 1 - IoU near 1 would be lost."""
    generator = torch.Generator().manual_seed(0)
    target = torch.ones(1, 1000, 1000, dtype=torch.int64)
    target[0, 500, 500] = 0
    logits = torch.randn(1, 2, 1000, 1000, generator=generator)
    errors = (torch.softmax(logits.double(), 1)[:, 0] - (target == 0).double()).abs().reshape(-1)
    expected = []
    for true in ((target == 0).reshape(-1), (target == 1).reshape(-1)):
        order = errors.argsort(descending=True, stable=True)
        sorted_true = true[order].double()
        hits = sorted_true.cumsum(0)
        jaccard = 1 - (sorted_true.sum() - hits) / (sorted_true.sum() + (1 - sorted_true).cumsum(0))
        expected.append(float((errors[order] * torch.diff(jaccard, prepend=torch.zeros(1).double())).sum()))
    assert float(Lovasz()(logits, target)) == pytest.approx(sum(expected) / 2, rel=1e-5)
    assert math.isfinite(float(Dice()(logits, target)))
