import urllib.error

import pytest
import safetensors.torch
import torch
import torchvision

from rvbuild.errors import ModelError
from rvbuild.learn import models
from rvbuild.learn.models import torchvision_segmentation

TASK = "semantic_segmentation"
LRASPP = "lraspp_mobilenet_v3_large"


def build(name=LRASPP, bands=3, outputs=2, pretrained=False, note=pytest.fail):
    return models.build(TASK, name, bands=bands, outputs=outputs, args={}, pretrained=pretrained, note=note)


@pytest.mark.slow
@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize("name", torchvision_segmentation.NAMES)
def test_any_bands(name, bands):
    model = build(name, bands).eval()
    with torch.inference_mode():
        assert model(torch.rand(1, bands, 33, 40))["out"].shape == (1, 2, 33, 40)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backbone", "kernel"),
    [
        ("fcn_resnet50", torchvision.models.resnet50, "conv1"),
        (LRASPP, torchvision.models.mobilenet_v3_large, "features.0.0"),
    ],
)
@pytest.mark.parametrize("bands", [2, 3, 4])
def test_a_backbone_from_a_file(tmp_path, name, backbone, kernel, bands):
    torch.manual_seed(1)
    state = backbone(weights=None).state_dict()
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "w.pth")
    notes = []
    weights = build(name, bands, pretrained=tmp_path / "w.pth", note=notes.append).state_dict()
    same = {key for key, value in weights.items() if key.startswith("backbone.")}
    prefix = "features." if "features" in kernel else ""
    first = f"backbone.{kernel.removeprefix(prefix)}.weight"
    for key in same - {first}:
        assert torch.equal(weights[key], state[prefix + key.removeprefix("backbone.")])
    kept = min(bands, 3)
    assert torch.equal(weights[first][:, :kept], state[f"{kernel}.weight"][:, :kept])
    assert len(notes) == 1 and "are not in the file and start from random weights" in notes[0]


@pytest.mark.slow
def test_a_whole_network_of_other_classes_and_bands_from_a_file(tmp_path):
    torch.manual_seed(1)
    first = build(bands=5, outputs=7)
    safetensors.torch.save_file(first.state_dict(), tmp_path / "w.safetensors")
    notes = []
    second = build(bands=5, outputs=2, pretrained=tmp_path / "w.safetensors", note=notes.append)
    assert torch.equal(second.backbone["0"][0].weight, first.backbone["0"][0].weight)
    assert torch.equal(second.classifier.cbr[0].weight, first.classifier.cbr[0].weight)
    assert len(notes) == 1 and "classifier.low_classifier.weight" in notes[0]
    assert "for another number of classes and start from random weights" in notes[0]
    same = build(bands=5, outputs=7, pretrained=tmp_path / "w.safetensors")
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in first.state_dict().items())
    with pytest.raises(ModelError, match=r"tensors differ in shape|holds no tensor of this model"):
        build("fcn_resnet50", pretrained=tmp_path / "w.safetensors")


def test_files_that_are_no_weights(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"nonsense")
    (tmp_path / "w.safetensors").write_bytes(b"nonsense")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"a": torch.ones(2)}, tmp_path / "other.pth")
    for name in ("w.pth", "w.safetensors", "missing.pth"):
        with pytest.raises(ModelError, match=f"train.pretrained: .*{name} cannot be read as weights"):
            build(pretrained=tmp_path / name)
    with pytest.raises(ModelError, match=r"expected a state dict .* found list"):
        build(pretrained=tmp_path / "list.pth")
    with pytest.raises(ModelError, match="holds no tensor of this model; the model has backbone"):
        build(pretrained=tmp_path / "other.pth")


def test_code_in_a_file_is_not_executed(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    torch.save({"a": Hostile()}, tmp_path / "w.pth")
    with pytest.raises(
        ModelError, match=r"cannot be read as weights .it holds Python objects besides tensors"
    ) as caught:
        build(pretrained=tmp_path / "w.pth")
    assert not (tmp_path / "written").exists()
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)


def test_weights_that_are_no_numbers(tmp_path):
    torch.save({"a": torch.ones(2), "b": torch.tensor([1, torch.nan])}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w\.pth: 1 of 2 tensors have NaN, such as b"):
        build(pretrained=tmp_path / "w.pth")


def test_a_download_that_fails_says_what_to_do(tmp_path, monkeypatch):
    def offline(url, target, hash_prefix, progress):
        assert url.endswith(f"{hash_prefix}.pth") and not progress
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    notes = []
    with pytest.raises(ModelError) as caught:
        build(pretrained=True, note=notes.append)
    message = str(caught.value)
    assert "https://download.pytorch.org/models/mobilenet_v3_large-5c1a4163.pth could not be downloaded" in message
    assert "no route to host" in message and "`pretrained = false`" in message
    assert str(tmp_path / "checkpoints/mobilenet_v3_large-5c1a4163.pth") in message
    assert notes == [
        "downloading pretrained weights https://download.pytorch.org/models/mobilenet_v3_large-5c1a4163.pth"
    ]


def test_a_downloaded_backbone_is_used(tmp_path, monkeypatch):
    state = torchvision.models.mobilenet_v3_large(weights=None).state_dict()
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints/mobilenet_v3_large-5c1a4163.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    model = build(bands=4, pretrained=True)
    assert torch.equal(model.backbone["0"][0].weight[:, :3], state["features.0.0.weight"])
