"""Places where a class is more probable than around them, at the sizes that labels of the class have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import rasterio
import rasterio.features
import shapely
import shapely.geometry
from affine import Affine
from numpy.typing import NDArray

from rvbuild.review.finding.evidence import Typical
from rvbuild.review.finding.maps import ScoreMap

Floats = NDArray[np.float64]

STEPS = (-1.0, 0.0, 1.0)
"""Sizes that are looked for, in spreads from the typical size."""

RING = 1.6
"""The side of what is compared with, relative to the side of the object."""

MOST_CELLS = 24
"""On the side of an object: for larger ones, cells are joined."""

LEAST = 0.3
"""In log-odds: how much more probable the class is than around."""


BAND = 512
"""Rows that are looked at together, in joined cells."""


class Candidate(NamedTuple):
    """A place that may be an object."""

    area: Any
    class_id: int
    strength: float


class _Peak(NamedTuple):
    strength: float
    x: float
    y: float
    size: float


def candidates(scores: ScoreMap, class_id: int, of_class: Typical, most: int) -> list[Candidate]:
    """Return the places of a scene where objects of a class may be, the strongest first, `most` at the most."""
    peaks: list[_Peak] = []
    sizes = [math.exp(of_class.log_size + step * of_class.spread) for step in STEPS]
    for size in sizes:
        peaks += _peaks(scores, class_id, max(size, 1.5 * scores.stride_px))
    peaks.sort(key=lambda peak: (-peak.strength, peak.y, peak.x))
    found: list[_Peak] = []
    if not peaks:
        return []
    places = np.array([(peak.x, peak.y) for peak in peaks])
    widths = np.array([peak.size for peak in peaks])
    tree = shapely.STRtree(shapely.points(places))
    dead = np.zeros(len(peaks), dtype=bool)
    for number, peak in enumerate(peaks):
        if dead[number]:
            continue
        if len(found) == most:
            break
        near = tree.query(shapely.box(peak.x - peak.size, peak.y - peak.size, peak.x + peak.size, peak.y + peak.size))
        near = near[near > number]
        apart = np.hypot(*(places[near] - places[number]).T)
        dead[near[apart < 0.5 * np.maximum(peak.size, widths[near])]] = True
        found.append(peak)
    with rasterio.Env():  # once, instead of for each outline
        return [Candidate(_outline(scores, class_id, peak), class_id, peak.strength) for peak in found]


def _peaks(scores: ScoreMap, class_id: int, size: float) -> Iterator[_Peak]:
    """Yield where squares of a size are more probable than what is around them."""
    join = max(1, round(size / scores.stride_px / MOST_CELLS))
    cell = scores.stride_px * join
    side = max(1, round(size / cell))
    wide = max(side + 2, round(side * RING))
    wide += (wide - side) % 2
    skip, height = (wide - side) // 2, -(-scores.known.shape[0] // join)
    for top in range(0, height, BAND):
        bottom = min(top + BAND, height)
        # What lies around a band decides which of its places are higher than all near by.
        first = top - 2 * wide
        odds, known = _coarse(scores, class_id, join, first, bottom + 2 * wide)
        values, weights = (np.pad(part, ((0, 0), (wide, wide))) for part in (odds * known, known))
        outer_sum, outer_count = _boxes(values, wide), _boxes(weights, wide)
        here = tuple(slice(skip, skip + length) for length in outer_sum.shape)
        inner_sum, inner_count = _boxes(values, side)[here], _boxes(weights, side)[here]
        rest_sum, rest_count = outer_sum - inner_sum, outer_count - inner_count
        mean, around = inner_sum / np.maximum(inner_count, 1e-6), rest_sum / np.maximum(rest_count, 1e-6)
        enough = (inner_count > 0.6 * side * side) & (rest_count > 0.2 * (wide * wide - side * side))
        strength = np.where(enough, mean - around, -np.inf)
        best = _maximum(strength, max(1, side // 2))
        rows, cols = np.nonzero((strength == best) & (strength > LEAST))
        for row, col in zip(rows.tolist(), cols.tolist(), strict=True):
            y, x = row + skip + side / 2 + first, col + skip + side / 2 - wide
            if (top <= y or top == 0) and (y < bottom or bottom == height):
                yield _Peak(float(strength[row, col]), x * cell, y * cell, size)


def _coarse(scores: ScoreMap, class_id: int, join: int, first: int, last: int) -> tuple[Floats, Floats]:
    """Return rows of a class's log-odds and of what is known, with cells joined; zeros beyond the scene."""
    height, width = scores.known.shape
    part = slice(max(first, 0) * join, min(last * join, height))
    odds, known = scores.odds[class_id, part].astype(np.float64), scores.known[part] / 255
    above, below = max(-first, 0), max(last - -(-height // join), 0)
    down, right = -len(known) % join, -width % join
    known, odds = (np.pad(each, ((0, down), (0, right))) for each in (known, odds))
    rows, cols = known.shape[0] // join, known.shape[1] // join
    weight = known.reshape(rows, join, cols, join).sum(axis=(1, 3))
    sums = (odds * known).reshape(rows, join, cols, join).sum(axis=(1, 3))
    beyond = ((above, below), (0, 0))
    return np.pad(sums / np.maximum(weight, 1e-9), beyond), np.pad(weight / join**2, beyond)


def _boxes(values: Floats, side: int) -> Floats:
    """Return the sums of all squares of a side."""
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    total[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    return total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]


def _maximum(values: Floats, reach: int) -> Floats:
    """Return the largest value within `reach` of each place, along both axes."""
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (reach, reach)
        padded = np.pad(values, pad, constant_values=-np.inf)
        values = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=axis).max(axis=-1)
    return values


def _outline(scores: ScoreMap, class_id: int, peak: _Peak) -> Any:
    """Return the outline of the cells around a peak that belong together."""
    half = 0.9 * peak.size
    bounds = peak.x - half, peak.y - half, peak.x + half, peak.y + half
    view = scores.view(bounds, 2 * MOST_CELLS, [class_id])
    disc = shapely.Point(peak.x, peak.y).buffer(peak.size / math.sqrt(math.pi))
    if view.known.size == 0:
        return disc
    odds = view.odds[class_id]
    x, y = (view.x[1:] + view.x[:-1]) / 2, (view.y[1:] + view.y[:-1]) / 2
    distance = np.hypot(x[None, :] - peak.x, y[:, None] - peak.y)
    inner = distance <= peak.size / math.sqrt(math.pi)
    outer = ~inner & (view.known > 0)
    if not inner.any() or not outer.any():
        return disc
    level = (odds[inner].mean() + odds[outer].mean()) / 2
    mask = ((odds > level) & (distance <= half)).astype(np.uint8)
    transform = Affine(view.x[1] - view.x[0], 0, view.x[0], 0, view.y[1] - view.y[0], view.y[0])
    parts = [
        shapely.geometry.shape(shape)
        for shape, value in rasterio.features.shapes(mask, mask=mask.astype(bool), transform=transform)
        if value
    ]
    here = shapely.Point(peak.x, peak.y)
    parts = [shapely.Polygon(part.exterior) for part in parts]
    best = min(parts, key=lambda part: (part.distance(here), -part.area), default=None)
    if best is None or not 0.35 <= best.area / disc.area <= 2.5:
        return disc
    return best
