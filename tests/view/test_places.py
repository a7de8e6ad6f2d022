"""The places where pixels are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvbuild.geo.windows import Window
from rvbuild.progress import Silent
from rvbuild.tasks.metrics.places import WorstPlaces
from rvbuild.tasks.segmentation.score import confusion_matrix, score
from rvbuild.view.places import count, places
from rvbuild.view.readers import Memo
from rvbuild.view.tiles import label_ids

from .conftest import SIDE, Results

WHOLE = Window(0, 0, SIDE, SIDE)


@pytest.fixture(autouse=True)
def small_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rvbuild.tasks.metrics.places.SIDE_PX", 32)


def test_the_worst_window_comes_first(pixels: Results, memo: Memo) -> None:
    predicted = label_ids(pixels.scene(), WHOLE, 1)
    predicted[0:6, 40:60] = 0  # 120 pixels of ground
    predicted[40:44, 40:44] = 1  # 16 of a building
    pixels.predict_pixels(predicted)
    windows = places([pixels.scene()], memo)
    assert [(p.window, p.wrong, p.truth, p.predicted) for p in windows] == [
        ((32, 0, 64, 32), 120, 1, 0),
        ((32, 32, 64, 64), 16, 0, 1),
    ]
    assert windows[0].share == 120 / 32**2
    (pair,) = places([pixels.scene()], memo, 0, 1)
    assert pair.window == (32, 32, 64, 64)


def test_the_places_of_the_draft_are_others(pixels: Results, memo: Memo) -> None:
    truth = label_ids(pixels.scene(), WHOLE, 1)
    pixels.predict_pixels(truth)
    pixels.draft(1 - truth)
    assert places([pixels.scene()], memo) == []
    assert len(places([pixels.scene()], memo, of="draft")) == 4


def test_a_new_prediction_is_counted_anew(pixels: Results, memo: Memo) -> None:
    truth = label_ids(pixels.scene(), WHOLE, 1)
    pixels.predict_pixels(truth)
    assert places([pixels.scene()], memo) == []
    pixels.predict_pixels(1 - truth)
    assert sum(place.wrong for place in places([pixels.scene()], memo)) == SIDE * SIDE


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8)
@given(seed=st.integers(0, 1 << 30))
def test_the_pairs_of_all_windows_are_the_confusion_matrix(pixels: Results, seed: int) -> None:
    predicted = np.random.default_rng(seed).integers(0, 2, (SIDE, SIDE), dtype=np.uint8)
    pixels.predict_pixels(predicted)
    expected = confusion_matrix(label_ids(pixels.scene(), WHOLE, 1), predicted, 3)
    counted = np.zeros_like(expected)
    for square in count(pixels.scene())["places"]:
        for label, prediction, number in square["errors"]:
            counted[label, prediction] += number
    np.testing.assert_array_equal(counted, expected)


def test_the_places_are_those_of_the_evaluation(pixels: Results) -> None:
    predicted = np.random.default_rng(1).integers(0, 2, (SIDE, SIDE), dtype=np.uint8)
    pixels.predict_pixels(predicted)
    scene, evaluated = pixels.scene(), WorstPlaces()
    assert scene.prediction is not None
    with scene.labels() as labels:
        score(scene.prediction.path, labels, None, scene.classes, scene.null_id, Silent(), evaluated)  # type: ignore[arg-type]
    expected = [(square["window"], square["severity"]) for square in evaluated.to_json()["places"]]
    assert [(square["window"], square["severity"]) for square in count(scene)["places"]] == expected


def test_of_large_scenes_a_sample_is_compared(pixels: Results, memo: Memo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rvbuild.view.places.SAMPLED_PX", SIDE * SIDE // 25)
    pixels.predict_pixels(1 - label_ids(pixels.scene(), WHOLE, 1))
    found = places([pixels.scene()], memo)
    assert len(found) == 4
    assert all(place.share == 1 for place in found)
    # Every fifth pixel in each direction, and those that are left over at the edges, count 25 times.
    assert sum(place.wrong for place in found) == 13 * 13 * 25
