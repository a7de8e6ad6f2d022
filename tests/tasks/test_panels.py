"""The pictures of a place, and the histograms of scores, of each task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from affine import Affine

from rvbuild.geo.area.aoi import open_aoi
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.boxes import BoxLabels
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.windows import Window
from rvbuild.progress import Silent
from rvbuild.tasks.classification import places as cell_places
from rvbuild.tasks.classification.cells import no_cells, write_cells
from rvbuild.tasks.classification.score import histogram as cell_histogram
from rvbuild.tasks.classification.score import score as score_cells
from rvbuild.tasks.detection import places as box_places
from rvbuild.tasks.detection.boxes import Detections, write_detections
from rvbuild.tasks.detection.score import histogram as box_histogram
from rvbuild.tasks.detection.score import score as score_boxes
from rvbuild.tasks.metrics.places import MISSED, RIGHT, WRONG, WorstPlaces
from rvbuild.tasks.segmentation import places as pixel_places
from tests.stages.sample_scenes import CLASSES, NULL, write_aoi, write_raster

GREY = 100


def has(picture: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """Return where a picture has a colour, (H, W) bool."""
    return np.asarray((picture == np.array(colour[:3], dtype=np.uint8)).all(axis=-1))


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), GREY, dtype=np.uint8)


def test_wrong_pixels(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    truth = random.choice([0, 1, NULL], (30, 20)).astype(np.uint8)
    predicted = random.choice([0, 1, 255], (30, 20)).astype(np.uint8)
    path = write_raster(tmp_path / "labels.tif", predicted, nodata=255)
    with open_image([path]) as source:
        aoi = open_aoi([write_aoi(tmp_path / "aoi.geojson", (10, 5, 20, 15))], source.grid)
    window = Window(5, 2, 18, 16)
    part = slice(5, 23), slice(2, 18)

    class Labels:
        def read(self, window: Window) -> np.ndarray:
            return truth[window.row : window.row_stop, window.col : window.col_stop]

    labels, prediction, errors = pixel_places.panels(path, Labels(), aoi, CLASSES, NULL)(grey(18, 16), window)  # type: ignore[arg-type]

    inside = np.zeros((30, 20), dtype=bool)
    inside[10:20, 5:15] = True
    counted = (inside & (truth != NULL))[part]
    wrong = counted & (truth != predicted)[part]
    assert ((errors[..., 0] > GREY) == wrong).all()
    assert ((errors == GREY).all(axis=-1) == (counted & ~wrong)).all()
    assert ((errors < GREY).all(axis=-1) == ~counted).all()
    for panel, ids in ((labels, truth), (prediction, predicted)):
        colours = {tuple(panel[counted & (ids[part] == class_id)][0]) for class_id in (0, 1)}
        assert len(colours) == 2


class Cells:
    """Labels from an array of the classes of cells."""

    def __init__(self, ids: np.ndarray) -> None:
        self.ids = ids

    def cell(self, window: Window) -> int:
        return int(self.ids[window.row // 7, window.col // 7])


def test_wrong_cells(tmp_path: Path) -> None:
    classes = [{"id": n, "name": str(n), "color": c} for n, c in enumerate(("#0000ff", "#000000", "#00ff00"))]
    cells = no_cells(Grid(14, 14, Affine.identity(), None), 7, [0, 2])
    cells.scores[0, 0], cells.scores[0, 1], cells.scores[1, 0] = (0.8, 0.2), (0.3, 0.7), (0.4, 0.6)
    write_cells(tmp_path / "cells.json", cells)
    labels, worst = Cells(np.array([[0, 0], [0, 2]])), WorstPlaces()

    counts = score_cells(tmp_path / "cells.json", labels, None, classes, 1, Silent(), worst)

    places = worst.to_json()["places"]
    assert [place["window"] for place in places] == [[7, 7, 7, 7], [0, 7, 7, 7], [7, 0, 7, 7]]
    assert [round(place["severity"], 6) for place in places] == [1.0, 0.4, 0.2]
    histogram = cell_histogram(counts, classes, 1)
    assert np.flatnonzero(histogram["right"]).tolist() == [16]
    assert np.flatnonzero(histogram["wrong"]).tolist() == [12, 14]
    window = Window(0, 7, 7, 7)
    truth, predicted, errors = cell_places.panels(tmp_path / "cells.json", labels, classes)(grey(7, 7), window)
    assert has(truth, (0, 0, 255))[0].all() and has(predicted, (0, 255, 0))[0].all() and has(errors, WRONG)[0].all()


def test_wrong_and_missed_boxes(tmp_path: Path) -> None:
    classes = [{"id": 0, "name": "tree", "color": "#0000ff"}, {"id": 1, "name": "null", "color": "#000000"}]
    grid = Grid(600, 600, Affine.identity(), None)
    boxes = np.array([[10, 10, 30, 30], [300, 10, 320, 30], [10, 200, 30, 220], [40, 40, 50, 50]], dtype=float)
    detections = Detections(grid, 0.5, boxes, np.zeros(4, dtype=np.int64), np.array([0.99, 0.8, 0.7, 0.4]))
    write_detections(tmp_path / "detections.json", detections)
    wanted = np.array([[10, 10, 30, 30], [100, 100, 120, 120]], dtype=float)
    labels, worst = BoxLabels(wanted, np.zeros(2, dtype=np.int64), grid), WorstPlaces()
    options = {"iou_thresh": 0.5}

    counts = score_boxes(tmp_path / "detections.json", labels, None, classes, 1, Silent(), options, worst)

    assert counts["classes"]["0"]["found"] == [1, 2, 1]
    places = worst.to_json()["places"]
    assert [(place["window"], place["errors"]) for place in places] == [
        ([0, 0, 256, 256], [[0, 1, 1], [1, 0, 1]]),
        ([0, 256, 256, 256], [[1, 0, 1]]),
    ]
    histogram = box_histogram(counts)
    assert np.flatnonzero(histogram["right"]).tolist() == [19]
    assert np.flatnonzero(histogram["wrong"]).tolist() == [8, 14, 16]
    window = Window(0, 0, 256, 256)
    truth, predicted, errors = box_places.panels(tmp_path / "detections.json", labels, None, classes, 1, options)(
        grey(256, 256), window
    )
    for row, col, colour in ((10, 15, RIGHT), (200, 15, WRONG), (100, 105, MISSED)):
        assert has(errors, colour)[row, col]
    assert has(truth, (0, 0, 255))[10, 15] and has(truth, (0, 0, 255))[100, 105]
    assert has(predicted, (0, 0, 255))[200, 15] and not has(predicted, (0, 0, 255))[40, 45], "below the threshold"
