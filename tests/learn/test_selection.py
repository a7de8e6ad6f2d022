import pytest

from rvbuild.errors import ModelError
from rvbuild.learn.selection import best_epoch, improves, last_epoch


def lines(*scores):
    return [{"epoch": n, "metrics": {"mean_iou": score}} for n, score in enumerate(scores, start=1)]


@pytest.mark.parametrize(
    ("scores", "best"),
    [((0.1, 0.3, 0.2), 2), ((0.3, 0.3), 1), ((None, 0.0), 2), ((None, None), 1), ((), 0)],
)
def test_best_is_the_first_of_equals(scores, best):
    assert best_epoch(lines(*scores), "mean_iou") == best


@pytest.mark.parametrize(
    ("scores", "patience", "last"),
    [
        ((0.1, 0.2, 0.3), 1, 10),
        ((0.3, 0.2), 1, 2),
        ((0.3, 0.2, 0.4, 0.1, 0.1), 2, 5),
        ((0.3, 0.2, 0.1, 0.4), 2, 3),
        ((0.3, 0.3, 0.3), 0, 10),
    ],
)
def test_the_end(scores, patience, last):
    assert last_epoch(lines(*scores), 10, patience, "mean_iou") == last


def test_improvement():
    assert improves(lines(0.1)[0], [], "mean_iou")
    assert not improves(lines(0.2, 0.2)[1], lines(0.2), "mean_iou")


def test_unknown_metric():
    with pytest.raises(ModelError, match='no metric "mean_io"; did you mean "mean_iou"'):
        best_epoch(lines(0.1), "mean_io")
