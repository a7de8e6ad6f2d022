"""Vector files: the only module that knows fiona.

Features come as shapely geometries with the attributes that were asked for, in file order. Their canonical digest says
whether two files mean the same, whatever their formatting.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import fiona
import fiona.errors
import numpy as np
import shapely
import shapely.geometry
import xxhash
from numpy.typing import NDArray
from rasterio.crs import CRS

from rvbuild import filters
from rvbuild.errors import DataError, nearest
from rvbuild.geo import admission, antimeridian, quiet
from rvbuild.geo.drivers import vector_drivers
from rvbuild.geo.environment import DETERMINISTIC_ENVIRONMENT
from rvbuild.geo.grid import METRES_PER_DEGREE, Grid, crs_name, reproject
from rvbuild.geo.references import VIRTUAL
from rvbuild.geo.shapes import shapes_of
from rvbuild.urls import Url

Geometries = NDArray[np.object_]
Floats = NDArray[np.float64]

RACY_NS = 1_000_000_000
"""What was changed so lately may change again without looking changed."""

REMEMBERED_BYTES = 64 << 20
"""Of a file whose features are remembered, at most."""

SNAP = float(1 << 20)
"""Vertices come to multiples of 1 / SNAP pixel: far below what any label means, it takes off the noise of reprojection,
so that a vertex on a pixel's corner lies exactly there and every window sees the same polygon."""

LARGEST = 1e15
"""No map has coordinates beyond it."""

SINGLE = {
    "MultiPoint": "Point",
    "MultiLineString": "LineString",
    "LinearRing": "LineString",
    "MultiPolygon": "Polygon",
}
"""Type of a geometry of several parts → type of the parts."""

_UNREADABLE = (fiona.errors.FionaError, OSError, ValueError, TypeError, LookupError, AttributeError)

_FIELD_TYPES = {int: "int32", float: "float", str: "str"}


@dataclass(frozen=True)
class Features:
    """The features of one vector file that were asked for and have a geometry, in file order."""

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
    passed: tuple[int | None, ...]
    """Per feature, the place of the first of the `tests` that it passes, or None."""
    notes: tuple[str, ...] = ()
    """What may not be meant, a line each."""


def read_features(
    path: Path,
    *,
    layer: str | None = None,
    attributes: Sequence[str] = (),
    where: Sequence[Any] | None = None,
    tests: Sequence[Sequence[Any]] = (),
) -> Features:
    """Read the features of a vector file in any format that fiona opens.

    Parameters
    ----------
    path, layer
        The file, and one of its layers; None for the only one.
    attributes
        The attributes to read.
    where
        Leave out features that do not pass this filter, see `rvbuild.filters`.
    tests
        Filters of which to say for each feature which it passes first.

    Raises
    ------
    DataError
        The file cannot be read, or leads where nothing may be read; `layer` does not exist, or there are several layers
        and none is named; or a filter compares an attribute that the layer does not have.
    """
    global _last
    asked_for = (layer, tuple(attributes), repr(where), repr(tests))
    state = _settled(path)
    if state is not None and _last is not None and _last[:3] == (path, state, asked_for):
        return _last[3]
    admission.require(path)
    with quiet.undisturbed(path) as place:
        features = _read(path, place, layer, attributes, where, tests)
    if state is not None and state == _settled(path):
        features.geometries.flags.writeable = False
        _last = path, state, asked_for, features
    return features


_last: tuple[Path, tuple[int, ...], Any, Features] | None = None
"""What was read last: labels are read for their digest and then, often by the same process, to be cut."""


def _settled(path: Path) -> tuple[int, ...] | None:
    """Return what changes with a file, or None if that cannot be told: of files that others belong to, and young ones.

    A file may change twice within one tick of its file system's clock.
    """
    if path.suffix != ".geojson":
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    young = time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < RACY_NS
    return (
        None
        if young or found.st_size > REMEMBERED_BYTES
        else (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    )


def _read(
    path: Path,
    place: Path,
    layer: str | None,
    attributes: Sequence[str],
    where: Sequence[Any] | None,
    tests: Sequence[Sequence[Any]],
) -> Features:
    asked = {name for test in (*tests, *([where] if where else ())) for name in filters.compared(test)}
    left_out, names = 0, set[str]()
    geometries: list[Any] = []
    values: list[Mapping[str, Any]] = []
    numbers: list[int] = []
    passed: list[int | None] = []
    try:
        # A GeoJSON has one layer; listing it would parse the whole file once more.
        name, options = place.gdal() if isinstance(place, Url) else place, quiet.options(path)
        layers = [] if layer is None and path.suffix == ".geojson" else fiona.listlayers(name, **options)
        if layer is None and len(layers) > 1:
            raise DataError(f"{path}: has {len(layers)} layers; name one with `layer`: {', '.join(layers)}")
        if layer is not None and layer not in layers:
            hint = nearest(layer, layers)
            raise DataError(f'{path}: there is no layer "{layer}"{hint}; its layers are {", ".join(layers)}')
        drivers, virtual = vector_drivers(path.suffix), path.suffix.lower() == VIRTUAL
        with fiona.open(
            name, layer=layer, enabled_drivers=drivers, allow_unsupported_drivers=virtual, **options
        ) as collection:
            crs = CRS.from_wkt(collection.crs.to_wkt()) if collection.crs else None
            implied = collection.driver == "GeoJSON" and crs is not None and crs.to_epsg() == 4326
            columns = [] if collection.driver == "GeoJSON" else list(collection.schema["properties"])
            if columns and (absent := _absent(asked, columns)):
                some = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
                raise DataError(
                    f"{path}: has no attribute {absent}, which `where` or `class_where` compares; there are {some}"
                )
            for number, record in enumerate(_records(path, collection)):
                if record.geometry is None:
                    continue
                if asked:
                    names.update(record.properties)
                if where is not None and not filters.matches(where, record.get):
                    left_out += 1
                    continue
                geometries.append(record.geometry)
                values.append({name: record.get(name) for name in attributes})
                numbers.append(number)
                passed.append(next((n for n, test in enumerate(tests) if filters.matches(test, record.get)), None))
            shapes = shapes_of(geometries)
    except (*_UNREADABLE, shapely.errors.ShapelyError) as error:
        raise DataError(f"{path}: cannot be read as a vector file: {_no_json(path) or error}") from error
    notes = []
    if names and (absent := _absent(asked, names)):
        notes.append(f"{path}: none of its features has an attribute {absent}")
    if left_out and not numbers:
        notes.append(f"{path}: none of its {left_out} features passes `where`")
    return Features(path, shapes, tuple(values), tuple(numbers), crs, implied, tuple(passed), tuple(notes))


def _no_json(path: Path) -> str:
    """Return where a file that should be JSON is none; empty if it is, or should not be."""
    if path.suffix.lower() not in (".geojson", ".json") or isinstance(path, Url):
        return ""
    try:
        json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        return f"it is not JSON, at line {error.lineno}, column {error.colno}: {error.msg}. Is the file complete?"
    except (ValueError, OSError, RecursionError) as error:
        return str(error)
    return ""


def to_pixels(
    features: Features,
    grid: Grid,
    *,
    shift_m: Sequence[float] | None = None,
    shift_px: Sequence[float] | None = None,
) -> Geometries:
    """Return the geometries in pixel coordinates (x = column, y = row, sub-pixel), (N,), not yet repaired.

    An image without a CRS takes the coordinates through its transform as they are; without a transform too, they are
    pixel coordinates.

    Parameters
    ----------
    features, grid
        What to place, and where.
    shift_m
        Move all by (x, y) metres, along the axes of the image's CRS: east and north.
    shift_px
        Move all by (columns, rows) pixels: right and down.

    Raises
    ------
    DataError
        One of image and vectors has a CRS and the other has none, coordinates cannot be reprojected, an edge goes
        around half the globe, or metres mean nothing in the CRS of the image.
    """
    path, geometries = features.path, features.geometries
    points = shapely.get_coordinates(geometries)
    if not (np.abs(points) <= LARGEST).all():
        raise DataError(f"{path}: has coordinates that are not finite numbers, or beyond {LARGEST:g}")
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
        if features.crs.is_geographic:
            antimeridian.refuse_torn(path, geometries, features.crs, grid.crs)
        elif grid.crs.is_geographic:
            there = shapely.set_coordinates(geometries.copy(), np.stack([x, y], axis=1))
            antimeridian.refuse_torn(path, there, grid.crs, grid.crs)
        x = antimeridian.near(grid, geometries, x)
    if shift_m is not None:
        x, y = _moved(path, grid.crs, x, y, shift_m)
    col, row = grid.to_pixel(x, y)
    if shift_px is not None:
        col, row = col + shift_px[0], row + shift_px[1]
    snapped = np.stack([np.rint(col * SNAP) / SNAP, np.rint(row * SNAP) / SNAP], axis=1)
    moved: Geometries = shapely.set_coordinates(geometries.copy(), snapped)
    return moved


def digest(paths: Sequence[Path], args: Mapping[str, Any]) -> str:
    """Return what a vector file means, as 32 hexadecimal digits (xxh3_128).

    Covers, in file order, of the features that are read: the exact coordinates and types of their geometries, the
    attributes named, which of the tests they pass first, and the CRS. Does not depend on paths, formatting, other
    attributes, a third dimension, or features that are left out.

    Parameters
    ----------
    paths
        The file, and after it those beside it that belong to it.
    args
        What `rvbuild.geo.reading.reading` returns.
    """
    state = xxhash.xxh3_128()
    names, tests = sorted(args.get("attributes") or ()), args.get("tests") or ()
    state.update(json.dumps(names).encode())
    read = read_features(paths[0], layer=args.get("layer"), attributes=names, where=args.get("where"), tests=tests)
    _update(state, [f"file:{len(read.numbers)}", _canonical_crs(read.crs), str(read.implied_crs)])
    shapes = shapely.to_wkb(read.geometries, byte_order=1)
    for shape, values, passed in zip(shapes, read.attributes, read.passed, strict=True):
        state.update(struct.pack("<q", len(shape)))
        state.update(shape)
        said = [values[name] for name in names]
        _update(state, [json.dumps([*said, passed] if tests else said, default=str)])
    return str(state.hexdigest())


WRITTEN_BY = {".gpkg": "GPKG", ".fgb": "FlatGeobuf"}
"""The driver of each kind of file that `write_layer` writes, by suffix."""


def write_layer(
    path: Path,
    geometries: Geometries,
    properties: Sequence[Mapping[str, Any]],
    fields: Mapping[str, type],
    *,
    geometry: str,
    crs: CRS | None,
) -> None:
    """Write features as a GeoPackage or as FlatGeobuf, by the suffix of the file, with the same bytes each time.

    All are of the type `geometry` (`Polygon` or `Point`), each with properties of the types in `fields`. The layer is
    named after the file.
    """
    schema = {"geometry": geometry, "properties": {name: _FIELD_TYPES[kind] for name, kind in fields.items()}}
    records = (
        {"type": "Feature", "properties": dict(values), "geometry": shapely.geometry.mapping(one)}
        for one, values in zip(geometries, properties, strict=True)
    )
    driver, wkt = WRITTEN_BY[path.suffix], None if crs is None else crs.to_wkt()
    with (
        fiona.Env(**DETERMINISTIC_ENVIRONMENT),
        fiona.open(path, "w", driver=driver, layer=path.stem, schema=schema, crs_wkt=wkt) as collection,
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


def _absent(asked: Iterable[str], names: Iterable[str]) -> str:
    """Return which attributes of filters are not among those that there are, with the nearest of these."""
    known = set(names)
    absent = sorted(name for name in asked if not {name, name.split(".")[0]} & known)
    return ", ".join(f"`{name}`{nearest(name, known)}" for name in absent)


class _Record(NamedTuple):
    """A feature as its file has it."""

    geometry: Any
    properties: Mapping[str, Any]
    id: Any

    def get(self, name: str) -> Any:
        """Return an attribute, or `$type` or `$id`; None if there is none."""
        if name == "$type":
            kind = str(self.geometry["type"])
            return SINGLE.get(kind, kind)
        return self.id if name == "$id" else filters.lookup(self.properties, name)


def _records(path: Path, collection: Any) -> Iterator[_Record]:
    """Give each feature.

    A GeoJSON collection is read without OGR, which gives a property one type for the whole file: fiona fails on those
    that hold texts in one feature and numbers in another.
    """
    if collection.driver == "GeoJSON":
        value = json.loads(path.read_text(encoding="utf-8-sig"))
        if value.get("type") == "FeatureCollection":
            for feature in value["features"]:
                yield _Record(feature.get("geometry"), feature.get("properties") or {}, feature.get("id"))
            return
    for feature in collection:
        yield _Record(feature.geometry, feature.properties, feature.id)


def _moved(path: Path, crs: CRS | None, x: Floats, y: Floats, shift_m: Sequence[float]) -> tuple[Floats, Floats]:
    """Return map coordinates moved by metres east and north; degrees as Raster Vision's ShiftTransformer takes them."""
    east, north = shift_m
    if crs is None:
        raise DataError(
            f"{path}: cannot be moved by `shift_m`, because the image has no CRS. Use `shift_px` in `labels`"
        )
    if crs.is_geographic:
        return x + east / (METRES_PER_DEGREE * np.cos(np.radians(y))), y + north / METRES_PER_DEGREE
    if not crs.is_projected:
        raise DataError(
            f"{path}: cannot be moved by `shift_m`, because {crs_name(crs)}, the CRS of the image, has no known unit. "
            "Use `shift_px` in `labels`"
        )
    metres = crs.linear_units_factor[1]
    return x + east / metres, y + north / metres


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
