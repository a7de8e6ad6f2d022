"""Detectors on encoders: any network, any bands, any side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision

from rvbuild.errors import ModelError
from rvbuild.learn import models
from rvbuild.learn.models.detectors import encoded, heads
from rvbuild.project.tasks.detection import SPEC

TASK = "object_detection"
SMALL = {"fpn_channels": 8}
ARGS: dict[str, dict[str, Any]] = {
    "fasterrcnn": {**SMALL, "head_channels": 16, "rois": 16, "proposals": 20},
    "retinanet": SMALL,
    "fcos": SMALL,
}
ENCODERS = ("resnet", "vit", "convnext")
"""Of timm's small networks for tests: five strides, one stride, and strides from 4 on."""


def build(name: str, encoder: str, bands: int = 3, chip_px: int = 64, note: Any = pytest.fail, **options: Any) -> Any:
    args = {**ARGS[name], "encoder": encoder, **options.pop("args", {})}
    return models.build(TASK, name, bands=bands, outputs=2, args=args, note=note, chip_px=chip_px, **options)


def targets(model: Any) -> list[dict[str, torch.Tensor]]:
    boxes = torch.tensor([[4.0, 4, 30, 28], [20.5, 10, 31, 28]])
    return [
        {"boxes": boxes, "labels": torch.tensor([0, 1]) + model.first_label},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]


def test_the_names_are_those_of_projects() -> None:
    assert tuple(SPEC.decoders) == encoded.NAMES == tuple(heads.HEADS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "encoder", "bands", "chip_px"),
    [
        ("fasterrcnn", "timm/test_resnet", 1, 64),
        ("fasterrcnn", "timm/test_vit", 13, 50),
        ("retinanet", "timm/test_convnext", 4, 50),
        ("fcos", "timm/test_vit3", 3, 64),
        ("fcos", "torchvision/mobilenet_v2", 2, 33),
    ],
)
def test_a_detector_learns_from_any_bands_and_sides(name: str, encoder: str, bands: int, chip_px: int) -> None:
    model = build(name, encoder, bands, chip_px)
    images = torch.rand(2, bands, chip_px, chip_px)
    losses = model(images, targets(model))
    total = torch.stack(list(losses.values())).sum()
    assert torch.isfinite(total)
    total.backward()
    first = next(p for p in model.backbone.body.parameters() if p.dim() == 4 and p.shape[1] % bands == 0)
    assert first.grad.abs().sum() > 0
    again = build(name, encoder, bands, chip_px)
    again.load_state_dict(model.state_dict())
    with torch.inference_mode():
        results = model.eval()(images)
        for one, other in zip(results, again.eval()(images), strict=True):
            assert all(torch.equal(one[key], other[key]) for key in one)
    for result in results:
        assert (result["boxes"] >= 0).all() and (result["boxes"] <= chip_px).all()


def test_levels_have_the_strides_that_anchors_and_pooling_take_them_for() -> None:
    model = build("fasterrcnn", "timm/test_resnet", chip_px=40)
    seen: list[Any] = []
    model.rpn.anchor_generator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    model.eval()(torch.rand(1, 3, 40, 40))
    ((image_list, levels),) = seen
    # 40 pixels are padded to 64, and boxes still end at 40.
    assert image_list.image_sizes == [(40, 40)] and image_list.tensors.shape[-1] == 64
    assert [64 // level.shape[-1] for level in levels] == [4, 8, 16, 32, 64]
    pool = model.roi_heads.box_roi_pool
    assert pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    assert pool.map_levels([torch.tensor([[0.0, 0, 224, 224], [0, 0, 20, 20]])]).tolist() == [2, 0]


@pytest.mark.slow
def test_weights_of_the_encoder_and_of_a_whole_detector(tmp_path: Path) -> None:
    source = torchvision.models.resnet18(weights=None)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    notes: list[str] = []
    model = build("retinanet", "torchvision/resnet18", pretrained=tmp_path / "w.pth", note=notes.append)
    assert torch.equal(model.backbone.body.model.net.layer4[0].conv1.weight, source.layer4[0].conv1.weight)
    assert len(notes) == 1 and "tensors are taken by name" in notes[0]
    safetensors.torch.save_file(model.state_dict(), tmp_path / "whole.safetensors")
    again = build("retinanet", "torchvision/resnet18", pretrained=tmp_path / "whole.safetensors")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_wrong_arguments() -> None:
    with pytest.raises(ModelError, match='model "fcos" has no argument "norm"'):
        build("fcos", "timm/test_resnet", args={"norm": "group"})
    with pytest.raises(ModelError, match=r'train\.encoder: timm has no network "resnet81"'):
        build("fcos", "timm/resnet81")
    with pytest.raises(ModelError, match="5 positive numbers, one for each level"):
        build("retinanet", "timm/test_resnet", args={"anchor_px": [8]})
