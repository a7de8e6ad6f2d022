"""Rasters that rvbuild writes: classes, scores and colours, with the same bytes each time."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import Resampling

from rvbuild.geo.classes import NODATA, Classes, NamedClasses, names, palette
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.file import grid_of, open_dataset
from rvbuild.geo.write.cog import ENV, TILE_COLS, TILE_ROWS, CogWriter, cog_options, placed, tiled
from rvbuild.geo.write.pyramid import factors, write_levels, write_upper_levels
from rvbuild.geo.write.tiles import Part, assemble, assemble_cog


class IdRasterWriter(CogWriter):
    """Writes class ids without colours and overviews: one uint8 band, nodata 255, tiled and compressed.

    Parameters
    ----------
    path
        The file to make.
    grid
        Of the scene; the file has exactly this grid.
    temp
        Path of the temporary file, or a directory for it. It is gone after `close`.
    """

    def __init__(self, path: Path, grid: Grid, *, temp: Path) -> None:
        super().__init__(
            path,
            grid,
            temp=temp,
            count=1,
            dtype="uint8",
            nodata=NODATA,
            masked=False,
            resampling="mode",
            predictor=False,
        )

    def write(self, row0: int, labels: NDArray[np.uint8], col0: int = 0) -> None:
        """Write the next block, or all of the next rows: (h, w) uint8 class ids, 255 where nothing was predicted.

        `row0` and `col0` are its first row and column; blocks of the same rows come from left to right.
        """
        self._append(row0, labels[np.newaxis], None, col0)

    def _publish(self) -> None:
        self._temp.replace(self.path)


class IdRows(NamedTuple):
    """Rows of a scene that are in a file of an `IdRasterWriter`."""

    path: Path
    top: int
    """The row of the scene that is the first one of the file."""
    first: int
    stop: int
    """The rows of the scene that are meant."""


def can_join_ids(parts: Sequence[IdRows], grid: Grid) -> bool:
    """Tell whether the rows of all parts begin and end with rows of tiles."""
    edges = (edge for part in parts for edge in (part.top, part.first, part.stop) if edge != grid.height)
    return all(edge % TILE_ROWS == 0 for edge in edges)


def join_ids(parts: Sequence[IdRows], path: Path, grid: Grid, *, temp: Path) -> None:
    """Write the file of an `IdRasterWriter` for a scene from parts of it, without decoding their tiles.

    Parameters
    ----------
    parts
        From top to bottom; `can_join_ids` must hold for them.
    path, grid
        As for `IdRasterWriter`.
    temp
        A directory for a temporary file.
    """
    empty, across = temp / f"{path.name}.empty", -(-grid.width // TILE_COLS)
    with rasterio.Env(**ENV), rasterio.open(empty, "w", **tiled(grid, 1, "uint8", NODATA), sparse_ok=True):
        pass
    tiles = [
        Part(part.path, slice(*(-(-(row - part.top) // TILE_ROWS) * across for row in (part.first, part.stop))))
        for part in parts
    ]
    assemble(empty, tiles, path)
    empty.unlink()


class DraftRasterWriter(IdRasterWriter):
    """Writes class ids with the colours and names of the classes, but without overviews, in a tenth of the time.

    The parameters are those of `ClassRasterWriter`.
    """

    def __init__(self, path: Path, grid: Grid, classes: Classes, *, temp: Path) -> None:
        super().__init__(path, grid, temp=temp)
        _describe(self._file, classes)


class ClassRasterWriter(IdRasterWriter):
    """Writes class ids with overviews and the colours and names of the classes.

    All classes are given in id order; their names become the tags `class_0`, `class_1`, … of the band.
    """

    def __init__(self, path: Path, grid: Grid, classes: Classes, *, temp: Path) -> None:
        super().__init__(path, grid, temp=temp)
        self._classes = classes

    def _publish(self) -> None:
        colour_ids(self._temp, self.path, self._classes, temp=self._temp.parent)


def colour_ids(ids: Path, path: Path, classes: Classes, *, temp: Path) -> None:
    """Write a raster of class ids as a `ClassRasterWriter` does, with overviews of `rvbuild.geo.write.pyramid`.

    Parameters
    ----------
    ids
        The ids: one band, uint8.
    path
        The file to write.
    classes
        All classes in id order.
    temp
        A directory for temporary files.
    """
    with open_dataset(ids) as dataset:
        grid = grid_of(ids, dataset)
    with tempfile.TemporaryDirectory(dir=temp) as folder:
        levels = write_levels(ids, (grid.height, grid.width), (0, grid.height), Path(folder))
        join_levels([{level.name: level for level in levels}], path, grid, classes, temp=temp)


def join_levels(strips: Sequence[Mapping[str, Path]], path: Path, grid: Grid, classes: Classes, *, temp: Path) -> None:
    """Write the file of `colour_ids` from its levels.

    Parameters
    ----------
    strips
        For each strip, from top to bottom: the files of `rvbuild.geo.write.pyramid.write_levels` by name.
    path, classes, temp
        As for `colour_ids`.
    grid
        Of the scene.
    """
    with tempfile.TemporaryDirectory(dir=temp) as folder:
        levels = write_upper_levels(strips, (grid.height, grid.width), Path(folder))
        described, empty = Path(folder) / "described.vrt", Path(folder) / "empty.tif"
        with rasterio.Env(**ENV, VRT_VIRTUAL_OVERVIEWS="YES"):
            # GDAL writes the directories of a file without tiles, with overviews of these sizes.
            profile = {"driver": "VRT", "count": 1, "dtype": "uint8", "nodata": NODATA, **placed(grid)}
            with rasterio.open(described, "w", **profile) as file:
                _describe(file, classes)
                file.build_overviews(factors(grid.height, grid.width), Resampling.nearest)
            options = {**cog_options("nearest"), "sparse_ok": "yes", "overviews": "force_use_existing"}
            rasterio.shutil.copy(described, empty, driver="COG", **options)
        assemble_cog(empty, [[Part(file) for file in parts] for parts in levels], path)


def _describe(file: Any, classes: Classes) -> None:
    """Give the one band of a raster the colours and names of classes."""
    colors = palette(classes)
    file.write_colormap(1, {index: (*map(int, colors[index]), 255) for index in range(256)})
    file.update_tags(1, **{f"class_{index}": name for index, name in enumerate(names(classes))})


class ScoreRasterWriter(CogWriter):
    """Writes scores: one band per class that the model can predict, described by its name.

    `float32` holds the probabilities, NaN where nothing was predicted. `uint8` holds round(255 p) and tells where
    nothing was predicted by the file's mask, since every value from 0 to 255 is a score; a scale of 1/255 is set.

    Parameters
    ----------
    path, grid, temp
        As for `ClassRasterWriter`.
    classes
        The classes that the model predicts, in output order.
    kind
        `float32` or `uint8`.
    """

    def __init__(
        self, path: Path, grid: Grid, classes: NamedClasses, kind: Literal["float32", "uint8"], *, temp: Path
    ) -> None:
        self.kind = kind
        quantized = kind == "uint8"
        super().__init__(
            path,
            grid,
            temp=temp,
            count=len(classes),
            dtype=kind,
            nodata=None if quantized else float("nan"),
            masked=quantized,
            resampling="average",
            predictor=not quantized,
        )
        for band, name in enumerate(names(classes), start=1):
            self._file.set_band_description(band, name)
        if quantized:
            self._file.scales = [1 / 255] * len(classes)

    def write(self, row0: int, scores: NDArray[np.floating[Any]], predicted: NDArray[np.bool_] | None = None) -> None:
        """Write the next rows.

        Parameters
        ----------
        row0
            Their first row.
        scores
            (K, h, W) probabilities from 0 to 1.
        predicted
            (h, W) bool, where there is a prediction; None: where no score is NaN.
        """
        if predicted is None:
            predicted = ~np.isnan(scores).any(axis=0)
        self.write_encoded(row0, self.encode(scores, predicted), predicted)

    def encode(self, scores: NDArray[np.floating[Any]], predicted: NDArray[np.bool_]) -> NDArray[Any]:
        """Return scores (K, h, w) in the encoding of the file, for any rows."""
        if self.kind == "uint8":
            return np.rint(np.where(predicted, scores, 0.0) * 255.0).clip(0, 255).astype(np.uint8)
        return np.where(predicted, scores, np.nan).astype(np.float32)

    def write_encoded(self, row0: int, values: NDArray[Any], predicted: NDArray[np.bool_], col0: int = 0) -> None:
        """Write the next block, or all of the next rows, from `encode`; blocks of the same rows from left to right."""
        self._append(row0, values, predicted if self.kind == "uint8" else None, col0)


class PlainScoreWriter(ScoreRasterWriter):
    """Writes scores without overviews: the temporary file is the final one."""

    def _publish(self) -> None:
        self._temp.replace(self.path)


class RgbRasterWriter(CogWriter):
    """Writes class ids as the colours of the classes: three uint8 bands, masked where nothing was predicted."""

    def __init__(self, path: Path, grid: Grid, classes: Classes, *, temp: Path) -> None:
        super().__init__(
            path,
            grid,
            temp=temp,
            count=3,
            dtype="uint8",
            nodata=None,
            masked=True,
            resampling="nearest",
            predictor=False,
        )
        self._palette = palette(classes)
        self._file.update_tags(**_class_colors(classes))

    def write(self, row0: int, labels: NDArray[np.uint8]) -> None:
        """Write the next rows: (h, W) uint8 class ids, 255 where nothing was predicted; `row0` is their first row."""
        self._append(row0, np.moveaxis(self._palette[labels], -1, 0), labels != NODATA)


def _class_colors(classes: Classes) -> Mapping[str, str]:
    return {f"class_{index}": f"{item['name']} {item['color']}" for index, item in enumerate(classes)}
