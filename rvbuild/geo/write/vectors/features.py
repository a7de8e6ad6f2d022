"""Files of features, as GeoJSON or in a format that OGR has a driver for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import shapely
import shapely.geometry
from numpy.typing import NDArray

from rvbuild.files.formats import DRIVERS
from rvbuild.geo.grid import Grid, is_local
from rvbuild.geo.vector.lonlat import to_lon_lat

Geometries = NDArray[np.object_]
Properties = Mapping[str, object]
GeometryType = Literal["Point", "Polygon"]


def write_features(
    path: Path,
    geometries: Geometries,
    grid: Grid,
    properties: Sequence[Properties],
    fields: Mapping[str, type],
    geometry: GeometryType = "Polygon",
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
    write_batches(path, [(geometries, properties)], grid, fields, geometry)


def write_batches(
    path: Path,
    batches: Iterable[tuple[Geometries, Sequence[Properties]]],
    grid: Grid,
    fields: Mapping[str, type],
    geometry: GeometryType = "Polygon",
) -> None:
    """Write features as `write_features` does, from batches of geometries and their properties."""
    if path.suffix in DRIVERS:
        features = (feature for shapes, values in batches for feature in placed(path, shapes, values, grid))
        _write_layer(path, features, grid, fields, geometry)
    else:
        _write_geojson(path, (line for shapes, values in batches for line in lines(path, shapes, values, grid)))


def write_lines(
    path: Path, texts: Iterable[str], grid: Grid, fields: Mapping[str, type], geometry: GeometryType
) -> None:
    """Write features as `write_features` does, from what `lines` returns for the same file."""
    if path.suffix in DRIVERS:
        features = ((shapely.geometry.shape(f["geometry"]), f["properties"]) for f in map(json.loads, texts))
        _write_layer(path, features, grid, fields, geometry)
    else:
        _write_geojson(path, texts)


def placed(
    path: Path, shapes: Geometries, properties: Sequence[Properties], grid: Grid
) -> Iterator[tuple[shapely.Geometry, Properties]]:
    """Yield features with their geometries in the coordinates of a file; see `write_features`."""
    stays = path.suffix in DRIVERS or grid.crs is None or is_local(grid.crs)
    there = _to_map(shapes, grid) if stays else to_lon_lat("predict.vectors", shapes, grid)
    yield from zip(shapely.orient_polygons(there), properties, strict=True)


def lines(path: Path, shapes: Geometries, properties: Sequence[Properties], grid: Grid) -> Iterator[str]:
    """Yield features as GeoJSON, with all digits of coordinates, each in a line."""
    for shape, values in placed(path, shapes, properties, grid):
        feature = {"type": "Feature", "properties": values, "geometry": shapely.geometry.mapping(shape)}
        yield json.dumps(feature, ensure_ascii=False, separators=(",", ":"))


def _write_layer(
    path: Path,
    features: Iterable[tuple[shapely.Geometry, Properties]],
    grid: Grid,
    fields: Mapping[str, type],
    geometry: GeometryType,
) -> None:
    from rvbuild.geo.write.vectors.layer import write_layer  # imported late: GeoJSON needs no fiona

    write_layer(path, features, fields, geometry=geometry, crs=grid.crs)


def _write_geojson(path: Path, texts: Iterable[str]) -> None:
    """Write a feature a line; fiona would round coordinates and add members that RFC 7946 has dropped."""
    separator = ""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"type":"FeatureCollection","features":[\n')
        for text in texts:
            file.write(separator + text)
            separator = ",\n"
        file.write("\n]}\n")


def _to_map(geometries: Geometries, grid: Grid) -> Geometries:
    """Return geometries in map coordinates of the grid."""
    points = shapely.get_coordinates(geometries)
    moved: Geometries = shapely.set_coordinates(
        geometries.copy(), np.stack(grid.to_map(points[:, 0], points[:, 1]), axis=1)
    )
    return moved
