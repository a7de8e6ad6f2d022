"""How probably labels are wrong: learned from made errors, worth what it is on unseen ones."""

from __future__ import annotations

import numpy as np
import pytest

from rvbuild.review.finding import judge
from rvbuild.review.finding.evidence import NAMES, Evidence
from rvbuild.review.finding.judge import judge_labels
from rvbuild.review.finding.logistic import fit
from rvbuild.review.finding.objects import Item


def item(kind: str, number: int, level: float, overlap: float = 0.0, surrounded: float = 1.0) -> Item:
    features = np.full(len(NAMES), np.nan)
    features[:4] = level
    seen = Evidence(features, (0.0, 0.0), 1.0, 0, level, 0.0, 0.0, 0.0, 0.0, surrounded)
    return Item(0, number, kind, 0, number % 5, seen, overlap)


def drawn(count: int, errors: int, distance: float) -> tuple[list[Item], list[Item], np.ndarray]:
    """Return labels, the last of which are wrong, made errors, and which labels are wrong."""
    rng = np.random.default_rng(1)
    levels = rng.normal(0, 1, count)
    levels[count - errors :] -= distance
    labels = [item("right", number, level) for number, level in enumerate(levels)]
    made = [item("spurious", number, level) for number, level in enumerate(rng.normal(-distance, 1, 200))]
    return labels, made, np.arange(count) >= count - errors


@pytest.mark.parametrize(("distance", "most"), [(2.0, 0.08), (6.0, 0.02)])
def test_scores_are_probabilities(distance: float, most: float) -> None:
    labels, made, wrong = drawn(600, 30, distance)
    judged = judge_labels(labels, made)
    scores = judged.chances.sum(axis=1)
    assert judged.kinds == ("spurious",)
    assert abs(float(scores.mean()) - 0.05) < 0.02
    assert float(np.square(scores - wrong).mean()) < most * 0.5


@pytest.mark.parametrize("errors", [0, 30, 90])
def test_frequent_errors_are_not_taken_for_rare_ones(errors: int) -> None:
    labels, made, wrong = drawn(600, errors, 2.0)
    scores = judge_labels(labels, made).chances.sum(axis=1)
    assert abs(float(scores.mean()) - errors / 600) < 0.03
    doubtful = (scores > 0.1) & (scores < 0.6)
    assert errors == 0 or float(wrong[doubtful].mean()) < 1.5 * float(scores[doubtful].mean())


def test_copies_are_told_by_their_overlap() -> None:
    labels, made, _ = drawn(100, 0, 3.0)
    labels[7], labels[8] = labels[7]._replace(overlap=0.8), labels[8]._replace(overlap=0.8)
    made += [item("duplicate", number, 0.0, 0.7 + 0.002 * number) for number in range(100)]
    judged = judge_labels(labels, made)
    column = judged.kinds.index("duplicate")
    assert judged.chances[[7, 8], column].min() > 0.5
    assert np.delete(judged.chances[:, column], [7, 8]).max() < 0.1


def test_no_labels_and_no_errors_give_nothing() -> None:
    labels, made, _ = drawn(5, 0, 3.0)
    assert judge_labels([], made).kinds == ()
    assert judge_labels(labels, []).chances.shape == (5, 0)


def test_many_examples_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, made, wrong = drawn(600, 30, 6.0)
    monkeypatch.setattr(judge, "MOST_LEARNED", 200)
    scores = judge_labels(labels, made).chances.sum(axis=1)
    assert scores[wrong].min() > scores[~wrong].max()


def test_a_regression_finds_the_odds_that_examples_have() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (4000, 2))
    x[::7, 1] = np.nan
    odds = 0.5 + 1.5 * x[:, 0]
    outcomes = (rng.uniform(size=4000) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    model = fit(x, outcomes, np.ones(4000))
    assert np.allclose(model.log_odds(x)[:, 0], odds, atol=0.35)


def test_what_an_edge_cuts_off_is_told_from_less_evidence() -> None:
    labels, made, _ = drawn(200, 0, 4.0)
    labels[:3] = [item("right", 5 * number, -4.0, surrounded=share) for number, share in enumerate((1.0, 0.5, 0.0))]
    whole, half, nothing = judge_labels(labels, made).chances[:3].sum(axis=1)
    assert whole > 0.5 > half > nothing
    assert 0.005 < nothing < 0.1, "what is expected before looking"
