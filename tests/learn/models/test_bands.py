"""Weights that know their bands: the first convolution takes the kernels of the bands that a project names."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.files.zipped import Zipped
from rvbuild.learn import models
from rvbuild.learn.models.first_conv import first_conv

SENTINEL = ("B01", "B02", "B03", "B04", "B05", "B06")


def kernel(model: nn.Module) -> torch.Tensor:
    return first_conv(model)[1].weight.detach()


def build(task: str, name: str, count: int, path: Path | bool, /, **args: Any) -> nn.Module:
    torch.manual_seed(0)
    return models.build(task, name, bands=count, outputs=2, args=args, pretrained=path, chip_px=32)


CASES = [
    ("chip_classification", "resnet18", {}),
    ("chip_classification", "timm/resnet18", {}),
    ("semantic_segmentation", "lraspp_mobilenet_v3_large", {}),
    ("semantic_segmentation", "unet", {"encoder": "timm/resnet18"}),
    ("semantic_segmentation", "unet", {"encoder": "torchvision/resnet18"}),
]


def weights(tmp_path: Path, task: str, name: str, args: dict[str, Any], count: int, /, **metadata: str) -> Path:
    """Write the weights of a network for some bands, as another training would have left them."""
    encoder = args.get("encoder", name)
    of_classifier = {"timm/resnet18": "timm/resnet18", "torchvision/resnet18": "resnet18", "resnet18": "resnet18"}
    if encoder in of_classifier:
        task, name, args = "chip_classification", of_classifier[encoder], {}
    state = build(task, name, count, False, **args).state_dict()
    state = {key.removeprefix("model."): value.contiguous() for key, value in state.items()}
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors", metadata=metadata or None)
    return tmp_path / "weights.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize(("task", "name", "args"), CASES)
def test_named_bands_take_their_kernels_and_others_start_from_random_weights(
    tmp_path: Path, task: str, name: str, args: dict[str, Any]
) -> None:
    if "timm" in name or "encoder" in args:
        pytest.importorskip("segmentation_models_pytorch")
    path = weights(tmp_path, task, name, args, 3)
    theirs = kernel(build(task, name, 3, path, **args))
    ours = kernel(build(task, name, 4, path, **args, bands={"blue": 0, "red": 3, "green": 1}))
    assert torch.equal(ours[:, [3, 1, 0]], theirs)
    assert not any(torch.equal(ours[:, 2], theirs[:, band]) for band in range(3))
    assert ours[:, 2].std() > 0
    swapped = kernel(build(task, name, 3, path, **args, bands={"blue": 0, "green": 1, "red": 2}))
    assert torch.equal(swapped, theirs.flip(1))
    one = kernel(build(task, name, 1, path, **args, bands={"green": 0}))
    assert torch.equal(one[:, 0], theirs[:, 1])


@pytest.mark.slow
@pytest.mark.parametrize(("task", "name", "args"), CASES)
def test_weights_for_other_bands_than_red_green_and_blue(
    tmp_path: Path, task: str, name: str, args: dict[str, Any]
) -> None:
    if "timm" in name or "encoder" in args:
        pytest.importorskip("segmentation_models_pytorch")
    path = weights(tmp_path, task, name, args, 6)
    bands = {"B04": 0, "B03": 1, "B06": 2}
    listed = kernel(build(task, name, 3, path, **args, bands=bands, weights_bands=SENTINEL))
    # The file may also say it itself.
    path = weights(tmp_path, task, name, args, 6, bands=json.dumps(SENTINEL))
    stated = kernel(build(task, name, 3, path, **args, bands=bands))
    with zipfile.ZipFile(tmp_path / "nets.whl", "w") as wheel:
        wheel.write(path, "nets/weights.safetensors")
    in_wheel = Zipped(tmp_path / "nets.whl", "nets/weights.safetensors")
    assert torch.equal(kernel(build(task, name, 3, in_wheel, **args, bands=bands)), stated)
    (theirs,) = (v for k, v in safetensors.torch.load_file(path).items() if v.dim() == 4 and v.shape[1] == 6)
    assert torch.equal(listed, theirs[:, [3, 2, 5]]) and torch.equal(stated, listed)
    with pytest.raises(ModelError, match=r'no band "B4"; did you mean "B04"'):
        build(task, name, 3, path, **args, bands={"B4": 0})
    with pytest.raises(ModelError, match=r"6 bands, and the names of 2 are known \(B04, B03\); name all of them"):
        build(task, name, 3, path, **args, bands={"B04": 0}, weights_bands=("B04", "B03"))
    with pytest.raises(ModelError, match="B04 = 3, but the imagery has 3 bands: expected 0 to 2"):
        build(task, name, 3, path, **args, bands={"B04": 3})


@pytest.mark.parametrize("content", [b"", b"\xff" * 16, (1).to_bytes(8, "little") + b"{"])
def test_a_damaged_file_is_told_by_whoever_reads_its_tensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read as weights"):
        build("chip_classification", "resnet18", 3, path, bands={"red": 0})


def test_names_of_red_green_and_blue_are_checked(tmp_path: Path) -> None:
    path = weights(tmp_path, "chip_classification", "resnet18", {}, 3)
    with pytest.raises(ModelError, match=r'train.bands: the weights have no band "nir"; expected red, green, blue'):
        build("chip_classification", "resnet18", 4, path, bands={"nir": 3})


def test_kernels_of_blocks_of_pixels_keep_the_bands_of_each_pixel(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    name = "timm/test_byobnet"
    path = weights(tmp_path, "chip_classification", name, {}, 3)
    same = build("chip_classification", name, 3, path).eval()
    turned = build("chip_classification", name, 3, path, bands={"blue": 0, "green": 1, "red": 2}).eval()
    other = {k for k, v in same.state_dict().items() if not torch.equal(v, turned.state_dict()[k])}
    assert other and all(value.dim() == 4 for key, value in same.state_dict().items() if key in other)
    head = {key for key in same.state_dict() if "head" in key}
    turned.load_state_dict({key: value for key, value in same.state_dict().items() if key in head}, strict=False)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(same(images), turned(images.flip(1)), atol=1e-5)
