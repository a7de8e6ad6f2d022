"""Evidence of outlines: how much of what is around them is known, and sizes beyond those that tell anything."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from rvbuild.review.finding.evidence import LARGEST, NAMES, Evidence, evidence, typical
from rvbuild.review.finding.maps import ScoreMap

STRIDE, CELLS = 4, 60


def seen(area: shapely.Polygon, known: np.ndarray | None = None) -> Evidence:
    shape = CELLS, CELLS
    known = np.full(shape, 255, dtype=np.uint8) if known is None else known
    odds = np.zeros((1, *shape), dtype=np.float32)
    scores = ScoreMap(odds, np.zeros(odds.shape, dtype=np.uint8), known, STRIDE)
    return evidence(area, 0, scores, typical(np.full(9, 24.0**2)), [0])


def test_all_around_an_object_in_the_middle_is_known() -> None:
    assert seen(shapely.box(100, 100, 124, 124)).surrounded == pytest.approx(1, abs=0.05)


def test_less_is_known_at_an_edge_in_a_corner_and_beside_what_has_no_data() -> None:
    edge, corner = seen(shapely.box(0, 100, 24, 124)).surrounded, seen(shapely.box(0, 0, 24, 24)).surrounded
    assert 0.5 < edge < 0.85
    assert 0.3 < corner < edge
    known = np.full((CELLS, CELLS), 255, dtype=np.uint8)
    known[:, :25] = 0
    assert seen(shapely.box(100, 100, 124, 124), known).surrounded == pytest.approx(edge, abs=0.05)


def test_sizes_far_from_all_labels_say_no_more_than_large_ones() -> None:
    size = [float(seen(shapely.box(100, 100, 100 + side, 100 + side)).features[NAMES.index("size")]) for side in (3, 6)]
    assert size == [-LARGEST, -LARGEST]
    assert abs(float(seen(shapely.box(100, 100, 126, 126)).features[NAMES.index("size")])) < LARGEST
