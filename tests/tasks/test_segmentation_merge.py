from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.crs
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rvbuild.errors import ModelError
from rvbuild.geo.grid import Grid
from rvbuild.geo.windows import sliding
from rvbuild.tasks.segmentation.merge import merger, most_likely, one_decides, outputs_of
from tests.stages.sample_scenes import CRS, TRANSFORM, predict_settings

GRID = Grid(20, 26, TRANSFORM, rasterio.crs.CRS.from_user_input(CRS))


def merge(folder: Path, values: np.ndarray, keep: np.ndarray, **settings: Any) -> Path:
    """Merge windows that were cut out of one scene's scores (K, H, W)."""
    folder.mkdir(exist_ok=True)
    padded = np.pad(values, ((0, 0), (0, 16), (0, 16)), mode="edge")
    kept = np.pad(keep, ((0, 16), (0, 16)))
    target = merger(GRID, folder, predict_settings(**settings))
    for window in sliding(GRID.height, GRID.width, 16, settings.get("stride_px", 8)):
        rows, cols = slice(window.row, window.row_stop), slice(window.col, window.col_stop)
        target.add(window, np.ascontiguousarray(padded[:, rows, cols]), kept[rows, cols])
    target.finish()
    return folder


@pytest.fixture
def scores() -> np.ndarray:
    values = np.random.default_rng(0).random((2, GRID.height, GRID.width), dtype=np.float32)
    return values / values.sum(axis=0)


def everything() -> np.ndarray:
    return np.ones((GRID.height, GRID.width), dtype=bool)


@pytest.mark.parametrize("blend", ["none", "mean", "cosine"])
def test_labels_are_the_most_likely_classes(tmp_path: Path, scores: np.ndarray, blend: str) -> None:
    keep = everything()
    keep[3:5, 10:12] = False
    merge(tmp_path, scores, keep, blend=blend, scores="float32")

    with rasterio.open(tmp_path / "raw_labels.tif") as file:
        labels = file.read(1)
        assert (file.transform, file.crs, file.nodata) == (TRANSFORM, CRS, 255)
        assert not file.overviews(1)
    assert (labels == np.where(keep, scores.argmax(axis=0), 255)).all()
    with rasterio.open(tmp_path / "scores.tif") as file:
        assert file.descriptions == ("car", "tree")
        class_ids = file.read()
    assert np.isnan(class_ids[:, ~keep]).all()
    np.testing.assert_allclose(class_ids[:, keep], scores[:, keep], rtol=1e-5)


def test_only_labels_are_written_unless_more_is_asked_for(tmp_path: Path, scores: np.ndarray) -> None:
    merge(tmp_path, scores, everything())
    assert [path.name for path in tmp_path.iterdir()] == ["raw_labels.tif"]


def test_scores_agree_with_labels(tmp_path: Path, scores: np.ndarray) -> None:
    noisy = np.random.default_rng(4)
    target = merger(GRID, tmp_path, predict_settings(blend="cosine", scores="float32", stride_px=5))
    for window in sliding(GRID.height, GRID.width, 16, 5):
        target.add(window, noisy.random((2, 16, 16), dtype=np.float32), np.ones((16, 16), dtype=bool))
    target.finish()
    with rasterio.open(tmp_path / "raw_labels.tif") as labels, rasterio.open(tmp_path / "scores.tif") as file:
        assert (file.read().argmax(axis=0) == labels.read(1)).all()


def test_null_in_the_middle_shifts_no_class(tmp_path: Path, scores: np.ndarray) -> None:
    classes = [
        {"id": 0, "name": "car", "color": "#ffff00"},
        {"id": 1, "name": "null", "color": "#000000"},
        {"id": 2, "name": "tree", "color": "#00ff00"},
    ]
    target = merger(GRID, tmp_path, {**predict_settings(stride_px=16), "classes": classes, "null_id": 1})
    for window in sliding(GRID.height, GRID.width, 16, 16):
        second = np.stack([np.zeros((16, 16), np.float32), np.ones((16, 16), np.float32)])
        target.add(window, second, np.ones((16, 16), dtype=bool))
    target.finish()
    with rasterio.open(tmp_path / "raw_labels.tif") as file:
        assert (file.read(1) == 2).all()


def test_scores_that_are_not_numbers_are_an_error(tmp_path: Path, scores: np.ndarray) -> None:
    scores[1, 3, 3] = np.nan
    with pytest.raises(ModelError, match="not finite for rows 0 to"):
        merge(tmp_path, scores, everything())


@pytest.mark.parametrize(("blend", "stride"), [("none", 5), ("none", 8), ("none", 16), ("mean", 16)])
def test_one_window_decides_what_blending_would_give(tmp_path: Path, blend: str, stride: int) -> None:
    random = np.random.default_rng(1)
    windows = list(sliding(GRID.height, GRID.width, 16, stride))
    # Often equal, and what no data hide need not be numbers.
    predictions = [random.integers(0, 3, (2, 16, 16)).astype(np.float32) / 2 for _ in windows]
    keeps = [random.random((16, 16)) > 0.3 for _ in windows]
    for prediction, keep in zip(predictions, keeps, strict=True):
        prediction[:, ~keep & (random.random((16, 16)) > 0.5)] = np.nan

    def labels(folder: str, reduce: Any, scores: Any) -> np.ndarray:
        (tmp_path / folder).mkdir()
        target = merger(GRID, tmp_path / folder, predict_settings(blend=blend, stride_px=stride, scores=scores))
        for window, prediction, keep in zip(windows, predictions, keeps, strict=True):
            target.add(window, reduce(prediction), keep)
        target.finish()
        with rasterio.open(tmp_path / folder / "raw_labels.tif") as file:
            ids: np.ndarray = file.read(1)
        return ids

    expected = labels("scores", lambda prediction: prediction, "float32")
    assert set(np.unique(expected)) == {0, 1, 255}
    assert (labels("whole", lambda prediction: prediction, False) == expected).all()
    assert (labels("reduced", outputs_of, False) == expected).all()


def test_a_window_does_not_decide_alone_if_others_or_scores_count() -> None:
    assert not one_decides(predict_settings(blend="mean", stride_px=15))
    assert not one_decides(predict_settings(blend="cosine", stride_px=16))
    assert not one_decides(predict_settings(blend="none", stride_px=16, scores="uint8"))


@pytest.mark.parametrize("reduce", [outputs_of, lambda prediction: prediction])
def test_one_window_whose_scores_are_not_numbers_is_an_error(tmp_path: Path, reduce: Any) -> None:
    target = merger(GRID, tmp_path, predict_settings(blend="none", stride_px=16))
    prediction = np.full((2, 16, 16), 0.5, dtype=np.float32)
    prediction[1, 3, 3] = np.nan
    target.add(next(iter(sliding(GRID.height, GRID.width, 16, 16))), reduce(prediction), np.ones((16, 16), dtype=bool))
    with pytest.raises(ModelError, match="not finite for rows 0 to"):
        target.finish()


@given(arrays.arrays(np.float32, (4, 3, 5), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
def test_most_likely_is_max_and_argmax(scores: np.ndarray) -> None:
    best, output = most_likely(scores)
    assert (best == scores.max(axis=0)).all()
    assert (output == scores.argmax(axis=0)).all()


def test_most_likely_shows_what_is_not_a_number() -> None:
    for k in range(3):
        scores = np.ones((3, 1, 2), dtype=np.float32)
        scores[k, 0, 1] = np.nan
        assert np.isnan(most_likely(scores)[0]).tolist() == [[False, True]]
