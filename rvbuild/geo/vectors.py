"""Vector files: the only module that knows fiona.

Features come as shapely geometries with the attributes that were asked for, in file order. Their canonical digest says
whether two files mean the same, whatever their formatting.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiona
import fiona.errors
import numpy as np
import shapely
import shapely.geometry
import xxhash
from numpy.typing import NDArray
from rasterio.crs import CRS

from rvbuild.errors import DataError, nearest
from rvbuild.geo.environment import DETERMINISTIC_ENVIRONMENT
from rvbuild.geo.grid import Grid, crs_name, reproject

Geometries = NDArray[np.object_]

SNAP = float(1 << 20)
"""Vertices come to multiples of 1 / SNAP pixel: far below what any label means, it takes off the noise of reprojection,
so that a vertex on a pixel's corner lies exactly there and every window sees the same polygon."""

INFERRED_ATTRIBUTES = ("class_id", "class_name", "label")
"""Where a feature's class is looked for, in this order, if a project names neither a class nor an attribute."""


@dataclass(frozen=True)
class Features:
    """The features of one vector file that have a geometry, in file order."""

    path: Path
    geometries: Geometries
    """(N,) shapely geometries, two-dimensional, in `crs`."""
    attributes: tuple[Mapping[str, Any], ...]
    """Per feature, the attributes that were asked for; None where a feature or the file lacks one."""
    numbers: tuple[int, ...]
    """Per feature, its place in the file, from 0; features without geometry count too."""
    crs: CRS | None
    implied_crs: bool
    """The CRS is the one that every GeoJSON has unless it says otherwise, so it may mean nothing."""


def read_features(path: Path, *, layer: str | None = None, attributes: Sequence[str] = ()) -> Features:
    """Read the features of a vector file in any format that fiona opens.

    Raises
    ------
    DataError
        The file cannot be read, `layer` does not exist, or there are several layers and none is named.
    """
    geometries: list[Any] = []
    values: list[Mapping[str, Any]] = []
    numbers: list[int] = []
    try:
        # A GeoJSON has one layer; listing it would parse the whole file once more.
        layers = [] if layer is None and path.suffix == ".geojson" else fiona.listlayers(path)
        if layer is None and len(layers) > 1:
            raise DataError(f"{path}: has {len(layers)} layers; name one with `layer`: {', '.join(layers)}")
        if layer is not None and layer not in layers:
            hint = nearest(layer, layers)
            raise DataError(f'{path}: there is no layer "{layer}"{hint}; its layers are {", ".join(layers)}')
        with fiona.open(path, layer=layer) as collection:
            crs = CRS.from_wkt(collection.crs.to_wkt()) if collection.crs else None
            implied = collection.driver == "GeoJSON" and crs is not None and crs.to_epsg() == 4326
            for number, (geometry, properties) in enumerate(_records(path, collection)):
                if geometry is None:
                    continue
                geometries.append(shapely.geometry.shape(geometry))
                values.append({name: properties.get(name) for name in attributes})
                numbers.append(number)
    except (fiona.errors.FionaError, OSError, ValueError, TypeError, shapely.errors.ShapelyError) as error:
        raise DataError(f"{path}: cannot be read as a vector file: {error}") from error
    array = np.empty(len(geometries), dtype=object)
    array[:] = geometries
    return Features(path, shapely.force_2d(array), tuple(values), tuple(numbers), crs, implied)


def to_pixels(features: Features, grid: Grid) -> Geometries:
    """Return the geometries in pixel coordinates (x = column, y = row, sub-pixel), (N,), not yet repaired.

    An image without a CRS takes the coordinates through its transform as they are; without a transform too, they are
    pixel coordinates.

    Raises
    ------
    DataError
        One of image and vectors has a CRS and the other has none, or coordinates cannot be reprojected.
    """
    path, geometries = features.path, features.geometries
    points = shapely.get_coordinates(geometries)
    if not np.isfinite(points).all():
        raise DataError(f"{path}: has coordinates that are not finite numbers")
    x, y = points[:, 0], points[:, 1]
    if grid.crs is None:
        if features.crs is not None and not features.implied_crs:
            raise DataError(
                f"{path}: is in {crs_name(features.crs)}, but the image has no CRS, so that the two cannot be laid "
                "over each other. Give the image its CRS (`gdal_edit.py -a_srs`), or save the vectors in pixel "
                "coordinates (x = column, y = row) without a CRS"
            )
    elif features.crs is None:
        raise DataError(
            f"{path}: has no CRS, but the image is in {crs_name(grid.crs)}. Save the vectors with their CRS"
        )
    else:
        x, y = reproject(path, features.crs, grid.crs, x, y)
    col, row = grid.to_pixel(x, y)
    snapped = np.stack([np.rint(col * SNAP) / SNAP, np.rint(row * SNAP) / SNAP], axis=1)
    moved: Geometries = shapely.set_coordinates(geometries.copy(), snapped)
    return moved


def digest(paths: Sequence[Path], args: Mapping[str, Any]) -> str:
    """Return what vector files mean, as 32 hexadecimal digits (xxh3_128).

    Covers, in file order, the exact coordinates and types of the geometries, the attributes named, and the CRS. Does
    not depend on paths, formatting, other attributes or a third dimension.

    Parameters
    ----------
    paths
        Vector files, in the order in which they are read.
    args
        `{"layer": name or None, "attributes": [names]}`; see `used_attributes`.
    """
    state = xxhash.xxh3_128()
    names = sorted(args.get("attributes") or ())
    state.update(json.dumps(names).encode())
    for path in paths:
        features = read_features(path, layer=args.get("layer"), attributes=names)
        _update(state, [f"file:{len(features.numbers)}", _canonical_crs(features.crs), str(features.implied_crs)])
        for shape, values in zip(shapely.to_wkb(features.geometries, byte_order=1), features.attributes, strict=True):
            state.update(struct.pack("<q", len(shape)))
            state.update(shape)
            _update(state, [json.dumps([values[name] for name in names], default=str)])
    return str(state.hexdigest())


def used_attributes(settings_labels: Mapping[str, Any]) -> list[str]:
    """Return the attributes that decide over the class of a feature under the labels slice of a project."""
    if settings_labels.get("class") is not None:
        return []
    attribute = settings_labels.get("class_attribute")
    return list(INFERRED_ATTRIBUTES) if attribute is None else [attribute]


def write_geopackage(
    path: Path, geometries: Geometries, properties: Mapping[str, Any], *, layer: str, crs: CRS | None
) -> None:
    """Write polygons that share their properties as a GeoPackage, with the same bytes each time."""
    types = {name: "int32" if isinstance(value, int) else "str" for name, value in properties.items()}
    schema = {"geometry": "Polygon", "properties": types}
    records = (
        {"type": "Feature", "properties": properties, "geometry": shapely.geometry.mapping(geometry)}
        for geometry in geometries
    )
    with (
        fiona.Env(**DETERMINISTIC_ENVIRONMENT),
        fiona.open(
            path, "w", driver="GPKG", layer=layer, schema=schema, crs_wkt=None if crs is None else crs.to_wkt()
        ) as collection,
    ):
        collection.writerecords(records)


def polygons(geometry: Any) -> Any:
    """Return a valid Polygon or MultiPolygon with the area of a polygonal geometry; empty if it has none."""
    if not geometry.is_valid:
        geometry = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    parts = [part for part in shapely.get_parts(geometry) if part.geom_type in ("Polygon", "MultiPolygon")]
    return shapely.union_all(parts) if parts else shapely.MultiPolygon()


def _records(path: Path, collection: Any) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Give the geometry and the properties of each feature.

    A GeoJSON collection is read without OGR, which gives a property one type for the whole file: fiona fails on those
    that hold texts in one feature and numbers in another.
    """
    if collection.driver == "GeoJSON":
        value = json.loads(path.read_text(encoding="utf-8-sig"))
        if value.get("type") == "FeatureCollection":
            for feature in value["features"]:
                yield feature.get("geometry"), feature.get("properties") or {}
            return
    for feature in collection:
        yield feature.geometry, feature.properties


def _update(state: Any, texts: Iterable[str]) -> None:
    for text in texts:
        data = text.encode()
        state.update(struct.pack("<q", len(data)))
        state.update(data)


def _canonical_crs(crs: CRS | None) -> str:
    if crs is None:
        return "none"
    authority = crs.to_authority(confidence_threshold=100)
    return ":".join(authority) if authority else str(crs.to_wkt())
