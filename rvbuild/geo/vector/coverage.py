"""The exact area of each cell of a grid that a polygon covers, in one pass over its edges for any number of cells.

The area of a polygon inside a cell is the integral, along its border, of the height above the bottom of the cell, cut
off at its top. Fonts are drawn by the same sum.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def coverage(polygon: shapely.Polygon, x: Floats, y: Floats) -> Floats:
    """Return the area of a polygon in each cell between lines.

    Parameters
    ----------
    polygon
        Valid; its holes are not covered.
    x, y
        (M + 1,) and (N + 1,) increasing places of the lines between cells; the polygon may reach beyond them.

    Returns
    -------
    ndarray
        (M, N) areas, by column and row of the grid.
    """
    start, stop = _pieces(polygon, x, y)
    middle = (start + stop) / 2
    column = np.searchsorted(x, middle[:, 0]) - 1
    row = np.searchsorted(y, middle[:, 1]) - 1
    # Edges beside the grid or below it cover nothing of it; those above it cover all cells below.
    counts = (column >= 0) & (column < len(x) - 1) & (row >= 0)
    column, row, middle, width = column[counts], row[counts], middle[counts], (start - stop)[counts, 0]
    shape = len(x) - 1, len(y)
    cell = np.ravel_multi_index((column, row), shape)
    own = np.bincount(cell, width * (middle[:, 1] - y[row]), shape[0] * shape[1]).reshape(shape)
    widths = np.bincount(cell, width, shape[0] * shape[1]).reshape(shape)
    above = np.cumsum(widths[:, :0:-1], axis=1)[:, ::-1]
    covered: Floats = own[:, :-1] + above * np.diff(y)
    return covered


def _pieces(polygon: shapely.Polygon, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return where the pieces (P, 2) of the border of a polygon start and stop, cut at all lines.

    The polygon is on their left.
    """
    rings = shapely.get_rings(shapely.orient_polygons(polygon))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    inside = ring[1:] == ring[:-1]
    start, stop = points[:-1][inside], points[1:][inside]
    edges, places = [np.arange(len(start)), np.arange(len(start))], [np.zeros(len(start)), np.ones(len(start))]
    for axis, lines in enumerate((x, y)):
        low, high = np.sort([start[:, axis], stop[:, axis]], axis=0)
        first, last = np.searchsorted(lines, low, side="right"), np.searchsorted(lines, high, side="left")
        count = np.maximum(last - first, 0)
        edge = np.repeat(np.arange(len(start)), count)
        line = lines[np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]]
        edges.append(edge)
        places.append((line - start[edge, axis]) / (stop - start)[edge, axis])
    edge, place = np.concatenate(edges), np.concatenate(places)
    order = np.lexsort((place, edge))
    edge, place = edge[order], place[order]
    at = start[edge] + place[:, np.newaxis] * (stop - start)[edge]
    same = edge[1:] == edge[:-1]
    return at[:-1][same], at[1:][same]
