"""The labels of a scene as objects, each with the place in the label files that it comes from.

What an object is depends on task and labels: a box; a feature of a vector file; in label rasters an area of connected
pixels of one class, or a cell. Only labels of a class other than the null class, which share something with the image,
are objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import rasterio.features
import shapely
import shapely.geometry
from numpy.typing import NDArray

from rvbuild import tasks
from rvbuild.files import budget
from rvbuild.geo.classes import NamedClasses
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.boxes import open_boxes
from rvbuild.geo.labels.cells import RasterCells
from rvbuild.geo.labels.raster import RasterLabels
from rvbuild.geo.labels.vector import read_tables
from rvbuild.geo.vector.placing import on_image
from rvbuild.geo.vector.reading import split
from rvbuild.geo.vector.records import Origin
from rvbuild.geo.windows import Window, sliding
from rvbuild.review.suspect import Source
from rvbuild.settings.labels import (
    AnyVectorSettings,
    LabelSettings,
    RasterCellSettings,
    RasterLabelSettings,
    ReadRasterSettings,
)

_ROWS = 1024
"""Rows of a label raster that are read at once."""


@dataclass(frozen=True)
class LabelObject:
    """A label of a scene.

    Attributes
    ----------
    class_id : int
        Its class.
    shape : shapely.Polygon or shapely.MultiPolygon
        Its area in pixels of the scene (x = column, y = row): valid, not empty; it may reach beyond the image, except
        for boxes, which are clipped to it.
    source : Source
        Where it comes from, as suspects have it.
    origin : Origin or None
        Where users find it: layer and id. None in label rasters.
    """

    class_id: int
    shape: Any
    source: Source
    origin: Origin | None = None

    @property
    def feature(self) -> str | None:
        """The id of the feature as users see it, as text: that of its file, or else its place in it, from 0."""
        if self.origin is None:
            return None
        return str(self.origin.number if self.origin.id is None else self.origin.id)


def read_objects(
    task: str,
    files: Sequence[Path],
    settings: LabelSettings,
    *,
    grid: Grid,
    classes: NamedClasses,
    null_id: int,
    rasters: bool = True,
) -> list[LabelObject]:
    """Read the labels of a scene as objects, in the order of the files.

    Parameters
    ----------
    task
        The name of the task.
    files, settings, grid, classes, null_id
        As for `rvbuild.tasks.protocol.Task.labels`.
    rasters
        Whether the objects in label rasters are wanted, too.

    Raises
    ------
    DataError
        The files do not fit the image or the classes.
    """
    if tasks.get(task).COUNTED == "boxes":
        assert settings["kind"] != "raster"
        assert settings["kind"] != "layers"
        with open_boxes(files, settings, grid=grid, classes=classes, null_id=null_id) as labels:
            shapes = shapely.box(*labels.boxes.T)
            pairs = zip(shapes, labels.classes.tolist(), labels.origins, strict=True)
            return [LabelObject(class_id, shape, _source(origin), origin) for shape, class_id, origin in pairs]
    if settings["kind"] == "vector":
        return _features(files, settings, grid, classes, null_id)
    if settings["kind"] == "layers":
        objects, first = [], 0
        for paths, part in split(files, settings["parts"]):
            if part["kind"] == "raster":
                objects += _regions(paths, part, grid, classes, null_id, first) if rasters else []
            else:
                objects += _features(paths, part, grid, classes, null_id, first)
            first += len(paths)
        return objects
    if not rasters:
        return []
    raster = cast(RasterLabelSettings | RasterCellSettings, settings)
    if "cells" in raster:
        return list(_cells(files, raster, grid, classes, null_id))
    return _regions(files, raster, grid, classes, null_id)


def _features(
    files: Sequence[Path],
    settings: AnyVectorSettings,
    grid: Grid,
    classes: NamedClasses,
    null_id: int,
    first: int = 0,
) -> list[LabelObject]:
    objects = []
    for table in read_tables(files, settings, grid, classes, first):
        near = on_image(shapely.bounds(np.array(table.shapes, dtype=object)).reshape(-1, 4), grid)
        for shape, class_id, origin, here in zip(table.shapes, table.class_ids, table.origins, near, strict=True):
            if here and class_id != null_id:
                objects.append(LabelObject(class_id, shape, _source(origin), origin))
    return objects


def _regions(
    files: Sequence[Path], settings: ReadRasterSettings, grid: Grid, classes: NamedClasses, null_id: int, first: int = 0
) -> list[LabelObject]:
    """Return the areas of connected pixels of one class; diagonal neighbours are not connected."""
    ids = class_pixels(files, settings, grid, classes, null_id)
    regions = rasterio.features.shapes(ids, mask=ids != null_id, connectivity=4)
    return [
        LabelObject(int(class_id), shapely.geometry.shape(shape), Source(first, None)) for shape, class_id in regions
    ]


def class_pixels(
    files: Sequence[Path], settings: ReadRasterSettings, grid: Grid, classes: NamedClasses, null_id: int
) -> NDArray[np.uint8]:
    """Return the class ids of the pixels of a scene by label rasters: (H, W) uint8.

    Raises
    ------
    DataError
        The files do not fit the image or the classes, or memory is not enough.
    """
    budget.require(2 * grid.height * grid.width, f"{files[0]}: reading all of it", "Review smaller scenes")
    ids = np.empty((grid.height, grid.width), dtype=np.uint8)
    with RasterLabels(files, settings, grid, classes, null_id) as labels:
        for row in range(0, grid.height, _ROWS):
            window = Window(row, 0, min(_ROWS, grid.height - row), grid.width)
            ids[row : window.row_stop] = labels.read(window)
    return ids


def _cells(
    files: Sequence[Path], settings: RasterCellSettings, grid: Grid, classes: NamedClasses, null_id: int
) -> Iterator[LabelObject]:
    """Yield the cells of the grid with a class, clipped to the scene."""
    side = settings["cells"]["cell_px"]
    with RasterCells(RasterLabels(files, settings, grid, classes, null_id), len(classes), null_id) as cells:
        for window in sliding(grid.height, grid.width, side, side):
            class_id = cells.cell(window)
            if class_id != null_id:
                part = window.clip(grid.height, grid.width)
                shape = shapely.box(part.col, part.row, part.col_stop, part.row_stop)
                yield LabelObject(class_id, shape, Source(0, None))


def _source(origin: Origin) -> Source:
    return Source(origin.file, origin.place)
