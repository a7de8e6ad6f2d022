import copy

import pytest
import torch
from torch import nn

from rvbuild.learn.batchnorm import allow_single_values, measured


def test_statistics_are_the_mean_over_the_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(2, momentum=0.01), nn.Dropout(), nn.ReLU())
    batches = [torch.randn(4, 2, 3, 3) * k + k for k in (1, 2, 5)]
    model.train()
    model(batches[0])
    before = copy.deepcopy(model.state_dict())
    with measured(model, lambda: [model(batch) for batch in batches]):
        assert not any(module.training for module in model.modules())
        means = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
        variances = torch.stack([batch.var((0, 2, 3)) for batch in batches]).mean(0)
        torch.testing.assert_close(model[0].running_mean, means)
        torch.testing.assert_close(model[0].running_var, variances)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[0].momentum == 0.01


def test_an_error_inside_restores_too():
    model = nn.BatchNorm2d(2)
    with pytest.raises(KeyError), measured(model, lambda: model(torch.rand(3, 2, 1, 1))):
        raise KeyError
    assert model.running_mean.tolist() == [0, 0] and model.training


def test_frozen_layers_stay_frozen():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))
    model[1].eval()
    with measured(model, lambda: model(torch.rand(3, 2, 2, 2))):
        pass
    assert model[0].training and not model[1].training


def test_models_without_batch_normalisation_are_not_run():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.GroupNorm(1, 1))
    with measured(model, lambda: pytest.fail("run")):
        pass


def test_single_values():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))
    with pytest.raises(ValueError, match="more than 1 value"):
        model(torch.rand(1, 2, 1, 1))
    allow_single_values(model)
    images = torch.rand(1, 2, 1, 1, requires_grad=True)
    model(images).sum().backward()
    assert model[0].training and images.grad.abs().sum() > 0 and model[0].running_mean.tolist() == [0, 0]
    model(torch.rand(2, 2, 1, 1))
    assert model[0].running_mean.abs().sum() > 0
