"""Vectors in longitude and latitude on an image without a transform: they are not pixel coordinates.

A GeoJSON without a CRS is in degrees by its standard and, on an image without any georeference, in pixels by custom.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid, crs_name

SMALLEST_PX = 1.0
"""No person draws an area in an image that is smaller in both directions."""


def refuse_without_crs(
    where: object, grid: Grid, geometries: NDArray[np.object_], crs: CRS | None, implied: bool
) -> None:
    """Raise a DataError if vectors cannot be laid over an image without a CRS.

    Parameters
    ----------
    where
        Begins the message, for example a path.
    grid
        Of the image, which has no CRS.
    geometries
        (N,) as the file has them.
    crs, implied
        Their CRS in the file, and whether it is only the default of GeoJSON.
    """
    if crs is not None and not implied:
        raise DataError(
            f"{where}: is in {crs_name(crs)}, but the image has no CRS{_but(grid)}, so the two cannot be aligned. "
            f"{_advice(grid)}, or save the vectors in pixel coordinates (x = column, y = row) without a CRS"
        )
    if grid.transform.is_identity and _are_degrees(geometries, grid):
        x0, y0, x1, y1 = shapely.total_bounds(geometries)
        raise DataError(
            f"{where}: seems to be in longitude and latitude ({x0:.6g}, {y0:.6g} to {x1:.6g}, {y1:.6g}), but the image "
            f"has no georeference{_but(grid)}: in pixels, every feature would be smaller than one pixel. "
            f"{_advice(grid)}, or save the vectors in pixel coordinates (x = column, y = row)"
        )


def _are_degrees(geometries: NDArray[np.object_], grid: Grid) -> bool:
    """Tell whether coordinates can be degrees, and cannot be meant as pixels."""
    if not len(geometries):
        return False
    bounds = shapely.bounds(geometries)
    bounds = bounds[np.isfinite(bounds).all(axis=1)]
    if not len(bounds) or np.abs(bounds[:, ::2]).max() > 360 or np.abs(bounds[:, 1::2]).max() > 90:
        return False
    sizes = np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1])
    extended = sizes[sizes > 0]
    if len(extended):
        return bool(extended.max() < SMALLEST_PX)
    # Points have no size: those in pixels lie on pixels, or in the middle of them.
    return bool(grid.placed_by) and not bool(np.isin(np.mod(bounds, 1), (0, 0.5)).any())


def _but(grid: Grid) -> str:
    return f" but {grid.placed_by}" if grid.placed_by else ""


def _advice(grid: Grid) -> str:
    if grid.placed_by == "RPCs":
        return "Orthorectify the image (`gdalwarp -rpc -to RPC_DEM=dem.tif`)"
    if grid.placed_by:
        return "Warp the image to a map projection (`gdalwarp -geoloc`)"
    return "Georeference the image (`gdal_edit.py -a_srs … -a_ullr …`)"
