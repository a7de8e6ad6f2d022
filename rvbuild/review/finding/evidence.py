"""What a map says of an outline with a class: inside it, around it, of other places and sizes, of other classes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from rvbuild.geo.vector.coverage import coverage
from rvbuild.review.finding.maps import ScoreMap, View

Floats = NDArray[np.float64]

FACTORS = (0.5, 0.75, 1.0, 1.3, 1.7, 2.2)
"""Sizes of the outline, relative to itself, between which the map is averaged."""

SECTORS = 8
LARGEST = 3.0
"""Sizes further from the typical one, in spreads, say no more: labels have such sizes, and errors made on purpose teach
nothing about them."""

MOST_CELLS = 48
"""On a side of what is looked at: cells of larger objects are joined."""

NAMES = (
    *("core", "middle", "border", "near", "around", "far"),
    *("contrast", "least sector", "spread of sectors", "most sector around"),
    *("better place", "its distance", "better size", "its factor"),
    *("best other class", "size", "size²", "elongation", "solidity", "known"),
)


class Typical(NamedTuple):
    """Sizes and shapes of the labels of a class."""

    log_size: float
    spread: float


class Evidence(NamedTuple):
    """Of one outline and class."""

    features: Floats
    """(F,) as in `NAMES`; nan where nothing is known."""
    shift: tuple[float, float]
    """In pixels, columns and rows: to where the class is more probable."""
    factor: float
    """The size at which the class is more probable."""
    best_class: int
    """The most probable of the other classes; the class itself if there is none."""
    inside: float
    """The mean log-odds of the class inside; nan where nothing is known."""
    around: float
    """The same around, without other labels of the class."""
    better_place: float
    """How much more the class would stand out from what is around, in log-odds, at the other place."""
    better_size: float
    """The same in the other size."""
    other: float
    """The mean log-odds of the best other class, inside."""
    surrounded: float
    """The share of what is around it that is known: less at the edge of the scene, or of the area of interest."""


def typical(areas: Floats) -> Typical:
    """Return what is typical of labels, given their areas."""
    sizes = np.log(np.maximum(areas, 1.0)) / 2
    middle = float(np.median(sizes))
    return Typical(middle, max(1.4826 * float(np.median(np.abs(sizes - middle))), 0.1))


def cover(area: Any, view: View) -> Floats:
    """Return the share of each cell of a view (h, w) that an area covers."""
    shape = len(view.y) - 1, len(view.x) - 1
    total = np.zeros(shape)
    if 0 in shape:
        return total
    for part in shapely.get_parts(area):
        if part.geom_type == "Polygon" and part.area > 0:
            total += coverage(part, view.x, view.y).T
    cell = (view.x[1] - view.x[0]) * (view.y[1] - view.y[0])
    share: Floats = np.minimum(np.maximum(total / cell, 0.0), 1.0)
    return share


def evidence(
    area: Any, class_id: int, scores: ScoreMap, of_class: Typical, rivals: Sequence[int], label: Any = None
) -> Evidence:
    """Return the evidence of an outline with a class.

    Parameters
    ----------
    area
        A polygon or multipolygon in pixels of the scene.
    class_id
        Its class.
    scores
        The map of the scene.
    of_class
        What is typical of labels of the class.
    rivals
        The classes that labels may have.
    label
        The label of the class, if any, that the outline is, or was made of.
    """
    x0, y0, x1, y1 = area.bounds
    size = math.sqrt(max(area.area, 1.0))
    reach = 1.2 * max(x1 - x0, y1 - y0) + 2 * scores.stride_px
    bounds = x0 - reach, y0 - reach, x1 + reach, y1 + reach
    view = scores.view(bounds, MOST_CELLS, [class_id, *rivals], [class_id])
    nan = math.nan
    empty = Evidence(np.full(len(NAMES), nan), (0.0, 0.0), 1.0, class_id, nan, nan, nan, nan, nan, 0.0)
    if min(view.known.shape) < 2:
        return empty
    odds = view.odds[class_id]
    known = view.known
    own = cover(area, view)
    inside = own * known
    if inside.sum() < 1e-3:
        return empty
    centre = area.centroid
    covers = _scaled(own, centre.x, centre.y, view)
    # The label itself is no neighbour, wherever the outline has been moved.
    neighbours = view.labelled[class_id] - (0.0 if label is None else own if label is area else cover(label, view))
    free = known * (1 - np.minimum(np.maximum(neighbours, 0.0), 1.0))
    rings = [covers[0] * known]
    for number, (less, more) in enumerate(itertools.pairwise(covers), start=1):
        rings.append(np.maximum(more - less, 0) * (known if number <= 2 else free))
    means = [_mean(odds, ring) for ring in rings]
    whole = _mean(odds, inside)
    # Around a small object among others little is free; then what is there counts little.
    around = rings[3] + rings[4]
    outside = _mean(odds, around)
    middle_x, middle_y = (view.x[1:] + view.x[:-1]) / 2 - centre.x, (view.y[1:] + view.y[:-1]) / 2 - centre.y
    sector = np.floor((np.arctan2(middle_y[:, None], middle_x[None, :]) / (2 * math.pi) + 0.5) * SECTORS).astype(int)
    sector = np.minimum(sector, SECTORS - 1).ravel()
    sectors = _by_sector(odds, inside, sector)
    outer = _by_sector(odds, around, sector)
    gain, shift = _shifted(odds, known, covers[2], covers[4], view)
    distance = math.hypot(*shift) / size
    bigger, factor = _resized(odds, covers, known)
    others = {k: _mean(view.odds[k], inside) for k in rivals if k != class_id}
    best = max(others, key=lambda k: (others[k], -k), default=class_id)
    z = (math.log(size) - of_class.log_size) / of_class.spread
    z = min(max(z, -LARGEST), LARGEST)
    hull = area.convex_hull.area
    box = shapely.minimum_rotated_rectangle(area)
    features = [
        *means,
        whole - outside,
        _least(sectors),
        _spread(sectors),
        _most(outer),
        gain,
        distance,
        bigger,
        math.log(factor),
        others.get(best, math.nan) - whole,
        z,
        z * z,
        _elongation(box),
        area.area / hull if hull > 0 else 1.0,
        float(inside.sum() / max(covers[2].sum(), 1e-9)),
    ]
    other = others.get(best, math.nan)
    surrounded = _surrounded(area, known, covers, view)
    return Evidence(np.array(features), shift, factor, best, whole, outside, gain, bigger, other, surrounded)


def _scaled(own: Floats, x: float, y: float, view: View) -> list[Floats]:
    """Return the covers (h, w) of an area that is larger by each of `FACTORS`, about the point x, y."""
    rows, cols = _between(view.y, y), _between(view.x, x)
    covers = []
    for number, factor in enumerate(FACTORS):
        if factor == 1:
            covers.append(own)
            continue
        low, share = rows.low[number], rows.share[number][:, None]
        tall = own[low] * (1 - share) + own[low + 1] * share
        tall *= rows.inside[number][:, None]
        low, share = cols.low[number], cols.share[number]
        wide: Floats = tall[:, low] * (1 - share) + tall[:, low + 1] * share
        covers.append(wide * cols.inside[number])
    return covers


class _Between(NamedTuple):
    """For each of `FACTORS`, (factors, cells) each."""

    low: NDArray[np.intp]
    share: Floats
    inside: NDArray[np.bool_]


def _between(lines: Floats, centre: float) -> _Between:
    """Return between which cells the centres of cells fall that are drawn towards a point."""
    count, size = len(lines) - 1, lines[1] - lines[0]
    factors = np.array(FACTORS)[:, None]
    places = (centre + ((lines[1:] + lines[:-1]) / 2 - centre) / factors - lines[0]) / size - 0.5
    low = np.minimum(np.maximum(np.floor(places), 0), max(count - 2, 0))
    share = np.minimum(np.maximum(places - low, 0.0), 1.0)
    return _Between(low.astype(np.intp), share, (places > -1) & (places < count))


def _surrounded(area: Any, known: Floats, covers: list[Floats], view: View) -> float:
    """Return the share of what is around an area that is known, as far as the largest of its `FACTORS` reaches."""
    cell = (view.x[1] - view.x[0]) * (view.y[1] - view.y[0])
    whole = float(area.area / cell) * (FACTORS[-1] ** 2 - 1)
    ring = np.maximum(covers[-1] - covers[FACTORS.index(1.0)], 0) * known
    return min(float(ring.sum()) / max(whole, 1e-9), 1.0)


def _mean(values: Floats, weights: Floats) -> float:
    total = float(weights.sum())
    return float((values * weights).sum()) / total if total > 0.25 else math.nan


def _by_sector(values: Floats, weights: Floats, sector: NDArray[np.intp]) -> list[float]:
    """Return the mean in each sector that has enough cells."""
    total = np.bincount(sector, weights.ravel(), SECTORS)
    sums = np.bincount(sector, (values * weights).ravel(), SECTORS)
    return [float(mean) for mean in sums[total > 0.25] / total[total > 0.25]]


def _least(values: list[float]) -> float:
    return min(values, default=math.nan)


def _most(values: list[float]) -> float:
    return max(values, default=math.nan)


def _spread(values: list[float]) -> float:
    return float(np.std(values)) if len(values) > 1 else math.nan


def _elongation(box: Any) -> float:
    points = shapely.get_coordinates(box)
    if len(points) < 4:
        return 3.0
    sides = sorted(float(np.hypot(*(points[k + 1] - points[k]))) for k in (0, 1))
    return min(3.0, math.log(max(sides[1], 1e-6) / max(sides[0], 1e-6)))


def _shifted(odds: Floats, known: Floats, own: Floats, wide: Floats, view: View) -> tuple[float, tuple[float, float]]:
    """Return how much better the outline fits another place, and by how many pixels it lies away."""
    rows, cols = np.flatnonzero(wide.any(axis=1)), np.flatnonzero(wide.any(axis=0))
    if not len(rows):
        return math.nan, (0.0, 0.0)
    place = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
    inner = own[place]
    ring = np.maximum(wide[place] - inner, 0)
    kernel = inner / max(inner.sum(), 1e-9) - ring / max(ring.sum(), 1e-9)
    windows = np.lib.stride_tricks.sliding_window_view(odds * known, kernel.shape)
    fits = np.tensordot(windows, kernel, axes=([2, 3], [0, 1]))
    here = float(fits[rows[0], cols[0]])
    best = np.unravel_index(int(np.argmax(fits)), fits.shape)
    cell = view.x[1] - view.x[0], view.y[1] - view.y[0]
    shift = float((best[1] - cols[0]) * cell[0]), float((best[0] - rows[0]) * cell[1])
    return float(fits[best]) - here, shift


def _resized(odds: Floats, covers: list[Floats], known: Floats) -> tuple[float, float]:
    """Return how much better the outline fits in another size, and the factor of its area."""
    fits = []
    for less, more in itertools.pairwise(covers):
        fits.append(_mean(odds, less * known) - _mean(odds, np.maximum(more - less, 0) * known))
    here = fits[2]
    finite = [fit if math.isfinite(fit) else -math.inf for fit in fits]
    best = int(np.argmax(finite))
    if not math.isfinite(here) or not math.isfinite(finite[best]):
        return math.nan, 1.0
    return finite[best] - here, FACTORS[best]
