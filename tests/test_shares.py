from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rvbuild.project.scenes.shares import TooFewError, least, order, shared

FRACTIONS = st.floats(0.01, 0.99).map(lambda value: {"fraction": value})
FOLDS = st.integers(2, 6).flatmap(lambda n: st.integers(0, n - 1).map(lambda k: {"folds": n, "fold": k}))
SHARES = st.none() | FRACTIONS | FOLDS


@given(st.integers(0, 40), SHARES, SHARES)
def test_every_thing_is_in_one_split_or_there_are_too_few(count: int, validation: Any, test: Any) -> None:
    # A project whose fractions leave nothing is refused.
    assume(
        sum(1 / share["folds"] if "folds" in share else share["fraction"] for share in (validation, test) if share)
        < 0.95
    )
    try:
        splits = shared(count, validation, test)
    except TooFewError as error:
        enough = least(validation, test, count)
        assert str(error) == f"{count} is too few: at least {enough} are needed"
        assert enough > count and shared(enough, validation, test)["train"]
        return
    assert sorted(splits["train"] + splits["validation"] + splits["test"]) == list(range(count))
    assert splits["train"]
    assert bool(splits["validation"]) == (validation is not None)
    assert bool(splits["test"]) == (test is not None)


@given(st.integers(7, 60), st.integers(2, 6), st.none() | st.just({"fraction": 0.1}))
def test_folds_share_out_what_test_leaves(count: int, folds: int, test: Any) -> None:
    each = [shared(count, {"folds": folds, "fold": fold}, test) for fold in range(folds)]
    left = sorted(set(range(count)) - set(each[0]["test"]))
    assert sorted(place for splits in each for place in splits["validation"]) == left
    sizes = [len(splits["validation"]) for splits in each]
    assert max(sizes) - min(sizes) <= 1
    assert all(splits["test"] == each[0]["test"] for splits in each)


@given(st.integers(20, 60), st.floats(0.05, 0.6), st.floats(0, 0.3))
def test_a_larger_fraction_takes_more_and_gives_nothing_back(count: int, fraction: float, more: float) -> None:
    small = shared(count, {"fraction": fraction}, {"fraction": 0.05})
    large = shared(count, {"fraction": fraction + more}, {"fraction": 0.05})
    assert set(small["validation"]) <= set(large["validation"])
    assert small["test"] == large["test"]


def test_what_is_not_enough_is_told() -> None:
    with pytest.raises(TooFewError, match="2 is too few: at least 3 are needed"):
        shared(2, {"fraction": 0.2}, {"fraction": 0.2})
    with pytest.raises(TooFewError, match="4 is too few: at least 5 are needed"):
        shared(4, {"folds": 5, "fold": 0}, None)
    with pytest.raises(TooFewError, match="5 is too few: at least 7 are needed"):
        shared(5, {"fraction": 0.75}, {"fraction": 0.05})
    assert shared(5, {"folds": 5, "fold": 0}, None)["validation"] == [0]


def test_an_order_follows_from_the_seed_and_one_more_moves_no_other() -> None:
    names = [f"scene {number}" for number in range(20)]
    first = [names[place] for place in order(names, 0)]
    assert first != [names[place] for place in order(names, 1)]
    more = [*names[:7], "new", *names[7:]]
    assert [more[place] for place in order(more, 0) if more[place] != "new"] == first
