import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvbuild.learn.chips.loader import epoch_requests
from rvbuild.learn.chips.sampling import chances

NAMES = ["car", "null", "tree", "road"]


def pure(*classes):
    """Return the counts of chips that have one class each."""
    counts = np.zeros((len(classes), 4), dtype=np.int64)
    counts[np.arange(len(classes)), [NAMES.index(name) for name in classes]] = 100
    return counts


def test_balanced_draws_each_class_alike():
    weights = chances(pure(*["tree"] * 8, "car", "car"), NAMES, 1, "balanced")
    assert weights[:8].sum() == pytest.approx(0.5)
    assert weights[8:] == pytest.approx([0.25, 0.25])


def test_a_mixed_chip_counts_by_its_shares():
    counts = np.array([[50, 0, 50, 0], [0, 0, 100, 0], [0, 0, 100, 0]])
    weights = chances(counts, NAMES, 1, "balanced")
    # car: 0.5 in all, tree: 2.5 in all.
    assert weights == pytest.approx(np.array([0.5 / 0.5 + 0.5 / 2.5, 1 / 2.5, 1 / 2.5]) / 2)


def test_weights_by_name():
    weights = chances(pure("tree", "car", "road"), NAMES, 1, {"car": 4.0, "road": 0.0})
    assert weights == pytest.approx([0.2, 0.8, 0.0])


def test_chips_without_a_class_keep_their_part():
    counts = pure("tree", "tree", "tree", "car")
    counts = np.concatenate([counts, np.zeros((2, 4), dtype=np.int64), [[0, 100, 0, 0]]])
    for sampling in ("balanced", {"car": 9.0}):
        assert chances(counts, NAMES, 1, sampling)[4:] == pytest.approx([1 / 7] * 3)
    assert chances(counts[4:], NAMES, 1, "balanced") == pytest.approx([1 / 3] * 3)


@given(st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=1, max_size=12))
def test_they_are_chances(rows):
    for sampling in ("balanced", {"car": 0.0, "tree": 3.0}):
        weights = chances(np.array(rows), NAMES, 1, sampling)
        assert (weights >= 0).all() and weights.sum() == pytest.approx(1)


def test_an_epoch_draws_as_many_chips_by_seed_and_epoch():
    weights = chances(pure(*["tree"] * 90, *["car"] * 10), NAMES, 1, "balanced")
    drawn = [n for request in epoch_requests(100, 8, 3, 1, weights) for n in request.chips]
    assert len(drawn) == 100
    assert drawn == [n for request in epoch_requests(100, 8, 3, 1, weights) for n in request.chips]
    assert drawn != [n for request in epoch_requests(100, 8, 3, 2, weights) for n in request.chips]
    assert 30 <= sum(n >= 90 for n in drawn) <= 70
