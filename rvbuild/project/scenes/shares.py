"""How things in a seeded order, scenes or blocks of one, are shared among training, validation and test.

A share is `{"fraction": 0.2}`, or `{"folds": 5, "fold": 0}`: one of five parts of equal size. Test takes from the end
of the order and validation from its beginning, so that a larger fraction moves some things and none back; what is left
trains. A fraction is of all; the folds of validation are parts of what test has left.
"""

from __future__ import annotations

from collections.abc import Sequence

import xxhash

from rvbuild.settings.area import Share, Split


class TooFewError(ValueError):
    """A split is empty; the message gives the number of items, and how many are needed."""


def shared(count: int, validation: Share | None, test: Share | None) -> dict[Split, list[int]]:
    """Return the places of `count` things in their order, by split; a split without a share has none, but training.

    >>> shared(10, {"fraction": 0.2}, {"fraction": 0.1})
    {'train': [2, 3, 4, 5, 6, 7, 8], 'validation': [0, 1], 'test': [9]}

    Raises
    ------
    TooFewError
        A split would be empty.
    """
    places = list(range(count))
    splits: dict[Split, list[int]] = {"train": [], "validation": [], "test": []}
    shares: tuple[tuple[Split, Share | None], ...] = (("test", test), ("validation", validation))
    for split, share in shares:
        if share is None:
            continue
        taken = _taken(places, share, count, from_end=split == "test")
        splits[split] = taken
        gone = set(taken)
        places = [place for place in places if place not in gone]
    splits["train"] = places
    if not _is_enough(count, validation, test):
        raise TooFewError(f"{count} is too few: at least {least(validation, test, count)} are needed")
    return splits


def least(validation: Share | None, test: Share | None, more_than: int = 0) -> int:
    """Return the smallest number of items, above `more_than`, for which no split is empty, in any fold.

    >>> least({"folds": 5, "fold": 0}, None), least({"fraction": 0.75}, {"fraction": 0.05}, 5)
    (5, 7)
    """
    folds = [int(share["folds"]) for share in (validation, test) if share and "folds" in share]
    needed = (validation is not None) + (test is not None) - 1
    # With one fold of a few, the others are for training.
    count = max([more_than + 1, *(number + needed for number in folds)])
    while not _is_enough(count, validation, test) and count < _MOST:
        count += 1
    return count


_MOST = 100_000
"""Upper bound of the search in `least`."""


def _is_enough(count: int, validation: Share | None, test: Share | None) -> bool:
    """Tell whether every split, training too, gets some of `count` things."""
    tested = _size(count, test, count) if test else 0
    validated = _size(count - tested, validation, count) if validation else 0
    return tested + validated < count and (not test or tested > 0) and (not validation or validated > 0)


def order(names: Sequence[object], seed: int) -> list[int]:
    """Return the places of some names, in an order that follows from the seed; one more name moves no other."""
    digests = [xxhash.xxh3_64_intdigest(repr((seed, "split", name)).encode()) for name in names]
    return sorted(range(len(names)), key=lambda place: (digests[place], place))


def _taken(places: list[int], share: Share, total: int, *, from_end: bool) -> list[int]:
    """Return the places that a share takes of those that are left of `total`."""
    size = _size(len(places), share, total)
    if "folds" in share:
        start = len(places) * share["fold"] // share["folds"]
        return places[start : start + size]
    return places[len(places) - size :] if from_end else places[:size]


def _size(left: int, share: Share, total: int) -> int:
    """Return how many of the things that are left of `total` a share takes."""
    if "folds" in share:
        start, stop = (left * fold // share["folds"] for fold in (share["fold"], share["fold"] + 1))
        return int(stop - start)
    return min(left, max(1, int(share["fraction"] * total + 0.5)))
