from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.geo.labels.decode import UNKNOWN, by_runs

TABLE = np.array([4, 7, 1, UNKNOWN], dtype=np.uint8)


def look_up(pixels: np.ndarray) -> np.ndarray:
    looked_up: np.ndarray = TABLE[pixels[0].astype(int) * 2 % 4 + pixels[-1].astype(int) % 2]
    return looked_up


@given(
    bands=st.integers(1, 3),
    height=st.integers(0, 5),
    width=st.integers(0, 30),
    side=st.integers(1, 12),
    seed=st.integers(0, 99),
    values=st.integers(1, 4),
)
def test_runs_are_looked_up_as_their_pixels_are(
    bands: int, height: int, width: int, side: int, seed: int, values: int
) -> None:
    coarse = np.random.default_rng(seed).integers(0, values, (bands, height, -(-width // side)), dtype=np.uint8)
    pixels = coarse.repeat(side, axis=2)[:, :, :width]
    labels, some_unknown = by_runs(pixels, look_up)
    expected = look_up(pixels)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected)
    assert some_unknown == (expected == UNKNOWN).any()


@pytest.mark.parametrize(("value", "most"), [(np.zeros((1, 40, 50)), 1), (np.arange(2000).reshape(1, 40, 50), 2000)])
def test_areas_of_one_value_are_looked_up_once(value: np.ndarray, most: int) -> None:
    counts: list[int] = []

    def count(pixels: np.ndarray) -> np.ndarray:
        counts.append(pixels.shape[1])
        return np.zeros(pixels.shape[1], dtype=np.uint8)

    by_runs(value, count)
    assert counts == [most]
