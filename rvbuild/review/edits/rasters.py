"""Pixels of label rasters: values of classes are changed; profile, tags, colour table and all other pixels stay."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterWindow

from rvbuild.errors import DataError
from rvbuild.geo.classes import Classes, names, rgb
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.file import grid_of
from rvbuild.geo.windows import Window
from rvbuild.settings.labels import ReadRasterSettings

_COPIED = ("PNG", "GIF", "BMP")
"""Formats without loss that GDAL only writes as a whole."""

_LOSSY = ("jpeg", "webp", "lerc", "jxl")


@dataclass(frozen=True)
class PixelEdit:
    """Pixels of a scene that get a class.

    Attributes
    ----------
    window : Window
        A part of the scene.
    mask : (H, W) bool
        Which of its pixels.
    class_name : str
        Their new class.
    """

    window: Window
    mask: NDArray[np.bool_]
    class_name: str


def edit_raster(
    path: Path, edits: Sequence[PixelEdit], grid: Grid, settings: ReadRasterSettings, classes: Classes, null_id: int
) -> None:
    """Change pixels of a label raster.

    Parameters
    ----------
    path
        The file; it is changed in place.
    edits
        In order.
    grid
        Of the scene.
    settings, classes, null_id
        How the labels are read.

    Raises
    ------
    DataError
        The raster is on another grid, of a format that cannot be changed without loss, or has no value for a class.
    """
    with rasterio.open(path) as dataset:
        place = _place(path, dataset, grid)
        values = {edit.class_name: _pixel(path, dataset, edit.class_name, settings, classes, null_id) for edit in edits}
        driver, lossy = dataset.driver, str(dataset.compression.value if dataset.compression else "").lower()
        factors = dataset.overviews(1)
    if any(name in lossy for name in _LOSSY) or driver == "JPEG":
        raise DataError(f"{path}: is compressed with loss ({lossy or driver}), so its pixels cannot be changed exactly")
    if driver == "GTiff":
        with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
            _burn(dataset, edits, values, place)
        if factors:
            with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
                dataset.build_overviews(factors, Resampling.nearest)
    elif driver in _COPIED:
        _rewrite(path, driver, edits, values, place)
    else:
        raise DataError(
            f"{path}: pixels of {driver} files cannot be changed without changing more; convert it to GeoTIFF "
            "(gdal_translate) and use that"
        )


def _rewrite(
    path: Path, driver: str, edits: Sequence[PixelEdit], values: dict[str, NDArray[np.generic]], place: Window
) -> None:
    """Change pixels of a file that GDAL only writes as a whole, by way of a GeoTIFF."""
    between, made = path.with_name(f".{path.name}.tif"), path.with_name(f".{path.name}.new{path.suffix}")
    try:
        rasterio.shutil.copy(path, between, driver="GTiff")
        with rasterio.open(between, "r+") as dataset:
            _burn(dataset, edits, values, place)
        rasterio.shutil.copy(between, made, driver=driver, WORLDFILE="NO")
        shutil.move(made, path)
    finally:
        for leftover in path.parent.glob(f".{path.name}.*"):
            leftover.unlink()


def _burn(
    dataset: DatasetReader, edits: Sequence[PixelEdit], values: dict[str, NDArray[np.generic]], place: Window
) -> None:
    for edit in edits:
        window = RasterWindow(
            edit.window.col + place.col, edit.window.row + place.row, edit.window.width, edit.window.height
        )
        bands = list(range(1, len(values[edit.class_name]) + 1))
        pixels = dataset.read(bands, window=window)
        pixels[:, edit.mask] = values[edit.class_name][:, np.newaxis]
        dataset.write(pixels, bands, window=window)


def _place(path: Path, dataset: DatasetReader, grid: Grid) -> Window:
    """Return the scene's place in the raster."""
    own = grid_of(path, dataset)
    if own.transform.is_identity and (own.height, own.width) == (grid.height, grid.width):
        return own.window
    place = own.place_of(grid)
    if place is None or not place.inside(own.height, own.width):
        raise DataError(
            f"{path}: is not on the pixel grid of the scene, or only a part of it, so its pixels cannot be changed "
            "exactly; edit it by hand"
        )
    return place


def _pixel(
    path: Path,
    dataset: DatasetReader,
    class_name: str,
    settings: ReadRasterSettings,
    classes: Classes,
    null_id: int,
) -> NDArray[np.generic]:
    """Return the values of a pixel of a class, one for each band that holds labels."""
    class_id = names(classes).index(class_name)
    dtype = np.dtype(dataset.dtypes[0])
    if settings["encoding"] == "id":
        mapping = settings["map"]
        values = [class_id] if mapping is None else [int(key) for key, name in mapping.items() if name == class_name]
        if not values and class_id == null_id and dataset.nodata is not None:
            values = [dataset.nodata]
        if not values:
            raise DataError(f'{path}: `map` in `labels` has no value for the class "{class_name}"; add one')
        if not (np.iinfo(dtype).min <= values[0] <= np.iinfo(dtype).max if dtype.kind in "iu" else True):
            raise DataError(f'{path}: cannot hold {values[0]}, the value of "{class_name}": its pixels are {dtype}')
        return np.array([values[0]], dtype=dtype)
    color = rgb(classes[class_id]["color"])
    if dataset.count == 1:
        table = dataset.colormap(1)
        found = [value for value, entry in sorted(table.items()) if tuple(entry[:3]) == color]
        if not found:
            raise DataError(f"{path}: its colour table has no {classes[class_id]['color']}, the colour of {class_name}")
        return np.array([found[0]], dtype=dtype)
    return np.array(color, dtype=dtype)
