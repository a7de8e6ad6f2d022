"""Measures of polygons for their attributes: area and perimeter on the ground, and the mean score of their pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from rvbuild.geo.grid import Grid, is_local, reproject
from rvbuild.geo.windows import Window, bands

Geometries = NDArray[np.object_]
Floats = NDArray[np.float64]

_EQUAL_AREA = CRS.from_epsg(6933)
_EQUAL_AREA_TURN_M = 2 * 17_367_530.445_161_372
"""Once around the globe in EPSG:6933."""
_LON_LAT = CRS.from_epsg(4326)
_SEMI_MAJOR_M = 6_378_137.0
_ECCENTRICITY_2 = 0.006_694_379_990_141_33
"""Of the WGS 84 ellipsoid."""

_BAND_ROWS = 1024
_BLOCK_PX = 1 << 22
"""The pixels whose scores are read at once."""

_DECIMALS = 4
"""Square millimetres of rounding are far below a pixel, and above the noise of reprojection."""


def measures(grid: Grid) -> tuple[str, str]:
    """Return the names of the attributes for the area and the perimeter; see `sizes`."""
    local = grid.crs is None or is_local(grid.crs)
    return ("area_px", "perimeter_px") if local else ("area_m2", "perimeter_m")


def sizes(geometries: Geometries, grid: Grid) -> dict[str, Floats]:
    """Return the area and the perimeter of polygons by the names of their attributes.

    Parameters
    ----------
    geometries
        (N,) polygons in pixel coordinates.
    grid
        The pixels.

    Returns
    -------
    dict
        `area_m2` and `perimeter_m`, (N,) each: the area in an equal-area projection (EPSG:6933), and the sum of the
        lengths of edges on the WGS 84 ellipsoid. `area_px` and `perimeter_px` if the scene has no CRS or a local one.
    """
    area, perimeter = measures(grid)
    if grid.crs is None or is_local(grid.crs):
        return {area: _rounded(shapely.area(geometries)), perimeter: _rounded(shapely.length(geometries))}
    points, owners = shapely.get_coordinates(geometries, return_index=True)
    x, y = grid.to_map(points[:, 0], points[:, 1])
    firsts = np.searchsorted(owners, owners)
    placed = []
    for target, turn in ((_EQUAL_AREA, _EQUAL_AREA_TURN_M), (_LON_LAT, 360.0)):
        there_x, there_y = reproject("predict.vectors", grid.crs, target, x, y)
        there_x = there_x - turn * np.round((there_x - there_x[firsts]) / turn)  # across 180 degrees
        placed.append(shapely.set_coordinates(geometries.copy(), np.stack([there_x, there_y], axis=1)))
    return {area: _rounded(shapely.area(placed[0])), perimeter: _rounded(_perimeters(placed[1]))}


def _rounded(values: Floats) -> Floats:
    rounded: Floats = np.round(values, _DECIMALS)
    return rounded


def _perimeters(geometries: Geometries) -> Floats:
    """Return the perimeters (N,) in metres of polygons in longitude and latitude, from the radii of curvature."""
    rings, polygons = shapely.get_rings(geometries, return_index=True)
    points, ring_of_point = shapely.get_coordinates(rings, return_index=True)
    same_ring = ring_of_point[1:] == ring_of_point[:-1]
    degrees = np.diff(points, axis=0)
    latitude = np.radians((points[1:, 1] + points[:-1, 1]) / 2)
    flattening = 1 - _ECCENTRICITY_2 * np.sin(latitude) ** 2
    east = np.radians(degrees[:, 0]) * np.cos(latitude) * _SEMI_MAJOR_M / np.sqrt(flattening)
    north = np.radians(degrees[:, 1]) * _SEMI_MAJOR_M * (1 - _ECCENTRICITY_2) / flattening**1.5
    lengths = np.hypot(east, north) * same_ring
    totals = np.bincount(polygons[ring_of_point[1:]], weights=lengths, minlength=len(geometries))
    return totals.astype(np.float64)


def mean_scores(
    geometries: Geometries, height: int, width: int, read: Callable[[Window], NDArray[np.floating]]
) -> Floats:
    """Return the mean score (N,) of the pixels whose centre lies in each polygon; NaN for one without such a pixel.

    Parameters
    ----------
    geometries
        (N,) polygons in pixel coordinates.
    height, width
        The size of the scene.
    read
        Returns the scores (h, w) of a window; NaN where nothing was predicted.
    """
    totals, counts = np.zeros(len(geometries)), np.zeros(len(geometries), dtype=np.int64)
    tree = shapely.STRtree(geometries)
    rows = max(1, min(_BAND_ROWS, _BLOCK_PX // max(1, width)))
    for band in bands(height, width, _BAND_ROWS):
        # Sums are made pixel by pixel in each band, whatever is in memory at a time.
        of_band = np.zeros(len(geometries))
        for part in bands(band.height, width, rows):
            window = part._replace(row=band.row + part.row)
            inside = np.sort(tree.query(shapely.box(0, window.row, width, window.row_stop)))
            if not len(inside):
                continue
            ids = rasterio.features.rasterize(
                [(geometries[index], int(index) + 1) for index in inside],
                out_shape=(window.height, window.width),
                transform=rasterio.Affine.translation(0, window.row),
                dtype="int32",
            )
            scores = read(window)
            known = (ids > 0) & np.isfinite(scores)
            of_pixels = ids[known] - 1
            np.add.at(of_band, of_pixels, scores[known])
            np.add.at(counts, of_pixels, 1)
        totals += of_band
    means = np.full(len(geometries), np.nan)
    np.divide(totals, counts, out=means, where=counts > 0)
    return means
