"""Features placed on the pixels of a scene: reprojected, moved, and to the sub-pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from rvbuild.errors import DataError
from rvbuild.geo.grid import METRES_PER_DEGREE, Grid, crs_name, is_local, reproject, same_crs
from rvbuild.geo.vector import antimeridian
from rvbuild.geo.vector.bending import bend
from rvbuild.geo.vector.files import Features, Geometries
from rvbuild.geo.vector.unplaced import refuse_without_crs

Floats = NDArray[np.float64]

SNAP = float(1 << 20)
"""Vertices come to multiples of 1 / SNAP pixel: far below what any label means, it takes off the noise of reprojection,
so that a vertex on a pixel's corner lies exactly there and every window sees the same polygon."""

LARGEST = 1e15
"""No map has coordinates beyond it."""


def to_pixels(
    features: Features,
    grid: Grid,
    *,
    shift_m: Sequence[float] | None = None,
    shift_px: Sequence[float] | None = None,
) -> Geometries:
    """Return the geometries in pixel coordinates (x = column, y = row, sub-pixel), (N,), not yet repaired.

    An image without a CRS takes the coordinates through its transform as they are; without a transform too, they are
    pixel coordinates. A GeoJSON without a CRS on an image in a local CRS is in the coordinates of that.

    Parameters
    ----------
    features, grid
        The features, and the grid.
    shift_m
        Move all by (x, y) metres, along the axes of the image's CRS: east and north.
    shift_px
        Move all by (columns, rows) pixels: right and down.

    Raises
    ------
    DataError
        One of image and vectors has a CRS and the other has none, coordinates cannot be reprojected, an edge goes
        around half the globe, or metres mean nothing in the CRS of the image.
    """
    try:
        return _placed(features, grid, shift_m, shift_px)
    except DataError as error:
        if swapped_on(features, grid):
            raise DataError(f"{error}. {SWAPPED}") from error
        raise


SWAPPED = (
    "With x and y swapped they would lie on the image: the file seems to hold latitude before longitude. Write "
    "longitude first, as GeoJSON and most formats require"
)
"""Message for features that `swapped_on` recognises."""


def swapped_on(features: Features, grid: Grid) -> bool:
    """Tell whether some feature would lie on the image if x and y were swapped."""
    turned = shapely.transform(features.geometries, lambda points: points[:, ::-1])
    try:
        placed = _placed(replace(features, geometries=turned), grid, None, None)
    except DataError:
        return False
    return bool(on_image(shapely.bounds(placed).reshape(-1, 4), grid).any())


def on_image(boxes: NDArray[np.floating], grid: Grid) -> NDArray[np.bool_]:
    """Tell which boxes (x0, y0, x1, y1) in pixels, (N, 4), overlap the image: (N,) bool."""
    inside = (boxes[:, 0] < grid.width) & (boxes[:, 1] < grid.height) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    return np.asarray(inside, dtype=np.bool_)


def _placed(
    features: Features, grid: Grid, shift_m: Sequence[float] | None, shift_px: Sequence[float] | None
) -> Geometries:
    path, geometries = features.path, features.geometries
    points = shapely.get_coordinates(geometries)
    if not (np.abs(points) <= LARGEST).all():
        raise DataError(f"{path}: has coordinates that are not finite, or beyond {LARGEST:g}")
    x, y = points[:, 0], points[:, 1]
    if grid.crs is None:
        refuse_without_crs(path, grid, geometries, features.crs, features.implied_crs)
    elif features.crs is None:
        raise DataError(
            f"{path}: has no CRS, but the image is in {crs_name(grid.crs)}. Save the vectors with their CRS"
        )
    elif is_local(grid.crs) and features.implied_crs:
        pass  # in map coordinates: they cannot be converted from degrees
    else:
        x, y = reproject(path, features.crs, grid.crs, x, y)
        there = shapely.set_coordinates(geometries.copy(), np.stack([x, y], axis=1))
        if features.crs.is_geographic:
            antimeridian.refuse_torn(path, geometries, features.crs, grid.crs)
        elif grid.crs.is_geographic:
            antimeridian.refuse_torn(path, there, grid.crs, grid.crs)
        if not same_crs(features.crs, grid.crs):
            project = partial(_projected, path, features.crs, grid.crs)
            geometries = bend(path, geometries, there, project, grid, degrees=features.crs.is_geographic)
            x, y = shapely.get_coordinates(geometries).T
        geometries, x, y = antimeridian.shown_on(grid, geometries, x, y)
    if shift_m is not None:
        x, y = _moved(path, grid.crs, x, y, shift_m)
    col, row = grid.to_pixel(x, y)
    if shift_px is not None:
        col, row = col + shift_px[0], row + shift_px[1]
    snapped = np.stack([np.rint(col * SNAP) / SNAP, np.rint(row * SNAP) / SNAP], axis=1)
    moved: Geometries = shapely.set_coordinates(geometries.copy(), snapped)
    return moved


def _projected(path: Path, source: CRS, target: CRS, points: Floats) -> Floats:
    """Return points (P, 2) of one CRS in another."""
    return np.stack(reproject(path, source, target, points[:, 0], points[:, 1]), axis=1)


def _moved(path: Path, crs: CRS | None, x: Floats, y: Floats, shift_m: Sequence[float]) -> tuple[Floats, Floats]:
    """Return map coordinates moved by metres east and north; degrees as Raster Vision's ShiftTransformer takes them."""
    east, north = shift_m
    if crs is None:
        raise DataError(
            f"{path}: cannot be moved by `shift_m`, because the image has no CRS. Use `shift_px` in `labels`"
        )
    if crs.is_geographic:
        return x + east / (METRES_PER_DEGREE * np.cos(np.radians(y))), y + north / METRES_PER_DEGREE
    if not crs.is_projected:
        raise DataError(
            f"{path}: cannot be moved by `shift_m`, because {crs_name(crs)}, the CRS of the image, has no known unit. "
            "Use `shift_px` in `labels`"
        )
    metres = crs.linear_units_factor[1]
    return x + east / metres, y + north / metres
