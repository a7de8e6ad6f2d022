"""Sums of features by class: exact, whatever the order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rvbuild.learn.encoders.encoder import LIMIT
from rvbuild.learn.linear.moments import dtype_for, moments, size, unpacked


def by_hand(features, pixels):
    """Sum in Python's integers."""
    count = features.shape[1]
    rows = [([int(v) for v in row], int(w)) for row, w in zip(features, pixels, strict=True)]
    return [
        sum(w for _, w in rows),
        *(sum(w * row[i] for row, w in rows) for i in range(count)),
        *(sum(w * row[i] * row[j] for row, w in rows) for i in range(count) for j in range(i, count)),
    ]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cells=st.integers(0, 60), count=st.integers(1, 7))
def test_sums_are_those_of_whole_numbers(seed, cells, count):
    rng = np.random.default_rng(seed)
    features = rng.integers(-LIMIT, LIMIT + 1, (cells, count)).astype(np.int8)
    pixels = rng.integers(0, 17, cells)
    sums = moments(features, pixels)
    assert sums.tolist() == by_hand(features, pixels)
    assert len(sums) == size(count)
    order = rng.permutation(cells)
    cut = cells // 3
    parts = [moments(features[rows], pixels[rows]) for rows in (order[:cut], order[cut:])]
    assert (sum(parts) == sums).all()


def test_the_largest_sums_of_a_block_are_exact():
    features = np.full((4096, 3), LIMIT, dtype=np.int8)
    features[:, 2] = -LIMIT
    sums = moments(features, np.full(4096, 16))
    pixels = 4096 * 16
    assert sums[-6:].tolist() == [pixels * LIMIT**2 * sign for sign in (1, 1, -1, 1, -1, 1)]
    assert sums.astype(dtype_for(pixels)).tolist() == sums.tolist()
    assert dtype_for(pixels) == np.int32
    assert dtype_for(1 << 20) == np.int64


def test_moments_are_means_and_covariances():
    rng = np.random.default_rng(0)
    features = rng.integers(-50, 50, (500, 4)).astype(np.int8)
    sums = np.stack([moments(features, np.full(500, 2)), np.zeros(size(4), dtype=np.int64)])
    result = unpacked(sums, 4).moments()
    assert result.counts.tolist() == [1000, 0]
    np.testing.assert_allclose(result.means[0], features.mean(axis=0))
    np.testing.assert_allclose(result.covariances[0], np.cov(features.T.astype(float), bias=True))
    assert not result.means[1].any()
    assert not result.covariances[1].any()


def test_unpacked_sums_are_added_and_taken_away_exactly():
    rng = np.random.default_rng(0)
    parts = [
        np.stack([moments(rng.integers(-127, 128, (300, 5)).astype(np.int8), rng.integers(0, 17, 300))])
        for _ in range(3)
    ]
    whole = unpacked(sum(parts), 5)
    rest = whole.plus(unpacked(parts[0], 5), -1)
    for mine, theirs in zip(rest, unpacked(parts[1] + parts[2], 5), strict=True):
        assert (mine == theirs).all()
    for mine, theirs in zip(rest.plus(unpacked(parts[0], 5)), whole, strict=True):
        assert (mine == theirs).all()
