"""Rasters of class ids of several scenes as one: a virtual raster over them, or one file with their pixels.

Where scenes overlap, the later one is on top, except for its pixels without a prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np
import rasterio
from numpy.typing import NDArray

from rvbuild.errors import DataError
from rvbuild.geo.classes import NODATA, Classes, names, palette
from rvbuild.geo.grid import Grid, crs_name, same_crs
from rvbuild.geo.raster.file import grid_of, open_dataset
from rvbuild.geo.windows import Window
from rvbuild.geo.write.rasters import ClassRasterWriter
from rvbuild.progress import Progress

TOLERANCE_PX = 0.01
"""Tolerance of the alignment with the first scene's pixels."""
MAX_EMPTY = 100
"""Largest allowed mosaic area, relative to the total area of its scenes."""

_ROWS, _COLS = 512, 1 << 15
"""Of the blocks of the mosaic that are made at once."""

_CACHE_BYTES = 64 << 20
"""Of GDAL's block cache: a block and its tiles."""


@dataclass(frozen=True)
class Placed:
    """A scene's raster and its place in the mosaic."""

    name: str
    path: Path
    window: Window


def arrange(rasters: Mapping[str, Path]) -> tuple[Grid, list[Placed]]:
    """Return the grid of the mosaic of rasters, by the names of their scenes, and the place of each.

    Raises
    ------
    DataError
        They have no CRS, or another one than the first, or pixels of another size, direction or origin.
    """
    grids: dict[str, Grid] = {}
    for name, path in rasters.items():
        with open_dataset(path) as dataset:
            grids[name] = grid_of(path, dataset)
    (first, base), *_ = grids.items()
    if problems := list(_problems(grids, first)):
        listed = "; ".join(problems[:5]) + ("; …" if len(problems) > 5 else "")
        raise DataError(
            f"predict.mosaic: the predicted scenes cannot be joined into one raster: {listed}. Remove the key, or put "
            "the scenes that fit together into a project of their own"
        )
    offsets = {name: _offset(grid, base) for name, grid in grids.items()}
    top, left = (min(offset[axis] for offset in offsets.values()) for axis in (0, 1))
    placed = [
        Placed(name, rasters[name], Window(offsets[name][0] - top, offsets[name][1] - left, grid.height, grid.width))
        for name, grid in grids.items()
    ]
    height, width = max(p.window.row_stop for p in placed), max(p.window.col_stop for p in placed)
    if max(height, width) >= 1 << 31:
        raise DataError(f"predict.mosaic: {width} x {height} pixels are too many for one raster")
    return Grid(height, width, base.transform_at(top, left), base.crs), placed


def _problems(grids: Mapping[str, Grid], first: str) -> list[str]:
    """Return the reasons why scenes cannot be one raster, a phrase each."""
    base, problems = grids[first], []
    for name, grid in grids.items():
        if grid.crs is None:
            problems.append(f"scene {name} is not georeferenced")
        elif base.crs is None:
            continue
        elif not same_crs(grid.crs, base.crs):
            problems.append(f"scene {name} is in {crs_name(grid.crs)}, scene {first} in {crs_name(base.crs)}")
        elif difference := _difference(grid, base):
            problems.append(f"scene {name} ({grid.describe()}): {difference} scene {first} ({base.describe()})")
    return problems


def _offset(grid: Grid, base: Grid) -> tuple[int, int]:
    """Return the row and the column of `base` at which another grid begins."""
    x, y = base.to_pixel(*grid.to_map(np.zeros(1), np.zeros(1)))
    return round(float(y[0])), round(float(x[0]))


def _difference(grid: Grid, base: Grid) -> str:
    """Describe how pixels differ from those of `base`, as the beginning of a phrase; empty if they do not."""
    corners = np.array([0.0, grid.width, 0.0]), np.array([0.0, 0.0, grid.height])
    x, y = base.to_pixel(*grid.to_map(*corners))
    row, col = _offset(grid, base)
    if max(np.abs(x - x[0] - corners[0]).max(), np.abs(y - y[0] - corners[1]).max()) > TOLERANCE_PX:
        return "its pixels differ in size or orientation from those of"
    if max(abs(float(x[0]) - col), abs(float(y[0]) - row)) > TOLERANCE_PX:
        return "its pixels are not aligned with those of"
    return ""


def write_vrt(path: Path, grid: Grid, placed: Sequence[Placed], classes: Classes, where: Mapping[str, str]) -> None:
    """Write a virtual raster over rasters of class ids.

    Parameters
    ----------
    path
        The `.vrt`.
    grid, placed
        From `arrange`.
    classes
        All classes in id order.
    where
        The path of each scene's raster, relative to the directory of the `.vrt`.
    """
    assert grid.crs is not None
    root = Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
    SubElement(root, "SRS").text = grid.crs.to_wkt()
    SubElement(root, "GeoTransform").text = ", ".join(repr(float(value)) for value in grid.transform.to_gdal())
    band = SubElement(root, "VRTRasterBand", dataType="Byte", band="1")
    metadata = SubElement(band, "Metadata")
    for index, name in enumerate(names(classes)):
        SubElement(metadata, "MDI", key=f"class_{index}").text = name
    SubElement(band, "NoDataValue").text = str(NODATA)
    SubElement(band, "ColorInterp").text = "Palette"
    table = SubElement(band, "ColorTable")
    for color in palette(classes).tolist():
        SubElement(table, "Entry", {f"c{i}": str(value) for i, value in enumerate((*color, 255), start=1)})
    for scene in placed:
        source = SubElement(band, "ComplexSource")
        SubElement(source, "SourceFilename", relativeToVRT="1").text = where[scene.name]
        SubElement(source, "SourceBand").text = "1"
        size = {"xSize": str(scene.window.width), "ySize": str(scene.window.height)}
        SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0", **size})
        SubElement(source, "DstRect", {"xOff": str(scene.window.col), "yOff": str(scene.window.row), **size})
        SubElement(source, "NODATA").text = str(NODATA)
    ElementTree.indent(root, " ")
    path.write_text(ElementTree.tostring(root, encoding="unicode") + "\n", encoding="utf-8")


def write_cog(path: Path, grid: Grid, placed: Sequence[Placed], classes: Classes, progress: Progress) -> None:
    """Write one raster of class ids with the pixels of all scenes.

    Raises
    ------
    DataError
        Nearly all of it would be empty.
    """
    pixels, filled = grid.height * grid.width, sum(scene.window.height * scene.window.width for scene in placed)
    if pixels > MAX_EMPTY * filled:
        raise DataError(
            f'predict.mosaic: "cog" would write {grid.width} x {grid.height} pixels, more than {MAX_EMPTY} times as '
            "many as the scenes have, because the scenes lie far apart; `mosaic = true` writes a virtual raster, which "
            "takes no space"
        )
    starts = range(0, grid.height, _ROWS)
    progress.start("mosaic", len(starts), "bands")
    with (
        rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES),
        ClassRasterWriter(path, grid, classes, temp=path.parent) as writer,
    ):
        for row in starts:
            for col in range(0, grid.width, _COLS):
                block = Window(row, col, _ROWS, _COLS).clip(grid.height, grid.width)
                writer.write(row, _read(placed, block), col)
            progress.advance()


def _read(placed: Sequence[Placed], block: Window) -> NDArray[np.uint8]:
    """Return the class ids (H, W) of a block of the mosaic."""
    ids = np.full((block.height, block.width), NODATA, dtype=np.uint8)
    for scene in placed:
        shared = block.intersection(scene.window)
        if not (shared.height and shared.width):
            continue
        rows, cols = shared.slices_in(scene.window)
        with open_dataset(scene.path) as dataset:
            part = dataset.read(1, window=((rows.start, rows.stop), (cols.start, cols.stop)))
        np.copyto(ids[shared.slices_in(block)], part, where=part != NODATA)
    return ids
