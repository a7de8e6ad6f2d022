"""Shapes: which boxes find labels, and which cells agree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rvbuild.errors import UsageError
from rvbuild.view.places import places
from rvbuild.view.readers import Memo
from rvbuild.view.shapes import shapes

from .conftest import SIDE, Results


def rows(results: Results, layer: str, memo: Memo) -> list[dict[str, object]]:
    features = shapes(results.scene(), layer, memo)
    assert features["left_out"] == 0
    return [dict(zip(features["columns"], row, strict=True)) for row in features["rows"]]


def test_each_box_takes_the_free_label_that_it_shares_most_with(
    results_of: Callable[[str], Results], memo: Memo
) -> None:
    results = results_of("boxes")  # labels at (8, 8, 30, 30) and (36, 36, 58, 50)
    results.predict_boxes([(8, 8, 30, 30, 0, 0.9), (9, 8, 30, 30, 0, 0.8), (0, 40, 10, 50, 0, 0.3)])
    records = rows(results, "prediction", memo)
    assert [(row["score"], row["hit"]) for row in records] == [(0.9, 1), (0.8, 0), (0.3, 0)]
    labels = rows(results, "labels", memo)
    assert [(row["x0"], row["class"], row["hit"]) for row in labels] == [(8.0, 0, 0.9), (36.0, 0, None)]


def test_labels_outside_of_the_image_do_not_count(results_of: Callable[[str], Results], memo: Memo) -> None:
    from tests.api.conftest import write_labels

    results = results_of("boxes")
    write_labels(results.root / "data/c.geojson", [(-30, 8, 10, 30)])
    results.predict_boxes([(0, 8, 10, 30, 0, 0.9)])
    assert [row["hit"] for row in rows(results, "prediction", memo)] == [-1]
    assert [row["hit"] for row in rows(results, "labels", memo)] == [-1]


def test_the_places_of_boxes_are_what_is_missed_and_what_is_false(
    results_of: Callable[[str], Results], memo: Memo
) -> None:
    results = results_of("boxes")
    results.predict_boxes([(8, 8, 30, 30, 0, 0.9), (0, 40, 10, 50, 0, 0.3), (50, 0, 60, 10, 0, 0.05)])
    windows = places([results.scene()], memo)
    assert [(p.wrong, p.truth, p.predicted, p.window[0]) for p in windows] == [(1.0, 0, None, 36), (0.3, None, 0, 0)]


def test_cells_have_the_label_of_their_place(results_of: Callable[[str], Results], memo: Memo) -> None:
    results = results_of("cells")
    scores = np.tile([0.2, 0.8], (5, 5, 1))
    scores[0, 0] = 0.7, 0.3
    scores[4, 4] = np.nan
    results.predict_cells(scores, 15)
    records = rows(results, "prediction", memo)
    assert len(records) == 24
    assert {key: records[0][key] for key in ("x0", "x1", "class", "truth")} == {
        "x0": 0,
        "x1": 15,
        "class": 0,
        "truth": 1,
    }
    assert records[4]["x1"] == SIDE, "the last one ends where the scene does"
    labels = {(row["x0"], row["y0"]): row["class"] for row in rows(results, "labels", memo)}
    assert len(labels) == 25
    assert all(row["truth"] == labels[row["x0"], row["y0"]] for row in records)
    wrong = places([results.scene()], memo)
    assert [(p.truth, p.predicted) for p in wrong].count((1, 0)) == 1
    assert {(p.truth, p.predicted) for p in places([results.scene()], memo, 0, 1)} == {(0, 1)}
    assert places([results.scene()], memo, of="draft") == []
    results.predict_cells(np.tile([0.9, 0.1], (5, 5, 1)), 15, stage="draft")
    wrong = places([results.scene()], memo, of="draft")
    assert {(p.truth, p.predicted) for p in wrong} == {(1, 0)}
    assert len(wrong) == list(labels.values()).count(1)


def test_chips_and_layers_without_shapes(pixels: Results, memo: Memo) -> None:
    with pytest.raises(UsageError, match="there are no chips"):
        shapes(pixels.scene(), "chips", memo)
    with pytest.raises(UsageError, match="no shapes of 'labels'"):
        shapes(pixels.scene(), "labels", memo)
    assert shapes(pixels.scene(), "area", memo)["rings"] == []
