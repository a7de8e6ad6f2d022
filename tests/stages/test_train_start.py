"""A training that starts from a bundle, normalises as weights expect, or keeps the models of all epochs."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch

from rvbuild.errors import DataError, ModelError
from rvbuild.learn.model_files import read_info
from rvbuild.stages.bundle import write as bundle
from tests.learn.chipmaker import CLASSES, Notes, chip_arrays, stats_of, write_chips
from tests.stages.sample_scenes import predict_settings
from tests.stages.test_train import build, inputs, log  # noqa: F401 - a fixture


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("RVBUILD_THREADS", "1")


@pytest.fixture
def packed(tmp_path, inputs):  # noqa: F811
    """Return a bundle of a model that was trained on the inputs."""
    build(tmp_path / "first", inputs, epochs=3, lr=0.02)
    out = tmp_path / "packed"
    out.mkdir()
    model = [tmp_path / "first" / name for name in ("model.safetensors", "model.json")]
    settings = {**predict_settings(), "classes": CLASSES, "null_id": 1, "chip_px": 16}
    bundle.run({"model": model, "stats": inputs["stats"], "code": []}, settings, out, Notes())
    return out / "bundle.zip"


def weights(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def start_from(packed, inputs):  # noqa: F811
    return {**inputs, "weights": [packed]}


def test_all_of_a_bundle_is_taken_if_the_model_is_the_same(tmp_path, inputs, packed):  # noqa: F811
    progress = Notes()
    build(tmp_path / "on", start_from(packed, inputs), progress=progress, pretrained="bundle", epochs=1, lr=1e-12)
    before, after = weights(tmp_path / "first"), weights(tmp_path / "on")
    count = sum(value.is_floating_point() for value in before.values())
    assert progress.notes[0] == f"{count} of {count} tensors are taken from bundle.zip"
    # Statistics of batch normalisations are measured, and these chips are the same.
    for name, value in before.items():
        torch.testing.assert_close(value, after[name], atol=1e-4, rtol=1e-3)


def test_what_does_not_fit_starts_anew_and_is_said(tmp_path, inputs, packed):  # noqa: F811
    classes = [*CLASSES, {"id": 3, "name": "house", "color": "#0000ff"}]
    for role, files in inputs.items():
        if role.startswith("chips/"):
            for path in files:
                if path.name == "index.json":
                    index = json.loads(path.read_text())
                    index["classes"] = [item["name"] for item in classes]
                    index["class_counts"].append(0)
                    for counts in index["chip_class_counts"]:
                        counts.append(0)
                    path.write_text(json.dumps(index))
    progress = Notes()
    changes = {"pretrained": "bundle", "epochs": 1, "lr": 1e-12, "classes": classes}
    build(tmp_path / "on", start_from(packed, inputs), progress=progress, **changes)
    before, after = weights(tmp_path / "first"), weights(tmp_path / "on")
    new = [name for name in after if after[name].shape != before[name].shape]
    assert sorted(new) == ["head.bias", "head.weight"]
    told = [note for note in progress.notes if "chip shows class" not in note]
    assert told[:2] == [
        "32 of 34 tensors are taken from bundle.zip; new, from random weights: head.weight, head.bias",
        "its outputs were car, tree; here they are car, tree, house",
    ]


def test_other_bands_keep_what_was_learnt_of_the_first(tmp_path, packed):
    many = {}
    for seed, (split, scene) in enumerate([("train", "a"), ("validation", "c")]):
        images, labels = chip_arrays(6, seed=seed, bands=4)
        many[f"chips/{split}/{scene}"] = write_chips(tmp_path / "four" / scene, scene, images, labels)
    progress = Notes()
    build(tmp_path / "on", start_from(packed, many), progress=progress, pretrained="bundle", epochs=1, lr=1e-12)
    before, after = weights(tmp_path / "first"), weights(tmp_path / "on")
    (first,) = [name for name in after if after[name].shape != before[name].shape]
    torch.testing.assert_close(after[first][:, :3], before[first], atol=1e-6, rtol=1e-5)
    assert f"{first.removesuffix('.weight')} is adapted from 3 to 4 bands" in progress.notes


def test_a_bundle_of_another_model_is_refused(tmp_path, inputs, packed):  # noqa: F811
    changes = {"pretrained": "bundle", "model": "lraspp_mobilenet_v3_large", "model_args": {}}
    with pytest.raises(ModelError, match=r'bundle.zip holds the weights of "unet" .*none of which has the name and'):
        build(tmp_path / "on", start_from(packed, inputs), **changes)


def test_a_damaged_bundle_is_refused(tmp_path, inputs, packed):  # noqa: F811
    content = bytearray(packed.read_bytes())
    content[2000] ^= 1
    packed.write_bytes(content)
    with pytest.raises(DataError, match=r"bundle.zip: cannot be read as a bundle: Bad CRC"):
        build(tmp_path / "on", start_from(packed, inputs), pretrained="bundle")


def test_a_bundle_says_how_images_are_normalised(tmp_path, inputs, packed):  # noqa: F811
    own = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}
    build(tmp_path / "second", inputs, normalize=own, epochs=1)
    assert read_info(tmp_path / "second/model.json").normalize == {"kind": "scale", "max": 255, "standard": own}
    out = tmp_path / "repacked"
    out.mkdir()
    model = [tmp_path / "second" / name for name in ("model.safetensors", "model.json")]
    settings = {**predict_settings(), "classes": CLASSES, "null_id": 1, "chip_px": 16}
    bundle.run({"model": model, "stats": inputs["stats"], "code": []}, settings, out, Notes())
    progress = Notes()
    build(tmp_path / "third", start_from(out / "bundle.zip", inputs), progress=progress, pretrained="bundle", epochs=1)
    assert (
        'it normalised images differently; train.normalize = "pretrained" normalises in the same way' in progress.notes
    )
    changes = {"pretrained": "bundle", "normalize": "pretrained", "epochs": 1}
    build(tmp_path / "fourth", start_from(out / "bundle.zip", inputs), **changes)
    assert read_info(tmp_path / "fourth/model.json").normalize["standard"] == own
    wide = {}
    for split, scene in [("train", "a"), ("validation", "c")]:
        wide[f"chips/{split}/{scene}"] = write_chips(tmp_path / "wide" / scene, scene, *chip_arrays(6, dtype="uint16"))
    with pytest.raises(DataError, match=r"3 bands of uint8; the training chips have 3 bands of uint16"):
        build(tmp_path / "fifth", start_from(out / "bundle.zip", wide), **changes)


def test_figures_are_of_as_many_bands_as_the_imagery(tmp_path, inputs):  # noqa: F811
    with pytest.raises(DataError, match=r"train.normalize: expected values for the 3 bands of the chips, found 2"):
        build(tmp_path / "out", inputs, normalize={"mean": [0.5, 0.5], "std": [0.2, 0.2]})


def test_bands_that_weights_have_never_seen_have_their_own_statistics(tmp_path, monkeypatch):
    images, labels = chip_arrays(8, bands=4)
    files = {f"chips/{split}/a": write_chips(tmp_path / "a", "a", images, labels) for split in ("train", "validation")}
    stats = tmp_path / "stats4.json"
    stats.write_text(json.dumps(stats_of(images)))
    figures = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    monkeypatch.setattr("rvbuild.stages.train.stage.expected", lambda model, encoder: figures)
    build(tmp_path / "out", {**files, "stats": [stats]}, normalize="pretrained", epochs=1)
    standard = read_info(tmp_path / "out/model.json").normalize["standard"]
    assert tuple(standard["mean"][:3]) == figures[0] and tuple(standard["std"][:3]) == figures[1]
    values = images[:, 3].astype(np.float64) / 255
    assert standard["mean"][3] == pytest.approx(values.mean()) and standard["std"][3] == pytest.approx(values.std())


# -- the models of all epochs -----------------------------------------------------------------------------------------

EPOCHS = [f"epoch-{epoch:03}.safetensors" for epoch in (1, 2, 3)]


def test_the_model_of_each_epoch_is_what_a_training_that_ended_there_gives(tmp_path, inputs):  # noqa: F811
    changes = {"epochs": 3, "schedule": "constant", "select": "last"}
    plain = build(tmp_path / "plain", inputs, **changes)
    kept = build(tmp_path / "kept", inputs, checkpoints=True, **changes)
    assert sorted(kept) == sorted([*plain, *EPOCHS])
    assert {name: kept[name] for name in plain} == plain
    assert kept[EPOCHS[2]] == plain["model.safetensors"]
    for epoch in (1, 2):
        ended = build(tmp_path / f"until {epoch}", inputs, **{**changes, "epochs": epoch})
        assert kept[EPOCHS[epoch - 1]] == ended["model.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("validated", [True, False])
def test_they_are_the_same_after_a_kill(tmp_path, inputs, validated):  # noqa: F811
    if not validated:
        del inputs["chips/validation/c"]
    changes = {"epochs": 3, "checkpoints": True}
    whole = build(tmp_path / "whole", inputs, **changes)
    assert set(EPOCHS) < set(whole)

    class Killed(BaseException):
        pass

    class Killer(Notes):
        def start(self, step, total, unit):
            if step == "epoch 3/3":
                raise Killed

    with pytest.raises(Killed):
        build(tmp_path / "part", inputs, resume=tmp_path / "resume", progress=Killer(), **changes)
    shutil.copytree(tmp_path / "resume", tmp_path / "damaged")
    progress = Notes()
    assert build(tmp_path / "again", inputs, resume=tmp_path / "resume", progress=progress, **changes) == whole
    assert progress.notes[0] == "continuing after epoch 2"
    # One that has rotted meanwhile is not taken for what it was.
    (tmp_path / "damaged" / EPOCHS[0]).write_bytes(b"x")
    progress = Notes()
    assert build(tmp_path / "anew", inputs, resume=tmp_path / "damaged", progress=progress, **changes) == whole
    assert "the model of an epoch is missing or damaged" in progress.notes[0]


def test_their_bytes_hold_nothing_else(tmp_path, inputs):  # noqa: F811
    build(tmp_path / "out", inputs, epochs=1, checkpoints=True)
    files = [(tmp_path / "out" / name).read_bytes() for name in (EPOCHS[0], "model.safetensors")]
    assert hashlib.sha256(files[0]).digest() == hashlib.sha256(files[1]).digest()
