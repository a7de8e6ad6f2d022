"""Places where objects may be: the same whether a scene is looked at in one piece or in bands."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from rvbuild.review.finding import candidates as finding
from rvbuild.review.finding.candidates import candidates
from rvbuild.review.finding.evidence import typical
from rvbuild.review.finding.maps import ScoreMap

STRIDE = 4


def scene(height: int, width: int) -> tuple[ScoreMap, list[tuple[int, int]]]:
    """Return a map with squares of 6 cells in a grid, and their middles in pixels."""
    odds = np.random.default_rng(0).normal(-3, 0.3, (1, height, width)).astype(np.float32)
    middles = []
    for row in range(5, height - 10, 16):
        for col in range(5, width - 10, 16):
            odds[0, row : row + 6, col : col + 6] += 5
            middles.append(((col + 3) * STRIDE, (row + 3) * STRIDE))
    known = np.full((height, width), 255, dtype=np.uint8)
    return ScoreMap(odds, np.zeros(odds.shape, dtype=np.uint8), known, STRIDE), middles


@pytest.mark.parametrize("band", [512, 40, 13])
def test_each_object_is_one_place(band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "BAND", band)
    scores, middles = scene(120, 70)
    found = candidates(scores, 0, typical(np.full(9, (6.0 * STRIDE) ** 2)), len(middles))
    assert len(found) == len(middles)
    for middle in middles:
        (place,) = (each for each in found if each.area.contains(shapely.Point(middle)))
        assert place.area.area == pytest.approx((6 * STRIDE) ** 2, rel=0.4)


def test_what_is_not_known_is_no_place() -> None:
    scores, middles = scene(60, 60)
    scores.known[:30] = 0
    found = candidates(scores, 0, typical(np.full(9, (6.0 * STRIDE) ** 2)), 100)
    strong = [each for each in found if each.strength > 3]
    assert len(strong) == sum(y > 30 * STRIDE for _, y in middles)
