import pytest
import safetensors.torch
import torch

from rvbuild.errors import ModelError
from rvbuild.learn import models


def build(bands=3, outputs=2, note=lambda message: None, pretrained=False, **args):
    return models.build(
        "semantic_segmentation", "unet", bands=bands, outputs=outputs, args=args, pretrained=pretrained, note=note
    )


@pytest.mark.parametrize("upsample", ["bilinear", "transposed"])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (16, 16), (33, 18)])
def test_any_size_and_bands(size, upsample):
    model = build(bands=5, outputs=3, width=2, depth=4, upsample=upsample)
    images = torch.rand(2, 5, *size, requires_grad=True)
    logits = model(images)
    assert logits.shape == (2, 3, *size)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_size():
    assert 400_000 < sum(p.numel() for p in build(width=16, depth=4).parameters()) < 600_000
    assert build(width=3, depth=1)(torch.rand(1, 3, 5, 5)).shape == (1, 2, 5, 5)


def test_pretrained(tmp_path):
    notes = []
    build(pretrained=True, note=notes.append, width=2, depth=2)
    assert notes == ["unet has no pretrained weights: it starts from random ones"]
    path = tmp_path / "w.safetensors"
    first = build(width=2, depth=2)
    safetensors.torch.save_file(first.state_dict(), path)
    second = build(width=2, depth=2, pretrained=path, note=pytest.fail)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    with pytest.raises(
        ModelError, match=r"tensors differ in shape from those of the model .*down.0.0.weight: 2×3×3×3 in the"
    ):
        build(width=4, depth=2, pretrained=path)
    with pytest.raises(ModelError, match="upsample: expected one of bilinear, transposed, found 'nearest'"):
        build(upsample="nearest")
