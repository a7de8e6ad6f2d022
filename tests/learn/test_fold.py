from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rvbuild.learn.fold import fold_batchnorm
from rvbuild.learn.models import build


def norms(model: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())


def used(model: nn.Module, bands: int = 3, size: int = 64) -> nn.Module:
    """Return a model whose batch normalisations have seen data."""
    generator = torch.Generator().manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, generator=generator)
    return model.eval()


def outputs(model: nn.Module, size: int = 64) -> torch.Tensor:
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        output = model(images)
    value: torch.Tensor = output["out"] if isinstance(output, dict) else output
    return value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "name", "left"),
    [
        ("semantic_segmentation", "lraspp_mobilenet_v3_large", 0),
        ("semantic_segmentation", "deeplabv3_resnet50", 0),
        ("semantic_segmentation", "unet", 0),
        ("chip_classification", "cnn", 0),
        ("chip_classification", "resnet18", 0),
        ("chip_classification", "shufflenet_v2_x0_5", 0),
    ],
)
def test_the_same_network_without_batch_normalisation(task: str, name: str, left: int) -> None:
    torch.manual_seed(0)
    model = used(build(task, name, bands=3, outputs=3, args={}))
    expected = outputs(model)
    folded = fold_batchnorm(model)
    assert folded is model
    assert norms(model) == left
    torch.testing.assert_close(outputs(model), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("bias", [False, True])
def test_a_fold_is_that_of_torch_and_leaves_other_users_of_the_layer_alone(bias: bool) -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 5, 3, stride=2, padding=1, groups=1, bias=bias), nn.BatchNorm2d(5)
    model = used(nn.Sequential(conv, norm))
    before, expected = conv.weight.clone(), fuse_conv_bn_eval(conv.eval(), norm)
    folded = fold_batchnorm(model)[0]
    assert folded is not conv and torch.equal(conv.weight, before)
    assert torch.equal(folded.weight, expected.weight) and torch.equal(folded.bias, expected.bias)
    assert repr(folded) == repr(expected) and isinstance(folded.weight, nn.Parameter)


class _Odd(nn.Module):
    """Uses one convolution twice, looks at another's output before it is normalised, and one part by its values."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.watched = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))
        self.part = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.norms[1](self.twice(self.norms[0](self.twice(images))))
        raw = self.watched(features)
        return self.part(self.norms[2](raw)) + raw


class _Branching(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.inner(images)
        return features if images.mean() > 2 else -features


@pytest.mark.parametrize("branching", [False, True])
def test_only_what_is_safe_is_folded(branching: bool) -> None:
    torch.manual_seed(0)
    model = used(_Branching(_Odd()) if branching else _Odd())
    expected = outputs(model)
    fold_batchnorm(model)
    assert norms(model) == 3
    torch.testing.assert_close(outputs(model), expected)
