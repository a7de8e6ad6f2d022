"""Exported detectors: the same boxes from their candidates as torchvision chooses."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn import models
from rvbuild.learn.export.detectors import candidates_of, translations
from rvbuild.learn.export.graph import export
from rvbuild.learn.export.inputs import as_input
from rvbuild.learn.model_files import ModelInfo
from rvbuild.learn.normalize import Normalizer
from rvbuild.tasks.detection.candidates import Candidates, Detected
from rvbuild.tasks.detection.model import detect

SIDE, OUTPUTS = 64, 2
SMALL = {"fpn_channels": 8}
NAMES: dict[str, dict[str, Any]] = {
    "retinanet_resnet18_fpn": SMALL,
    "fcos_resnet18_fpn": SMALL,
    "fasterrcnn_resnet18_fpn": {**SMALL, "head_channels": 16, "proposals": 20},
    "ssdlite_mobilenet_v3_large": {},
    "retinanet": {**SMALL, "encoder": "timm/test_resnet"},
    "fcos": {**SMALL, "encoder": "timm/test_vit3"},
    "fasterrcnn": {**SMALL, "head_channels": 16, "proposals": 20, "encoder": "timm/test_convnext"},
}


def side_of(name: str) -> int:
    """Return the side of chips, for encoders one that must be padded."""
    return 50 if "encoder" in NAMES[name] else SIDE


LAST = re.compile(r"(cls_logits|cls_score|bbox_pred|bbox_reg|classification_head\.module_list\.\d\.1)$")
"""The last layers, which at random are sure of nothing."""


def detector(name: str) -> nn.Module:
    """Return a detector with random weights that is sure of some boxes."""
    torch.manual_seed(0)
    side = side_of(name)
    model = models.build("object_detection", name, bands=3, outputs=OUTPUTS, args=NAMES[name], chip_px=side).eval()
    with torch.no_grad():
        for part, layer in model.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and LAST.search(part):
                layer.weight.copy_(torch.randn_like(layer.weight) / layer.weight[0].numel() ** 0.5)
                layer.bias.zero_()
        _settle(model)
    return model


def _settle(model: Any) -> None:
    """Measure the statistics of all normalisations: without, features of deep networks at random fade to nothing."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.train()
    features = list(model.backbone(torch.rand(4, 3, SIDE, SIDE)).values())  # a side that needs no padding
    if hasattr(model, "head"):
        model.head(features)
    model.eval()


IMAGES = np.random.default_rng(0).integers(0, 255, (3, 3, SIDE, SIDE)).astype(np.uint8)


def compare(wanted: list[Detected], found: list[Detected], atol: float) -> None:
    assert sum(len(chip.scores) for chip in wanted) > 20
    for one, other in zip(wanted, found, strict=True):
        assert len(one.scores) == len(other.scores)
        np.testing.assert_allclose(other.scores, one.scores, rtol=0, atol=atol)
    expected = Candidates().expected(wanted)
    assert Candidates().misses(found, expected) == (0, len(expected["scores"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_candidates_give_the_boxes_of_torchvision(name):
    side = side_of(name)
    model, images = detector(name), torch.from_numpy(IMAGES[..., :side, :side] / np.float32(255))
    network, reading = candidates_of(model, name, 3, side)
    with torch.inference_mode():
        output = network.eval()(images).numpy()
    compare(detect(model, images), Candidates().read(output, OUTPUTS, (side, side), reading), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn_resnet18_fpn", "fasterrcnn"])
def test_onnxruntime_proposes_and_pools_as_torchvision_does(name, tmp_path):
    """Of Faster R-CNN: its graph holds a non-maximum suppression, and the pooling of proposals of several levels."""
    model, side = detector(name), side_of(name)
    images = IMAGES[..., :side, :side]
    classes = [{"id": number, "name": class_name} for number, class_name in enumerate(("a", "b", "null"))]
    normalize: Any = {"kind": "scale", "max": 255}
    info = ModelInfo("object_detection", name, {}, 3, "uint8", ["a", "b"], classes, 2, side, normalize)  # type: ignore[arg-type]
    network, reading = candidates_of(model, name, 3, side)
    content = export(network.eval(), info, "candidates", translations(), tmp_path)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"images": as_input(images, None)})
    wanted = detect(model, Normalizer(info)(images))
    compare(wanted, Candidates().read(output, OUTPUTS, (side, side), reading), 1e-4)


def test_another_detector_is_refused():
    with pytest.raises(ModelError, match=r'the model "own:net" cannot be exported'):
        candidates_of(nn.Identity(), "own:net", 3, SIDE)
