"""Errors made on purpose in the user's own labels, to learn what errors look like in these data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import shapely

MOVED = (0.4, 1.1)
"""Diameters by which outlines are moved."""

RESIZED = (1.5, 2.2)
"""Factors by which outlines are drawn too large, or too small."""

COPIED = 0.15
"""Copies of outlines are moved by so many diameters at the most, and resized by as much."""

TRIES = 24


def diameter(area: Any) -> float:
    """Return the diameter of a circle of the same area."""
    return 2 * math.sqrt(max(area.area, 1.0) / math.pi)


def moved(area: Any, rng: np.random.Generator, least: float = MOVED[0], most: float = MOVED[1]) -> Any:
    """Return an outline at another place near by."""
    angle, by = rng.uniform(0, 2 * math.pi), rng.uniform(least, most) * diameter(area)
    return placed(area, by * math.cos(angle), by * math.sin(angle))


def resized(area: Any, factor: float) -> Any:
    """Return an outline in another size, at the same place."""
    centre = shapely.get_coordinates(area.centroid)[0]
    return shapely.transform(area, lambda points: (points - centre) * factor + centre)


def placed(area: Any, x: float, y: float) -> Any:
    """Return an outline moved by x and y."""
    return shapely.transform(area, lambda points: points + np.array([x, y]))


def misdrawn(area: Any, rng: np.random.Generator) -> Any:
    """Return an outline that is much too large or too small."""
    factor = math.exp(rng.uniform(math.log(RESIZED[0]), math.log(RESIZED[1])))
    return resized(area, factor if rng.uniform() < 0.5 else 1 / factor)


def copied(area: Any, rng: np.random.Generator) -> Any:
    """Return the outline of somebody who has drawn the same object once more."""
    factor = math.exp(rng.uniform(-COPIED, COPIED))
    return moved(resized(area, factor), rng, 0, COPIED)


def elsewhere(area: Any, rng: np.random.Generator, bounds: Sequence[float], free: Callable[[Any], bool]) -> Any | None:
    """Return an outline at a place where nothing is labelled; None if there is hardly one."""
    centre = shapely.get_coordinates(area.centroid)[0]
    for _ in range(TRIES):
        x, y = rng.uniform(bounds[0], bounds[2]), rng.uniform(bounds[1], bounds[3])
        there = placed(area, x - centre[0], y - centre[1])
        if free(there):
            return there
    return None
