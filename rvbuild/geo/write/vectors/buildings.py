"""Outlines of buildings from the patches of a class: joined ones apart, with right angles.

Raster Vision's building output erodes a patch by a fraction of the width of its smallest rectangle, so that buildings
that touch come apart, and grows the parts again. So does this, on exact polygons, and what the parts lost goes to the
one that is nearest. The outlines that come out have the direction of the smallest rectangle around a part, right
angles, and no side shorter than asked for.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from rvbuild.geo.vector.coverage import coverage
from rvbuild.geo.vector.shapes import polygons

Geometries = NDArray[np.object_]

_STEP_PX, _GROWTH = 0.5, 1.3
"""Patches are eroded by this much, then by more each time. The result is that of one step, but ragged borders lose
their detail on the way: one step of 40 pixels takes a minute for a patch of 10 000 vertices."""
_GRID_PX = 1 / 64


def outlines(patches: Geometries, split: float, side_px: float) -> Geometries:
    """Return the outlines of buildings.

    Parameters
    ----------
    patches
        (N,) polygons in pixel coordinates.
    split
        Parts that are connected by less than this share of the width of the patch are separated; 0: never.
    side_px
        The shortest side of an outline, in pixels.

    Returns
    -------
    ndarray
        (M,) polygons in pixel coordinates, in the order of the patches that they are of.
    """
    shapes = [outline for patch in patches for part in _apart(patch, split) for outline in _right_angled(part, side_px)]
    made = np.empty(len(shapes), dtype=object)
    made[:] = shapes
    return made


def _apart(patch: shapely.Polygon, split: float) -> list[shapely.Polygon]:
    """Return the parts of a patch that are left if narrow passages between them are cut."""
    radius = split * min(_sides(shapely.oriented_envelope(patch))) / 2
    if radius <= 0:
        return [patch]
    cores = _parts(_eroded(patch, radius))
    if len(cores) < 2:
        return [patch]
    return [part for nearest in _nearest(cores, patch) for part in _parts(shapely.intersection(nearest, patch))]


def _eroded(patch: shapely.Polygon, radius: float) -> shapely.Geometry:
    """Return the part of a patch that is further from its border than a radius."""
    eroded: shapely.Geometry = patch
    left, step = radius, _STEP_PX
    while left > 0 and not eroded.is_empty:
        with np.errstate(invalid="ignore"):  # GEOS also computes the slope of the shortest edges
            eroded = shapely.buffer(eroded, -min(step, left), join_style="mitre")
        left, step = left - step, step * _GROWTH
    return eroded


def _nearest(cores: list[shapely.Polygon], patch: shapely.Polygon) -> list[shapely.Geometry]:
    """Return for each core the region around a patch that is nearer to it than to the others."""
    along = [shapely.segmentize(core.exterior, 1.0) for core in cores]
    # Points that nearly lie on a line or a circle make GEOS fail; points exactly on one are fine.
    places = np.concatenate([shapely.get_coordinates(line) for line in along])
    points = shapely.multipoints(np.rint(places / _GRID_PX) * _GRID_PX)
    # Points that nearly lie on a circle can make a region intersect itself.
    regions = np.array(
        [polygons(cell) for cell in shapely.get_parts(shapely.voronoi_polygons(points, extend_to=patch))]
    )
    inside = shapely.STRtree(along).nearest(shapely.centroid(regions))
    return [shapely.union_all(regions[inside == number]) for number in range(len(cores))]


def _right_angled(part: shapely.Polygon, side_px: float) -> list[shapely.Polygon]:
    """Return the part with right angles: the cells that it covers by half, between lines where its outline steps."""
    envelope = shapely.oriented_envelope(part)
    across, down = _sides(envelope)
    if min(across, down) == 0:
        return []
    corners = shapely.get_coordinates(envelope)
    turn = np.stack([(corners[1] - corners[0]) / across, (corners[3] - corners[0]) / down])
    # In a frame in which the smallest rectangle starts at (0, 0) and is aligned with the axes.
    framed = shapely.transform(part, lambda points: (points - corners[0]) @ turn.T)
    x, y = _steps(framed, across, side_px), _steps(shapely.transform(framed, np.fliplr), down, side_px)
    sizes = np.diff(x)[:, np.newaxis] * np.diff(y)
    column, row = np.nonzero(coverage(framed, x, y) >= (0.5 - 1e-9) * sizes)
    if not len(column):
        return [envelope]
    # Parts that only touch at a corner are two outlines. Corners on straight sides are removed.
    cells = shapely.box(x[column], y[row], x[column + 1], y[row + 1])
    outlines = [shapely.simplify(outline, 0) for outline in _parts(shapely.union_all(cells))]
    return [shapely.transform(outline, lambda points: points @ turn + corners[0]) for outline in outlines]


def _steps(framed: shapely.Polygon, length: float, side_px: float) -> NDArray[np.float64]:
    """Return the x at which an outline steps by a side or more, the first and the last x among them, a side apart.

    Strips across x tell how much of them the polygon covers. Where that changes is a step; an end at which it covers
    less than half of what it covers further in is ragged, and left out.
    """
    count = max(1, round(length / min(1.0, side_px / 4)))
    edges = np.linspace(0, length, count + 1)
    cover = coverage(framed, edges, shapely.bounds(framed)[[1, 3]])[:, 0] / (length / count)
    reach = max(1, round(side_px / (length / count)))
    first = _end(cover, reach)
    last = count - _end(cover[::-1], reach)
    taken = [first, last]
    half = max(1, reach // 2)
    sums = np.concatenate([[0.0], np.cumsum(cover)])
    inner = np.arange(first + reach, last - reach + 1)
    if len(inner):
        change = np.abs(sums[inner + half] - 2 * sums[inner] + sums[inner - half]) / half
        for index in np.argsort(-change, kind="stable"):
            if change[index] < side_px:
                break
            if min(abs(inner[index] - line) for line in taken) >= reach:
                taken.append(int(inner[index]))
    steps: NDArray[np.float64] = edges[sorted(taken)]
    return steps


def _end(cover: NDArray[np.float64], reach: int) -> int:
    """Return how many of the first strips are the ragged end of a polygon; fewer than `reach`, and not half of all."""
    most = min(reach, len(cover) // 2)
    for index in range(most):
        if cover[index] >= 0.5 * cover[min(index + reach, len(cover) - 1)]:
            return index
    return max(0, most - 1)


def _sides(envelope: shapely.Geometry) -> tuple[float, float]:
    """Return the lengths of the first two sides of a rectangle; 0 if it has no area."""
    if envelope.geom_type != "Polygon":
        return 0.0, 0.0
    corners = shapely.get_coordinates(envelope)
    return float(np.hypot(*(corners[1] - corners[0]))), float(np.hypot(*(corners[3] - corners[0])))


def _parts(geometry: shapely.Geometry) -> list[shapely.Polygon]:
    return [part for part in shapely.get_parts(polygons(geometry)) if part.area > 0]
