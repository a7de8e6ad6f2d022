from __future__ import annotations

import functools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.geo.raster.stats import BandCounter, BandStats, Histogram

DTYPES = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64]


def values_of(dtype: Any, count: int = 10_000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return (rng.normal(3, 100, count) ** 3).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, count, dtype=dtype, endpoint=True)


def stats_of(*parts: np.ndarray) -> BandStats:
    counter = BandCounter(parts[0].dtype)
    for part in parts:
        counter.add(part)
    return counter.result()


@pytest.mark.parametrize("dtype", DTYPES)
def test_moments_are_those_of_numpy(dtype: Any) -> None:
    values = values_of(dtype)
    stats = stats_of(*np.array_split(values, 7))
    wide = values.astype(np.float64)
    assert stats.count == len(values)
    assert stats.mean == pytest.approx(wide.mean(), rel=1e-12)
    assert stats.std == pytest.approx(wide.std(), rel=1e-12)
    assert stats.m2 == pytest.approx(((wide - wide.mean()) ** 2).sum(), rel=1e-12)
    assert (stats.min, stats.max) == (values.min(), values.max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_merged_is_one_pass(dtype: Any) -> None:
    parts = np.array_split(values_of(dtype), 5)
    whole, merged = stats_of(*parts), functools.reduce(BandStats.merge, [stats_of(part) for part in parts])
    np.testing.assert_array_equal(whole.histogram.counts, merged.histogram.counts)
    assert (whole.count, whole.min, whole.max) == (merged.count, merged.min, merged.max)
    if np.dtype(dtype).itemsize <= 2:
        assert whole.to_json() == merged.to_json(), "whole numbers, so not a bit differs"
        backwards = functools.reduce(BandStats.merge, [stats_of(part) for part in reversed(parts)])
        assert whole.to_json() == backwards.to_json()
    else:
        assert merged.mean == pytest.approx(whole.mean, rel=1e-13)
        assert merged.m2 == pytest.approx(whole.m2, rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_json_loses_nothing(dtype: Any) -> None:
    stats = stats_of(values_of(dtype))
    again = BandStats.from_json(json.loads(json.dumps(stats.to_json())))
    assert again.to_json() == stats.to_json()
    np.testing.assert_array_equal(again.histogram.counts, stats.histogram.counts)


def test_large_means_do_not_cancel() -> None:
    values = (np.float64(1e9) + np.arange(1000) % 2).astype(np.float64)
    stats = stats_of(*np.array_split(values, 10))
    assert stats.std == pytest.approx(0.5, rel=1e-9)


def test_a_constant_band_has_no_deviation() -> None:
    assert stats_of(np.full(1000, 137, np.uint16)).std == 0.0


def test_nothing_is_neutral() -> None:
    for dtype in DTYPES:
        nothing, something = stats_of(np.zeros(0, dtype)), stats_of(values_of(dtype, 50))
        assert nothing.count == 0
        assert nothing.min is None
        assert nothing.std == 0.0
        assert nothing.merge(something).to_json() == something.merge(nothing).to_json() == something.to_json()
        assert BandStats.from_json(nothing.to_json()).to_json() == nothing.to_json()


@pytest.mark.parametrize(
    ("dtype", "start", "width"), [(np.uint8, 0, 1), (np.int8, -128, 1), (np.uint16, 0, 16), (np.int16, -32768, 16)]
)
def test_small_integers_have_bins_of_equal_width(dtype: Any, start: int, width: int) -> None:
    values = values_of(dtype, 200_000)
    histogram = stats_of(values).histogram.to_json()
    bins = (np.iinfo(dtype).max - start + 1) // width
    assert (histogram["start"], histogram["width"], len(histogram["counts"])) == (start, width, bins)
    expected = np.bincount((values.astype(int) - start) // width, minlength=bins)
    assert histogram["counts"] == expected.tolist()


def test_bins_of_equal_width_go_from_the_first_to_the_last_value() -> None:
    histogram = stats_of(np.array([100, 131, 100], np.int16)).histogram
    assert histogram.to_json() == {"start": 96, "width": 16, "counts": [2, 0, 1]}
    other = stats_of(np.array([-1], np.int16)).histogram
    assert histogram.merge(other).to_json() == {"start": -16, "width": 16, "counts": [1, 0, 0, 0, 0, 0, 0, 2, 0, 1]}
    assert histogram.merge(other).to_json() == other.merge(histogram).to_json()


@pytest.mark.parametrize("dtype", DTYPES)
def test_quantiles_are_near_those_of_numpy(dtype: Any) -> None:
    values = (values_of(dtype, seed=3) // 7 if np.dtype(dtype).kind == "i" else values_of(dtype, seed=3)).astype(dtype)
    stats = stats_of(*np.array_split(values, 3))
    assert stats.min is not None and stats.max is not None
    for share in (0.0, 0.02, 0.25, 0.5, 0.98, 1.0):
        quantile = stats.histogram.quantile(share, stats.min, stats.max)
        expected = float(np.quantile(values.astype(np.float64), share))
        # Half a value, the width of a bin, or a 32nd of the value.
        slack = 1 if values.itemsize == 1 else 20 if values.dtype.kind in "iu" and values.itemsize == 2 else 0
        assert abs(quantile - expected) <= slack + abs(expected) / 25, (share, quantile, expected)
        assert stats.min <= quantile <= stats.max
    assert stats.histogram.quantile(0.0, stats.min, stats.max) == stats.min
    assert stats.histogram.quantile(1.0, stats.min, stats.max) == stats.max


@pytest.mark.slow
@given(st.lists(st.floats(-(2.0**40), 2.0**40, width=32), min_size=1, max_size=50))
def test_bins_by_size_hold_their_values(values: list[float]) -> None:
    histogram = stats_of(np.array(values, np.float32)).histogram.to_json()
    edges = histogram["edges"]
    assert edges == sorted(edges)
    assert len(edges) == len(histogram["counts"]) + 1
    assert sum(histogram["counts"]) == len(values)
    assert histogram["counts"][0] and histogram["counts"][-1]
    assert edges[0] <= min(values) and max(values) <= edges[-1]
    for low, high, count in zip(edges[:-1], edges[1:], histogram["counts"], strict=True):
        inside = [
            v for v in values if (low <= v < high if low >= 0 else low < v <= high if high <= 0 else low < v < high)
        ]
        assert len(inside) == count


def test_the_outermost_bins_hold_what_lies_beyond() -> None:
    histogram = stats_of(np.array([1e100, -1e100, 1e-300, 0.0])).histogram
    counts = histogram.counts
    assert (counts[0], counts[len(counts) // 2], counts[-1]) == (1, 2, 1)
    assert histogram.to_json()["edges"][-1] == 2.0**64


def test_an_empty_histogram_of_each_dtype() -> None:
    for dtype in DTYPES:
        empty = Histogram.empty(np.dtype(dtype))
        assert Histogram.from_json(empty.to_json()).to_json() == empty.to_json()
        assert math.isclose(empty.counts.sum(), 0)
