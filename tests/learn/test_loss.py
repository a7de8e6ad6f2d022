import pytest
import torch
from torch.nn import functional

from rvbuild.errors import DataError, ModelError
from rvbuild.learn.loss import IGNORE, CrossEntropy, class_weights, make_loss

NAMES = ["car", "tree", "road"]


def batch():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (2, 4, 4), generator=generator)
    target[0, :2] = IGNORE
    return torch.randn(2, 3, 4, 4, generator=generator, requires_grad=True), target


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_cross_entropy_is_torchs(weights):
    logits, target = batch()
    expected = functional.cross_entropy(logits, target, None if weights is None else torch.tensor(weights))
    torch.testing.assert_close(CrossEntropy(weights)(logits, target), expected)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_nothing_labelled_is_no_loss(weights):
    logits, target = batch()
    loss = CrossEntropy(weights)(logits, torch.full_like(target, IGNORE))
    loss.backward()
    assert loss == 0 and logits.grad.abs().sum() == 0


def test_class_weights():
    assert class_weights("none", NAMES, [1, 2, 3]) is None
    assert class_weights({"tree": 2}, NAMES, [1, 2, 3]) == [1.0, 2.0, 1.0]
    balanced = class_weights("balanced", NAMES, [30, 0, 10])
    assert balanced == [pytest.approx(40 / 60), 0.0, 2.0]
    assert balanced[0] * 30 == balanced[2] * 10


def test_class_weights_that_cannot_be():
    with pytest.raises(ModelError, match='"balance"; did you mean "balanced"'):
        class_weights("balance", NAMES, [1, 2, 3])
    with pytest.raises(ModelError, match='no class "three"; did you mean "tree"'):
        class_weights({"three": 1.0}, NAMES, [1, 2, 3])
    with pytest.raises(ModelError, match="car: expected a number of at least 0, found -1"):
        class_weights({"car": -1}, NAMES, [1, 2, 3])
    with pytest.raises(DataError, match="every class that the training chips have weighs 0"):
        class_weights({"car": 0, "tree": 0}, NAMES, [1, 2, 0])


def test_a_loss_of_torchs_own():
    logits, target = batch()
    loss = make_loss("torch.nn:CrossEntropyLoss", {"label_smoothing": 0.1}, None)
    torch.testing.assert_close(loss(logits, target), functional.cross_entropy(logits, target, label_smoothing=0.1))


def test_losses_that_cannot_be():
    with pytest.raises(ModelError, match='no loss "cross_entopy"; did you mean "cross_entropy"'):
        make_loss("cross_entopy", {}, None)
    with pytest.raises(ModelError, match='"cross_entropy" takes no arguments, found gamma'):
        make_loss("cross_entropy", {"gamma": 1}, None)
    with pytest.raises(ModelError, match='class_weights works with "cross_entropy" only'):
        make_loss("torch.nn:CrossEntropyLoss", {}, [1.0])
    with pytest.raises(ModelError, match=r"called with .*'gamma': 1.* failed: TypeError"):
        make_loss("torch.nn:CrossEntropyLoss", {"gamma": 1}, None)
    with pytest.raises(ModelError, match="returned float64; expected a callable"):
        make_loss("numpy:mean", {"a": [1.0, 2.0]}, None)
    with pytest.raises(ModelError, match="a module of Python itself"):
        make_loss("builtins:int", {}, None)
