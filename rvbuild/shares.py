"""How things in a seeded order, scenes or blocks of one, are shared among training, validation and test.

A share is `{"fraction": 0.2}`, or `{"folds": 5, "fold": 0}`: one of five parts of equal size. Test takes from the end
of the order and validation from its beginning, so that a larger fraction moves some things and none back; what is left
trains. A fraction is of all; the folds of validation are parts of what test has left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xxhash

Share = Mapping[str, Any]


class TooFewError(ValueError):
    """There is nothing left for a split; the message says how many things there are and how many are needed."""


def shared(count: int, validation: Share | None, test: Share | None) -> dict[str, list[int]]:
    """Return the places of `count` things in their order, by split; a split without a share has none, but training.

    >>> shared(10, {"fraction": 0.2}, {"fraction": 0.1})
    {'train': [2, 3, 4, 5, 6, 7, 8], 'validation': [0, 1], 'test': [9]}

    Raises
    ------
    TooFewError
        A split would have nothing.
    """
    places = list(range(count))
    found: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for split, share in (("test", test), ("validation", validation)):
        if share is None:
            continue
        taken = _taken(places, share, count, from_end=split == "test")
        found[split] = taken
        places = [place for place in places if place not in set(taken)]
    found["train"] = places
    if not places or any(not found[split] for split, share in (("test", test), ("validation", validation)) if share):
        raise TooFewError(f"{count} are too few: at least {least(validation, test)} are needed")
    return found


def least(validation: Share | None, test: Share | None) -> int:
    """Return how many things there must be at least."""
    folds = [int(share["folds"]) for share in (validation, test) if share and "folds" in share]
    needed = 1 + (validation is not None) + (test is not None)
    # With one fold of a few, the others train.
    return max([needed, *(count + needed - 2 for count in folds)])


def order(names: Sequence[Any], seed: int) -> list[int]:
    """Return the places of some names, in an order that follows from the seed; one more name moves no other."""
    digests = [xxhash.xxh3_64_intdigest(repr((seed, "split", name)).encode()) for name in names]
    return sorted(range(len(names)), key=lambda place: (digests[place], place))


def _taken(places: list[int], share: Share, total: int, *, from_end: bool) -> list[int]:
    """Return the places that a share takes of those that are left of `total`."""
    count = len(places)
    if "folds" in share:
        start, stop = (count * fold // share["folds"] for fold in (share["fold"], share["fold"] + 1))
        return places[start:stop]
    some = min(count, max(1, int(share["fraction"] * total + 0.5)))
    return places[count - some :] if from_end else places[:some]
