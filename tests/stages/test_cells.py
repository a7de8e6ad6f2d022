"""The stages on cells: their places and classes, sizes, nodata, same bytes, and settings from strangers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rvbuild.errors import DataError
from rvbuild.learn import models
from rvbuild.learn.checkpoint import save_model
from rvbuild.learn.chips.shards import open_shard
from rvbuild.learn.model_files import ModelInfo
from rvbuild.progress import Silent
from rvbuild.stages.bundle.check import checked_settings
from rvbuild.stages.chip import stage as chip
from tests.stages.sample_scenes import (
    CLASSES,
    LABELS,
    NULL,
    chip_settings,
    digests,
    empty,
    image_array,
    label_array,
    predict_scene,
    predict_settings,
    write_raster,
)

CELL = {**LABELS, "cells": {"cell_px": 15}}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RVBUILD_THREADS", "1")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def cut(folder: Path, **table: Any) -> dict[str, Any]:
    """Cut the cells of a scene of 40 x 50 pixels; return the index."""
    image = write_raster(folder / "i.tif", image_array(40, 50))
    labels = write_raster(folder / "l.tif", label_array(40, 50))
    settings = {**chip_settings(**table), "task": "chip_classification", "labels": CELL}
    chip.run({"image": [image], "labels": [labels], "aoi": []}, settings, empty(folder / "out"), Silent())
    return json.loads((folder / "out/index.json").read_text())


def predict_cells(folder: Path, image: np.ndarray, *, chip_px: int = 15, out: str = "out", **changes: Any) -> Path:
    """Predict a scene with random weights; return the directory of its files."""
    model = folder / "model"
    if not model.exists():
        model.mkdir()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            args = {"width": 4, "depth": 2}
            net = models.build("chip_classification", "cnn", bands=3, outputs=2, args=args)
        info = ModelInfo(
            task="chip_classification", model="cnn", model_args=args, bands=3, dtype="uint8", outputs=["car", "tree"],
            classes=CLASSES, null_id=NULL, chip_px=chip_px, normalize={"kind": "scale", "max": 255},
        )  # fmt: skip
        save_model(model, net.state_dict(), info)
    settings = predict_settings(chip_px, cells="geojson", cell_px=15, **changes)
    settings["task"] = "chip_classification"
    files = {
        "image": [write_raster(folder / "i.tif", image, nodata=0)],
        "model": [model / "model.safetensors", model / "model.json"],
    }
    return predict_scene(files, settings, empty(folder / out))


def test_chips_are_the_cells_with_their_classes(tmp_path: Path) -> None:
    index = cut(tmp_path, size_px=15, stride_px=15)
    labels = label_array(40, 50)
    tensors = open_shard(tmp_path / "out/images-00000.safetensors")
    classes = open_shard(tmp_path / "out/labels-00000.safetensors")["classes"]
    kept = []
    for row in range(0, 40, 15):
        for col in range(0, 50, 15):
            counts = np.bincount(labels[row : row + 15, col : col + 15].ravel(), minlength=3)[:2]
            if counts.any():
                kept.append(([row, col, 15, 15], int(counts.argmax())))
    assert tensors["windows"].tolist() == [window for window, _ in kept]
    assert classes.tolist() == [class_id for _, class_id in kept]
    assert index["class_counts"] == [*np.bincount([c for _, c in kept], minlength=2).tolist(), 0]


def test_cells_are_stored_at_the_size_of_chips(tmp_path: Path) -> None:
    index = cut(tmp_path, size_px=24, stride_px=5)
    tensors = open_shard(tmp_path / "out/images-00000.safetensors")
    assert index["size_px"] == 24 and tensors["images"].shape[1:] == (3, 24, 24)
    assert (tensors["windows"][:, 2:] == 15).all() and 5 in tensors["windows"][:, 1]


def test_the_keep_rule_counts_a_chip_once(tmp_path: Path) -> None:
    index = cut(tmp_path, size_px=15, stride_px=15, keep={"classes": ["car"], "min_px": 1, "otherwise": 0.0})
    assert index["count"] == index["class_counts"][0] > 0 and index["class_counts"][1] == 0


@pytest.mark.parametrize("chip_px", [15, 24])
def test_predictions_do_not_depend_on_batches(tmp_path: Path, chip_px: int) -> None:
    image = image_array(40, 50)
    first = predict_cells(tmp_path, image, chip_px=chip_px, batch_size=1, scores="uint8", rgb=True, out="a")
    second = predict_cells(tmp_path, image, chip_px=chip_px, batch_size=1, scores="uint8", rgb=True, out="b")
    many = predict_cells(tmp_path, image, chip_px=chip_px, batch_size=5, scores="uint8", rgb=True, out="c")
    assert digests(first) == digests(second)
    scores = [np.array(json.loads((f / "cells.json").read_text())["cells"]) for f in (first, many)]
    assert scores[0].shape == (3 * 4, 4) and np.allclose(scores[0], scores[1], atol=1e-5)
    assert np.allclose(scores[0][:, 2:].sum(axis=1), 1, atol=1e-6)


def test_cells_without_data_are_not_predicted(tmp_path: Path) -> None:
    image = image_array(40, 50)
    image[:, 15:30, 30:45] = 0
    cells = json.loads((predict_cells(tmp_path, image) / "cells.json").read_text())["cells"]
    places = {tuple(cell[:2]) for cell in cells}
    assert len(places) == 11 and (1, 2) not in places


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell_px": None}, "predict.cell_px: expected a whole number, found None"),
        ({"cell_px": 0}, "predict.cell_px: expected a whole number of at least 1, found 0"),
        ({"cells": "kml"}, 'predict.cells: expected "geojson", "gpkg" or "fgb", found \'kml\''),
    ],
)
def test_settings_of_strangers_are_checked(changes: dict[str, Any], message: str) -> None:
    settings = predict_settings(15, cells="geojson", cell_px=15)
    settings["task"] = "chip_classification"
    checked_settings(settings, "bundle")
    settings["predict"] |= changes
    with pytest.raises(DataError) as caught:
        checked_settings(settings, "bundle")
    assert str(caught.value) == f"bundle: {message}"
    for key in changes:
        del settings["predict"][key]
    with pytest.raises(DataError, match=r"predict\.cells? ?.* is missing"):
        checked_settings(settings, "bundle")
