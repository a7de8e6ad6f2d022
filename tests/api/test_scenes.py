"""Scenes: pixels and labels of windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

import rvbuild

from .conftest import BOXES, write_workspace


def test_pixels_are_those_of_the_file(fresh: Path) -> None:
    scene = rvbuild.open(fresh).scenes["a"]
    with rasterio.open(fresh.parent.parent / "data/a.tif") as file:
        there = file.read()
    image, valid = scene.read()
    assert np.array_equal(image, there) and valid.all()
    part = scene.read(rvbuild.Window(row=50, col=-4, height=20, width=10))
    assert np.array_equal(part.image[:, :14, 4:], there[:, 50:, :6])
    assert part.valid.sum() == 3 * 14 * 6 and not part.image[~part.valid].any()
    assert (scene.dtype, len(scene.bands), scene.grid.crs.to_epsg()) == (np.uint8, 3, 32633)
    assert scene.grid.transform.c == 500000


def test_labels_are_what_a_chip_would_teach(tmp_path: Path) -> None:
    window = (0, 0, 32, 32)
    scenes = {
        task: rvbuild.open(write_workspace(tmp_path / task, task)).scenes["a"]
        for task in ("segmentation", "cells", "boxes")
    }
    x0, y0, x1, y1 = BOXES["a"][0]
    labels = scenes["segmentation"].labels(window)["labels"]
    assert labels.dtype == np.uint8 and (labels[y0:y1, x0:x1] == 0).all() and (labels == 1).sum() > 0
    assert scenes["cells"].labels((5, 5, 15, 15)) == {"classes": 0}
    assert scenes["cells"].labels((45, 0, 15, 15)) == {"classes": 1}
    boxes = scenes["boxes"].labels(window)
    assert boxes["boxes"].tolist() == [[x0, y0, x1, y1]] and boxes["classes"].tolist() == [0]


def test_a_scene_is_closed_and_opened_again(fresh: Path) -> None:
    with rvbuild.open(fresh).scenes["a"] as scene:
        before = scene.read((0, 0, 8, 8)).image
        scene.labels((0, 0, 8, 8))
    assert np.array_equal(scene.read((0, 0, 8, 8)).image, before)


@pytest.mark.parametrize("window", [(0, 0, 8), (0, 0, 0, 8), (0.5, 0, 8, 8)])
def test_a_wrong_window_is_refused(fresh: Path, window: tuple[int, ...]) -> None:
    with pytest.raises(rvbuild.UsageError, match="expected a window"):
        rvbuild.open(fresh).scenes["a"].read(window)


def test_a_scene_without_labels_says_so(fresh: Path) -> None:
    fresh.write_text(fresh.read_text() + "\n[scenes.by_id.c]\nlabels = false\n")
    project = rvbuild.open(fresh, set={"scenes.validation": [], "scenes.test": ["c"]})
    with pytest.raises(rvbuild.UsageError, match=r"scene c of .* has no labels"):
        project.scenes["c"].labels()
    assert project.scenes["c"].label_files == ()
