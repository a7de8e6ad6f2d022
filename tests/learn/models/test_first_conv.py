import pytest
import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn.models.first_conv import adapt_bands


def network(bias=True):
    torch.manual_seed(0)
    return nn.Sequential(nn.Identity(), nn.Sequential(nn.Conv2d(3, 8, 5, stride=2, padding=2, bias=bias)), nn.ReLU())


@pytest.mark.parametrize("bias", [True, False])
def test_more_bands_are_a_parallel_convolution_added(bias):
    model = network(bias)
    old = model[1][0]
    adapt_bands(model, 5, trained=True)
    new = model[1][0]
    extra = nn.Conv2d(2, 8, 5, stride=2, padding=2, bias=False)
    extra.weight.data = new.weight.data[:, 3:]
    images = torch.rand(2, 5, 9, 9)
    torch.testing.assert_close(new(images), old(images[:, :3]) + extra(images[:, 3:]))
    assert (new.weight[:, 3:].abs() > 0).all()


def test_fewer_bands_keep_the_first_kernels():
    model = network()
    old = model[1][0]
    adapt_bands(model, 2, trained=True)
    assert torch.equal(model[1][0].weight, old.weight[:, :2]) and torch.equal(model[1][0].bias, old.bias)


def test_untrained_is_new():
    model = network()
    old = model[1][0]
    adapt_bands(model, 4, trained=False)
    new = model[1][0]
    assert new.weight.shape == (8, 4, 5, 5) and not torch.equal(new.weight[:, :3], old.weight)
    assert new(torch.rand(1, 4, 9, 9)).shape == (1, 8, 5, 5)


def test_the_same_bands_change_nothing():
    model = network()
    old = model[1][0]
    adapt_bands(model, 3, trained=False)
    assert model[1][0] is old


def test_no_convolution():
    with pytest.raises(ModelError, match="Linear has no 2D convolution"):
        adapt_bands(nn.Linear(1, 1), 4, trained=False)
