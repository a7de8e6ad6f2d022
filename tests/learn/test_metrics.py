import numpy as np
import pytest

from rvbuild.learn.metrics import Confusion


def test_counts_add_up_over_batches():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(-1, 3, (6, 5, 5)), rng.integers(0, 3, (6, 5, 5))
    whole, parts = Confusion("abc"), Confusion("abc")
    whole.add(truth, predicted)
    for labels, predictions in zip(truth, predicted, strict=True):
        parts.add(labels, predictions)
    assert np.array_equal(whole.matrix, parts.matrix) and whole.matrix.sum() == (truth >= 0).sum()
    for t in range(3):
        for p in range(3):
            assert whole.matrix[t, p] == ((truth == t) & (predicted == p)).sum()


def test_scores():
    confusion = Confusion(["a", "b", "c", "d"])
    # a: 3 hits, 1 taken for b. b: 2 hits, 1 taken for c. c never occurs. d neither occurs nor is predicted.
    confusion.add(np.array([0, 0, 0, 0, 1, 1, 1, -100]), np.array([0, 0, 0, 1, 1, 1, 2, 3]))
    scores = confusion.scores()
    assert scores["iou"] == {"a": 3 / 4, "b": 2 / 4, "c": 0.0, "d": None}
    assert scores["f1"] == {"a": 6 / 7, "b": 4 / 6, "c": 0.0, "d": None}
    assert scores["mean_iou"] == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert scores["mean_f1"] == pytest.approx((6 / 7 + 4 / 6) / 2)


def test_no_pixels():
    assert Confusion(["a"]).scores() == {"iou": {"a": None}, "f1": {"a": None}, "mean_iou": None, "mean_f1": None}
