"""Polygons of classes, from a raster of class ids to GeoJSON or GeoPackage."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features
import shapely
import shapely.geometry
from numpy.typing import NDArray
from rasterio.crs import CRS

from rvbuild.errors import DataError
from rvbuild.geo.classes import Classes, id_of
from rvbuild.geo.grid import Grid, reproject
from rvbuild.geo.qgis import write_vector_style
from rvbuild.geo.rasterfile import grid_of, open_dataset
from rvbuild.geo.vectors import write_geopackage

Labels = NDArray[np.uint8]
Geometries = NDArray[np.object_]

_SUFFIX = {"geojson": ".geojson", "gpkg": ".gpkg"}
_RASTERS = ("labels", "scores", "rgb")
_LON_LAT = CRS.from_epsg(4326)


def vectorize(
    labels_tif: Path, classes: Classes, nodata: int, specs: Sequence[Mapping[str, Any]], out_dir: Path
) -> list[Path]:
    """Write the polygons of classes, one file for each entry of `predict.vectors`, and return the files.

    Borders run along the edges of pixels, holes are kept, and regions that touch only at a corner are two polygons.
    Each polygon has the properties `class_id` and `class_name`.

    Parameters
    ----------
    labels_tif
        One band of uint8 class ids.
    classes
        All classes in id order.
    nodata
        The value of pixels that belong to no polygon of any class.
    specs
        Each with `class` and `format`: `geojson` (RFC 7946: in EPSG:4326; in map or pixel coordinates if the raster has
        no CRS) or `gpkg` (in the CRS of the raster); and with, applied in this order:

        `denoise_px`: patches of fewer than denoise_px x denoise_px pixels, of any class, go to their largest neighbour.
        `simplify_px`: tolerance; borders that classes share are simplified alike, so that no gaps open between them.
        `min_area_units`: smaller polygons are left out, in square units of the CRS (square pixels without one).
    out_dir
        Where the files `<class>.geojson` and `<class>.gpkg` go, and their styles `<class>.qml`. A class that is called
        as a raster beside them gets a `_` at the end, because the rasters have styles too.
    """
    with open_dataset(labels_tif) as dataset:
        grid = grid_of(labels_tif, dataset)
        labels: Labels = dataset.read(1)
    written: list[Path] = []
    sieved: dict[int, Labels] = {0: labels}
    coverages: dict[tuple[int, float], tuple[Geometries, NDArray[np.int64]]] = {}
    for spec in specs:
        name, kind = str(spec["class"]), str(spec.get("format", "geojson"))
        class_id = id_of(classes, name, "predict.vectors")
        path = out_dir / f"{_file_stem(name)}{_SUFFIX[kind]}"
        if path in written:
            raise DataError(f"predict.vectors: two entries would write {path.name}; give each class and format once")
        denoise, simplify = int(spec.get("denoise_px", 0)), float(spec.get("simplify_px", 0.0))
        if denoise not in sieved:
            sieved[denoise] = _sieve(labels, nodata, denoise)
        if simplify > 0:
            key = (denoise, simplify)
            if key not in coverages:
                coverages[key] = _simplified(sieved[denoise], nodata, simplify)
            geometries = coverages[key][0][coverages[key][1] == class_id]
        else:
            geometries = _regions(sieved[denoise], sieved[denoise] == class_id)[0]
        pixel_area = abs(grid.transform.determinant)
        geometries = geometries[shapely.area(geometries) * pixel_area >= float(spec.get("min_area_units", 0.0))]
        properties = [{"class_id": class_id, "class_name": name}] * len(geometries)
        write_features(path, geometries, grid, properties, {"class_id": int, "class_name": str})
        write_vector_style(path, [classes[class_id]])
        written.append(path)
    return written


def _sieve(labels: Labels, nodata: int, side: int) -> Labels:
    """Return labels whose patches of fewer than side x side pixels have gone to their largest neighbour."""
    if side <= 1:
        return labels
    sieved: Labels = rasterio.features.sieve(labels, size=side * side, mask=labels != nodata, connectivity=4)
    # GDAL leaves masked pixels undefined.
    return np.where(labels == nodata, np.uint8(nodata), sieved)


def _regions(labels: Labels, mask: NDArray[np.bool_]) -> tuple[Geometries, NDArray[np.int64]]:
    """Return the polygons (N,) of equal pixels in pixel coordinates, and their class ids (N,)."""
    found = list(rasterio.features.shapes(labels, mask=mask, connectivity=4))
    geometries = np.empty(len(found), dtype=object)
    geometries[:] = [shapely.geometry.shape(shape) for shape, _ in found]
    return geometries, np.array([int(value) for _, value in found], dtype=np.int64)


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


def _to_map(geometries: Geometries, grid: Grid, crs: CRS | None) -> Geometries:
    """Return polygons in map coordinates, in `crs` if the grid has one, outer rings counter-clockwise."""
    points = shapely.get_coordinates(geometries)
    x, y = grid.to_map(points[:, 0], points[:, 1])
    if crs is not None and grid.crs is not None:
        x, y = reproject("predict.vectors", grid.crs, crs, x, y)
    moved = shapely.set_coordinates(geometries.copy(), np.stack([x, y], axis=1))
    oriented: Geometries = shapely.orient_polygons(moved)
    return oriented


def write_features(
    path: Path,
    geometries: Geometries,
    grid: Grid,
    properties: Sequence[Mapping[str, Any]],
    fields: Mapping[str, type],
) -> None:
    """Write polygons as GeoJSON or as a GeoPackage, by the suffix of the file.

    Parameters
    ----------
    path
        Ends in `.geojson` (RFC 7946: in EPSG:4326; in map or pixel coordinates if the grid has no CRS) or `.gpkg` (in
        the CRS of the grid).
    geometries
        (N,) polygons in pixel coordinates.
    grid
        The pixels.
    properties
        Of each polygon.
    fields
        Name and type (int, float or str) of the properties.
    """
    if path.suffix == ".geojson":
        _write_geojson(path, geometries, grid, properties)
    else:
        moved = _to_map(geometries, grid, grid.crs)
        write_geopackage(path, moved, properties, fields, layer=path.stem, crs=grid.crs)


def _write_geojson(path: Path, geometries: Geometries, grid: Grid, properties: Sequence[Mapping[str, Any]]) -> None:
    """Write a feature a line; fiona would round coordinates and add members that RFC 7946 has dropped."""
    lines = [
        json.dumps(
            {"type": "Feature", "properties": values, "geometry": shapely.geometry.mapping(geometry)},
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for geometry, values in zip(_to_map(geometries, grid, _LON_LAT), properties, strict=True)
    ]
    text = '{"type":"FeatureCollection","features":[\n' + ",\n".join(lines) + "\n]}\n"
    path.write_text(text, encoding="utf-8")


def _file_stem(name: str) -> str:
    """Return a class name as the stem of a file: what could mean a path or a wildcard becomes `_`."""
    stem = re.sub(r"[^\w.\- ]", "_", name).strip(". ") or "_"
    return f"{stem}_" if stem.casefold() in _RASTERS else stem
