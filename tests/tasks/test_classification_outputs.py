"""What is written of predicted cells, and that it lies where the cells are."""

import json

import fiona
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from rvbuild.errors import DataError, ModelError
from rvbuild.geo.grid import Grid, reproject
from rvbuild.geo.windows import sliding
from rvbuild.progress import Silent
from rvbuild.tasks.classification.cells import merger, no_cells, read_cells, write_cells
from rvbuild.tasks.classification.outputs import derive

CLASSES = [
    {"id": 0, "name": "car", "color": "#ffff00"},
    {"id": 1, "name": "null", "color": "#000000"},
    {"id": 2, "name": "tree", "color": "#00ff00"},
]
UTM = CRS.from_epsg(32633)
#: 7 px cells: an odd size, so that nothing rounds by luck. The scene ends in the midst of cells.
CELL, HEIGHT, WIDTH = 7, 18, 25
PLACED = Grid(HEIGHT, WIDTH, Affine(0.5, 0, 400_000.25, 0, -0.5, 5_800_000), UTM)
PLAIN = Grid(HEIGHT, WIDTH, Affine.identity(), None)


def predict(folder, grid=PLACED, leave_out=(), **changes):
    """Write made-up predictions; return the scores by (row, column)."""
    settings = {
        "classes": CLASSES,
        "null_id": 1,
        "predict": {"cell_px": CELL, "cells": "geojson", "scores": False, "rgb": False, **changes},
    }
    rng = np.random.default_rng(0)
    merged, cells = merger(grid, folder, settings), {}
    for number, window in enumerate(sliding(grid.height, grid.width, CELL, CELL)):
        share = rng.uniform()
        if number not in leave_out:
            scores = np.array([share, 1 - share], dtype=np.float32)
            merged.add(window, scores, np.ones((CELL, CELL), dtype=bool))
            cells[window.row // CELL, window.col // CELL] = scores
    merged.finish()
    derive({"cells.json": folder / "cells.json"}, settings, folder, Silent())
    return cells


def test_cells_in_longitude_and_latitude_have_exact_corners(tmp_path):
    cells = predict(tmp_path, leave_out=(3,))
    features = json.loads((tmp_path / "cells.geojson").read_text())["features"]
    assert len(features) == 3 * 4 - 1
    for feature in features:
        properties = feature["properties"]
        row, column = properties["row"], properties["column"]
        car, tree = cells[row, column]
        assert np.float32(properties["score_car"]) == car and np.float32(properties["score_tree"]) == tree
        assert properties["score_car"] + properties["score_tree"] == pytest.approx(1, abs=1e-6)
        assert properties["class_name"] == ("car" if car >= tree else "tree") and properties["class_id"] == (
            0 if car >= tree else 2
        )
        assert properties["score"] == max(properties["score_car"], properties["score_tree"])
        # The corners of the pixels, in odd cells too: no half a pixel to the south-east, no pixel further.
        cols = np.array([column, column + 1, column + 1, column]) * float(CELL)
        rows = np.array([row, row, row + 1, row + 1]) * float(CELL)
        lon, lat = reproject("", UTM, CRS.from_epsg(4326), *PLACED.to_map(cols, rows))
        corners = feature["geometry"]["coordinates"][0]
        assert corners[0] == corners[-1]
        assert {tuple(c) for c in corners} == set(zip(lon.tolist(), lat.tolist(), strict=True))


def test_a_geopackage_in_the_crs_of_the_scene(tmp_path):
    predict(tmp_path, cells="gpkg")
    with fiona.open(tmp_path / "cells.gpkg") as layer:
        assert layer.crs.to_epsg() == 32633 and len(layer) == 12
        second = list(layer)[1]
        assert second.properties["row"] == 0 and second.properties["column"] == 1
        xs, ys = zip(*second.geometry["coordinates"][0], strict=True)
    assert (min(xs), max(xs), min(ys), max(ys)) == (400_003.75, 400_007.25, 5_799_996.5, 5_800_000)
    assert not (tmp_path / "cells.geojson").exists()


@pytest.mark.parametrize("grid", [PLACED, PLAIN], ids=["placed", "plain"])
def test_rasters_have_a_pixel_for_each_cell(tmp_path, grid):
    cells = predict(tmp_path, grid, leave_out=(3,), scores="float32", rgb=True)
    with rasterio.open(tmp_path / "labels.tif") as file:
        labels = file.read(1)
        assert file.transform == grid.transform * Affine.scale(CELL) and file.crs == grid.crs
        assert labels.shape == (3, 4) and file.nodata == 255
        assert file.tags(1)["class_2"] == "tree"
    with rasterio.open(tmp_path / "scores.tif") as file:
        scores = file.read()
        assert file.descriptions == ("car", "tree") and file.shape == (3, 4)
    for row, column in np.ndindex(3, 4):
        if (row, column) in cells:
            assert labels[row, column] == [0, 2][int(cells[row, column].argmax())]
            assert (scores[:, row, column] == cells[row, column]).all()
        else:
            assert labels[row, column] == 255 and np.isnan(scores[:, row, column]).all()
    with rasterio.open(tmp_path / "rgb.tif") as file:
        assert file.shape == (3, 4)


def test_without_a_crs_cells_are_in_pixels(tmp_path):
    predict(tmp_path, PLAIN)
    last = json.loads((tmp_path / "cells.geojson").read_text())["features"][-1]
    assert sorted(map(tuple, last["geometry"]["coordinates"][0]))[0] == (21.0, 14.0)


def test_what_evaluation_reads_is_what_was_predicted(tmp_path):
    predicted = predict(tmp_path, leave_out=(0, 5))
    cells = read_cells(tmp_path / "cells.json")
    assert cells.grid == PLACED and cells.cell_px == CELL and cells.output_ids == [0, 2]
    assert cells.predicted.sum() == 10 and not cells.predicted[0, 0] and not cells.predicted[1, 1]
    for (row, column), scores in predicted.items():
        assert (cells.scores[row, column] == scores).all()
    write_cells(tmp_path / "again.json", cells)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "cells.json").read_bytes()


@pytest.mark.parametrize("kind", ["geojson", "gpkg"])
def test_a_scene_without_a_prediction(tmp_path, kind):
    predict(tmp_path, leave_out=range(12), cells=kind, scores="uint8")
    assert not read_cells(tmp_path / "cells.json").predicted.any()
    with fiona.open(tmp_path / f"cells.{kind}") as layer:
        assert len(layer) == 0
        assert kind == "geojson" or "score_tree" in layer.schema["properties"]


def test_same_predictions_same_bytes(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        predict(tmp_path / name, cells="gpkg", scores="uint8", rgb=True)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    rasters = ["labels.qml", "labels.tif", "rgb.tif", "scores.qml", "scores.tif"]
    assert files == ["cells.gpkg", "cells.json", "cells.qml", *rasters]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_weights_that_have_diverged(tmp_path):
    settings = {"classes": CLASSES, "null_id": 1, "predict": {"cell_px": CELL}}
    with pytest.raises(ModelError, match="not finite for the cell at row 0, column 7"):
        merger(PLACED, tmp_path, settings).add(sliding(18, 25, 7, 7)[1], np.array([np.nan, 0]), np.ones((7, 7), bool))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"grid": 3}'])
def test_a_damaged_file_of_cells(tmp_path, text):
    (tmp_path / "cells.json").write_text(text)
    with pytest.raises(DataError, match=r"cells\.json: cannot be read as predicted cells"):
        read_cells(tmp_path / "cells.json")


def test_all_cells_of_a_scene():
    assert no_cells(Grid(7, 8, Affine.identity(), None), 7, [0]).scores.shape == (1, 2, 1)
