from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn import models
from rvbuild.learn.models.detectors import heads, parts
from rvbuild.learn.models.detectors import named as family
from rvbuild.learn.models.first_conv import first_conv
from rvbuild.project.applied import detection as boxes

TASK = "object_detection"
SMALL = {"fpn_channels": 32}


@pytest.fixture
def quick_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill weights quickly: drawing those of large networks takes most of the time."""

    def fill(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        with torch.no_grad():
            return tensor.fill_(0.001)

    for name in ("kaiming_normal_", "kaiming_uniform_", "normal_"):
        monkeypatch.setattr(torch.nn.init, name, fill)


def small(name: str) -> dict[str, Any]:
    if name.startswith("ssdlite"):
        return {"detections": 20}
    return {**SMALL, "head_channels": 16, "rois": 16} if name.startswith("fasterrcnn") else SMALL


def build(
    name: str, bands: int = 3, outputs: int = 2, pretrained: Any = False, note: Any = pytest.fail, **args: Any
) -> Any:
    return models.build(TASK, name, bands=bands, outputs=outputs, args=args, pretrained=pretrained, note=note)


def targets(model: Any) -> list[dict[str, torch.Tensor]]:
    """Return targets of two images: of all classes, and none."""
    labels = torch.tensor([0, 1, 2]) + model.first_label
    corners = torch.tensor([[4.0, 4, 30, 28], [20.5, 10, 31, 28], [2, 3, 20, 17]])
    return [
        {"boxes": corners, "labels": labels},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]


def test_the_names_are_those_of_projects() -> None:
    assert models.names(TASK) == boxes.SPEC.models
    assert heads.WINDOW_IOU == boxes.MOST_MERGE
    assert boxes.MODEL_ARGS == family.MODEL_ARGS


@pytest.mark.slow
@pytest.mark.parametrize(("name", "bands"), list(zip(family.NAMES, itertools.cycle((3, 4, 1, 6)), strict=False)))
def test_every_detector_trains_a_step_and_predicts_with_any_bands_and_classes(
    name: str, bands: int, quick_start: None
) -> None:
    torch.manual_seed(0)
    model = build(name, bands=bands, outputs=3, **small(name))
    images = torch.rand(2, bands, 32, 32)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    losses = model(images, targets(model))
    assert len(losses) >= 2
    total = torch.stack(list(losses.values())).sum()
    assert torch.isfinite(total)
    total.backward()
    assert first_conv(model)[1].weight.grad.abs().sum() > 0
    optimizer.step()
    model.eval()
    with torch.inference_mode():
        predictions = model(images)
    for result in predictions:
        assert set(result["labels"].tolist()) <= {model.first_label + k for k in range(3)}
        assert (result["scores"] >= heads.SCORE_FLOOR).all() and result["boxes"].shape[1] == 4
        assert (result["boxes"] >= 0).all() and (result["boxes"] <= 32).all()


@pytest.mark.parametrize(
    "name", ["fasterrcnn_resnet18_fpn", "retinanet_resnet18_fpn", "fcos_resnet18_fpn", family.NAMES[-1]]
)
def test_there_is_an_output_for_each_class_and_none_too_many(name: str, quick_start: None) -> None:
    # Raster Vision gives its detectors one more, a slot that nothing fills.
    model = build(name, outputs=5, **small(name))
    if name.startswith("fasterrcnn"):
        assert model.roi_heads.box_predictor.cls_score.out_features == 5 + 1  # and the background
    elif name.startswith("ssdlite"):
        assert {layer[1].out_channels for layer in model.head.classification_head.module_list} == {6 * (5 + 1)}
    else:
        anchors = model.head.classification_head.num_anchors
        assert model.head.classification_head.cls_logits.out_channels == anchors * 5


def test_chips_are_neither_resized_nor_normalised(quick_start: None) -> None:
    model = build("fasterrcnn_resnet18_fpn", outputs=3, **small("fasterrcnn"))
    images = torch.rand(2, 3, 40, 56)
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(list(images), targets(model))
    assert torch.equal(seen[0], images)


@pytest.mark.parametrize("name", ["retinanet_resnet18_fpn", "fcos_resnet18_fpn"])
@pytest.mark.parametrize(("channels", "groups"), [(256, 32), (32, 16), (20, 10), (7, 1), (2, 1)])
def test_heads_are_normalised_in_groups(name: str, channels: int, groups: int, quick_start: None) -> None:
    model = build(name, outputs=3, fpn_channels=channels)
    norms = [layer for layer in model.head.modules() if isinstance(layer, nn.GroupNorm)]
    assert len(norms) == 8 and {(layer.num_channels, layer.num_groups) for layer in norms} == {(channels, groups)}
    # One chip whose smallest levels are one pixel.
    losses = model(torch.rand(1, 3, 64, 64), targets(model)[:1])
    assert all(torch.isfinite(value) for value in losses.values())


def test_arguments_of_the_detectors(quick_start: None) -> None:
    args = {"anchor_px": [4, 8, 16, 32, 64], "aspect_ratios": [1.0], "proposals": 7, "detections": 3}
    model = build("fasterrcnn_resnet18_fpn", norm="group", trainable_layers=2, **args, **small("fasterrcnn"))
    assert model.rpn.anchor_generator.sizes == ((4.0,), (8.0,), (16.0,), (32.0,), (64.0,))
    assert model.rpn._post_nms_top_n == {"training": 2000, "testing": 7}
    assert model.roi_heads.detections_per_img == 3
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    frozen = {name.split(".")[2] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1", "layer2"}
    assert build("fasterrcnn_resnet18_fpn", **small("fasterrcnn")).rpn._post_nms_top_n["testing"] == 100
    mobile = build("fasterrcnn_mobilenet_v3_large_fpn", trainable_layers=0, **small("fasterrcnn"))
    assert not any(p.requires_grad for p in mobile.backbone.body.parameters())
    assert mobile.rpn.head.conv[0][0].weight.requires_grad


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("fasterrcnn_resnet18_fpn", {"anchor_px": [8, 16]}, "5 positive numbers, one for each level"),
        ("retinanet_resnet18_fpn", {"aspect_ratios": [0]}, "a list of positive numbers, found"),
        ("fcos_resnet18_fpn", {"fpn_channels": 1}, "a whole number from 2"),
        ("fcos_resnet18_fpn", {"aspect_ratios": [1.0]}, 'no argument "aspect_ratios"'),
        ("ssdlite_mobilenet_v3_large", {"proposals": 10}, 'no argument "proposals"'),
        ("fasterrcnn_resnet18_fpn", {"norm": "layer"}, '"batch" or "group", found'),
        ("fasterrcnn_resnet18_fpn", {"proposals": 0}, "a whole number from 1"),
        ("fasterrcnn_resnet19_fpn", {}, 'did you mean "fasterrcnn_resnet1'),
    ],
)
def test_wrong_arguments(name: str, args: dict[str, Any], message: str, quick_start: None) -> None:
    with pytest.raises(ModelError, match=message):
        build(name, **args)


@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize(
    "name", ["fasterrcnn_resnet18_fpn", "ssdlite_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_fpn"]
)
def test_starts_from_a_backbone_as_torchvision_saves_it(
    tmp_path: Path, name: str, bands: int, quick_start: None
) -> None:
    backbone = name.removeprefix("fasterrcnn_").removeprefix("ssdlite_").removesuffix("_fpn")
    saved = torchvision.models.get_model(backbone, weights=None)
    torch.save(saved.state_dict(), tmp_path / "w.pth")
    model = build(name, bands=bands, pretrained=tmp_path / "w.pth", **small(name))
    known = min(bands, 3)
    assert torch.equal(first_conv(model)[1].weight[:, :known], first_conv(saved)[1].weight[:, :known])
    deep = {tuple(p.shape): p for p in saved.parameters() if p.dim() == 4}
    weights = [
        p for p in model.backbone.parameters() if any(p.shape == q.shape and torch.equal(p, q) for q in deep.values())
    ]
    assert len(weights) > 5


def test_starts_from_a_whole_detector_of_other_classes_and_bands(tmp_path: Path, quick_start: None) -> None:
    first = build("fasterrcnn_resnet18_fpn", outputs=4, bands=4, **small("fasterrcnn"))
    safetensors.torch.save_file(first.state_dict(), tmp_path / "w.safetensors")
    notes: list[str] = []
    second = build("fasterrcnn_resnet18_fpn", outputs=2, bands=6, pretrained=tmp_path / "w.safetensors",
                   note=notes.append, **small("fasterrcnn"))  # fmt: skip
    assert torch.equal(second.rpn.head.cls_logits.weight, first.rpn.head.cls_logits.weight)
    assert torch.equal(first_conv(second)[1].weight[:, :4], first_conv(first)[1].weight)
    assert len(notes) == 1 and "roi_heads.box_predictor.cls_score" in notes[0]


def test_pretrained_takes_the_backbone_of_torchvision(monkeypatch: pytest.MonkeyPatch, quick_start: None) -> None:
    asked = []

    def fetch(url: str, note: Any) -> dict[str, torch.Tensor]:
        asked.append(url)
        return torchvision.models.resnet18(weights=None).state_dict()

    monkeypatch.setattr(family, "fetch", fetch)
    build("retinanet_resnet18_fpn", pretrained=True, **SMALL)
    assert asked == [torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url]


@pytest.mark.parametrize(
    "name", ["fasterrcnn_resnet18_fpn", "retinanet_resnet18_fpn", "fcos_resnet18_fpn", "ssdlite_mobilenet_v3_large"]
)
def test_boxes_keep_their_place_in_mixed_precision(name: str, quick_start: None) -> None:
    model = build(name, outputs=3, **small(name))
    seen: list[torch.dtype] = []
    generator = model.rpn.anchor_generator if name.startswith("fasterrcnn") else model.anchor_generator
    generator.register_forward_hook(lambda _, inputs, output: seen.extend(tensor.dtype for tensor in output))
    images = torch.rand(2, 3, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(list(images), targets(model))
        assert {loss.dtype for loss in losses.values()} == {torch.float32}
        model.eval()
        with torch.inference_mode():
            boxes = [prediction["boxes"] for prediction in model(list(images))]
    assert seen and {tensor.dtype for tensor in boxes} | set(seen) == {torch.float32}


def test_proposals_are_pooled_deterministically_only_for_gradients(
    quick_start: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("fasterrcnn_resnet18_fpn", outputs=3, **small("fasterrcnn"))
    monkeypatch.setattr(parts, "_on_gpu", lambda features: True)
    seen: list[bool] = []
    plain = parts.MultiScaleRoIAlign.forward

    def forward(self: Any, *inputs: Any) -> torch.Tensor:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return plain(self, *inputs)

    monkeypatch.setattr(parts.MultiScaleRoIAlign, "forward", forward)
    monkeypatch.setenv("CC", sys.executable)  # some program
    images = list(torch.rand(2, 3, 64, 64))
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        model(images, targets(model))
        monkeypatch.setenv("PATH", "")
        monkeypatch.delenv("CC")
        model(images, targets(model))
        with torch.inference_mode():
            model.eval()(images)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert seen == [True, False, False]
