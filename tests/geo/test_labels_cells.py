"""Classes of cells: by area, by intersection over area, from rasters, and from polygons that are cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine

from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.cells import CellLabels, cell_windows, open_cells
from rvbuild.geo.windows import Window

Write = Callable[..., Path]
Square = Callable[..., dict[str, Any]]
Open = Callable[..., CellLabels]

CAR, TREE, GROUND, NULL = 0, 1, 2, 3
PIXELS = Grid(50, 70, Affine.identity(), None)
CELL = Window(20, 20, 20, 20)

AREA = {"cell_px": 20, "cells": "grid", "rule": "area"}
IOA = {"cell_px": 20, "cells": "grid", "rule": "ioa", "ioa_thresh": 0.5, "ioa_over": "smaller", "pick": "max_ioa"}


@pytest.fixture
def cells_of(tmp_path: Path, write_geojson: Write, classes: list[dict[str, Any]]) -> Open:
    def open_them(*features: tuple[Any, dict[str, Any]], cells: dict[str, Any] = AREA, **settings: Any) -> CellLabels:
        path = write_geojson(tmp_path / "labels.geojson", features)
        slice_ = {"kind": "vector", "cells": cells, **settings}
        return open_cells([path], slice_, grid=PIXELS, classes=classes, null_id=NULL)

    return open_them


def of(name: str) -> dict[str, Any]:
    return {"class_name": name}


def test_the_class_that_covers_most_of_a_cell(cells_of: Open, square: Square) -> None:
    labels = cells_of((square(20, 20, 27, 40), of("car")), (square(28, 20, 40, 40), of("tree")))
    assert labels.classify(CELL) == TREE
    assert labels.cell(CELL) == TREE


def test_areas_of_one_class_count_once_where_they_overlap(cells_of: Open, square: Square) -> None:
    twice = [(square(20, 20, 28, 40), of("car"))] * 2
    assert cells_of(*twice, (square(28, 20, 40, 40), of("tree"))).classify(CELL) == TREE


def test_background_competes_with_what_is_uncovered(cells_of: Open, square: Square) -> None:
    small, large = (square(20, 20, 40, 29), of("car")), (square(20, 20, 40, 31), of("car"))
    assert cells_of(small, background="ground").classify(CELL) == GROUND
    assert cells_of(large, background="ground").classify(CELL) == CAR
    assert cells_of(small).classify(CELL) == CAR


def test_a_tie_goes_to_the_lowest_id(cells_of: Open, square: Square) -> None:
    halves = [(square(20, 20, 30, 40), of("tree")), (square(30, 20, 40, 40), of("car"))]
    assert cells_of(*halves).classify(CELL) == CAR
    assert cells_of(*reversed(halves)).classify(CELL) == CAR


def test_a_cell_inside_a_large_polygon_has_its_class_by_default(cells_of: Open, square: Square) -> None:
    # Of the polygon the cell is a tiny part.
    large = (square(-500, -500, 600, 600), of("tree"))
    assert cells_of(large, background="ground").classify(CELL) == TREE
    assert cells_of(large, cells=IOA, background="ground").classify(CELL) == TREE
    assert cells_of(large, cells={**IOA, "ioa_over": "cell"}, background="ground").classify(CELL) == TREE
    assert cells_of(large, cells={**IOA, "ioa_over": "polygon"}, background="ground").classify(CELL) == GROUND


def test_a_small_polygon_wholly_in_a_cell(cells_of: Open, square: Square) -> None:
    small = (square(25, 25, 28, 28), of("car"))
    assert cells_of(small, cells=IOA, background="ground").classify(CELL) == CAR
    assert cells_of(small, cells={**IOA, "ioa_over": "cell"}, background="ground").classify(CELL) == GROUND


@pytest.mark.parametrize("share", [0.5, 0.49])
def test_the_threshold_is_reached_or_not(cells_of: Open, square: Square, share: float) -> None:
    # 10 of 20, and 9.8 of 20 columns of the polygon lie in the cell.
    labels = cells_of((square(40 - 20 * share, 20, 60 - 20 * share, 40), of("car")), cells=IOA, background="ground")
    assert labels.classify(CELL) == (CAR if share == 0.5 else GROUND)


def test_the_smallest_id_is_picked_among_those_above_the_threshold_alone(cells_of: Open, square: Square) -> None:
    # Neither the background nor the sliver of a car may win, though their ids may be lower.
    sliver, whole = (square(39, 20, 60, 40), of("car")), (square(22, 22, 30, 30), of("tree"))
    rule = {**IOA, "pick": "min_id"}
    assert cells_of(sliver, whole, cells=rule, background="car").classify(CELL) == TREE
    both = (square(30, 30, 38, 38), of("ground")), whole
    assert cells_of(*both, cells=rule).classify(CELL) == TREE


def test_the_largest_share_is_picked(cells_of: Open, square: Square) -> None:
    half, whole = (square(30, 20, 50, 40), of("car")), (square(22, 22, 25, 25), of("tree"))
    assert cells_of(half, whole, cells=IOA).classify(CELL) == TREE
    assert cells_of(half, whole, cells={**IOA, "pick": "min_id"}).classify(CELL) == CAR


@pytest.mark.parametrize("cells", [AREA, IOA, {**AREA, "cells": "polygons"}], ids=["area", "ioa", "polygons"])
def test_an_empty_label_file(cells_of: Open, cells: dict[str, Any]) -> None:
    assert cells_of(cells=cells).classify(CELL) == NULL
    assert cells_of(cells=cells).cell(CELL) == NULL
    assert cells_of(cells=cells, background="ground").classify(CELL) == GROUND


def test_without_a_background_a_cell_of_nothing_is_unlabelled(cells_of: Open, square: Square) -> None:
    labels = cells_of((square(0, 0, 5, 5), of("car")))
    assert labels.classify(CELL) == NULL
    assert labels.classify(Window(0, 0, 20, 20)) == CAR
    below = cells_of((square(0, 0, 100, 5), of("car")), cells={**IOA, "ioa_over": "cell"})
    assert below.classify(Window(0, 0, 20, 20)) == NULL


@pytest.mark.parametrize("pick", ["max_ioa", "min_id"])
def test_features_of_the_null_class_say_that_nothing_is_known(cells_of: Open, square: Square, pick: str) -> None:
    unknown, known = (square(20, 20, 40, 40), of("null")), (square(20, 20, 30, 40), of("tree"))
    rule = {**IOA, "pick": pick}
    assert cells_of(unknown, cells=rule, background="ground").classify(CELL) == NULL
    assert cells_of(unknown, known, cells=rule, background="ground").classify(CELL) == TREE
    assert cells_of(unknown, background="null").classify(CELL) == NULL


def test_touching_is_not_sharing(cells_of: Open, square: Square) -> None:
    assert cells_of((square(0, 20, 20, 40), of("car"))).classify(CELL) == NULL


def test_a_cell_at_the_edge_is_judged_by_its_part_inside(cells_of: Open, square: Square) -> None:
    # The cell has 10 rows and 10 columns of the scene.
    labels = cells_of((square(60, 40, 66, 50), of("car")), background="ground")
    assert labels.classify(Window(40, 60, 20, 20)) == CAR
    assert labels.classify(Window(80, 80, 20, 20)) == NULL


def test_the_cells_of_a_grid_cover_the_scene(classes: list[dict[str, Any]]) -> None:
    windows = cell_windows([], {"kind": "vector", "cells": AREA}, grid=PIXELS, classes=classes, stride_px=20)
    assert len(windows) == 3 * 4
    assert windows[-1] == Window(40, 60, 20, 20)


def test_polygons_that_are_cells_keep_their_own_classes(
    tmp_path: Path, write_geojson: Write, square: Square, classes: list[dict[str, Any]], cells_of: Open
) -> None:
    # The first lies outside of the scene: dropped, with its class.
    features = [
        (square(100, 0, 120, 20), of("ground")),
        (square(0, 0, 20, 21), of("car")),
        (square(20.2, 0, 40.1, 19.9), of("tree")),
        (square(60, 40, 80, 60), of("ground")),
    ]
    path = write_geojson(tmp_path / "cells.geojson", features)
    settings = {"kind": "vector", "cells": {**AREA, "cells": "polygons"}}
    windows = cell_windows([path], settings, grid=PIXELS, classes=classes, stride_px=20)
    assert windows == [Window(0, 0, 21, 20), Window(0, 20, 20, 20), Window(40, 60, 20, 20)]
    with open_cells([path], settings, grid=PIXELS, classes=classes, null_id=NULL) as labels:
        assert [labels.classify(window) for window in windows] == [CAR, TREE, GROUND]
        # A cell of the grid is matched by its place, not by equal coordinates.
        assert [labels.cell(Window(r, c, 20, 20)) for r, c in [(0, 0), (0, 20), (40, 60), (20, 20)]] == [
            CAR,
            TREE,
            GROUND,
            NULL,
        ]


def test_a_polygon_clipped_to_the_scene_is_the_cell_at_its_edge(cells_of: Open, square: Square) -> None:
    cells = {**AREA, "cells": "polygons"}
    labels = cells_of((square(60, 40, 70, 50), of("tree")), cells=cells)
    assert labels.cell(Window(40, 60, 20, 20)) == TREE
    labels = cells_of((square(0, 0, 9, 9), of("tree")), cells=cells)
    assert labels.cell(Window(0, 0, 20, 20)) == NULL


def test_the_majority_of_labelled_pixels(tmp_path: Path, write_raster: Write, classes: list[dict[str, Any]]) -> None:
    ids = np.full((50, 70), 255, dtype=np.uint8)
    ids[20:24, 20:40] = TREE
    ids[24:26, 20:40] = CAR
    ids[40:50, 60:65], ids[40:50, 65:70] = CAR, TREE
    path = write_raster(tmp_path / "ids.tif", ids)
    settings = {
        "kind": "raster", "encoding": "id", "map": None, "other": "error", "nodata": 255, "resample": "error",
        "cells": {"cell_px": 20},
    }  # fmt: skip
    with open_cells([path], settings, grid=PIXELS, classes=classes, null_id=NULL) as labels:
        assert labels.classify(CELL) == TREE
        assert labels.cell(Window(0, 0, 20, 20)) == NULL
        assert labels.classify(Window(40, 60, 20, 20)) == CAR
        assert labels.classify(Window(60, 60, 20, 20)) == NULL
    assert len(cell_windows([path], settings, grid=PIXELS, classes=classes, stride_px=20)) == 12


@pytest.mark.parametrize("cells", [AREA, IOA, {**AREA, "cells": "polygons"}], ids=["area", "ioa", "polygons"])
def test_a_cell_looks_at_the_features_around_it_alone(
    cells_of: Open, square: Square, monkeypatch: pytest.MonkeyPatch, cells: dict[str, Any]
) -> None:
    features = [(square(col, row, col + 5, row + 5), of("car")) for row in range(0, 50, 5) for col in range(0, 70, 5)]
    labels, looked = cells_of(*features, cells=cells), []
    plain = shapely.intersection
    monkeypatch.setattr(
        shapely, "intersection", lambda first, second: looked.append(np.size(first)) or plain(first, second)
    )
    assert labels.classify(CELL) == CAR
    assert labels.cell(Window(20, 20, 5, 5)) == CAR
    assert 0 < sum(looked) <= 36 + 2 * 9 < len(features) == 140
