"""Losses of points against their formulas in plain Python, and against torch's."""

import math

import pytest
import torch
from torch.nn import functional

from rvbuild.learn.losses.points import IGNORE, CrossEntropy, Focal, LabelSmoothing

WEIGHTS = [1.0, 2.0, 0.5]


def batch(shape):
    """Return logits of 3 classes and targets, some without a label; `shape` is that of the targets."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, shape, generator=generator)
    target[0] = IGNORE
    return torch.randn(shape[0], 3, *shape[1:], generator=generator), target


def points(logits, target):
    """Yield the probabilities and the class of each labelled point."""
    rows = logits.movedim(1, -1).reshape(-1, logits.shape[1]).tolist()
    for row, wanted in zip(rows, target.reshape(-1).tolist(), strict=True):
        if wanted != IGNORE:
            total = sum(math.exp(value) for value in row)
            yield [math.exp(value) / total for value in row], wanted


def mean(values, weights):
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


@pytest.mark.parametrize("shape", [(2, 4, 4), (7,)])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_torchs(weights, shape):
    logits, target = batch(shape)
    expected = functional.cross_entropy(logits, target, None if weights is None else torch.tensor(weights))
    torch.testing.assert_close(CrossEntropy(weights)(logits, target), expected)


@pytest.mark.parametrize("shape", [(2, 4, 4), (7,)])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal(weights, gamma, shape):
    logits, target = batch(shape)
    each = [((1 - p[wanted]) ** gamma * -math.log(p[wanted]), wanted) for p, wanted in points(logits, target)]
    expected = mean([value for value, _ in each], [(weights or [1] * 3)[wanted] for _, wanted in each])
    assert float(Focal(weights, gamma=gamma)(logits, target)) == pytest.approx(expected, rel=1e-5)
    if gamma == 0:
        torch.testing.assert_close(Focal(weights, gamma=0.0)(logits, target), CrossEntropy(weights)(logits, target))


@pytest.mark.parametrize("shape", [(2, 4, 4), (7,)])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_label_smoothing(weights, shape):
    logits, target = batch(shape)
    values, heavy = [], []
    for probabilities, wanted in points(logits, target):
        smooth = [0.2 / 3 + 0.8 * (position == wanted) for position in range(3)]
        values.append(-sum(share * math.log(p) for share, p in zip(smooth, probabilities, strict=True)))
        heavy.append((weights or [1] * 3)[wanted])
    loss = LabelSmoothing(weights, smoothing=0.2)(logits, target)
    assert float(loss) == pytest.approx(mean(values, heavy), rel=1e-5)
    if weights is None:
        torch.testing.assert_close(loss, functional.cross_entropy(logits, target, label_smoothing=0.2))
