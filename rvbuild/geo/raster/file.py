"""One raster file: how it is opened, and its grid."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
from numpy.typing import NDArray
from rasterio.enums import Interleaving
from rasterio.env import ensure_env_with_credentials
from rasterio.io import DatasetReader, MemoryFile
from rasterio.windows import Window as RasterioWindow

from rvbuild.errors import DataError
from rvbuild.files import budget
from rvbuild.files.identity import UnreachableError
from rvbuild.files.readers import reading
from rvbuild.files.urls import Url
from rvbuild.files.zipped import Zipped
from rvbuild.geo.gdal import admission
from rvbuild.geo.gdal.drivers import RASTERS_BY_SUFFIX, raster_drivers
from rvbuild.geo.gdal.environment import not_georeferenced_is_fine
from rvbuild.geo.gdal.quiet import undisturbed
from rvbuild.geo.grid import Grid

not_georeferenced_is_fine()

Image = NDArray[Any]
Mask = NDArray[np.bool_]


ELSEWHERE: Mapping[str, str] = {
    # Sidecars of remote files are ignored: their state is not known.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # Data of a server that were cached at an earlier opening may be outdated.
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsigs/",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    # A server that sends nothing for this many seconds is given up.
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
}
"""Settings with which GDAL opens remote files."""


DRIVERS: Mapping[str, str] = {
    ".ecw": "ECW",
    ".sid": "MrSID",
    ".jp2": "JP2OpenJPEG",
    ".j2k": "JP2OpenJPEG",
    ".nc": "netCDF",
    ".hdf": "HDF4",
    ".h5": "HDF5",
    ".kea": "KEA",
}
"""Drivers that a GDAL may lack, by the suffix of files."""


_LEADING = frozenset(driver for drivers in RASTERS_BY_SUFFIX.values() for driver in drivers)
"""Drivers of rasters that name other files."""


def open_dataset(path: Path) -> Any:
    """Open a raster with rasterio for reading.

    Raises
    ------
    DataError
        GDAL cannot open the file, it refers to a forbidden place, or it only has subdatasets.
    """
    with reading(path, "as a raster"):
        return _open(path)


def _open(path: Path) -> Any:
    admission.require(path)
    allowed = raster_drivers(path.suffix)
    try:
        # rasterio compares nodata with the limits of the dtype
        numbers, connection = (
            np.errstate(over="ignore"),
            rasterio.Env(**ELSEWHERE) if isinstance(path, Url) else nullcontext(),
        )
        with numbers, connection, undisturbed(path) as place:
            dataset = _open_with(place, allowed)
    except rasterio.errors.RasterioIOError as error:
        why = lacking_driver(path) or f"cannot be opened as a raster: {_refused(path) or error}"
        raise DataError(f"{path}: {why}") from error
    if dataset.driver in _LEADING:
        try:
            admission.require_files(path, dataset.files)
        except DataError:
            dataset.close()
            raise
    if dataset.count == 0:
        names = ", ".join(dataset.subdatasets[:5])
        dataset.close()
        raise DataError(f"{path}: has no bands of its own{f'; use one of its subdatasets: {names}' if names else ''}")
    rows, columns = dataset.block_shapes[0]
    bands = dataset.count if dataset.interleaving == Interleaving.pixel else 1
    try:  # at least a byte for each pixel: a few bytes of a file can expand to a whole block
        budget.require(
            rows * columns * bands, f"{path}: a block of {columns} x {rows} px, which is read as a whole,", _TILE
        )
    except DataError:
        dataset.close()
        raise
    return dataset


_TILE = "Tile the file, for example with `gdal_translate -of COG`"


def _open_with(path: Path, drivers: list[str]) -> Any:
    """Open a raster with some drivers alone."""
    if isinstance(path, Zipped):
        with path.open("rb") as stream, ExitStack() as stack:
            memory = stack.enter_context(MemoryFile(stream.read()))
            dataset = memory.open(driver=drivers)
            dataset._env.enter_context(stack.pop_all())
            return dataset
    return _open_by_name(path.gdal() if isinstance(path, Url) else os.fspath(path), drivers)


@ensure_env_with_credentials  # type: ignore[untyped-decorator]
def _open_by_name(name: str, drivers: list[str]) -> Any:
    """Open a raster as `rasterio.open` does, which takes one driver or all."""
    return DatasetReader(name, driver=drivers)


def _refused(path: Path) -> str:
    """Return why a server does not give a file; empty if it would, or if the file is here."""
    if not isinstance(path, Url):
        return ""
    from rvbuild.files.fetch import identity  # imported late: only needed for remote files

    try:
        identity(str(path))
    except UnreachableError as error:
        return str(error)
    return ""


def require_complete(path: Path) -> None:
    """Read the last pixel of a raster: files that were truncated while copying often lack their end.

    Raises
    ------
    DataError
        It cannot be read.
    """
    with open_dataset(path) as dataset, reading(path, "as a raster"):
        try:
            dataset.read(window=RasterioWindow(dataset.width - 1, dataset.height - 1, 1, 1))
        except rasterio.errors.RasterioIOError as error:
            raise DataError(
                f"{path}: its last pixel cannot be read, so the file is incomplete or damaged ({error}). Copy it again"
            ) from error


def read_overview(path: Path, most_px: int) -> Image | None:
    """Return all pixels (C, h, w) of the finest overview of a raster that has at most `most_px`; None without one."""
    with open_dataset(path) as dataset, reading(path, "as a raster"):
        height, width = dataset.height, dataset.width
        factor = next((each for each in dataset.overviews(1) if height * width / each**2 <= most_px), None)
        if factor is None:
            return None
        # GDAL reads a window of the size of an overview from that overview.
        pixels: Image = dataset.read(out_shape=(dataset.count, -(-height // factor), -(-width // factor)))
        return pixels


def lacking_driver(path: Path) -> str:
    """Return advice if this GDAL cannot read files with this suffix; empty if it can."""
    name = DRIVERS.get(path.suffix.lower())
    with rasterio.Env() as environment:
        if name is None or name in environment.drivers():
            return ""
    return (
        f"needs the GDAL driver {name}, which GDAL {rasterio.__gdal_version__} of the installed rasterio does not "
        f"have. Convert the file where that driver exists (`gdal_translate -of COG {path.name} {path.stem}.tif`), or "
        "set GDAL_DRIVER_PATH to the directory of a plugin for this version of GDAL"
    )


def grid_of(path: Path, dataset: Any) -> Grid:
    """Return the pixel grid of an open dataset.

    Raises
    ------
    DataError
        The file is placed by ground control points only, so that no affine transform describes it, or its transform
        gives pixels no area.
    """
    transform, placed_by = dataset.transform, ""
    if transform.is_identity and dataset.gcps[0]:
        raise DataError(
            f"{path}: is georeferenced by ground control points only; expected an affine transform. "
            "Warp it first, for example with `gdalwarp`"
        )
    a, b, c, d, e, f = transform[:6]
    if not all(map(math.isfinite, (a, b, c, d, e, f))) or a * e - b * d == 0:
        raise DataError(
            f"{path}: its transform ({', '.join(f'{value:g}' for value in (a, b, c, d, e, f))}) gives pixels no area "
            "on the map. Correct it, for example with `gdal_edit.py -a_ullr`"
        )
    if transform.is_identity:
        placed_by = "RPCs" if dataset.rpcs else "geolocation arrays" if dataset.tags(ns="GEOLOCATION") else ""
    return Grid(dataset.height, dataset.width, transform, dataset.crs, placed_by)
