"""Which windows are chosen to be labelled next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.learn.linear.head import Head
from rvbuild.review.suggest import space
from rvbuild.review.suggest.choose import choose
from rvbuild.review.suggest.measure import Measured, joined, measure

NO_PIXELS = np.zeros(0, dtype=np.int64)


def windows(means: list[list[int]], expected: list[list[float]] | None = None) -> Measured:
    """Return windows of 100 pixels."""
    values = np.array(means, dtype=np.int64) * space.STEPS
    classes = np.array(expected) if expected else np.zeros((len(means), 0))
    return Measured(np.full(len(means), 100), values, classes, classes / 10)


def test_the_window_least_like_the_labelled_ones_comes_first_and_its_twin_last() -> None:
    free = windows([[0, 1], [50, 40], [50, 41], [-10, 5]])
    chosen = choose(free, windows([[0, 0], [1, 0]]), NO_PIXELS, 9)
    assert [choice.number for choice in chosen][:2] == [2, 3]
    assert sorted(choice.number for choice in chosen) == [0, 1, 2, 3]
    assert chosen[0].score == 1
    assert chosen[0].beyond == 0.75
    scores = [choice.score for choice in chosen]
    assert scores == sorted(scores, reverse=True)


def test_without_labels_the_most_usual_window_comes_first() -> None:
    free = windows([[30, 0], [1, 1], [-30, 2], [0, 0], [2, -1]])
    chosen = choose(free, None, NO_PIXELS, 3)
    assert chosen[0].number in (1, 3, 4)
    assert chosen[0].diversity is None
    assert {choice.number for choice in chosen[1:]} == {0, 2}
    assert chosen[1].beyond == 0.8


def test_of_windows_that_are_as_far_the_one_with_more_of_a_rare_class_comes_first() -> None:
    free = windows([[40, 0], [-40, 0]], [[0.0, 100.0], [20.0, 80.0]])
    chosen = choose(free, windows([[0, 0]]), np.array([50, 5000]), 2)
    assert [choice.number for choice in chosen] == [1, 0]
    np.testing.assert_allclose(chosen[0].growth, [0.4, 0.016])
    # Of the rest, the growth is relative to what was chosen before it, too.
    np.testing.assert_allclose(chosen[1].growth, [0, 100 / 5080])


def test_windows_that_look_the_same_are_all_chosen() -> None:
    free = windows([[7, 7]] * 5)
    assert [choice.number for choice in choose(free, None, NO_PIXELS, 5)] == [0, 1, 2, 3, 4]
    assert [choice.score for choice in choose(free, free, NO_PIXELS, 2)] == [1, 1]


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(0, 12), st.integers(1, 40))
def test_a_shorter_list_is_the_beginning_of_a_longer_one(seed: int, free: int, labelled: int, count: int) -> None:
    rng = np.random.default_rng(seed)

    def some(number: int) -> Measured:
        means = rng.integers(-2000, 2000, (number, 6))
        expected = rng.uniform(0, 50, (number, 2))
        return Measured(np.full(number, 100), means, expected, expected / 4)

    all_free, known = some(free), some(labelled) if labelled else None
    pixels = np.array([30, 900])
    whole = choose(all_free, known, pixels, free)
    part = choose(all_free, known, pixels, count)
    assert [choice.number for choice in part] == [choice.number for choice in whole][:count]
    assert sorted(choice.number for choice in whole) == list(range(free))


@given(st.integers(0, 2**32 - 1))
def test_points_are_whole_numbers_and_distances_those_of_the_plain_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-2032, 2033, (40, 9))
    points = space.whitened(values)
    assert (points == np.rint(points)).all()
    expected = np.sqrt(((points[:, np.newaxis] - points[:7]) ** 2).sum(axis=2)) / space.STEPS
    assert (space.distances(points, points[:7]) == expected).all()


def test_a_direction_in_which_windows_hardly_differ_counts_like_the_others() -> None:
    rng = np.random.default_rng(0)
    values = np.rint(rng.normal(0, (1000, 100), (500, 2))).astype(np.int64)
    assert np.ptp(values.std(axis=0)) > 800
    assert np.ptp(space.whitened(values).std(axis=0)) < 1
    along = values[:, :1] + np.rint(rng.normal(0, 100, (500, 2))).astype(np.int64)  # both features say nearly the same
    ratios = [np.divide(*np.linalg.eigvalsh(np.cov(each.T))) for each in (along, space.whitened(along))]
    assert ratios[0] < 0.01
    assert ratios[1] > 0.04


def test_measures_of_a_window_are_those_of_its_pixels_that_count() -> None:
    features = np.array([[[10, 0], [20, 4], [99, 99]], [[0, 0], [0, 0], [0, 1]]], dtype=np.int8)
    pixels = np.array([[16, 8, 0], [0, 0, 5]])
    head = Head((3, 7), np.array([[1, -1], [0, 0]]), np.array([0, 0]), np.array([9, 0]), 0.125)
    measured = measure(features, pixels, head)
    assert measured.pixels.tolist() == [24, 5]
    assert measured.means.tolist() == [[round(16 * 320 / 24), round(16 * 32 / 24)], [0, 16]]
    share = 1 / (1 + np.exp(-0.25 * np.array([10, 20])))
    assert measured.expected[0] == pytest.approx([16 * share[0] + 8 * share[1], 24 - 16 * share[0] - 8 * share[1]])
    assert measured.wrong[1] == pytest.approx([1.25, 1.25])
    without = measure(features, pixels, None)
    assert without.expected.shape == (2, 0)
    assert joined([measured, measured]).taken([3, 0]).pixels.tolist() == [5, 24]
