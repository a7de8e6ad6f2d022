"""The area of interest of a scene: polygons that say which pixels count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rvbuild.errors import DataError
from rvbuild.geo.area.blocks import Blocks, choose
from rvbuild.geo.grid import Grid
from rvbuild.geo.vector.files import read_features
from rvbuild.geo.vector.placing import to_pixels
from rvbuild.geo.vector.rasterize import Burner
from rvbuild.geo.vector.reading import area_reading, area_tables
from rvbuild.geo.vector.shapes import polygons
from rvbuild.geo.windows import Window
from rvbuild.settings.area import AreaSettings


class Aoi:
    """An area of interest on the pixel grid of a scene, created by `open_aoi`.

    Only the part of a window inside the scene counts: the rest is padding, neither inside nor outside the area.
    """

    def __init__(self, shapes: Sequence[Any], grid: Grid) -> None:
        self.grid = grid
        self._union = shapely.union_all(list(shapes))
        shapely.prepare(self._union)
        self._burner = Burner(shapes, [1] * len(shapes), height=grid.height, width=grid.width, background=0)
        x0, y0, x1, y1 = self._union.bounds
        row, col = math.floor(y0), math.floor(x0)
        around = Window(row, col, math.ceil(y1) - row, math.ceil(x1) - col)
        self.bounds: Window = around.clip(grid.height, grid.width)
        """The smallest window that contains the area, inside the scene; of height or width 0 if they do not overlap."""

    def contains(self, window: Window) -> bool:
        """Tell whether the window's part inside the scene lies entirely in the area; False if there is no such part."""
        box = self._box(window)
        return box is not None and bool(shapely.covers(self._union, box))

    def intersects(self, window: Window) -> bool:
        """Tell whether the window's part inside the scene shares some area, not only an edge, with the area."""
        box = self._box(window)
        if box is None:
            return False
        if shapely.covers(self._union, box):  # what most windows are, and quickly known
            return True
        # Sharing only an edge touches, so that neighbours of the area do not count.
        return bool(shapely.intersects(self._union, box)) and not shapely.touches(self._union, box)

    def contains_centre(self, window: Window) -> bool:
        """Tell whether the centre of the window's part inside the scene lies in the area, or on its border."""
        part = window.clip(self.grid.height, self.grid.width)
        if not (part.height and part.width):
            return False
        return bool(shapely.intersects_xy(self._union, part.col + part.width / 2, part.row + part.height / 2))

    def allows(self, window: Window, within: bool) -> bool:
        """Tell whether the window may become a chip: it lies entirely in the area (`within`), or overlaps it."""
        return self.contains(window) if within else self.intersects(window)

    def contains_points(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tell which points in pixel coordinates, (N,) each, lie in the area, or on its border."""
        inside: NDArray[np.bool_] = shapely.intersects_xy(self._union, x, y)
        return inside

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """Return whether the centre of each pixel lies in the area: (H, W) bool, False outside the scene."""
        return self._burner.read(window, outside=0).astype(bool)

    def outline(self) -> Any:
        """Return the area as a polygon or several, in pixel coordinates (x = column, y = row)."""
        return self._union

    def _box(self, window: Window) -> Any | None:
        part = window.clip(self.grid.height, self.grid.width)
        if not (part.height and part.width):
            return None
        return shapely.box(part.col, part.row, part.col_stop, part.row_stop)


class Part(Aoi):
    """The part of a scene in one split: some blocks, and the area of interest if there is one. Created by `open_aoi`.

    Windows must lie entirely in the blocks, even where overlapping an area is enough, so that no pixel is in two
    splits.
    """

    def __init__(self, blocks: Blocks, aoi: Aoi | None) -> None:
        self.grid, self.blocks = blocks.grid, blocks
        self._aoi = aoi
        self.bounds = blocks.bounds if aoi is None else blocks.bounds.intersection(aoi.bounds)

    def contains(self, window: Window) -> bool:
        """Tell whether the window's part inside the scene lies entirely in the part; False if there is no such part."""
        return self.blocks.contains(window) and (self._aoi is None or self._aoi.contains(window))

    def intersects(self, window: Window) -> bool:
        """Tell whether the window's part inside the scene shares some area with the part."""
        pieces = self.blocks.windows(window)
        return bool(pieces) if self._aoi is None else any(self._aoi.intersects(piece) for piece in pieces)

    def contains_centre(self, window: Window) -> bool:
        """Tell whether the window lies entirely in the blocks, and its centre in the area of interest."""
        return self.blocks.contains(window) and (self._aoi is None or self._aoi.contains_centre(window))

    def allows(self, window: Window, within: bool) -> bool:
        """Tell whether the window may become a chip: entirely in the blocks, and allowed by the area of interest."""
        return self.blocks.contains(window) and (self._aoi is None or self._aoi.allows(window, within))

    def contains_points(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tell which points in pixel coordinates, (N,) each, lie in the part."""
        inside = self.blocks.contains_points(x, y)
        return inside if self._aoi is None else inside & self._aoi.contains_points(x, y)

    def outline(self) -> Any:
        """Return the part as a polygon or several, in pixel coordinates (x = column, y = row)."""
        boxes = [shapely.box(w.col, w.row, w.col_stop, w.row_stop) for w in self.blocks.windows(self.bounds)]
        outline = shapely.union_all(boxes)
        return outline if self._aoi is None else shapely.intersection(outline, self._aoi.outline())

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """Return whether the centre of each pixel lies in the part: (H, W) bool, False outside the scene."""
        mask = self.blocks.mask(window)
        return mask if self._aoi is None else mask & self._aoi.mask(window)


def open_aoi(files: Sequence[Path], grid: Grid, settings: AreaSettings | None = None) -> Aoi | None:
    """Open the area of a scene that counts: its area of interest, or the part in a split; None for the whole scene.

    Parameters
    ----------
    files
        Of the area of interest, in any CRS: the polygons of all files together.
    grid
        Of the scene.
    settings
        The `area` settings of the scene, if it has some: `parts`, what to read of the files, and `blocks`, which
        blocks of the scene its split has.

    Raises
    ------
    DataError
        A file cannot be read or reprojected, holds no polygon, or holds something else than polygons; or the area has
        too few blocks for all splits.
    """
    aoi = _read_aoi(files, grid, settings or {}) if files else None
    if settings is None or "blocks" not in settings:
        return aoi
    return Part(choose(grid, settings["blocks"], (lambda _: True) if aoi is None else aoi.intersects), aoi)


def _read_aoi(files: Sequence[Path], grid: Grid, settings: AreaSettings) -> Aoi:
    shapes: list[Any] = []
    readings = [(path, area_reading(table)) for paths, table in area_tables(files, settings) for path in paths]
    for path, reading in readings:
        features = read_features(path, **reading)
        before = len(shapes)
        for geometry, number in zip(to_pixels(features, grid), features.numbers, strict=True):
            if geometry.geom_type not in ("Polygon", "MultiPolygon", "GeometryCollection"):
                raise DataError(
                    f"{path}: feature {number} (from 0) is a {geometry.geom_type}; an area of interest needs polygons"
                )
            area = polygons(geometry)
            if not area.is_empty:
                shapes.append(area)
        if len(shapes) == before:
            which = " that passes `where`" if reading.get("where") else ""
            raise DataError(
                f"{path}: holds no polygon{which}; expected the area of interest. Leave out `aoi` to use the whole "
                "image"
            )
    return Aoi(shapes, grid)
