import pytest
import torch
from torch.nn import functional

from rvbuild.errors import ModelError
from rvbuild.learn.losses.make import make_loss
from rvbuild.learn.losses.points import IGNORE
from rvbuild.project.tasks.losses import LOSSES


def batch():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (2, 4, 4), generator=generator)
    target[0, :2] = IGNORE
    return torch.randn(2, 3, 4, 4, generator=generator, requires_grad=True), target


@pytest.mark.parametrize("name", LOSSES)
def test_a_declared_loss_is_made_with_its_defaults(name):
    spec = LOSSES[name]
    logits, target = batch()
    default = make_loss(name, {}, [1.0, 2.0, 0.5])(logits, target)
    assert default == make_loss(name, spec.with_defaults({}), [1.0, 2.0, 0.5])(logits, target)
    for argument in spec.arguments:
        changed = make_loss(name, {argument: 0.75}, None)(logits, target)
        assert changed != make_loss(name, {}, None)(logits, target), argument


def test_defaults_are_what_they_were():
    """They are in no key: whoever changes one raises the version of `train`, and says so in the changelog."""
    assert {name: spec.with_defaults({}) for name, spec in LOSSES.items() if spec.arguments} == {
        "focal": {"gamma": 2.0},
        "label_smoothing": {"smoothing": 0.1},
        "dice": {"smooth": 0.0},
        "tversky": {"alpha": 0.5, "beta": 0.5, "smooth": 0.0},
        "dice_cross_entropy": {"lambda_dice": 1.0, "lambda_ce": 1.0, "smooth": 0.0},
    }


@pytest.mark.parametrize("name", LOSSES)
def test_class_weights_of_one_are_none(name):
    logits, target = batch()
    torch.testing.assert_close(
        make_loss(name, {}, [3.0] * 3)(logits, target), make_loss(name, {}, None)(logits, target)
    )


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5], [0.0, 1.0, 0.0]])
@pytest.mark.parametrize("name", LOSSES)
def test_what_has_no_label_takes_no_part(name, weights):
    """Whatever is predicted there, the loss is the same, and nothing is learnt of it."""
    loss = make_loss(name, {}, weights)
    logits, target = batch()
    other = torch.where(target.unsqueeze(1) == IGNORE, 1e4, logits.detach()).requires_grad_()
    values = [loss(logits, target), loss(other, target)]
    values[1].backward()
    torch.testing.assert_close(*values)
    assert values[1] > 0
    assert (other.grad[0, :, :2] == 0).all() and (other.grad[1] != 0).any()
    assert torch.isfinite(other.grad).all()


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
@pytest.mark.parametrize("name", LOSSES)
def test_nothing_labelled_is_no_loss(name, weights):
    logits, target = batch()
    loss = make_loss(name, {}, weights)(logits, torch.full_like(target, IGNORE))
    loss.backward()
    assert loss == 0 and logits.grad.abs().sum() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_classes_that_weigh_nothing_are_not_learnt(name):
    logits, target = batch()
    loss = make_loss(name, {}, [0.0, 1.0, 1.0])(logits, torch.where(target == IGNORE, IGNORE, 0))
    loss.backward()
    assert loss == 0 and logits.grad.abs().sum() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_have_finite_losses_and_gradients(name):
    loss = make_loss(name, {"gamma": 0.5} if name == "focal" else {}, [1.0, 2.0, 0.5])
    target = batch()[1]
    for scale in (0.0, 1e-6, 100.0, 1e6):
        for sign in (1, -1):
            wanted = torch.nn.functional.one_hot(target.clamp_min(0), 3).movedim(-1, 1).float()
            logits = (wanted * scale * sign).requires_grad_()
            value = loss(logits, target)
            value.backward()
            assert torch.isfinite(value) and torch.isfinite(logits.grad).all(), (scale, sign)
            if sign == 1 and scale == 1e6 and name != "label_smoothing":
                assert value.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_computed_in_float32(name, dtype):
    """Half precision counts to 2048: the sums over a batch must not be taken in it."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 64, 64, generator=generator)
    target = torch.randint(0, 3, (1, 64, 64), generator=generator)
    loss = make_loss(name, {}, None)
    expected = loss(logits, target)
    with torch.autocast("cpu", dtype=dtype):
        result = loss(logits, target)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_learning_with_a_loss_gets_it_right(name):
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (2, 8, 8), generator=generator)
    target[0, 0] = IGNORE
    logits = torch.randn(2, 3, 8, 8, generator=generator).mul(0.1).requires_grad_()
    loss, optimizer = make_loss(name, {}, None), torch.optim.Adam([logits], lr=0.2)
    for _ in range(60):
        optimizer.zero_grad()
        loss(logits, target).backward()
        optimizer.step()
    assert (logits.argmax(dim=1) == target)[target != IGNORE].all()


def test_a_loss_of_torchs_own():
    logits, target = batch()
    loss = make_loss("torch.nn:CrossEntropyLoss", {"label_smoothing": 0.1}, None)
    torch.testing.assert_close(loss(logits, target), functional.cross_entropy(logits, target, label_smoothing=0.1))


def test_losses_that_cannot_be():
    with pytest.raises(ModelError, match='no loss "cross_entopy"; did you mean "cross_entropy"'):
        make_loss("cross_entopy", {}, None)
    with pytest.raises(ModelError, match=r'train.loss_args.gamma: "cross_entropy" has no such argument; it takes no'):
        make_loss("cross_entropy", {"gamma": 1}, None)
    with pytest.raises(ModelError, match=r"train.loss_args.gamma: expected a number of at least 0, found -1"):
        make_loss("focal", {"gamma": -1}, None)
    with pytest.raises(ModelError, match="class_weights works with losses that have a name only"):
        make_loss("torch.nn:CrossEntropyLoss", {}, [1.0])
    with pytest.raises(ModelError, match=r"called with .*'gamma': 1.* failed: TypeError"):
        make_loss("torch.nn:CrossEntropyLoss", {"gamma": 1}, None)
    with pytest.raises(ModelError, match="returned float64; expected a callable"):
        make_loss("numpy:mean", {"a": [1.0, 2.0]}, None)
    with pytest.raises(ModelError, match="a module of Python itself"):
        make_loss("builtins:int", {}, None)
