"""The worst places of a scene."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.geo.windows import Window
from rvbuild.tasks.metrics import places
from rvbuild.tasks.metrics.places import WorstPlaces, on_grid, squares_of

ERRORS = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(lambda pair: pair[0] != pair[1]),
    st.integers(1, 9),
    min_size=1,
    max_size=3,
)


@given(st.lists(ERRORS, max_size=60), st.randoms())
def test_the_worst_are_kept_in_any_order(errors: list[dict[tuple[int, int], int]], random: object) -> None:
    windows = {Window(row, 0, 1, 1): of_window for row, of_window in enumerate(errors)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "MOST", 3)
        patch.setattr(places, "MOST_OF_PAIR", 2)
        results = []
        for shuffled in (False, True):
            order = list(windows)
            if shuffled:
                random.shuffle(order)  # type: ignore[attr-defined]
            worst = WorstPlaces()
            for window in order:
                worst.add(window, windows[window])
            results.append(worst.to_json())
    assert results[0] == results[1]
    ranked = sorted(windows, key=lambda window: (-sum(windows[window].values()), window))
    listed = [Window(*place["window"]) for place in results[0]["places"]]
    assert set(ranked[:3]) <= set(listed)
    assert listed == [window for window in ranked if window in listed]
    for label, predicted, positions in results[0]["pairs"]:
        own = [window for window in ranked if (label, predicted) in windows[window]]
        own.sort(key=lambda window: -windows[window][label, predicted])
        assert [listed[position] for position in positions] == own[:2]


def test_a_severity_of_its_own_ranks_places() -> None:
    worst = WorstPlaces()
    worst.add(Window(0, 0, 2, 2), {(0, 1): 1}, 0.25)
    worst.add(Window(0, 2, 2, 2), {(0, 1): 1}, 0.75)
    worst.add(Window(2, 2, 2, 2), {})
    assert [place["window"][1] for place in worst.to_json()["places"]] == [2, 0]


@pytest.mark.parametrize("squares", [(1, 1), (2, 3), (9, 9)])
def test_windows_partition_an_image(monkeypatch: pytest.MonkeyPatch, squares: tuple[int, int]) -> None:
    monkeypatch.setattr(places, "SIDE_PX", 4)
    counts = np.zeros((10, 13), dtype=int)
    for window in on_grid(10, 13, squares):
        for square in squares_of(window):
            row, col = window.row + square.row, window.col + square.col
            assert row % 4 == col % 4 == 0 and max(square.height, square.width) <= 4
            counts[row : row + square.height, col : col + square.width] += 1
    assert (counts == 1).all()
