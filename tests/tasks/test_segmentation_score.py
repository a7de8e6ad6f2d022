from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import open_aoi
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.windows import Window
from rvbuild.progress import Silent
from rvbuild.tasks.metrics import places
from rvbuild.tasks.metrics.places import WorstPlaces
from rvbuild.tasks.segmentation import score as segmentation_score
from rvbuild.tasks.segmentation.score import confusion_matrix, score
from tests.stages.sample_scenes import CLASSES, NULL, write_aoi, write_raster


class Array:
    """A label source that holds everything."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    def read(self, window: Window) -> np.ndarray:
        return self.labels[window.row : window.row_stop, window.col : window.col_stop]


def naive(truth: np.ndarray, predicted: np.ndarray, n: int) -> np.ndarray:
    matrix = np.zeros((n, n), dtype=np.int64)
    for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        matrix[t, p] += 1
    return matrix


@pytest.mark.slow
@given(st.integers(1, 40), st.data())
def test_counts_pairs(n: int, data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=2, max_dims=2, max_side=12))
    ids = st.integers(0, n - 1)
    truth = data.draw(arrays.arrays(np.uint8, shape, elements=ids))
    predicted = data.draw(arrays.arrays(np.uint8, shape, elements=ids))

    matrix = confusion_matrix(truth, predicted, n)

    assert matrix.dtype == np.int64
    assert (matrix == naive(truth, predicted, n)).all()


@pytest.mark.parametrize("n", [16, 17, 254])
def test_codes_of_many_classes_do_not_overflow(n: int) -> None:
    truth = np.full((3, 5), n - 1, dtype=np.uint8)
    matrix = confusion_matrix(truth, truth, n)
    assert matrix[n - 1, n - 1] == matrix.sum() == 15


def test_chunks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation_score, "CHUNK_PX", 7)
    random = np.random.default_rng(0)
    truth, predicted = random.integers(0, 5, (2, 9, 11)).astype(np.uint8)
    assert (confusion_matrix(truth, predicted, 5) == naive(truth, predicted, 5)).all()


def scene(folder: Path, height: int, width: int) -> tuple[Path, np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    truth = random.choice([0, 1, NULL], (height, width)).astype(np.uint8)
    predicted = random.choice([0, 1, 255], (height, width)).astype(np.uint8)
    return write_raster(folder / "labels.tif", predicted, nodata=255), truth, predicted


def expected(truth: np.ndarray, predicted: np.ndarray, inside: np.ndarray) -> list[list[int]]:
    counted = inside & (truth != NULL)
    ids = np.where(predicted == 255, NULL, predicted)
    matrix: list[list[int]] = naive(truth[counted], ids[counted], 3).tolist()
    return matrix


@pytest.mark.parametrize(("side", "block"), [(1, (1, 1)), (7, (1, 2)), (7, (3, 1)), (256, (2, 16))])
def test_labelled_pixels_are_counted_whatever_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, block: tuple[int, int]
) -> None:
    monkeypatch.setattr(places, "SIDE_PX", side)
    monkeypatch.setattr(segmentation_score, "BLOCK", block)
    path, truth, predicted = scene(tmp_path, 30, 20)

    evaluation = score(path, Array(truth), None, CLASSES, NULL, Silent(), WorstPlaces())

    matrix = evaluation["confusion"]
    assert matrix == expected(truth, predicted, np.ones((30, 20), dtype=bool))
    assert matrix[NULL] == [0, 0, 0]
    assert matrix[0][NULL] > 0  # labelled, not predicted
    assert all(type(count) is int for row in matrix for count in row)


def test_only_the_area_of_interest_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "SIDE_PX", 8)
    path, truth, predicted = scene(tmp_path, 30, 20)
    files = [write_aoi(tmp_path / "aoi.geojson", (10, 5, 20, 15), (22, 0, 24, 4))]
    with open_image([path]) as source:
        aoi = open_aoi(files, source.grid)

    evaluation = score(path, Array(truth), aoi, CLASSES, NULL, Silent(), WorstPlaces())

    inside = np.zeros((30, 20), dtype=bool)
    inside[10:20, 5:15] = inside[22:24, 0:4] = True
    assert evaluation["confusion"] == expected(truth, predicted, inside)


def test_the_worst_places_hold_all_errors_of_a_small_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "SIDE_PX", 8)
    path, truth, predicted = scene(tmp_path, 30, 20)
    worst = WorstPlaces()
    confusion = np.array(score(path, Array(truth), None, CLASSES, NULL, Silent(), worst)["confusion"])

    listed = worst.to_json()["places"]

    assert len(listed) == 4 * 3
    assert [place["severity"] for place in listed] == sorted((p["severity"] for p in listed), reverse=True)
    np.fill_diagonal(confusion, 0)
    total = np.zeros_like(confusion)
    for place in listed:
        row, col, height, width = place["window"]
        part = slice(row, row + height), slice(col, col + width)
        matrix = np.array(expected(truth[part], predicted[part], np.ones((height, width), dtype=bool)))
        np.fill_diagonal(matrix, 0)
        assert place["severity"] == matrix.sum()
        assert {(label, class_id): count for label, class_id, count in place["errors"]} == {
            (label, class_id): matrix[label, class_id] for label, class_id in np.argwhere(matrix).tolist()
        }
        total += matrix
    assert (total == confusion).all()


def test_scores_of_right_and_wrong_pixels(tmp_path: Path) -> None:
    path, truth, predicted = scene(tmp_path, 30, 20)
    random = np.random.default_rng(2)
    scores = random.integers(0, 256, (2, 30, 20)).astype(np.uint8)
    with rasterio.open(
        tmp_path / "scores.tif", "w", driver="GTiff", width=20, height=30, count=2, dtype="uint8"
    ) as dataset:
        dataset.write(scores)
    counts = score(path, Array(truth), None, CLASSES, NULL, Silent(), WorstPlaces(), tmp_path / "scores.tif")
    counted = (truth != NULL) & (predicted != 255)
    highest = scores.max(axis=0) / 255
    for name, chosen in (("right", truth == predicted), ("wrong", truth != predicted)):
        direct = np.histogram(highest[counted & chosen], bins=20, range=(0, 1))[0]
        assert np.abs(np.array(counts["score_histogram"][name]) - direct).sum() <= 2, "rounding at edges of bins"
        assert sum(counts["score_histogram"][name]) == np.count_nonzero(counted & chosen)


def test_a_value_that_is_no_class_is_an_error(tmp_path: Path) -> None:
    path, truth, predicted = scene(tmp_path, 12, 9)
    predicted[4, 6] = 77
    write_raster(path, predicted, nodata=255)
    with pytest.raises(
        DataError, match=r"labels\.tif: value 77 at pixel \(row 4, column 6\) is not a class id; expected 0 to 2"
    ):
        score(path, Array(truth), None, CLASSES, NULL, Silent(), WorstPlaces())


def test_a_raster_of_another_type_is_an_error(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "labels.tif", np.zeros((4, 4), dtype=np.float32))
    with pytest.raises(DataError, match="expected class ids of type uint8, found float32"):
        score(path, Array(np.zeros((4, 4), np.uint8)), None, CLASSES, NULL, Silent(), WorstPlaces())
