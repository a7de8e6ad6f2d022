import json
from dataclasses import replace

import pytest
import torch

from rvbuild.errors import ModelError
from rvbuild.learn import models
from rvbuild.learn.checkpoint import build, load_model, save_model
from rvbuild.learn.model_files import ModelInfo, read_info, write_info
from tests.learn.chipmaker import CLASSES, NULL_ID

INFO = ModelInfo(
    task="semantic_segmentation",
    model="unet",
    model_args={"width": 4, "depth": 2},
    bands=4,
    dtype="uint8",
    outputs=["car", "tree"],
    classes=CLASSES,
    null_id=NULL_ID,
    chip_px=16,
    normalize={"kind": "scale", "max": 255},
)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = models.build(INFO.task, INFO.model, bands=4, outputs=2, args=INFO.model_args)
    save_model(tmp_path, model.state_dict(), INFO)
    return model.eval(), tmp_path / "model.safetensors", tmp_path / "model.json"


def test_a_loaded_model_is_the_saved_one(saved):
    model, weights, description = saved
    loaded, info = load_model(weights, description, "cpu")
    assert info == INFO and info.output_ids == [0, 2] and not loaded.training
    images = torch.rand(2, 4, 9, 9)
    torch.testing.assert_close(loaded(images), model(images))


@pytest.mark.parametrize("model", [*(f"mnasnet{width}" for width in ("0_5", "1_0")), "resnet18"])
def test_networks_that_ask_for_the_version_of_their_state(tmp_path, model):
    info = replace(INFO, task="chip_classification", model=model, model_args={}, bands=3)
    built = models.build(info.task, info.model, bands=3, outputs=2, args={})
    save_model(tmp_path, built.state_dict(), info)
    loaded, _ = load_model(tmp_path / "model.safetensors", tmp_path / "model.json", "cpu")
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(loaded(images), built.eval()(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("task", "model", "args"),
    [
        ("semantic_segmentation", "unet", INFO.model_args),
        ("semantic_segmentation", "lraspp_mobilenet_v3_large", {}),
        ("semantic_segmentation", "unet", {"encoder": "timm/test_efficientnet", "decoder_channels": [8] * 5}),
        ("chip_classification", "timm/test_vit3", {}),
        ("chip_classification", "resnet18", {}),
        ("object_detection", "fasterrcnn_resnet18_fpn", {}),
    ],
)
def test_nothing_random_is_drawn_for_weights_that_are_loaded(tmp_path, task, model, args):
    info = replace(INFO, task=task, model=model, model_args=args, bands=3, chip_px=64)
    built = build(info)
    save_model(tmp_path, built.state_dict(), info)
    before = torch.get_rng_state()
    loaded, _ = load_model(tmp_path / "model.safetensors", tmp_path / "model.json", "cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(value.isfinite().all() for value in loaded.state_dict().values())
    if task != "object_detection":
        images = torch.rand(2, 3, 64, 64)
        torch.testing.assert_close(loaded(images), built.eval()(images), rtol=1e-4, atol=1e-4)


def test_equal_weights_give_equal_bytes(saved, tmp_path):
    model, weights, description = saved
    (tmp_path / "again").mkdir()
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    save_model(tmp_path / "again", model.state_dict(), INFO)
    for path in (weights, description):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_damaged_files(saved):
    _, weights, description = saved
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    with pytest.raises(ModelError, match=r"model.safetensors: cannot be read as safetensors"):
        load_model(weights, description, "cpu")
    weights.write_bytes(content)
    write_info(description, replace(INFO, bands=3))
    with pytest.raises(ModelError, match='weights do not fit the model "unet"'):
        load_model(weights, description, "cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": "4"}, "bands: expected"),
        ({"bands": True}, "bands: expected"),
        ({"bands": -1}, "bands: expected a number from 1 to 65535"),
        ({"bands": 1 << 62}, "bands: expected a number from 1 to 65535"),
        ({"code": {"net": 1}}, "code: expected source code by module name"),
        ({"outputs": [["car"]]}, "every output must be one of the classes"),
        ({"classes": [{"name": "car"}]}, "every output must be one of the classes"),
        ({"model_args": {"width": 1024, "depth": 8}}, r"they have 1,\d+ values, the model has \d+,\d+,\d+,\d+"),
        ({"extra": 1}, "expected the entries"),
        ({"outputs": ["car", "bush"]}, "every output must be one of the classes"),
        ({"classes": [1]}, "every output must be one of the classes"),
        ({"model": "onet"}, 'no model "onet"'),
        ({"task": "dance"}, 'no model "unet" for dance'),
        ({"model_args": {"width": -1}}, "width"),
    ],
)
def test_strange_descriptions(saved, change, message):
    _, weights, description = saved
    description.write_text(json.dumps({**json.loads(description.read_text()), **change}))
    with pytest.raises(ModelError, match=message):
        load_model(weights, description, "cpu")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"[" * 100_000])
def test_not_a_description(tmp_path, content):
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.json: "):
        read_info(tmp_path / "model.json")
