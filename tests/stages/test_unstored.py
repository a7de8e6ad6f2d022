"""Chips without images, from the chip stage into training."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from rvbuild.errors import DataError
from rvbuild.geo.raster.mosaic_source import MAX_OPEN_FILES
from rvbuild.learn.chips import scene_images
from rvbuild.learn.chips.dataset import Chips
from rvbuild.learn.chips.scene_images import Imagery
from rvbuild.progress import Silent
from rvbuild.stages.chip import stage as chip
from rvbuild.stages.train import stage as train
from tests.learn.chipmaker import OPS, stats_of, train_settings
from tests.stages.sample_scenes import (
    CLASSES,
    NULL,
    chip_settings,
    digests,
    empty,
    image_array,
    label_array,
    write_raster,
)

SCENES = {"train/a": 0, "train/b": 1, "validation/c": 2}
OPTIONS = {"image": {"nodata": 40}, "channels": [2, 0]}
"""What opens the image of each scene."""


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVBUILD_THREADS", "1")


def cut(folder: Path, store: bool, dtype: str = "uint8") -> dict[str, list[Path]]:
    """Cut the chips of all scenes, 12 px wide and resampled to 16; return the inputs of a training."""
    inputs: dict[str, list[Path]] = {}
    for part, seed in SCENES.items():
        base = empty(folder / part)
        image = write_raster(base / "image.tif", image_array(40, 50, dtype=dtype, seed=seed))
        labels = write_raster(base / "labels.tif", label_array(40, 50, seed))
        settings = {**chip_settings(method="random", size_limits_px=[12, 20], per_scene=7, max_nodata=0.5), **OPTIONS}
        if not store:
            settings["chip"] = {**settings["chip"], "store": False}
        chip.run({"image": [image], "labels": [labels]}, {**settings, "scene": part[-1]}, empty(base / "out"), Silent())
        inputs[f"chips/{part}"] = sorted((base / "out").iterdir())
        if not store:
            inputs[f"pixels/{part}"] = [image]
    statistics = stats_of(image_array(40, 50, bands=2, dtype=dtype)[None])
    (folder / "stats.json").write_text(json.dumps(statistics))
    return {**inputs, "stats": [folder / "stats.json"]}


def learn(folder: Path, inputs: dict[str, list[Path]], resume: Path | None = None, progress: Silent | None = None):
    settings = {
        "task": "semantic_segmentation",
        "classes": CLASSES,
        "null_id": NULL,
        "chip_px": 16,
        "train": train_settings(epochs=3, augment=["flip", "rotate90", "brightness"]),
        "seed": 1,
    }
    if "pixels/train/a" in inputs:
        settings["pixels"] = dict.fromkeys(SCENES, OPTIONS)
    train.run(inputs, settings, empty(folder), progress or Silent(), resume=resume)
    return digests(folder)


def imagery(inputs: dict[str, list[Path]]) -> dict[str, Imagery]:
    return {f"chips/{part}": Imagery(inputs[f"pixels/{part}"], OPTIONS) for part in SCENES}


def chips_of(inputs: dict[str, list[Path]]) -> Chips:
    files = {role: paths for role, paths in inputs.items() if role.startswith("chips/")}
    return Chips(files, OPS, imagery(inputs) if "pixels/train/a" in inputs else None)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_chips_are_the_same_wherever_they_are_read_from(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene_images, "OPEN_FILES", 2)
    stored, away = cut(tmp_path / "stored", True, dtype), cut(tmp_path / "away", False, dtype)
    names = [[path.name for path in inputs["chips/train/a"]] for inputs in (stored, away)]
    assert set(names[0]) - set(names[1]) == {"images-00000.safetensors"} and set(names[1]) < set(names[0])
    for part in SCENES:
        kept, read = (digests(folder / part / "out") for folder in (tmp_path / "stored", tmp_path / "away"))
        assert read.items() <= kept.items()  # contact.png, too
    kept, read = chips_of(stored), pickle.loads(pickle.dumps(chips_of(away)))
    assert len(kept) == len(read) > 12
    some_invalid = False
    for position in np.random.default_rng(0).permutation(len(kept)).tolist():
        a, b = kept[position], read[position]
        assert a.image.dtype == b.image.dtype and np.array_equal(a.image, b.image)
        valid_a, valid_b = (np.ones(s.image.shape, bool) if s.valid is None else s.valid for s in (a, b))
        assert np.array_equal(valid_a, valid_b) and np.array_equal(a.target["labels"], b.target["labels"])
        some_invalid |= not valid_a.all()
    assert some_invalid
    assert len(read._scene_images._open) <= 2 < MAX_OPEN_FILES
    read.close()
    assert not read._scene_images._open


@pytest.mark.slow
def test_a_killed_training_goes_on_with_chips_of_either_kind(tmp_path: Path) -> None:
    stored, away = cut(tmp_path / "stored", True), cut(tmp_path / "away", False)
    whole = learn(tmp_path / "whole", stored)
    assert learn(tmp_path / "other", away) == whole

    class Killed(BaseException):
        pass

    class Killer(Silent):
        def start(self, step: str, total: int, unit: str) -> None:
            if step == "epoch 3/3":
                raise Killed

    for number, (before, after) in enumerate([(away, away), (stored, away)]):
        resume = tmp_path / f"resume{number}"
        with pytest.raises(Killed):
            learn(tmp_path / f"part{number}", before, resume, Killer())
        notes: list[str] = []
        progress = Silent()
        progress.note = notes.append  # type: ignore[method-assign]
        assert learn(tmp_path / f"again{number}", after, resume, progress) == whole
        assert notes[0] == "continuing after epoch 2"


@pytest.mark.slow
def test_other_pixels_are_never_trained_on(tmp_path: Path) -> None:
    inputs = cut(tmp_path, False)
    image = inputs["pixels/train/b"][0]
    changed = image_array(40, 50, seed=1)
    changed[0] ^= 1
    write_raster(image, changed)
    with pytest.raises(DataError, match=r"image.tif: the pixels at row \d+, column \d+ .* scene b .* run again"):
        learn(tmp_path / "out", inputs)
    write_raster(image, image_array(40, 50, seed=1).astype("uint16"))  # the same values, of another type
    with pytest.raises(DataError, match=r"not those that scene b had"):
        learn(tmp_path / "out2", inputs)
    write_raster(image, image_array(40, 50, seed=1))
    image.with_suffix(".tfw").write_text("0.5\n0\n0\n-0.5\n9\n9\n")  # the place on the globe is not learnt
    learn(tmp_path / "out3", inputs)
