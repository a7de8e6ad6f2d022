import numpy as np
import pytest
import torch

from rvbuild.errors import ModelError
from rvbuild.learn.steps.optim import learning_rate, make_optimizer
from tests.learn.chipmaker import train_settings


def rates(steps_per_epoch=5, **changes):
    train = train_settings(lr=0.1, epochs=8, **changes)
    rate = learning_rate(train, steps_per_epoch)
    return np.array([rate(step) for step in range(8 * steps_per_epoch)])


def test_one_cycle_is_torchs():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=40, cycle_momentum=False)
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(rates(schedule="one_cycle"), expected, rtol=1e-9)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_one_cycle_of_very_few_steps(epochs):
    rate = learning_rate(train_settings(lr=0.1, epochs=epochs, schedule="one_cycle"), 1)
    assert all(0 < rate(step) <= 0.1 for step in range(epochs))
    assert rate(0) > 0.003


def test_cosine_and_constant():
    cosine = rates(schedule="cosine")
    assert cosine[0] == 0.1 and cosine[20] == pytest.approx(0.05) and cosine[-1] < 0.001
    assert (np.diff(cosine) < 0).all()
    assert set(rates(schedule="constant")) == {0.1}


def test_steps():
    epoch_rates = rates(schedule="step", step_epochs=[2, 6]).reshape(8, 5)
    np.testing.assert_allclose(epoch_rates[:, 0], [0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.001, 0.001])
    assert (np.ptp(epoch_rates, axis=1) == 0).all()


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_optimizers(name):
    parameter = torch.nn.Parameter(torch.zeros(1))
    made = make_optimizer([parameter], train_settings(optimizer=name, lr=0.5, weight_decay=0.25, momentum=0.75))
    group = made.param_groups[0]
    assert type(made).__name__.lower() == name and group["lr"] == 0.5 and group["weight_decay"] == 0.25
    assert group.get("momentum", 0.75) == 0.75


def test_unknown_names():
    with pytest.raises(ModelError, match='no optimizer "adamww"; did you mean "adamw"'):
        make_optimizer([torch.nn.Parameter(torch.zeros(1))], train_settings(optimizer="adamww"))
    with pytest.raises(ModelError, match='no schedule "onecycle"; did you mean "one_cycle"'):
        learning_rate(train_settings(schedule="onecycle"), 1)
