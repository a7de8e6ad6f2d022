"""Outlines in pixels of a scene, as the label files have them: how labels are placed, backwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely

from rvbuild.errors import DataError
from rvbuild.geo.grid import METRES_PER_DEGREE, Grid, is_local, reproject
from rvbuild.geo.vector.files import Features
from rvbuild.settings.labels import FeatureSettings


def to_file(area: Any, features: Features, grid: Grid, settings: FeatureSettings, kind: str) -> Any:
    """Return an area in pixels of a scene as a geometry of a vector file.

    Parameters
    ----------
    area
        A polygon or multipolygon.
    features
        Those of the file, for its CRS.
    grid
        Of the scene.
    settings
        How the labels are read.
    kind
        The type of the geometry that is replaced, or of the first of the file: an area becomes its centre in a file of
        points.

    Raises
    ------
    DataError
        Labels are read in a way that has no inverse.
    """
    single = kind.removeprefix("Multi")
    buffers: Mapping[str, object] = settings.get("buffer_px", {})
    if single == "Point":
        area = area.centroid
    elif single == "LineString":
        raise DataError(f"{features.path}: holds lines, which an outline cannot replace; edit the file by hand")
    elif "Polygon" in buffers:
        raise DataError(
            f"{features.path}: its outlines are widened by `buffer_px` when they are read, so an outline in the image "
            "cannot be written to it; edit the file by hand"
        )
    points = shapely.get_coordinates(area)
    col, row = points[:, 0], points[:, 1]
    if (shift_px := settings.get("shift_px")) is not None:
        col, row = col - shift_px[0], row - shift_px[1]
    x, y = grid.to_map(col, row)
    if (shift_m := settings.get("shift_m")) is not None:
        x, y = _moved_back(grid, x, y, shift_m)
    straight = grid.crs is None or features.crs is None or (is_local(grid.crs) and features.implied_crs)
    if not straight:
        x, y = reproject(features.path, grid.crs, features.crs, x, y)
    return shapely.set_coordinates(area, np.stack([x, y], axis=1))


def _moved_back(grid: Grid, x: Any, y: Any, shift_m: list[float]) -> tuple[Any, Any]:
    east, north = shift_m
    assert grid.crs is not None
    if grid.crs.is_geographic:
        y = y - north / METRES_PER_DEGREE
        return x - east / (METRES_PER_DEGREE * np.cos(np.radians(y))), y
    metres = grid.crs.linear_units_factor[1]
    return x - east / metres, y - north / metres
