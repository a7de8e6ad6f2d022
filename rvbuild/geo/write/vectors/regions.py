"""Regions of equal pixels of a raster of class ids, as polygons: read row by row, so that no raster is in memory."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import rasterio.features
import shapely
import shapely.geometry
from numpy.typing import NDArray

from rvbuild.geo.raster.file import grid_of, open_dataset
from rvbuild.geo.windows import bands
from rvbuild.geo.write.rasters import IdRasterWriter
from rvbuild.geo.write.vectors.junctions import Outlines, junctions

Geometries = NDArray[np.object_]
Labels = NDArray[np.uint8]

BATCH = 4096
"""The polygons that are handled at once."""

_ROWS = 128
"""Of a raster, that are copied at once."""

_CACHE_BYTES = 64 << 20
"""Of GDAL's block cache: rows of tiles are read from left to right."""


class _Simplified(NamedTuple):
    """Polygons (N,) in pixel coordinates, and their class ids (N,)."""

    geometries: Geometries
    ids: NDArray[np.int64]


class Regions:
    """The regions of a raster of class ids in pixel coordinates; those used for several classes are computed once.

    Borders follow the edges of pixels, holes are preserved, and regions that only touch at a corner are two. They are
    in the order of their last corners: see `last_corners`.

    Parameters
    ----------
    path
        The raster: one band, uint8.
    nodata
        The value of pixels that belong to no region.
    folder
        For temporary files.
    """

    def __init__(self, path: Path, nodata: int, folder: Path) -> None:
        self._nodata, self._folder = nodata, folder
        self._sieved: dict[int, Path] = {0: path, 1: path}
        self._simplified: dict[tuple[int, float], _Simplified] = {}
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._closing.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def batches(self, class_id: int, denoise_px: int, simplify_px: float) -> Iterator[Geometries]:
        """Yield the polygons of a class, some at a time: (N,) each.

        Parameters
        ----------
        class_id
            The class.
        denoise_px
            Patches of fewer than denoise_px x denoise_px pixels, of any class, go to their largest neighbour.
        simplify_px
            Tolerance: borders that regions share are simplified alike. Unless it is 0, the corners of all regions of
            the raster are in memory at the same time.
        """
        path = self._without_patches(denoise_px)
        if simplify_px == 0:
            yield from (polygons for polygons, _ in self._regions(path, class_id))
            return
        key = (max(1, denoise_px), simplify_px)
        if key not in self._simplified:
            self._simplified[key] = self._simplify(path, simplify_px)
        geometries, ids = self._simplified[key]
        of_class = geometries[ids == class_id]
        yield from (of_class[start : start + BATCH] for start in range(0, len(of_class), BATCH))

    def of_rows(self, class_id: int, rows: tuple[int, int]) -> Iterator[Geometries]:
        """Yield the polygons that a class has in some rows of the raster, as if there were no others: (N,) at a time.

        Parameters
        ----------
        class_id
            The class.
        rows
            The first row, and the one after the last.
        """
        yield from (polygons for polygons, _ in self._regions(self._sieved[0], class_id, rows))

    def _regions(
        self, path: Path, class_id: int | None = None, rows: tuple[int, int] | None = None
    ) -> Iterator[tuple[Geometries, NDArray[np.int64]]]:
        """Yield polygons (N,) and their ids (N,), of a class or of all."""
        waiting, ids_of_waiting = np.empty(0, dtype=object), np.empty(0, dtype=np.int64)
        with _ids(path, rows=rows) as ids, self._chosen(path, class_id, rows) as mask:
            found = rasterio.features.shapes(rasterio.band(ids, 1), mask=rasterio.band(mask, 1), connectivity=4)
            while batch := [(shapely.geometry.shape(shape), int(id_)) for shape, id_ in itertools.islice(found, BATCH)]:
                polygons = np.empty(len(batch), dtype=object)
                polygons[:] = [polygon for polygon, _ in batch]
                polygons = np.concatenate([waiting, polygons])
                ids_of_polygons = np.concatenate([ids_of_waiting, np.array([id_ for _, id_ in batch], dtype=np.int64)])
                # GDAL yields a region when it has read its last row, and those of a row in an order of its own.
                corners = last_corners(polygons)
                order = np.lexsort((corners[:, 1], corners[:, 0]))
                complete = np.searchsorted(corners[order, 0], corners[order[-1], 0])
                polygons, ids_of_polygons = polygons[order], ids_of_polygons[order]
                waiting, ids_of_waiting = polygons[complete:], ids_of_polygons[complete:]
                if complete:
                    yield polygons[:complete], ids_of_polygons[:complete]
        if len(waiting):
            yield waiting, ids_of_waiting

    def _chosen(self, path: Path, class_id: int | None = None, rows: tuple[int, int] | None = None) -> Any:
        """Return a raster that is 1 where the ids are those of a class, or of any, and 0 elsewhere."""
        chosen = set(range(256)) - {self._nodata} if class_id is None else {class_id}
        return _ids(path, f"<LUT>{','.join(f'{value}:{int(value in chosen)}' for value in range(256))}</LUT>", rows)

    def _without_patches(self, side: int) -> Path:
        """Return a raster in which patches of fewer than side x side pixels are merged into their largest neighbour."""
        if side not in self._sieved:
            self._sieved[side] = self._folder / f"sieved{side}.tif"
            self._closing.callback(self._sieved[side].unlink, missing_ok=True)
            _sieve(self._sieved[0], self._sieved[side], self._chosen(self._sieved[0]), self._nodata, side)
        return self._sieved[side]

    def _simplify(self, path: Path, tolerance_px: float) -> _Simplified:
        """Return the simplified regions of all classes."""
        with open_dataset(path) as dataset:
            # Where two regions meet along the straight side of a third, the third has no vertex yet, and polygons
            # share only those edges whose vertices are the same.
            outlines, ids = Outlines(junctions(dataset, self._nodata), dataset.width), [np.empty(0, dtype=np.int64)]
        for geometries, of_class in self._regions(path):
            outlines.add(geometries)
            ids.append(of_class)
        simple: Geometries = shapely.coverage_simplify(outlines.polygons(), tolerance_px)
        kept = ~shapely.is_empty(simple)
        return _Simplified(simple[kept], np.concatenate(ids)[kept])


def last_corners(polygons: Geometries) -> NDArray[np.int64]:
    """Return the corner of each polygon that is furthest to the right of those in its lowest row.

    It belongs to one region of a raster alone, so that it says where a region is in their order.

    Parameters
    ----------
    polygons
        (N,) along the edges of pixels, in pixel coordinates.

    Returns
    -------
    ndarray
        (N, 2) row and column.
    """
    points, owners = shapely.get_coordinates(shapely.get_exterior_ring(polygons), return_index=True)
    corners = np.zeros((len(polygons), 2), dtype=np.int64)
    np.maximum.at(corners[:, 0], owners, points[:, 1].astype(np.int64))
    lowest = points[:, 1] == corners[owners, 0]
    np.maximum.at(corners[:, 1], owners[lowest], points[lowest, 0].astype(np.int64))
    return corners


def _ids(path: Path, values: str = "", rows: tuple[int, int] | None = None) -> Any:
    """Open rows of a raster in its pixel coordinates, in which polygons are; `values` is an element of the source."""
    with open_dataset(path) as dataset:
        height, width = dataset.shape
    first, stop = rows or (0, height)
    size = f'xSize="{width}" ySize="{stop - first}"'
    kind = "ComplexSource" if values else "SimpleSource"
    return rasterio.open(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{stop - first}">'
        f'<GeoTransform>0, 1, 0, {first}, 0, 1</GeoTransform><VRTRasterBand dataType="Byte" band="1">'
        f"<{kind}><SourceFilename>{escape(str(path.absolute()))}</SourceFilename><SourceBand>1</SourceBand>"
        f'<SrcRect xOff="0" yOff="{first}" {size}/><DstRect xOff="0" yOff="0" {size}/>{values}</{kind}>'
        "</VRTRasterBand></VRTDataset>"
    )


def _sieve(source: Path, target: Path, known: Any, nodata: int, side: int) -> None:
    """Write ids without small patches; `known` is a raster of the pixels that are not nodata."""
    with contextlib.ExitStack() as files:
        mask = files.enter_context(known)
        ids = files.enter_context(open_dataset(source))
        grid = grid_of(source, ids)
        # GDAL wants an array for the result.
        work = target.with_suffix(".array")
        files.callback(work.unlink, missing_ok=True)
        sieved = np.memmap(work, np.uint8, "w+", shape=ids.shape)
        # A patch cannot have more pixels than the image, and GDAL counts with 32 bits.
        size = min(side * side, sieved.size, (1 << 31) - 1)
        rasterio.features.sieve(
            rasterio.band(ids, 1), size=size, out=sieved, mask=rasterio.band(mask, 1), connectivity=4
        )
        with IdRasterWriter(target, grid, temp=target.with_suffix(".tmp")) as writer:
            for band in bands(grid.height, grid.width, _ROWS):
                before: Labels = ids.read(1, window=((band.row, band.row_stop), (0, grid.width)))
                # GDAL leaves masked pixels undefined.
                after = sieved[band.row : band.row_stop]
                writer.write(band.row, np.where(before == nodata, np.uint8(nodata), after))
