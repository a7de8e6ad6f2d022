from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.errors import DataError
from rvbuild.geo import windows
from rvbuild.geo.windows import Window, bands, sliding, starts

small = st.integers(1, 40)


@given(small, small, small, small)
def test_sliding_windows_cover_every_pixel_and_none_lies_outside(
    height: int, width: int, size: int, stride: int
) -> None:
    seen = np.zeros((height, width), dtype=int)
    windows = sliding(height, width, size, stride)
    for window in windows:
        part = window.clip(height, width)
        assert part.height and part.width
        assert window.height == window.width == size
        seen[part.slices_in(Window(0, 0, height, width))] += 1
    if stride <= size:
        assert seen.min() >= 1
    if stride >= size:
        assert seen.max() == 1
    assert windows == sorted(windows)


@given(small, small, small)
def test_only_one_window_overhangs_along_an_axis(length: int, size: int, stride: int) -> None:
    if stride > size:
        return
    positions = list(starts(length, size, stride))
    assert positions[0] == 0
    assert all(start + size < length for start in positions[:-1])
    assert positions[-1] + size >= length


def test_a_scene_smaller_than_a_window_gets_one_window() -> None:
    assert sliding(5, 7, 300, 150) == [Window(0, 0, 300, 300)]


def test_a_scene_of_exactly_one_window_gets_one_window() -> None:
    assert sliding(300, 300, 300, 150) == [Window(0, 0, 300, 300)]


@given(small, small, small)
def test_bands_partition(height: int, width: int, rows: int) -> None:
    partition = bands(height, width, rows)
    assert [row for band in partition for row in range(band.row, band.row_stop)] == list(range(height))
    assert {(band.col, band.width) for band in partition} == {(0, width)}
    assert max(band.height for band in partition) <= rows


def test_intersection_of_strangers_is_empty() -> None:
    shared = Window(0, 0, 10, 10).intersection(Window(20, 3, 5, 5))
    assert (shared.height, shared.width) == (0, 5)


def test_inside() -> None:
    assert Window(0, 0, 10, 20).inside(10, 20)
    assert not Window(-1, 0, 10, 20).inside(10, 20)
    assert not Window(0, 1, 10, 20).inside(10, 20)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        sliding(10, 10, 0, 1)


def test_doctests() -> None:
    assert doctest.testmod(windows).failed == 0


def test_too_many_windows_are_refused_before_they_are_listed() -> None:
    for size, stride in ((64, 64), (300, 100), (1, (1, 2))):
        with pytest.raises(DataError, match=r"the scene has [0-9,]+ windows of .* px; expected at most 4,000,000"):
            sliding(1_000_000, 1_000_000, size, stride)
    with pytest.raises(DataError, match="the scene has 244,140,625 windows of 64 px"):
        sliding(1_000_000, 1_000_000, 64, 64)
