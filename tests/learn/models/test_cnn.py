import pytest
import torch

from rvbuild.errors import ModelError
from rvbuild.learn import models


def build(bands=3, **args):
    return models.build("chip_classification", "cnn", bands=bands, outputs=2, args=args).eval()


@pytest.mark.parametrize("size", [1, 7, 32])
def test_any_size_and_bands(size):
    with torch.inference_mode():
        assert build(bands=5, width=2)(torch.rand(3, 5, size, size)).shape == (3, 2)


def test_arguments_are_checked():
    with pytest.raises(ModelError, match="depth"):
        build(depth=0)
    with pytest.raises(ModelError, match=r'no argument "widht"; did you mean "width"'):
        build(widht=3)


def test_weights_for_other_classes_are_taken_but_for_the_head(tmp_path):
    import safetensors.torch

    first = models.build("chip_classification", "cnn", bands=3, outputs=5, args={"width": 2})
    safetensors.torch.save_file(first.state_dict(), tmp_path / "w.safetensors")
    notes = []
    second = models.build(
        "chip_classification", "cnn", bands=3, outputs=2, args={"width": 2}, pretrained=tmp_path / "w.safetensors",
        note=notes.append,
    )  # fmt: skip
    assert torch.equal(second.features[0].weight, first.features[0].weight)
    assert "for another number of classes" in notes[0]
