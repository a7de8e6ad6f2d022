"""The pixel grid of a scene: size, affine transform, CRS.

Pixel (0, 0)'s *corner* lies at the transform's origin: the point (x, y) in pixel coordinates is column x, row y, and
the centre of pixel (row, col) is (col + 0.5, row + 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform

from rvbuild.errors import DataError
from rvbuild.geo.windows import Window

Floats = NDArray[np.float64]

METRES_PER_DEGREE = 111319.5
"""Of latitude, and of longitude at the equator."""


class GridJson(TypedDict):
    """A grid as JSON data."""

    height: int
    width: int
    transform: list[float]
    """[a, b, c, d, e, f] of the affine transform from columns and rows to map coordinates."""
    crs: str | None
    """As WKT."""


@dataclass(frozen=True)
class Grid:
    """The pixel grid of a scene.

    An image without georeference has the identity transform and no CRS: its map coordinates are pixel coordinates.
    """

    height: int
    """Rows."""
    width: int
    """Columns."""
    transform: Affine
    """From pixel coordinates (column, row) to map coordinates."""
    crs: CRS | None
    """Of the map coordinates; None if the image does not say."""
    placed_by: str = field(default="", compare=False)
    """Other georeference of an image without a transform, for example `RPCs`."""

    @property
    def window(self) -> Window:
        """The window of all pixels."""
        return Window(0, 0, self.height, self.width)

    def to_map(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return the map coordinates of the points (x = column, y = row) of shape (N,), in units of the CRS."""
        a, b, c, d, e, f = self.transform[:6]
        return a * x + b * y + c, d * x + e * y + f

    def to_pixel(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return the pixel coordinates (column, row), sub-pixel, of the map coordinates (x, y) of shape (N,)."""
        a, b, c, d, e, f = self.transform[:6]
        # Subtract the origin first: a difference of large map coordinates is exact, one of large quotients is not.
        x, y = x - c, y - f
        if b == d == 0:
            return x / a, y / e
        determinant = a * e - b * d
        return (e * x - b * y) / determinant, (a * y - d * x) / determinant

    def bounds(self, window: Window) -> tuple[float, float, float, float]:
        """Return (min x, min y, max x, max y) of a window in map coordinates."""
        xs, ys = self.to_map(*_corners(window))
        return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())

    def turns(self, x: Floats) -> Floats:
        """Return by how many degrees (full turns) to shift longitudes to those of this grid; 0 for a projected CRS.

        Longitudes are counted from -180 to 180, or from 0 to 360.
        """
        if self.crs is None or not self.crs.is_geographic:
            return np.zeros_like(x)
        west, _, east, _ = self.bounds(self.window)
        degrees: Floats = 360 * np.round(((west + east) / 2 - x) / 360)
        return degrees

    def transform_at(self, row: int, col: int) -> Affine:
        """Return the transform of a grid that starts at pixel (row, col) of this one."""
        if row == col == 0:
            return self.transform
        x, y = self.to_map(np.array([float(col)]), np.array([float(row)]))
        a, b, _, d, e, _ = self.transform[:6]
        return Affine(a, b, float(x[0]), d, e, float(y[0]))

    def crop(self, window: Window) -> Grid:
        """Return the grid of the pixels in a window of this one."""
        transform = self.transform_at(window.row, window.col)
        return Grid(window.height, window.width, transform, self.crs, self.placed_by)

    def place_of(self, other: Grid, tolerance_px: float = 0.1) -> Window | None:
        """Return the window of this grid that `other` is, if its pixels are pixels of this one; CRS ignored.

        The window may reach beyond this grid. None if a corner of `other` is further than `tolerance_px` from one of a
        pixel of this grid, or the pixels differ in size or orientation.
        """
        x, y = self.to_pixel(*other.to_map(*_corners(other.window)))
        row, col = round(float(y[0])), round(float(x[0]))
        place = Window(row, col, other.height, other.width)
        there_x, there_y = _corners(place)
        off = max(np.abs(there_x - x).max(), np.abs(there_y - y).max())
        return place if off <= tolerance_px else None

    def as_json(self) -> GridJson:
        """Return the grid as JSON data."""
        return {
            "height": self.height,
            "width": self.width,
            "transform": list(self.transform[:6]),
            "crs": None if self.crs is None else self.crs.to_wkt(),
        }

    @classmethod
    def from_json(cls, content: GridJson) -> Grid:
        """Return the grid that `as_json` described.

        Raises
        ------
        KeyError, TypeError, ValueError
            The content is something else.
        """
        crs = None if content["crs"] is None else CRS.from_wkt(content["crs"])
        return cls(content["height"], content["width"], Affine(*content["transform"]), crs)

    def describe(self) -> str:
        """Return one line for messages: size, pixel size, origin, CRS."""
        a, b, c, d, e, f = self.transform[:6]
        size = f"{self.width} x {self.height} px (width x height)"
        if self.transform.is_identity:
            where = "not georeferenced" + (f" but by {self.placed_by}" if self.placed_by else "")
        elif b == d == 0:
            where = f"pixel {a:.10g} x {e:.10g}, origin {c:.10g}, {f:.10g}"
        else:
            where = "transform " + ", ".join(f"{value:.10g}" for value in (a, b, c, d, e, f))
        return f"{size}, {where}, {crs_name(self.crs)}"


def same_crs(one: CRS | None, other: CRS | None) -> bool:
    """Tell whether two CRS are the same; two unknown ones are."""
    if one is None or other is None:
        return one is other
    return one == other or (one.to_epsg() is not None and one.to_epsg() == other.to_epsg())


def is_local(crs: CRS | None) -> bool:
    """Tell whether a CRS has no known place on the globe: an engineering CRS, as in photogrammetry and CAD."""
    if crs is None or crs.is_geographic or crs.is_projected:
        return False
    wkt = crs.to_wkt()
    return "LOCAL_CS[" in wkt or "ENGCRS[" in wkt


def crs_name(crs: CRS | None) -> str:
    """Return a short name of a CRS for messages: `EPSG:32633`, or the name in its WKT."""
    if crs is None:
        return "no CRS"
    epsg = crs.to_epsg()
    if epsg is not None:
        return f"EPSG:{epsg}"
    wkt = str(crs.to_wkt())
    return wkt.split('"')[1] if '"' in wkt else wkt[:40]


def reproject(where: object, source: CRS, target: CRS, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the points (x, y) of shape (N,), of the CRS `source`, in the CRS `target`, each exactly.

    Raises
    ------
    DataError
        Some points cannot be represented in `target`; `where`, for example a path, begins the message.
    """
    if len(x) == 0 or same_crs(source, target):
        return x, y
    problem = ""
    try:
        there_x, there_y = (np.asarray(values, dtype=np.float64) for values in transform(source, target, x, y))
        bad = ~(np.isfinite(there_x) & np.isfinite(there_y))
    except Exception as error:  # rasterio passes PROJ's errors on as private classes without a common public base.
        problem, bad = f" ({error})", np.ones(len(x), dtype=bool)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{where}: points such as ({x[first]:.10g}, {y[first]:.10g}) cannot be reprojected from {crs_name(source)} "
            f"to {crs_name(target)}{problem}. Is the first CRS correct? A GeoJSON without a `crs` member is in "
            "EPSG:4326: longitude, latitude"
        )
    return there_x, there_y


def _corners(window: Window) -> tuple[Floats, Floats]:
    x = np.array([window.col, window.col_stop, window.col_stop, window.col], dtype=np.float64)
    y = np.array([window.row, window.row, window.row_stop, window.row_stop], dtype=np.float64)
    return x, y
