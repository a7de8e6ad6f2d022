"""What pretrained weights expect of their input, as torchvision says it."""

from __future__ import annotations

import pytest
import torch
from torchvision import models

from rvbuild.errors import ModelError
from rvbuild.learn.models.expected import expected

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("model", "figures"),
    [
        ("deeplabv3_resnet50", IMAGENET),
        ("lraspp_mobilenet_v3_large", IMAGENET),
        ("resnet18", IMAGENET),
        ("vit_h_14", IMAGENET),
        ("efficientnet_v2_l", HALF),
        ("inception_v3", HALF),
        ("googlenet", HALF),
        ("fasterrcnn_resnet50_fpn", IMAGENET),
        ("fcos_resnet18_fpn", IMAGENET),
        ("ssdlite_mobilenet_v3_large", IMAGENET),
    ],
)
def test_figures(model, figures):
    assert expected(model) == figures


@pytest.mark.parametrize("model", ["unet", "cnn", "mine.models:make"])
def test_of_other_models_nothing_is_known(model):
    with pytest.raises(ModelError, match=r"the normalisation of the weights of the model .* is not known"):
        expected(model)


def test_the_step_inside_googlenet_and_inception_is_that_from_imagenet_to_half():
    image = torch.rand(1, 3, 4, 4)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    network = models.GoogLeNet(num_classes=2, transform_input=True, init_weights=False, aux_logits=False)
    torch.testing.assert_close(network._transform_input((image - mean) / std), (image - 0.5) / 0.5)
