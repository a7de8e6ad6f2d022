"""Vectors of classes, from a raster of class ids to polygons, buildings or points in a file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio.features
import shapely
import shapely.geometry
from numpy.typing import NDArray

from rvbuild.errors import DataError
from rvbuild.files.formats import DRIVERS, SUFFIXES
from rvbuild.geo.classes import Classes, id_of
from rvbuild.geo.grid import Grid, is_local
from rvbuild.geo.raster.file import grid_of, open_dataset
from rvbuild.geo.vector.lonlat import to_lon_lat
from rvbuild.geo.windows import Window
from rvbuild.geo.write.buildings import outlines
from rvbuild.geo.write.measures import mean_scores, sizes
from rvbuild.geo.write.qgis import write_vector_style
from rvbuild.settings.predict import VectorSettings

Labels = NDArray[np.uint8]
Geometries = NDArray[np.object_]

_RASTERS = ("labels", "scores", "rgb")
_FIELDS = {"class_id": int, "class_name": str}


def vectorize(
    labels_tif: Path,
    classes: Classes,
    nodata: int,
    specs: Sequence[VectorSettings],
    out_dir: Path,
    scores_tif: Path | None = None,
) -> list[Path]:
    """Write the vectors of classes, one file for each entry of `predict.vectors`, and return the files.

    Borders follow the edges of pixels, holes are preserved, and regions that only touch at a corner are two polygons.
    Each feature has the properties `class_id` and `class_name`, those of `rvbuild.geo.write.measures.sizes`, and with
    scores `score`, the mean probability of the class in its pixels, null if it holds the centre of none. A point has
    those of its polygon.

    Parameters
    ----------
    labels_tif
        One band of uint8 class ids.
    classes
        All classes in id order.
    nodata
        The value of pixels that belong to no feature of any class.
    specs
        Each with `class`, and `file` or `format` (see `SUFFIXES`); with, applied in this order:

        `denoise_px`: patches of fewer than denoise_px x denoise_px pixels, of any class, go to their largest neighbour.
        `simplify_px`: tolerance; borders that classes share are simplified alike, so that no gaps open between them.
        `kind`: `polygons`; `buildings`, by `split` and `side_px` (see `rvbuild.geo.write.buildings.outlines`); or
        `points`, one in each polygon: its centre of mass, or if that lies outside, a point inside.
        `min_area_units`: smaller polygons are left out, in square units of the CRS (square pixels without one).
    out_dir
        Where the files go, and their styles, `.qml`. Without `file` they are called as the class. A class that is
        called as a raster beside them gets a `_` at the end, because the rasters have styles too.
    scores_tif
        The raster of scores, a band for each class that the model predicts, with its name as description; or None.
    """
    with open_dataset(labels_tif) as dataset:
        grid = grid_of(labels_tif, dataset)
        labels: Labels = dataset.read(1)
    polygons_of = _Polygons(labels, nodata)
    pixel_area = abs(grid.transform.determinant)
    written: list[Path] = []
    for spec in specs:
        name, kind = spec["class"], spec.get("kind", "polygons")
        class_id = id_of(classes, name, "predict.vectors")
        path = out_dir / (spec.get("file") or _file_stem(name) + SUFFIXES[spec.get("format", "geojson")])
        if path in written:
            raise DataError(f"predict.vectors: two entries would write {path.name}; give one of them another `file`")
        shapes = polygons_of.of(class_id, spec.get("denoise_px", 0), spec.get("simplify_px", 0.0))
        if kind == "buildings":
            shapes = outlines(shapes, spec["split"], spec["side_px"])
        shapes = shapes[shapely.area(shapes) * pixel_area >= spec.get("min_area_units", 0.0)]
        measured = {key: values.tolist() for key, values in sizes(shapes, grid).items()}
        if scores_tif is not None:
            measured["score"] = _scores(scores_tif, name, shapes)
        properties = [
            {"class_id": class_id, "class_name": name, **dict(zip(measured, values, strict=True))}
            for values in zip(*measured.values(), strict=True)
        ]
        if kind == "points":
            shapes = _centres(shapes)
        geometry: Literal["Point", "Polygon"] = "Point" if kind == "points" else "Polygon"
        write_features(path, shapes, grid, properties, {**_FIELDS, **dict.fromkeys(measured, float)}, geometry)
        write_vector_style(path, [classes[class_id]], "point" if kind == "points" else "polygon")
        written.append(path)
    return written


def _scores(scores_tif: Path, class_name: str, polygons: Geometries) -> list[float | None]:
    """Return the mean score of the pixels of each polygon, to 4 decimals; None for one without a pixel."""
    with open_dataset(scores_tif) as dataset:
        band = dataset.descriptions.index(class_name) + 1
        scale = dataset.scales[band - 1]

        def read(window: Window) -> NDArray[np.float64]:
            part = ((window.row, window.row_stop), (window.col, window.col_stop))
            values: NDArray[np.float64] = dataset.read(band, window=part, masked=True).astype(np.float64).filled(np.nan)
            values *= scale
            return values

        means = mean_scores(polygons, dataset.height, dataset.width, read)
    return [None if np.isnan(mean) else round(float(mean), 4) for mean in means]


class _Polygons:
    """The polygons of a raster of class ids, in pixel coordinates; those used for several classes are computed once."""

    def __init__(self, labels: Labels, nodata: int) -> None:
        self._nodata = nodata
        self._sieved: dict[int, Labels] = {0: labels}
        self._simplified: dict[tuple[int, float], tuple[Geometries, NDArray[np.int64]]] = {}

    def of(self, class_id: int, denoise_px: int, simplify_px: float) -> Geometries:
        """Return the polygons (N,) of a class."""
        if denoise_px not in self._sieved:
            self._sieved[denoise_px] = _sieve(self._sieved[0], self._nodata, denoise_px)
        labels = self._sieved[denoise_px]
        if simplify_px == 0:
            return _regions(labels, labels == class_id)[0]
        key = (denoise_px, simplify_px)
        if key not in self._simplified:
            self._simplified[key] = _simplified(labels, self._nodata, simplify_px)
        geometries, ids = self._simplified[key]
        of_class: Geometries = geometries[ids == class_id]
        return of_class


def _centres(geometries: Geometries) -> Geometries:
    """Return a point (N,) in each polygon: its centroid if that lies inside."""
    centres = shapely.centroid(geometries)
    inside: Geometries = np.where(shapely.contains(geometries, centres), centres, shapely.point_on_surface(geometries))
    return inside


def _sieve(labels: Labels, nodata: int, side: int) -> Labels:
    """Return labels in which patches of fewer than side x side pixels are merged into their largest neighbour."""
    if side <= 1:
        return labels
    # A patch cannot have more pixels than the image, and GDAL counts with 32 bits.
    size = min(side * side, labels.size, (1 << 31) - 1)
    sieved: Labels = rasterio.features.sieve(labels, size=size, mask=labels != nodata, connectivity=4)
    # GDAL leaves masked pixels undefined.
    return np.where(labels == nodata, np.uint8(nodata), sieved)


def _regions(labels: Labels, mask: NDArray[np.bool_]) -> tuple[Geometries, NDArray[np.int64]]:
    """Return the polygons (N,) of equal pixels in pixel coordinates, and their class ids (N,)."""
    regions = list(rasterio.features.shapes(labels, mask=mask, connectivity=4))
    geometries = np.empty(len(regions), dtype=object)
    geometries[:] = [shapely.geometry.shape(shape) for shape, _ in regions]
    return geometries, np.array([int(value) for _, value in regions], dtype=np.int64)


def _simplified(labels: Labels, nodata: int, tolerance_px: float) -> tuple[Geometries, NDArray[np.int64]]:
    geometries, ids = _regions(labels, labels != nodata)
    if not len(geometries):
        return geometries, ids
    # A vertex at every pixel corner: where two regions meet along the straight side of a third, the third has none yet,
    # and polygons share only those edges whose vertices are the same.
    stepped = shapely.transform(shapely.segmentize(geometries, 1.0), np.rint)
    simple: Geometries = shapely.coverage_simplify(stepped, tolerance_px)
    kept = ~shapely.is_empty(simple)
    return simple[kept], ids[kept]


def _to_map(geometries: Geometries, grid: Grid) -> Geometries:
    """Return geometries in map coordinates of the grid."""
    points = shapely.get_coordinates(geometries)
    moved: Geometries = shapely.set_coordinates(
        geometries.copy(), np.stack(grid.to_map(points[:, 0], points[:, 1]), axis=1)
    )
    return moved


def write_features(
    path: Path,
    geometries: Geometries,
    grid: Grid,
    properties: Sequence[Mapping[str, object]],
    fields: Mapping[str, type],
    geometry: Literal["Point", "Polygon"] = "Polygon",
) -> None:
    """Write features in the format of the file's suffix.

    GeoJSON is RFC 7946: in EPSG:4326, or in map or pixel coordinates where the scene has no CRS, or a local one. The
    other formats are in the CRS of the scene.

    Parameters
    ----------
    path
        Ends in one of `rvbuild.files.formats.SUFFIXES`.
    geometries
        (N,) polygons or points in pixel coordinates.
    grid
        The pixels.
    properties
        Of each feature.
    fields
        Name and type (int, float or str) of the properties.
    geometry
        The type of the geometries.
    """
    if path.suffix in DRIVERS:
        from rvbuild.geo.write.layer import write_layer  # imported late: GeoJSON needs no fiona

        moved = shapely.orient_polygons(_to_map(geometries, grid))
        write_layer(path, moved, properties, fields, geometry=geometry, crs=grid.crs)
    else:
        _write_geojson(path, geometries, grid, properties)


def _write_geojson(path: Path, geometries: Geometries, grid: Grid, properties: Sequence[Mapping[str, object]]) -> None:
    """Write a feature a line; fiona would round coordinates and add members that RFC 7946 has dropped."""
    stays = grid.crs is None or is_local(grid.crs)
    placed = _to_map(geometries, grid) if stays else to_lon_lat("predict.vectors", geometries, grid)
    lines = [
        json.dumps(
            {"type": "Feature", "properties": values, "geometry": shapely.geometry.mapping(geometry)},
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for geometry, values in zip(shapely.orient_polygons(placed), properties, strict=True)
    ]
    text = '{"type":"FeatureCollection","features":[\n' + ",\n".join(lines) + "\n]}\n"
    path.write_text(text, encoding="utf-8")


def _file_stem(name: str) -> str:
    """Return the class name as it appears in file names: characters with a meaning in paths or patterns become `_`."""
    stem = re.sub(r"[^\w.\- ]", "_", name).strip(". ") or "_"
    return f"{stem}_" if stem.casefold() in _RASTERS else stem
