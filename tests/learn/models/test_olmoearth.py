"""OlmoEarth's encoders: foundation models for Sentinel-2 under the decoders of segmentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rvbuild.errors import ModelError
from rvbuild.learn import models
from rvbuild.learn.checkpoint import load_model
from rvbuild.learn.normalize import Normalizer
from rvbuild.stages.bundle.licence import licence
from rvbuild.stages.train import stage as train
from rvbuild.tasks.segmentation import task as task
from tests.learn.chipmaker import CLASSES, NULL_ID, Notes, chip_arrays, stats_of, train_settings, write_chips

pytest.importorskip("olmoearth_pretrain_minimal")
pytest.importorskip("segmentation_models_pytorch")

NAME = "olmoearth/v1_2_nano"
BANDS = {"B04": 0, "B03": 1, "B12": 2}


def build(count: int = 3, pretrained: bool | Path = False, **args: Any) -> Any:
    torch.manual_seed(0)
    return models.build(
        "semantic_segmentation",
        "fpn",
        bands=count,
        outputs=2,
        args={"encoder": NAME, "bands": BANDS, **args},
        pretrained=pretrained,
        chip_px=64,
    )


@pytest.mark.slow
def test_it_learns_and_sees_the_bands_that_are_named() -> None:
    model = build()
    images = torch.rand(2, 3, 64, 64)
    logits = model(images)
    assert logits.shape == (2, 2, 64, 64)
    logits.square().mean().backward()
    without = [name for name, value in model.encoder.named_parameters() if value.requires_grad and value.grad is None]
    assert without == []
    # The same image with its bands in another order, and one that is not named.
    model.eval()
    other = build(4, bands={"B12": 0, "B04": 3, "B03": 1}).eval()
    other.load_state_dict(
        {**other.state_dict(), **{k: v for k, v in model.state_dict().items() if "encoder.model." in k}}
    )
    turned = torch.stack([images[:, 2], images[:, 1], torch.rand(2, 64, 64), images[:, 0]], dim=1)
    with torch.no_grad():
        expected, found = model.encoder.model(images)[0], other.encoder.model(turned)[0]
    assert torch.equal(expected, found) and expected.shape == (2, 128, 16, 16)


@pytest.mark.slow
def test_weights_of_a_file_are_those_of_the_package_or_of_a_trained_model(tmp_path: Path) -> None:
    from olmoearth_pretrain_minimal import OlmoEarthPretrain_v1

    torch.manual_seed(1)
    theirs = OlmoEarthPretrain_v1("nano", "v1.2").model.state_dict()
    torch.save(theirs, tmp_path / "weights.pth")
    model = build(pretrained=tmp_path / "weights.pth")
    ours = model.state_dict()
    assert torch.equal(ours["encoder.model.encoder.norm.weight"], theirs["encoder.norm.weight"])
    key = "blocks.3.mlp.fc1.weight"
    assert torch.equal(ours[f"encoder.model.encoder.{key}"], theirs[f"encoder.{key}"])
    torch.save(ours, tmp_path / "whole.pth")
    again = build(pretrained=tmp_path / "whole.pth").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in ours.items())


def test_a_model_on_the_meta_device_leaves_the_package_usable() -> None:
    with torch.device("meta"):
        assert next(build().parameters()).is_meta
    with torch.no_grad():
        assert not build().eval()(torch.rand(1, 3, 64, 64)).isnan().any()


@pytest.mark.slow
def test_it_is_trained_and_predicts_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVBUILD_THREADS", "1")
    images, labels = chip_arrays(6, size=24, bands=2, dtype="uint16")
    chips = write_chips(tmp_path / "chips", "a", images, labels)
    (tmp_path / "stats.json").write_text(json.dumps(stats_of(images)))
    args = {"encoder": NAME, "bands": {"B08": 0, "B04": 1}}
    settings: Any = {
        "task": "semantic_segmentation",
        "classes": CLASSES,
        "null_id": NULL_ID,
        "chip_px": 24,
        "train": train_settings(model="unet", model_args=args, epochs=1, batch_size=2),
        "seed": 1,
    }
    (tmp_path / "out").mkdir()
    inputs = {"chips/train/a": chips, "stats": [tmp_path / "stats.json"]}
    train.run(inputs, settings, tmp_path / "out", Notes())
    model, info = load_model(tmp_path / "out/model.safetensors", tmp_path / "out/model.json", "cpu")
    assert info.model_args == args
    scores = task.forward(model, Normalizer(info)(images))
    assert scores.shape == (6, 2, 24, 24) and not np.isnan(scores).any()
    (text, _, code) = licence(info, "torchvision")
    assert "allenai/OlmoEarth-v1_2-Nano" in text and "OlmoEarth Artifact License" in text
    assert "Apache-2.0" in code and licence(info, "random")[2] == code


def test_mistakes_are_told() -> None:
    with pytest.raises(ModelError, match=r"train.bands: olmoearth/v1_2_nano must know the bands of the imagery"):
        build(bands={})
    with pytest.raises(ModelError, match=r'train.bands: the weights have no band "B4"; did you mean "B04"'):
        build(bands={"B4": 0})
    with pytest.raises(ModelError, match=r"train.bands: B08 = 3, but the imagery has 3 bands"):
        build(bands={"B08": 3})
    with pytest.raises(ModelError, match='no encoder "olmoearth/v1_2_tyny"; did you mean "olmoearth/v1_2_tiny"'):
        build(encoder="olmoearth/v1_2_tyny")
