import pytest
import safetensors.torch
import torch

from rvbuild.errors import ModelError
from rvbuild.learn import models


def build(name, **changes):
    return models.build("semantic_segmentation", name, **{"bands": 3, "outputs": 2, "args": {}, **changes})


def test_a_factory_gets_bands_classes_and_arguments():
    model = build("torch.nn:Conv2d", bands=4, args={"kernel_size": 3})
    assert model.weight.shape == (2, 4, 3, 3)


def test_weights_from_a_file(tmp_path):
    first = build("torch.nn:Conv2d", args={"kernel_size": 3})
    safetensors.torch.save_file(first.state_dict(), tmp_path / "w.safetensors")
    second = build("torch.nn:Conv2d", args={"kernel_size": 3}, pretrained=tmp_path / "w.safetensors")
    assert torch.equal(first.weight, second.weight)


def test_factories_that_fail():
    with pytest.raises(ModelError, match=r'"torch.nn:Conv2d" called with \(3, 2, size=1\) failed: TypeError'):
        build("torch.nn:Conv2d", args={"size": 1})
    with pytest.raises(ModelError, match=r"returned Tensor; expected a torch.nn.Module"):
        build("torch:zeros")
