"""Test-time augmentation: the orientations in which windows are predicted, and the way back; no torch here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from rvbuild.settings.predict import TestTime


class Orientation(NamedTuple):
    """Mirrored left to right (or not), then turned counter-clockwise, as training chips are."""

    mirror: bool
    quarter_turns: int

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Return square windows `(…, S, S)` in this orientation, as a view."""
        mirrored = array[..., ::-1] if self.mirror else array
        return np.rot90(mirrored, self.quarter_turns, axes=(-2, -1))

    @property
    def inverse(self) -> Orientation:
        """The orientation that undoes this one."""
        return self if self.mirror else Orientation(False, -self.quarter_turns % 4)


ORIENTATIONS: Mapping[TestTime, tuple[Orientation, ...]] = {
    "flips": (Orientation(False, 0), Orientation(True, 0), Orientation(True, 2), Orientation(False, 2)),
    "d4": tuple(Orientation(mirror, turns) for mirror in (False, True) for turns in range(4)),
}
"""The orientations by the name of an augmentation; the first is that of the image."""

Oriented = Iterable[tuple[Orientation, Any]]
"""Predictions of a batch, each with the orientation that the images had."""


def turned_back(predictions: Oriented) -> Iterator[np.ndarray]:
    """Yield predictions `(…, S, S)` in the orientation of the image."""
    for orientation, prediction in predictions:
        yield orientation.inverse(np.asarray(prediction))


def mean(predictions: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean of arrays, in their dtype; only one sum is held in memory."""
    arrays = iter(predictions)
    total = np.array(next(arrays), order="C")
    count = 1
    for array in arrays:
        total += array
        count += 1
    total /= count
    return total
