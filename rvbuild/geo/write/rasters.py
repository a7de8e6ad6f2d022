"""Rasters that rvbuild writes: classes, scores and colours, with the same bytes each time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray

from rvbuild.geo.classes import NODATA, Classes, NamedClasses, names, palette
from rvbuild.geo.grid import Grid
from rvbuild.geo.write.cog import COPY_CACHE_BYTES, ENV, CogWriter, cog_options


class _ClassIdWriter(CogWriter):
    """Writes class ids: one uint8 band, nodata 255, tiled and compressed.

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


class IdRasterWriter(_ClassIdWriter):
    """Writes class ids without colours and overviews: the temporary file is the final one."""

    def _publish(self) -> None:
        self._temp.replace(self.path)


class DraftRasterWriter(IdRasterWriter):
    """Writes class ids with the colours and names of the classes, but without overviews, in a tenth of the time.

    The parameters are those of `ClassRasterWriter`.
    """

    def __init__(self, path: Path, grid: Grid, classes: Classes, *, temp: Path) -> None:
        super().__init__(path, grid, temp=temp)
        _describe(self._file, classes)


class ClassRasterWriter(_ClassIdWriter):
    """Writes class ids with overviews and the colours and names of the classes.

    All classes are given in id order; their names become the tags `class_0`, `class_1`, … of the band.
    """

    def __init__(self, path: Path, grid: Grid, classes: Classes, *, temp: Path) -> None:
        super().__init__(path, grid, temp=temp)
        _describe(self._file, classes)


def colour_ids(ids: Path, path: Path, classes: Classes, *, temp: Path) -> None:
    """Convert `ids`, a file of an `IdRasterWriter`, to `path`, with the result of a `ClassRasterWriter`.

    `temp` is a directory for a temporary file.
    """
    described = temp / f"{path.name}.vrt"
    try:
        with rasterio.Env(**ENV, GDAL_CACHEMAX=COPY_CACHE_BYTES):
            rasterio.shutil.copy(ids, described, driver="VRT")
            with rasterio.open(described, "r+") as file:
                _describe(file, classes)
            rasterio.shutil.copy(described, path, driver="COG", **cog_options("mode"))
    finally:
        described.unlink(missing_ok=True)


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
