"""Backbones of timm as encoders."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import safetensors.torch
import torch

from rvbuild.errors import ModelError
from rvbuild.learn.encoders.encoder import leaves
from rvbuild.learn.encoders.open import open_encoder

pytestmark = pytest.mark.slow


def encoder_of(name, weights=None, count=3):
    return open_encoder({"encoder": name, "stride_px": 4}, weights, count, lambda line: None)


@pytest.fixture
def timm():
    return pytest.importorskip("timm")


@pytest.fixture
def weights_of(timm, tmp_path):
    def write(name, suffix="safetensors", **change):
        torch.manual_seed(0)
        state = {**timm.create_model(name, pretrained=False).state_dict(), **change}
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "pth":
            torch.save(state, path)
        else:
            safetensors.torch.save_file(state, path)
        return path

    return write


@pytest.mark.parametrize(
    ("name", "strides", "suffix"),
    [("resnet10t", (2, 4, 8, 16), "pth"), ("convnext_atto", (4, 8, 16), "safetensors")],
)
def test_maps_at_strides_become_features(weights_of, name, strides, suffix):
    encoder = encoder_of(f"timm/{name}", weights_of(name, suffix))
    names = encoder.encoder.names
    assert {int(n.split(" at ")[1].split()[0]) for n in names if n.startswith("timm/")} == set(strides)
    features = encoder(leaves(3, 64))
    assert features.shape == (16, 16, len(names))
    assert features.any()
    assert (features == encoder_of(f"timm/{name}", weights_of(name, suffix))(leaves(3, 64))).all()


def test_features_are_those_of_timm(timm, weights_of):
    path = weights_of("resnet10t")
    model = timm.create_model("resnet10t", pretrained=False, features_only=True)
    model.load_state_dict(safetensors.torch.load_file(path), strict=False)
    image = np.random.default_rng(0).random((3, 64, 64), dtype=np.float32)
    cfg = model.pretrained_cfg if hasattr(model, "pretrained_cfg") else timm.get_pretrained_cfg("resnet10t").to_dict()
    mean, std = (torch.tensor(cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        expected = model.eval()((torch.from_numpy(image)[None] - mean) / std)[1][0].numpy()
    encoder = encoder_of("timm/resnet10t", path).encoder._encoder
    places = [n for n, name in enumerate(encoder.names) if name.endswith(" at 4 px")]
    np.testing.assert_allclose(encoder(image)[places], expected, rtol=1e-4, atol=1e-4)


def test_mistakes_are_told(timm, weights_of, tmp_path):
    with pytest.raises(ModelError, match=r'draft\.encoder: timm has no model "resnet17"; did you mean "resnet1'):
        encoder_of("timm/resnet17")
    with pytest.raises(ModelError, match=r'timm has no weights "a1_in2k" of "resnet18"; did you mean "a1_in1k"'):
        encoder_of("timm/resnet18.a1_in2k")
    with pytest.raises(ModelError, match=r"draft\.weights: .*expected the weights of timm's \"resnet18\""):
        encoder_of("timm/resnet18", weights_of("resnet10t"))
    with pytest.raises(ModelError, match=r"does not take images of any size .* such as timm/resnet18"):
        encoder_of("timm/vit_tiny_patch16_224", weights_of("vit_tiny_patch16_224"))
    broken = weights_of("resnet10t", **{"bn1.weight": torch.full((64,), torch.nan)})
    with pytest.raises(ModelError, match=r"holds values that are not finite"):
        encoder_of("timm/resnet10t", broken)
    (tmp_path / "w.pth").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"draft\.weights: .* cannot be read as weights"):
        encoder_of("timm/resnet18", tmp_path / "w.pth")


def test_a_download_that_fails_is_told_with_what_to_do(timm, monkeypatch):
    def unreachable(name, **options):
        raise OSError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ModelError) as failed:
        encoder_of("timm/resnet18")
    assert "no route to the hub" in str(failed.value)
    assert "model.safetensors of timm/resnet18.a1_in1k" in str(failed.value)
    assert 'weights = "path/to/model.safetensors"' in str(failed.value)


def test_without_timm_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"\"timm/resnet18\" needs the package timm: pip install 'rvbuild\[timm\]'"):
        encoder_of("timm/resnet18")
