"""The labels of a scene as they are now: what a suspect is about, and whether it has changed since."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio.features
import shapely
import shapely.geometry
import xxhash
from affine import Affine
from numpy.typing import NDArray

from rvbuild import tasks
from rvbuild.geo.classes import Classes
from rvbuild.geo.grid import Grid
from rvbuild.geo.vector.reading import label_tables, split
from rvbuild.geo.windows import Window
from rvbuild.review.labels import LabelObject, class_pixels, read_objects
from rvbuild.review.shapes import area_of, rings_of
from rvbuild.review.suspect import Rings, Source, fingerprint
from rvbuild.settings.labels import FeatureSettings, LabelSettings, ReadRasterSettings


class RasterPart(NamedTuple):
    """The rasters of one mosaic of labels."""

    first: int
    """The place of the first among the label files of the scene."""
    files: Sequence[Path]
    settings: ReadRasterSettings


def raster_parts(files: Sequence[Path], settings: LabelSettings) -> list[RasterPart]:
    """Return the label rasters of a scene, of each mosaic."""
    if settings["kind"] == "raster":
        return [RasterPart(0, files, settings)]
    parts, first = [], 0
    if settings["kind"] == "layers":
        for paths, part in split(files, settings["parts"]):
            if part["kind"] == "raster":
                parts.append(RasterPart(first, paths, part))
            first += len(paths)
    return parts


def vector_files(files: Sequence[Path], settings: LabelSettings) -> list[tuple[Path, FeatureSettings]]:
    """Return the vector files of a scene, each with how it is read; none of box files and rasters."""
    if settings["kind"] == "vector":
        return [(path, table) for paths, table in label_tables(files, settings) for path in paths]
    if settings["kind"] == "layers":
        parts = split(files, settings["parts"])
        return [(path, part) for paths, part in parts if part["kind"] == "vector" for path in paths]
    return []


class CurrentLabels:
    """The labels of a scene, read when they are needed.

    Attributes
    ----------
    files : sequence of Path
        The label files.
    settings : LabelSettings
        How they are read.
    grid : Grid
        The pixels of the scene.
    """

    def __init__(
        self, task: str, files: Sequence[Path], settings: LabelSettings, grid: Grid, classes: Classes, null_id: int
    ) -> None:
        self.task, self.files, self.settings, self.grid = task, files, settings, grid
        self.classes, self.null_id = classes, null_id
        self._pixels: dict[int, NDArray[np.uint8]] = {}

    @cached_property
    def objects(self) -> list[LabelObject]:
        """The features or boxes; areas of rasters are not among them."""
        return read_objects(
            self.task,
            self.files,
            self.settings,
            grid=self.grid,
            classes=self.classes,
            null_id=self.null_id,
            rasters=False,
        )

    @cached_property
    def by_source(self) -> dict[Source, LabelObject]:
        """The same by where they come from."""
        return {each.source: each for each in self.objects}

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree([each.shape for each in self.objects])

    def near(self, window: Window) -> list[Any]:
        """Return the areas of features or boxes whose bounds touch a window."""
        box = shapely.box(window.col, window.row, window.col_stop, window.row_stop)
        return [self.objects[place].shape for place in np.sort(self._tree.query(box))]

    def as_read(self, outline: Any) -> Any:
        """Return an outline as the task reads it: boxes are bounds, clipped to the image."""
        if tasks.get(self.task).COUNTED != "boxes":
            return outline
        return shapely.intersection(shapely.box(*outline.bounds), shapely.box(0, 0, self.grid.width, self.grid.height))

    @cached_property
    def rasters(self) -> list[RasterPart]:
        """The label rasters, of each mosaic."""
        return raster_parts(self.files, self.settings)

    def digest(self, source: Source, polygon: Rings) -> str | None:
        """Return a digest of the label that a suspect is about; None if there is none.

        Parameters
        ----------
        source
            Where the label comes from.
        polygon
            In a label raster, the area that the suspect is about.
        """
        if source.place is None:
            return self.raster_digest(source.file, polygon)
        label = self.by_source.get(source)
        return None if label is None else self.object_digest(label)

    def object_digest(self, label: LabelObject) -> str:
        """Return the digest of a feature or box: of its class and its outline."""
        return fingerprint(self.classes[label.class_id]["name"], rings_of(label.shape))

    def raster_digest(self, file: int, polygon: Rings) -> str | None:
        """Return the digest of the class ids of pixels whose centre is in an area; None if there is no such raster."""
        part = next((part for part in self.rasters if part.first <= file < part.first + len(part.files)), None)
        if part is None:
            return None
        window, mask = pixels_in(polygon, self.grid)
        state = xxhash.xxh3_64(json.dumps([self.classes[n]["name"] for n in range(len(self.classes))]).encode())
        state.update(np.ascontiguousarray(self.pixels(part)[window.slices_in(self.grid.window)][mask]).tobytes())
        return str(state.hexdigest())

    def pixels(self, part: RasterPart) -> NDArray[np.uint8]:
        """Return the class ids by a mosaic of label rasters: (H, W) uint8."""
        if part.first not in self._pixels:
            self._pixels[part.first] = class_pixels(part.files, part.settings, self.grid, self.classes, self.null_id)
        return self._pixels[part.first]


def pixels_in(polygon: Rings, grid: Grid) -> tuple[Window, NDArray[np.bool_]]:
    """Return the part of a scene that an area spans, and which of its pixels have their centre in it: (H, W) bool."""
    area = area_of(polygon)
    x0, y0, x1, y1 = area.bounds
    col, row = int(np.floor(x0)), int(np.floor(y0))
    window = Window(row, col, int(np.ceil(y1)) - row, int(np.ceil(x1)) - col).clip(grid.height, grid.width)
    if not (window.height and window.width):
        return window, np.zeros((window.height, window.width), dtype=bool)
    mask: NDArray[np.bool_] = rasterio.features.geometry_mask(
        [shapely.geometry.mapping(area)],
        (window.height, window.width),
        Affine.translation(window.col, window.row),
        invert=True,
    )
    return window, mask
