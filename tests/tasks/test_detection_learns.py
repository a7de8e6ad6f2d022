"""Every family of detectors learns a small set by heart, from random weights, with backbones of a few channels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from rvbuild.learn import models
from rvbuild.learn.batchnorm import measured
from rvbuild.learn.device import reproducible
from rvbuild.learn.steps.optim import learning_rate, make_optimizer
from rvbuild.tasks.detection.model import DetectionObjective
from tests.learn.chipmaker import train_settings

SIZE = 48
CHIPS, BATCH = 20, 5


class Backbone(nn.Module):
    """A network with the parts and strides of a ResNet."""

    inplanes = 64

    def __init__(self, norm_layer: Any, **_: Any) -> None:
        super().__init__()

        def block(before: int, after: int, stride: int) -> nn.Module:
            conv = nn.Conv2d(before, after, 3, stride, 1, bias=False)
            return nn.Sequential(conv, norm_layer(after), nn.ReLU(inplace=True))

        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1, self.relu, self.maxpool = norm_layer(8), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        self.layer1, self.layer2, self.layer3 = block(8, 8, 1), block(8, 16, 2), block(16, 32, 2)
        self.layer4, self.fc = block(32, 64, 2), nn.Linear(64, 2)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make backbones narrow; the heads, losses and anchors are what these tests are about."""
    monkeypatch.setenv("RVBUILD_THREADS", "1")
    whole = torchvision.models.get_model

    def get_model(name: str, **options: Any) -> nn.Module:
        return Backbone(**options) if "resnet" in name else whole(name, width_mult=0.25, **options)

    monkeypatch.setattr(torchvision.models, "get_model", get_model)


def squares() -> tuple[torch.Tensor, dict[str, list[torch.Tensor]]]:
    """Return chips (N, 3, H, W), each with a bright square or two, red or green, and the boxes of these."""
    generator = torch.Generator().manual_seed(0)

    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    images, targets = torch.rand(CHIPS, 3, SIZE, SIZE, generator=generator) / 4, {"boxes": [], "classes": []}
    for number in range(CHIPS):
        boxes, classes = [], []
        for half in range(1 + number % 2):
            side, class_id = whole(10, 18), whole(0, 2)
            x, y = whole(0, SIZE - side), half * SIZE // 2 + whole(0, SIZE // 2 - side)
            images[number, class_id, y : y + side, x : x + side] = 1
            boxes.append([x, y, x + side, y + side])
            classes.append(class_id)
        targets["boxes"].append(torch.tensor(boxes, dtype=torch.float32))
        targets["classes"].append(torch.tensor(classes, dtype=torch.uint8))
    return images, targets


ANCHORS = {"anchor_px": [8, 14, 28, 56, 112], "aspect_ratios": [1.0], "fpn_channels": 32}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "args", "epochs", "lr"),
    [
        ("fasterrcnn_resnet18_fpn", {**ANCHORS, "head_channels": 64, "rois": 32}, 16, 3e-3),
        ("retinanet_resnet18_fpn", ANCHORS, 15, 2e-3),
        ("fcos_resnet18_fpn", {"fpn_channels": 32}, 14, 2e-3),
        ("ssdlite_mobilenet_v3_large", {}, 24, 5e-3),
    ],
)
def test_learns_squares_by_heart(name: str, args: dict[str, Any], epochs: int, lr: float, narrow: None) -> None:
    images, targets = squares()
    goal = DetectionObjective(["red", "green"], [0, 1])
    train = train_settings(epochs=epochs, lr=lr, optimizer="adamw", schedule="one_cycle")
    with reproducible(0, torch.device("cpu")):
        model = models.build(
            "object_detection", name, bands=3, outputs=2, args=args, pretrained=False, note=pytest.fail
        )
        optimizer, rate = make_optimizer(model.parameters(), train), learning_rate(train, CHIPS // BATCH)
        for step in range(epochs * CHIPS // BATCH):
            if step % (CHIPS // BATCH) == 0:
                batches = iter(torch.randperm(CHIPS).split(BATCH))
            chosen = next(batches)
            optimizer.param_groups[0]["lr"] = rate(step)
            batch = {key: [values[i] for i in chosen] for key, values in targets.items()}
            optimizer.zero_grad()
            goal.loss(model, images[chosen], batch).backward()
            optimizer.step()
        with measured(model, lambda: model(list(images))), torch.inference_mode():
            goal.validate(model, images, targets)
    scores = goal.scores()
    assert scores["mean_ap50"] > 0.9, scores
