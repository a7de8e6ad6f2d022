"""The division of items (scenes, or blocks of a scene) in a seeded order into training, validation and test.

A share is `{"fraction": 0.2}`, or `{"folds": 5, "fold": 0}` for one of five parts of equal size. Test takes items from
the end of the order and validation from its beginning, so that a larger fraction only adds items to a split; the rest
is for training. A fraction refers to all items; the folds of validation divide the items that test has not taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import xxhash

from rvbuild.settings.area import Share, Split


class TooFewError(ValueError):
    """A split is empty; the message gives the number of items, and how many are needed."""


def shared(count: int, validation: Share | None, test: Share | None) -> dict[Split, list[int]]:
    """Return the positions of `count` items by split; validation and test are empty without a share.

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
        selected = _take(places, share, count, from_end=split == "test")
        splits[split] = selected
        selected_set = set(selected)
        places = [place for place in places if place not in selected_set]
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
    # With one item for each fold, the other folds are for training.
    count = max([more_than + 1, *(number + needed for number in folds)])
    while not _is_enough(count, validation, test) and count < _MOST:
        count += 1
    return count


_MOST = 100_000
"""Upper bound of the search in `least`."""


def _is_enough(count: int, validation: Share | None, test: Share | None) -> bool:
    """Tell whether every split with a share, and training, gets at least one of `count` items."""
    tested = _size(count, test, count) if test else 0
    validated = _size(count - tested, validation, count) if validation else 0
    return tested + validated < count and (not test or tested > 0) and (not validation or validated > 0)


def order(names: Sequence[object], seed: int) -> list[int]:
    """Return the positions of `names` in a seeded order; an additional name does not change the order of the others."""
    digests = [xxhash.xxh3_64_intdigest(repr((seed, "split", name)).encode()) for name in names]
    return sorted(range(len(names)), key=lambda place: (digests[place], place))


def _take(places: list[int], share: Share, total: int, *, from_end: bool) -> list[int]:
    """Return the part of the remaining `places` that a share takes, of `total` items."""
    size = _size(len(places), share, total)
    if "folds" in share:
        start = len(places) * share["fold"] // share["folds"]
        return places[start : start + size]
    return places[len(places) - size :] if from_end else places[:size]


def _size(remaining: int, share: Share, total: int) -> int:
    """Return the number of `remaining` items, of `total`, that a share takes."""
    if "folds" in share:
        start, stop = (remaining * fold // share["folds"] for fold in (share["fold"], share["fold"] + 1))
        return int(stop - start)
    return min(remaining, max(1, int(share["fraction"] * total + 0.5)))
