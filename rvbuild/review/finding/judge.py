"""The probability that labels are wrong, learned from errors that were made of the same labels on purpose.

A logistic regression tells errors of each kind from labels as they are; it is learned in some folds of the area and
applied in another. Its odds, times how frequent errors are, are the odds that a label is one. How frequent they are is
counted: labels that look like errors, relative to how many made errors do. Labels that are probably wrong count less
as examples of right ones when the regression is repeated. Of what an edge cuts off only a part is seen: its odds count
as much as what is around it is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvbuild.review.finding.evidence import NAMES
from rvbuild.review.finding.logistic import fit
from rvbuild.review.finding.objects import Item, Place

Floats = NDArray[np.float64]

KINDS = ("spurious", "outline", "class", "duplicate")
"""Of labels; without a label, an object can be missing."""

EXPECTED = {"spurious": 0.03, "outline": 0.03, "class": 0.03, "duplicate": 0.02, "missing": 0.05}
"""The share of labels with an error of each kind that is expected before looking; missing ones relative to labels."""

BELIEF = 50.0
"""As if this had been seen in so many labels."""

PENALTY = 10.0
"""On the weights of the evidence: a few dozen labels say little about twenty figures; hundreds outweigh it."""

OVERLAP = 0.05
"""On the weight of the overlap with another label, for duplicates: where labels never overlap, that tells all."""

MOST_LEARNED = 6000
"""Labels, or places, that a regression learns from."""

ROUNDS = 3
LABELLED = 0.35
"""A place is an object that has a label if they overlap this much, intersection over union."""

FREE = 0.25
"""A place may lack a label if labels of the class cover less of it, and it overlaps each other label less."""

SEEN = 0.2
"""The least share of known errors above a level at which others are counted."""

FEWEST = 5
"""Labels of a class before it has a median of its own, and objects that must be recognised before others are looked
for."""


class Judged(NamedTuple):
    """The probability of each kind of error of labels."""

    kinds: tuple[str, ...]
    chances: Floats
    """(N, kinds)."""


def judge_labels(items: Sequence[Item], made: Sequence[Item]) -> Judged:
    """Return the probabilities that labels are wrong."""
    kind_of = np.array([item.kind for item in made])
    kinds = tuple(kind for kind in KINDS if (kind_of == kind).any())
    if not items or not kinds:
        return Judged((), np.zeros((len(items), 0)))
    raw, raw_made = _features(items), _features(made)
    own, errors = _relative(raw, items, raw, items), _relative(raw_made, made, raw, items)
    folds, made_folds = np.array([item.fold for item in items]), np.array([item.fold for item in made])
    expected = np.array([EXPECTED[kind] for kind in kinds])
    chances = np.zeros((len(items), len(kinds)))
    penalties = np.full((len(kinds), len(NAMES) + 1), PENALTY)
    penalties[np.array(kinds) == "duplicate", -1] = OVERLAP
    outcomes = np.array([kinds.index(kind) + 1 for kind in kind_of])
    surrounded = np.array([item.evidence.surrounded for item in items])
    for _ in range(ROUNDS):
        right = 1 - chances.sum(axis=1)
        odds, made_odds = np.zeros((len(items), len(kinds))), np.zeros((len(made), len(kinds)))
        for fold in np.unique(folds):
            train, error = folds != fold, made_folds != fold
            if not train.any() or len(np.unique(outcomes[error])) < len(kinds):
                train, error = np.ones_like(train), np.ones_like(error)
            train = _thinned(train)
            # Errors of each kind weigh as much as labels, together.
            counts = np.bincount(outcomes[error], minlength=len(kinds) + 1)
            model = fit(
                np.concatenate([own[train], errors[error]]),
                np.concatenate([np.zeros(train.sum(), dtype=np.int64), outcomes[error]]),
                np.concatenate([right[train], right[train].sum() / counts[outcomes[error]]]),
                penalties,
            )
            odds[folds == fold] = model.log_odds(own[folds == fold])
            made_odds[made_folds == fold] = model.log_odds(errors[made_folds == fold])
        shares = np.zeros(len(kinds))
        scores, made_scores = _apart(odds), _apart(made_odds)
        for column in range(len(kinds)):
            of_kind = outcomes == column + 1
            shares[column] = _share(scores[:, column], made_scores[of_kind, column], float(expected[column]))
            made_of_kind = made_odds[of_kind, column]
            odds[:, column] = _tempered(odds[:, column], right, made_of_kind, np.ones(len(made_of_kind)))
            if kinds[column] != "duplicate":  # of that, the other label tells
                odds[:, column] *= surrounded
        chances = _chances(odds, shares)
    return Judged(kinds, chances)


def judge_places(places: Sequence[Place]) -> tuple[list[Place], Floats]:
    """Return the places without a label, and the probability that each is an object."""
    known = [place for place in places if place.labelled >= LABELLED]
    free = [place for place in places if place.covered < FREE and place.known < FREE]
    if len(known) < FEWEST or not free:
        return [], np.zeros(0)
    every = [*known, *free]
    features = np.array([[*place.evidence.features, place.strength] for place in every])
    positive = np.repeat([1, 0], [len(known), len(free)])
    folds = np.array([place.fold for place in every])
    surrounded = np.array([place.evidence.surrounded for place in free])
    chances = np.zeros(len(free))
    # Before looking: so many objects lack a label, among these places.
    expected = min(EXPECTED["missing"] * len(known) / len(free), 0.5)
    for _ in range(ROUNDS):
        odds = np.zeros(len(every))
        weights = np.concatenate([np.ones(len(known)), 1 - chances])
        weights[: len(known)] *= weights[len(known) :].sum() / len(known)
        for fold in np.unique(folds):
            train = folds != fold
            if not positive[train].any() or positive[train].all():
                train = np.ones_like(train)
            train = _thinned(train)
            model = fit(features[train], positive[train], weights[train], PENALTY)
            odds[folds == fold] = model.log_odds(features[folds == fold])[:, 0]
        others = odds[len(known) :]
        share = _share(others, odds[: len(known)], expected)
        others = _tempered(others, weights[len(known) :], odds[: len(known)], weights[: len(known)])
        others = others * surrounded
        chances = _chances(others[:, np.newaxis], np.array([share]))[:, 0]
    return free, chances


def _thinned(examples: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which examples (N,) are learned from, if there are many: every second, third … of all."""
    chosen = np.flatnonzero(examples)
    thinned = np.zeros_like(examples)
    thinned[chosen[:: -(-len(chosen) // MOST_LEARNED)]] = True
    return thinned


def _tempered(odds: Floats, weights: Floats, positive: Floats, positive_weights: Floats) -> Floats:
    """Return log-odds as likely as they say, given log-odds of unseen examples; few examples make models too sure.

    Parameters
    ----------
    odds, weights
        (N,) of examples that are mostly negative, and how much each counts as one.
    positive, positive_weights
        (M,) of positive examples.
    """
    share = weights.sum() / max(float(positive_weights.sum()), 1e-9)
    model = fit(
        np.concatenate([odds, positive])[:, np.newaxis],
        np.repeat([0, 1], [len(odds), len(positive)]),
        np.concatenate([weights, positive_weights * share]),
        0.1,
    )
    return model.log_odds(odds[:, np.newaxis])[:, 0]


def _chances(log_odds: Floats, shares: Floats) -> Floats:
    """Return the probability of each kind (N, K), if shares (K,) of all have it."""
    odds = np.exp(np.clip(log_odds, -20, 20)) * shares / max(1 - float(shares.sum()), 1e-3)
    return np.asarray(odds / (1 + odds.sum(axis=1, keepdims=True)))


def _apart(log_odds: Floats) -> Floats:
    """Return the log-odds of each kind (N, K) against all else, given those against what is right."""
    powers = np.exp(np.clip(log_odds, -20, 20))
    return np.asarray(np.log(powers) - np.log(1 + powers.sum(axis=1, keepdims=True) - powers))


def _share(scores: Floats, errors: Floats, expected: float) -> float:
    """Return how frequent errors of a kind are, given scores of labels (N,) and of errors of this kind (M,).

    If half of such errors score above some level, errors are at most twice as many as the labels above it; the level at
    which this is least tells most. The sum of probabilities would be too low: the labels that are learned as right ones
    have errors among them, and a model that has learned some errors as right finds fewer of all.
    """
    if not len(errors):
        return expected
    levels = np.sort(errors)[::-1]
    found = np.arange(1, len(levels) + 1) / len(levels)
    above = len(scores) - np.searchsorted(np.sort(scores), levels, side="left")
    enough = found >= SEEN
    most = float((np.maximum(above[enough], 1) / found[enough]).min())
    return (min(most, len(scores) / 2) + BELIEF * expected) / (len(scores) + BELIEF)


def _features(items: Sequence[Item]) -> Floats:
    return np.array([[*item.evidence.features, item.overlap] for item in items])


def _relative(features: Floats, items: Sequence[Item], own: Floats, labels: Sequence[Item]) -> Floats:
    """Return features relative to the medians of those of the labels of the same class."""
    result = features.copy()
    ids, own_ids = np.array([item.class_id for item in items]), np.array([item.class_id for item in labels])
    for class_id in np.unique(ids):
        of_class = own[own_ids == class_id]
        result[ids == class_id] -= _medians(of_class if len(of_class) >= FEWEST else own)
    return result


def _medians(features: Floats) -> Floats:
    """Return the median of each feature (F,), nan aside."""
    known = [column[np.isfinite(column)] for column in features.T]
    return np.array([float(np.median(values)) if len(values) else 0.0 for values in known])
