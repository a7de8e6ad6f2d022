"""The linear model: what it solves, and what it chooses on folds that it has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from rvbuild.learn.encoders.encoder import LIMIT
from rvbuild.learn.linear.algebra import product, products, solved, whole_product
from rvbuild.learn.linear.division import probabilities
from rvbuild.learn.linear.head import EXACT, LOW_BITS, MOST_FEATURES, Head, read_head, rounded
from rvbuild.learn.linear.moments import moments, size
from rvbuild.learn.linear.solve import Unlabelled, solve

FEATURES, FOLDS = 6, 4


def drawn(rng, count, mean):
    """Draw features around a mean; the last two are noise of no class."""
    values = rng.normal(0, 12, (count, FEATURES)) + mean
    return np.rint(values).clip(-127, 127).astype(np.int8)


def sums_of(rng, counts):
    """Return sums of classes with means along the axes, and the features of other draws."""
    means = np.eye(FEATURES)[:4] * 40
    sums = np.zeros((FOLDS, len(counts), size(FEATURES)), dtype=np.int64)
    for fold in range(FOLDS):
        for k, count in enumerate(counts):
            if count:
                sums[fold, k] = moments(drawn(rng, count, means[k]), np.ones(count, dtype=np.int64))
    return sums, [drawn(rng, 400, means[k]) for k in range(len(counts))]


@pytest.mark.parametrize("count", [1, 30, 32, 33, 130])
def test_equations_are_solved(count):
    rng = np.random.default_rng(0)
    square = rng.normal(size=(count, count)) * rng.uniform(0.1, 30, count)
    matrix, right = square @ square.T + np.eye(count), rng.normal(size=(count, 3))
    before = matrix.copy()
    np.testing.assert_allclose(matrix @ solved(matrix, right), right, atol=1e-8)
    assert (matrix == before).all()
    np.testing.assert_allclose(product(matrix, right), matrix @ right)


@pytest.mark.parametrize("count", [1, 32, 70])
def test_many_are_solved_and_multiplied_as_each_alone(count):
    rng = np.random.default_rng(1)
    square = rng.normal(size=(5, count, count)) * rng.uniform(0.1, 30, (5, 1, count))
    matrices, rights = square @ np.swapaxes(square, 1, 2) + np.eye(count), rng.normal(size=(5, count, 3))
    matrices += np.triu(rng.normal(size=(count, count)), 1)  # what is above the diagonal does not count
    for found, matrix, right in zip(solved(matrices, rights), matrices, rights, strict=True):
        assert (found == solved(matrix, right)).all()
        assert (found == solved(np.tril(matrix), right)).all()
    for found, right in zip(products(matrices[0], rights), rights, strict=True):
        assert (found == product(matrices[0], right)).all()


@pytest.mark.parametrize("count", [1, 2, 31, 32, 300])
def test_products_are_the_same_in_any_order(count):
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(20, count)) * 1e3, rng.normal(size=(count, 4)) * rng.uniform(0, 1e-3, (count, 1))
    order = rng.permutation(count)
    assert (product(left, right) == product(left[:, order], right[order])).all()
    np.testing.assert_allclose(product(left, right), left @ right, rtol=0, atol=1e-10)
    assert not product(left * 0, right).any()
    whole = rng.integers(-127, 128, (500, count), dtype=np.int8)
    assert (whole_product(whole, right) == whole_product(whole[:, order], right[order])).all()
    np.testing.assert_allclose(whole_product(whole, right), whole @ right, rtol=0, atol=1e-10)


def test_classes_that_hardly_meet_are_divided_where_they_are_equally_probable():
    rng = np.random.default_rng(7)
    sums = np.zeros((FOLDS, 2, size(FEATURES)), dtype=np.int64)
    for fold in range(FOLDS):
        for k, count in enumerate((40, 1000)):
            sums[fold, k] = moments(drawn(rng, count, [120 * (k == 0)] * 2 + [0] * 4), np.ones(count, dtype=np.int64))
    assert not solve(sums, FEATURES).offsets.any()


@pytest.mark.parametrize("counts", [(300, 300), (300, 60), (300, 200, 100)])
def test_classes_are_told_apart(counts):
    sums, others = sums_of(np.random.default_rng(1), counts)
    solution = solve(sums, FEATURES)
    assert solution.folds == FOLDS
    assert solution.expected > 0.9
    for k, features in enumerate(others):
        decided = (features @ solution.weights + solution.biases + solution.offsets).argmax(axis=1)
        assert (decided == k).mean() > 0.93


def test_a_rare_class_wins_earlier_than_by_its_probability():
    rng = np.random.default_rng(2)
    sums = np.zeros((FOLDS, 2, size(FEATURES)), dtype=np.int64)
    for fold in range(FOLDS):
        for k, count in enumerate((100, 1000)):
            sums[fold, k] = moments(drawn(rng, count, [14 * (k == 0)] * 2 + [0] * 4), np.ones(count, dtype=np.int64))
    assert solve(sums, FEATURES).offsets[0] > 0


def mixed(rng, counts):
    """Return features of two classes that overlap, as many of each as `counts` says."""
    return np.concatenate([drawn(rng, count, [34 * (k == 0)] * 2 + [0] * 4) for k, count in enumerate(counts)])


def test_pixels_without_labels_tell_how_frequent_classes_are():
    # As many labels of both, but one class has a twentieth of the pixels.
    rng = np.random.default_rng(9)
    sums = np.zeros((FOLDS, 2, size(FEATURES)), dtype=np.int64)
    for fold in range(FOLDS):
        for k in range(2):
            sums[fold, k] = moments(drawn(rng, 250, [34 * (k == 0)] * 2 + [0] * 4), np.ones(250, dtype=np.int64))
    cells = mixed(rng, (100, 1900))
    unlabelled = Unlabelled(cells, np.full(len(cells), 4.0))
    tests = mixed(rng, (1000, 19000))
    quality = []
    for solution in (solve(sums, FEATURES), solve(sums, FEATURES, 16, unlabelled)):
        rare = (tests @ solution.weights + solution.biases + solution.offsets).argmax(axis=1) == 0
        quality.append(rare[:1000].sum() / (1000 + rare[1000:].sum()))
    assert quality[1] > quality[0] + 0.08
    order = rng.permutation(len(cells))
    turned = solve(sums, FEATURES, 16, Unlabelled(cells[order], unlabelled.pixels))
    for one, other in zip(solution, turned, strict=True):
        assert np.all(one == other)


def test_many_pixels_without_labels_count_no_more_than_some():
    rng = np.random.default_rng(10)
    sums, _ = sums_of(rng, (200, 200))
    cells = mixed(rng, (500, 500))
    some, many = (solve(sums, FEATURES, 16, Unlabelled(cells, np.full(1000, each))) for each in (64.0, 8192.0))
    assert (some.biases == many.biases).all()


def test_with_many_labels_pixels_without_any_do_not_count():
    rng = np.random.default_rng(12)
    sums, _ = sums_of(rng, (200, 200))
    unlabelled = Unlabelled(mixed(rng, (10, 500)), np.full(510, 16.0))
    few, many, without = (
        solve(sums * times, FEATURES, 16, cells) for times, cells in ((1, unlabelled), (1000, unlabelled), (1000, None))
    )
    assert (many.biases == without.biases).all()
    assert (few.biases != without.biases).any()


def test_probabilities_are_those_of_their_logarithms():
    logs = np.random.default_rng(11).normal(0, 4, (500, 3))
    logs[:5, 1] = -np.inf
    powers = np.exp(logs)
    np.testing.assert_allclose(probabilities(logs), powers / powers.sum(axis=1, keepdims=True), atol=0.01)
    assert not probabilities(logs)[:5, 1].any()


def test_a_class_without_a_label_is_left_out(tmp_path):
    sums, others = sums_of(np.random.default_rng(3), (200, 0, 200))
    head = rounded(solve(sums, FEATURES), (0, 3, 4))
    assert head.class_ids == (0, 4)
    assert (head.scores(others[2]).argmax(axis=1) == 1).mean() > 0.9


def test_one_class_is_everywhere():
    sums, _ = sums_of(np.random.default_rng(4), (200, 0))
    solution = solve(sums, FEATURES)
    assert solution.folds == 0
    head = rounded(solution, (0, 1))
    assert head.class_ids == (0,)


def test_labels_in_one_block_are_enough():
    sums, others = sums_of(np.random.default_rng(5), (200, 200))
    sums[1:] = 0
    solution = solve(sums, FEATURES)
    assert solution.folds == 0
    head = rounded(solution, (0, 1))
    assert (head.scores(others[1]).argmax(axis=1) == 1).mean() > 0.9


def test_scores_are_exact_in_whole_numbers(tmp_path):
    sums, others = sums_of(np.random.default_rng(6), (200, 150, 100))
    written = rounded(solve(sums, FEATURES), (0, 1, 2))
    written.write(tmp_path / "head.json", folds=3)
    head = read_head(tmp_path / "head.json")
    features = others[0]
    scores = head.scores(features)
    for place in range(0, 400, 37):
        for k in range(3):
            exact = sum(int(a) * int(b) for a, b in zip(features[place], head.weights[:, k], strict=True))
            assert scores[place, k] == np.float32((exact + int(head.biases[k])) * head.unit)
    one_by_one = np.concatenate([head.scores(features[place : place + 1]) for place in range(400)])
    assert (one_by_one == scores).all()


def test_rounding_loses_little():
    sums, others = sums_of(np.random.default_rng(7), (200, 150))
    solution = solve(sums, FEATURES)
    head = rounded(solution, (0, 1))
    scores = head.scores(others[0])
    real = others[0] @ solution.weights + solution.biases
    np.testing.assert_allclose(scores[:, 0] - scores[:, 1], real[:, 0] - real[:, 1], atol=1e-3)


def test_scores_of_many_large_features_are_exact():
    rng = np.random.default_rng(8)
    largest = 1 << 15
    weights = rng.integers(-largest, largest, (MOST_FEATURES, 2))
    # As many as the high parts allow: their sum of products is at the limit of float32.
    weights = weights * (EXACT // 2) // int((np.abs(weights) >> LOW_BITS).sum(axis=0).max() * LIMIT)
    weights[::2] = (weights[::2] | 127) + 1
    head = Head((0, 1), weights, np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64), 1.0)
    features = np.where(rng.random((3, MOST_FEATURES)) < 0.5, -LIMIT, LIMIT).astype(np.int8)
    features[0] = np.where(weights[:, 0] < 0, -LIMIT, LIMIT)
    exact = features.astype(np.int64) @ weights
    assert (head.scores(features) == exact.astype(np.float32)).all()
