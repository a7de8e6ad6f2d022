"""Rasters that rvbuild writes: classes, scores and colours, as Cloud Optimized GeoTIFFs with the same bytes each time.

Rows are written as they come, from top to bottom, into a tiled temporary file. Closing copies it to the final file,
with overviews. Peak memory is a band of rows, whatever the size of the scene.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from rvbuild.cores import cores
from rvbuild.geo.classes import NODATA, Classes, NamedClasses, names, palette
from rvbuild.geo.gdal.environment import not_georeferenced_is_fine
from rvbuild.geo.grid import Grid

not_georeferenced_is_fine()

_BLOCK_PX = 512
_BAND_ROWS = 128
"""Rows that are gathered before they are written, and the height of a tile of the temporary file: whole tiles are
written once, never read back and compressed again."""

_COPY_CACHE_BYTES = 16 << 20
"""Size of GDAL's block cache for the final file: each block is read once, so more would not help."""


_ENV = {"GDAL_TIFF_INTERNAL_MASK": "YES", "GDAL_PAM_ENABLED": "NO"}


def _cog_options(resampling: str) -> dict[str, Any]:
    """Return the options of GDAL's COG driver, without a predictor."""
    return {
        "blocksize": _BLOCK_PX,
        "compress": "deflate",
        "overview_resampling": resampling,
        "bigtiff": "if_safer",
        # Pixels are copied, never warped; statistics would be an extra pass and a source of difference.
        "statistics": "no",
        # The same bytes as with one thread.
        "num_threads": str(cores()),
    }


class _CogWriter:
    """Streams rows of a raster into a temporary GeoTIFF and creates a COG from it."""

    def __init__(
        self,
        path: Path,
        grid: Grid,
        *,
        temp: Path,
        count: int,
        dtype: str,
        nodata: float | None,
        masked: bool,
        resampling: str,
        predictor: bool,
    ) -> None:
        self.path, self.grid = path, grid
        self._temp = temp / f"{path.name}.tmp" if temp.is_dir() else temp
        self._options = _cog_options(resampling)
        if predictor:
            self._options["predictor"] = "yes"
        self._masked = masked
        self._count, self._dtype = count, dtype
        profile: dict[str, Any] = {
            "driver": "GTiff",
            "height": grid.height,
            "width": grid.width,
            "count": count,
            "dtype": dtype,
            "tiled": True,
            "blockxsize": _BLOCK_PX,
            "blockysize": _BAND_ROWS,
            "compress": "deflate",
            "zlevel": 1,
            "bigtiff": "if_safer",
        }
        if nodata is not None:
            profile["nodata"] = nodata
        if grid.crs is not None:
            profile["crs"] = grid.crs
        if not grid.transform.is_identity:
            profile["transform"] = grid.transform
        if count > 1 or masked:
            profile["photometric"] = "rgb" if masked and count == 3 and dtype == "uint8" else "minisblack"
        self._env = _ENV
        with rasterio.Env(**self._env):
            self._file = rasterio.open(self._temp, "w", **profile)
        self._next_row = 0
        self._rows: list[NDArray[Any]] = []
        self._masks: list[NDArray[np.bool_]] = []
        self._held = 0

    def _append(self, row0: int, data: NDArray[Any], mask: NDArray[np.bool_] | None) -> None:
        """Add the next rows: (C, h, W) data and, if the raster is masked, (h, W) bool."""
        expected = (self._count, data.shape[-2], self.grid.width)
        if row0 != self._next_row + self._held or data.shape != expected:
            raise ValueError(
                f"{self.path.name}: expected rows from {self._next_row + self._held} of shape {expected}, "
                f"got row {row0} of shape {data.shape}"
            )
        self._rows.append(np.array(data, dtype=self._dtype))
        if mask is not None:
            self._masks.append(np.array(mask, dtype=bool))
        self._held += data.shape[-2]
        if self._held >= _BAND_ROWS:
            self._flush(self._held - self._held % _BAND_ROWS)

    def _flush(self, rows: int) -> None:
        data = np.concatenate(self._rows, axis=1)
        where = RasterioWindow(0, self._next_row, self.grid.width, rows)
        with rasterio.Env(**self._env):
            self._file.write(data[:, :rows], window=where)
            if self._masked:
                mask = np.concatenate(self._masks, axis=0)
                self._file.write_mask(mask[:rows], window=where)
                self._masks = [mask[rows:]]
        self._rows = [data[:, rows:]]
        self._held -= rows
        self._next_row += rows

    def close(self) -> None:
        """Finish the file.

        Raises
        ------
        ValueError
            Not all rows were written.
        """
        if self._file.closed:
            return
        try:
            if self._held:
                self._flush(self._held)
            if self._next_row != self.grid.height:
                raise ValueError(f"{self.path.name}: {self._next_row} of {self.grid.height} rows were written")
            with rasterio.Env(**self._env, GDAL_CACHEMAX=_COPY_CACHE_BYTES):
                self._file.close()
                self._publish()
        finally:
            self.discard()

    def _publish(self) -> None:
        """Make the final file of the complete temporary one."""
        rasterio.shutil.copy(self._temp, self.path, driver="COG", **self._options)

    def discard(self) -> None:
        """Abort: remove the temporary file, without creating the final file."""
        if not self._file.closed:
            with rasterio.Env(**self._env):
                self._file.close()
        self._temp.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()


class _ClassIdWriter(_CogWriter):
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

    def write(self, row0: int, labels: NDArray[np.uint8]) -> None:
        """Write the next rows: (h, W) uint8 class ids, 255 where nothing was predicted; `row0` is their first row."""
        self._append(row0, labels[np.newaxis], None)


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
        with rasterio.Env(**_ENV, GDAL_CACHEMAX=_COPY_CACHE_BYTES):
            rasterio.shutil.copy(ids, described, driver="VRT")
            with rasterio.open(described, "r+") as file:
                _describe(file, classes)
            rasterio.shutil.copy(described, path, driver="COG", **_cog_options("mode"))
    finally:
        described.unlink(missing_ok=True)


def _describe(file: Any, classes: Classes) -> None:
    """Give the one band of a raster the colours and names of classes."""
    colors = palette(classes)
    file.write_colormap(1, {index: (*map(int, colors[index]), 255) for index in range(256)})
    file.update_tags(1, **{f"class_{index}": name for index, name in enumerate(names(classes))})


class ScoreRasterWriter(_CogWriter):
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

    def write_encoded(self, row0: int, values: NDArray[Any], predicted: NDArray[np.bool_]) -> None:
        """Write the next rows, from `encode`."""
        self._append(row0, values, predicted if self.kind == "uint8" else None)


class RgbRasterWriter(_CogWriter):
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
